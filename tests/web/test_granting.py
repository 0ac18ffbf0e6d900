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
        assert (await ann.get("/v1/grants")).json == {"grants": [], "next": None}


async def test_others_see_what_concerns_them_and_give_nothing(town: Site) -> None:
    async with script(town, ANN_TOKEN) as ann:
        grant_id = (await ann.post("/v1/grants", WORDS)).json["id"]
    async with script(town, BOB_TOKEN) as bob:
        assert (await bob.post("/v1/grants", WORDS)).code == "forbidden"
        assert (await bob.get("/v1/grants")).json == {"grants": [], "next": None}
        assert (await bob.ask("DELETE", f"/v1/grants/{grant_id}", headers={})).status == 404
    async with script(town, CARL_TOKEN) as carl:
        assert len((await carl.get("/v1/grants")).json["grants"]) == 1
        assert (await carl.ask("DELETE", f"/v1/grants/{grant_id}", headers={})).status == 200


async def test_grants_are_read_in_pages_to_the_end(town: Site) -> None:
    async with script(town, ANN_TOKEN) as ann:
        document = (await ann.get("/v1/openapi.json")).json
        described = document["paths"]["/v1/grants"]["get"]
        issued = [(await ann.post("/v1/grants", WORDS)).json["id"] for _ in range(5)]
        found: list[str] = []
        path = "/v1/grants?limit=2"
        for length, ends in ((2, False), (2, False), (1, True)):
            reply = await ann.get(path)
            check_reply(document, described, reply)
            assert (len(reply.json["grants"]), reply.json["next"] is None) == (length, ends)
            found += [each["id"] for each in reply.json["grants"]]
            path = f"/v1/grants?limit=2&after={reply.json['next']}"
        assert sorted(found) == sorted(issued)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("after=grt_none", "after"),
        ("after=", "after"),
        ("after=%00", "after"),
        ("after=apr_00000000000000000000000000", "after"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "repeated_parameter"),
        ("afer=x", "unknown_parameter"),
    ],
)
async def test_a_page_that_there_is_not_is_refused(town: Site, query: str, code: str) -> None:
    async with script(town, ANN_TOKEN) as ann:
        document = (await ann.get("/v1/openapi.json")).json
        reply = await ann.get(f"/v1/grants?{query}")
        assert (reply.status, reply.code) == (400, code)
        check_reply(document, document["paths"]["/v1/grants"]["get"], reply)


async def test_others_read_no_page_but_their_own(town: Site) -> None:
    async with script(town, ANN_TOKEN) as ann:
        for agent in ("ops-agent", "other-agent") * 3:
            await ann.post("/v1/grants", {**WORDS, "agent": agent})
    async with script(town, CARL_TOKEN) as carl:
        first = (await carl.get("/v1/grants?limit=2")).json
        last = (await carl.get(f"/v1/grants?limit=2&after={first['next']}")).json
    found = [each["allows"]["agent"] for each in (*first["grants"], *last["grants"])]
    assert (found, last["next"]) == (["ops-agent"] * 3, None)
