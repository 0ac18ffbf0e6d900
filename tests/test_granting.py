"""Who may give grants, and take them back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from approval.core.grants import Grant
from approval.core.identity import Directory, Right
from approval.core.issued import read_issue
from approval.errors import Conflict, Forbidden, NotFound
from approval.service import Service
from tests.factories import GATE_PURCHASES, make_directory, make_rulebook, make_service

WORDS = {"agent": "ops-agent", "tools": "create_*", "upstream": "shop", "uses": 2}


def directory() -> Directory:
    """Ann and carl are admins; carl answers for ops-agent, and dora reads everything."""
    rights = {Right.ADMIN: frozenset({"ann", "carl"}), Right.READ_ALL: frozenset({"dora"})}
    return make_directory(rights=rights)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    rules = make_rulebook(GATE_PURCHASES, directory=directory())
    rules = replace(rules, grants=(replace(grant(), id="file:own"),))
    async with make_service(tmp_path, rules=rules) as running:
        yield running


def grant(**words: object) -> Grant:
    return read_issue({**WORDS, **words}, source="test")


async def test_a_grant_is_given_listed_and_taken_back_with_its_entries(service: Service) -> None:
    issued = await service.granting.issue(grant(), person="ann", via="cli")
    assert issued.grant.granted_by == "person:ann"
    assert issued.grant.id.startswith("grt_")
    assert [each.grant.id for each in await service.granting.listed()] == [issued.grant.id]

    await service.granting.revoke(issued.grant.id, person="ann", via="cli")
    [given, taken] = await service.trail(subject=issued.grant.id)
    assert b'"tag":"grant:issue"' in given.body
    assert b'"actor":"person:ann"' in given.body
    assert b'"uses":2' in given.body
    assert b'"tag":"grant:revoke"' in taken.body
    with pytest.raises(Conflict, match="revoked already"):
        await service.granting.revoke(issued.grant.id, person="ann", via="cli")


@pytest.mark.parametrize(
    ("person", "words", "error", "told"),
    [
        ("bob", {}, Forbidden, "has no right to give grants"),
        ("nobody", {}, Forbidden, "has no right"),
        ("carl", {}, Forbidden, "carl owns ops-agent"),
        ("ann", {"agent": "zoe"}, NotFound, "no agent zoe"),
        ("ann", {"upstream": "mall"}, NotFound, "no upstream mall"),
    ],
)
async def test_only_an_admin_gives_grants_and_none_to_an_own_agent(
    service: Service,
    person: str,
    words: dict[str, object],
    error: type[Exception],
    told: str,
) -> None:
    with pytest.raises(error, match=told):
        await service.granting.issue(grant(**words), person=person, via="cli")
    assert await service.granting.listed() == ()


@pytest.mark.parametrize(
    ("person", "sees", "revokes"),
    [
        ("ann", True, None),
        ("carl", True, None),
        ("dora", True, Forbidden),
        ("bob", False, NotFound),
        ("zoe", False, NotFound),
    ],
)
async def test_admins_and_the_owner_take_a_grant_back(
    service: Service, person: str, sees: bool, revokes: type[Exception] | None
) -> None:
    given = (await service.granting.issue(grant(), person="ann", via="cli")).grant
    assert bool(await service.granting.listed(person)) is sees
    if revokes is None:
        await service.granting.revoke(given.id, person=person, via="cli")
        return
    with pytest.raises(revokes):
        await service.granting.revoke(given.id, person=person, via="cli")
    [still] = await service.granting.listed()
    assert still.revoked_at is None


async def test_a_grant_of_the_configuration_is_removed_there(service: Service) -> None:
    with pytest.raises(Forbidden, match="remove it there"):
        await service.granting.revoke("file:own", person="ann", via="cli")


async def test_a_grant_too_old_to_be_listed_is_taken_back_all_the_same(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approval.store.granting.MOST_LISTED", 1)
    old, new = [
        (await service.granting.issue(grant(), person="ann", via="cli")).grant for _ in range(2)
    ]
    [listed] = await service.granting.listed()
    other = ({old.id, new.id} - {listed.grant.id}).pop()
    await service.granting.revoke(other, person="ann", via="cli")
    with pytest.raises(Conflict, match="revoked already"):
        await service.granting.revoke(other, person="ann", via="cli")
    with pytest.raises(NotFound):
        await service.granting.revoke("grt_none", person="ann", via="cli")
