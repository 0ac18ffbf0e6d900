"""Grants through the API: given, used by the agent's calls, listed, taken back."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from approval.core.call import Status
from approval.core.identity import Right
from tests.factories import (
    ANN_TOKEN,
    BOB_TOKEN,
    CARL_TOKEN,
    Clock,
    make_directory,
    make_rulebook,
)
from tests.web.scripting import script
from tests.web.serving import Site, serve
from tests.web.test_openapi import check_reply

BUY = "create_incoming_phone_number"
WORDS = {"agent": "ops-agent", "tools": [BUY], "uses": 2, "expires": "2026-12-01T00:00:00Z"}


@pytest.fixture
async def town(tmp_path: Path) -> AsyncIterator[Site]:
    """Serve a town in which ann is an admin, and carl owns ops-agent."""
    directory = make_directory(rights={Right.ADMIN: frozenset({"ann"})})
    rules = make_rulebook(directory=directory)
    async with serve(tmp_path, rules=rules, clock=Clock()) as site:
        yield site


async def test_a_grant_is_given_used_listed_and_taken_back(town: Site) -> None:
    async with script(town, ANN_TOKEN) as ann:
        paths = (await ann.get("/v1/openapi.json")).json["paths"]
        document = (await ann.get("/v1/openapi.json")).json
        given = await ann.post("/v1/grants", WORDS)
        check_reply(document, paths["/v1/grants"]["post"], given)
        assert (given.status, given.json["granted_by"]) == (200, "person:ann")
        assert given.json["allows"] == WORDS

        ran = await town.hold({"phone_number": "+1"})
        assert (ran.status, ran.grant) == (Status.EXECUTING, given.json["id"])

        path = f"/v1/grants/{given.json['id']}"
        taken = await ann.ask("DELETE", path, headers={})
        check_reply(document, paths["/v1/grants/{grant}"]["delete"], taken)
        assert (taken.json["state"], taken.json["revoked_by"]) == ("revoked", "person:ann")
        assert (await town.hold({"phone_number": "+2"})).status is Status.PENDING

        listed = await ann.get("/v1/grants")
        check_reply(document, paths["/v1/grants"]["get"], listed)
        assert [each["state"] for each in listed.json["grants"]] == ["revoked"]
        assert (await ann.ask("DELETE", path, headers={})).code == "conflict"


@pytest.mark.parametrize(
    ("changes", "status", "code", "told"),
    [
        ({"uses": 0}, 422, "grant", "/uses: this is 0"),
        ({"tools": []}, 422, "grant", "/tools: this list is empty"),
        ({"total": "5"}, 422, "grant", "/total"),
        ({"usse": 5}, 422, "unknown_member", "usse"),
        ({"name": "x"}, 422, "unknown_member", "name"),
        ({"agent": "zoe"}, 404, "not_found", ""),
    ],
)
async def test_what_is_wrong_with_a_grant_is_said(
    town: Site, changes: dict[str, object], status: int, code: str, told: str
) -> None:
    async with script(town, ANN_TOKEN) as ann:
        reply = await ann.post("/v1/grants", WORDS | changes)
        assert (reply.status, reply.code) == (status, code)
        assert told in reply.json["detail"]
        assert (await ann.get("/v1/grants")).json == {"grants": []}


async def test_others_see_what_concerns_them_and_give_nothing(town: Site) -> None:
    async with script(town, ANN_TOKEN) as ann:
        grant_id = (await ann.post("/v1/grants", WORDS)).json["id"]
    async with script(town, BOB_TOKEN) as bob:
        assert (await bob.post("/v1/grants", WORDS)).code == "forbidden"
        assert (await bob.get("/v1/grants")).json == {"grants": []}
        assert (await bob.ask("DELETE", f"/v1/grants/{grant_id}", headers={})).status == 404
    async with script(town, CARL_TOKEN) as carl:
        assert len((await carl.get("/v1/grants")).json["grants"]) == 1
        assert (await carl.ask("DELETE", f"/v1/grants/{grant_id}", headers={})).status == 200
