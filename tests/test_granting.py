"""Who may give grants, and take them back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from approval.core.audit import Entry, Tag
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
    assert await ids(service) == ["file:own", issued.grant.id]

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
    assert await ids(service) == ["file:own"]


async def test_what_is_ordered_once_is_given_once_and_by_each_for_themselves(
    service: Service,
) -> None:
    async def order(person: str, once: str | None) -> str:
        wanted = grant(agent="other-agent")
        issued = await service.granting.issue(wanted, person=person, via="web", once=once)
        return issued.grant.id

    names = [await order("ann", "a"), await order("ann", "b"), await order("carl", "a")]
    names += [await order("ann", None), await order("ann", None)]
    with pytest.raises(Conflict, match=f"{names[0]} was given"):
        await order("ann", "a")
    assert sorted(await ids(service)) == ["file:own", *sorted(names)]


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
    page = await service.granting.page(person)
    assert [each.grant.id for each in page.grants] == (["file:own", given.id] if sees else [])
    if sees:
        assert (await service.granting.see(given.id, person=person)).grant.id == given.id
    else:
        with pytest.raises(NotFound):
            await service.granting.see(given.id, person=person)
    if revokes is None:
        await service.granting.revoke(given.id, person=person, via="cli")
        return
    with pytest.raises(revokes):
        await service.granting.revoke(given.id, person=person, via="cli")
    assert (await service.granting.see(given.id, person="ann")).revoked_at is None


async def test_a_grant_of_the_configuration_is_removed_there(service: Service) -> None:
    with pytest.raises(Forbidden, match="remove it there"):
        await service.granting.revoke("file:own", person="ann", via="cli")


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 50])
@pytest.mark.parametrize("at_once", [1, 2, 200])
async def test_every_grant_is_on_one_page(
    service: Service, monkeypatch: pytest.MonkeyPatch, limit: int, at_once: int
) -> None:
    monkeypatch.setattr("approval.granting.READ_AT_ONCE", at_once)
    for name in ("ops-agent", "other-agent") * 2:
        await service.granting.issue(grant(agent=name), person="ann", via="cli")
    every = await ids(service)
    assert every[0] == "file:own"
    assert len(set(every)) == 5
    assert await paged(service, "ann", limit) == every
    # Who sees less reads whole pages all the same, and none that is empty.
    rights = {Right.ADMIN: frozenset({"ann"})}
    rules = replace(service.rules, directory=make_directory(rights=rights))
    await service.adopt(rules, Entry(tag=Tag.POLICY_LOAD, subject="", actor="operator", facts={}))
    seen = await paged(service, "carl", limit)
    assert (len(seen), seen[0]) == (3, "file:own")
    assert seen == [name for name in every if name in seen]


@pytest.mark.parametrize("after", ["grt_none", "file:gone", "", "grt_\0", "grt_\ud800", "x" * 9999])
async def test_there_is_no_page_after_what_is_no_grant(service: Service, after: str) -> None:
    with pytest.raises(NotFound):
        await service.granting.page("ann", after=after)


async def test_a_page_is_not_read_on_from_what_the_file_no_longer_gives(service: Service) -> None:
    rules = replace(service.rules, grants=())
    await service.adopt(rules, Entry(tag=Tag.POLICY_LOAD, subject="", actor="operator", facts={}))
    with pytest.raises(NotFound):
        await service.granting.page("ann", after="file:own")


async def ids(service: Service) -> list[str]:
    return [each.grant.id for each in await service.granting.listed()]


async def paged(service: Service, person: str, limit: int) -> list[str]:
    """Read on to the end; every page but the last is full, and the last is not empty."""
    found: list[str] = []
    after = None
    while len(found) <= 5:
        page = await service.granting.page(person, after=after, limit=limit)
        assert 0 < len(page.grants) <= limit
        found += [each.grant.id for each in page.grants]
        after = page.next
        if after is None:
            return found
        assert len(page.grants) == limit
    raise AssertionError(f"the pages do not end: {found}")
