"""Grants as a page draws them: words for every condition, and a state that the meters know of."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from approval.core import steps
from approval.core.call import Answer, Call, Status
from approval.core.conditions import OPERATORS
from approval.core.grants import Grant
from approval.core.issued import read_issue
from approval.core.lifecycle import Change
from approval.web.grant_cards import STATES, TESTS, GrantCard, cards
from tests.factories import NOW, PRICED_PURCHASES, Clock, make_rulebook
from tests.web.serving import Site, serve

BUY = "create_incoming_phone_number"


@pytest.fixture
async def site(tmp_path: Path, clock: Clock) -> AsyncIterator[Site]:
    own = replace(grant(uses=7), id="file:own", path="/grants/0")
    rules = replace(make_rulebook(PRICED_PURCHASES), grants=(own,))
    async with serve(tmp_path, clock=clock, rules=rules) as served:
        yield served


def grant(**words: object) -> Grant:
    return read_issue({"agent": "other-agent", "tools": BUY, **words}, source="test")


async def given(site: Site, **words: object) -> str:
    wanted = grant(**{"agent": "ops-agent", **words})
    return (await site.service.granting.keep(wanted, person="ann", via="test")).grant.id


async def drawn(site: Site, grant_id: str, person: str = "dora") -> GrantCard:
    page = await site.service.granting.page(person)
    [card] = [
        each for each in await cards(site.service, person, page.grants) if each.grant.id == grant_id
    ]
    return card


async def run(site: Site, number: int) -> Call:
    call = await site.hold({"n": number})
    assert call.status is Status.EXECUTING
    return call


def test_every_operator_has_its_words_and_every_state_a_colour() -> None:
    assert TESTS.keys() == OPERATORS.keys() - {"exists"}
    assert STATES.keys() == {"in force", "used up", "not yet", "ended", "revoked"}


async def test_what_is_left_is_in_words_and_as_long_as_it_is_much(site: Site) -> None:
    grant_id = await given(site, uses=4, total="12.00 USD")
    card = await drawn(site, grant_id)
    assert [(each.left, each.taken) for each in card.bounds] == [
        ("4 of 4 uses left", "0 used"),
        ("$12.00 of $12.00 left in all", "$0.00 spent"),
    ]
    first = await run(site, 1)
    card = await drawn(site, grant_id)
    assert [(each.left, each.taken) for each in card.bounds] == [
        ("3 of 4 uses left", "0 used, 1 by calls under way"),
        ("$9.00 of $12.00 left in all", "$0.00 spent, $3.00 held for calls under way"),
    ]
    assert [(each.gauge.spent, each.gauge.held) for each in card.bounds] == [(0, 250), (0, 250)]
    await end(site, first, Status.EXECUTED)
    card = await drawn(site, grant_id)
    assert [each.taken for each in card.bounds] == ["1 used", "$3.00 spent"]
    assert [(each.gauge.spent, each.gauge.held) for each in card.bounds] == [(250, 0), (250, 0)]


async def end(site: Site, call: Call, status: Status) -> None:
    answer = Answer(status=status, body=b'{"result":{}}')

    def step(call: Call, now: datetime) -> Change:
        return steps.answer(call, answer, owner=site.service.instance, now=now)

    await site.store.advance(call.id, step)


async def test_another_grant_of_the_same_words_is_counted_for_itself(site: Site) -> None:
    first, second = await given(site, uses=2), await given(site, uses=2)
    used = (await run(site, 1)).grant
    left = {name: (await drawn(site, name)).bounds[0].left for name in (first, second)}
    assert left.pop(str(used)) == "1 of 2 uses left"
    assert list(left.values()) == ["2 of 2 uses left"]


@pytest.mark.parametrize("words", [{"uses": 1}, {"total": "3.00 USD", "uses": 9}])
async def test_one_that_has_nothing_left_is_used_up_and_may_come_back(
    site: Site, words: dict[str, object]
) -> None:
    grant_id = await given(site, **words)
    assert (await drawn(site, grant_id)).state == "in force"
    call = await run(site, 1)
    card = await drawn(site, grant_id)
    assert (card.state, card.word, card.may_end) == ("used up", "used up", True)
    await end(site, call, Status.FAILED)
    assert (await drawn(site, grant_id)).state == "in force"


async def test_a_grant_that_is_over_is_so_whatever_is_left(site: Site, clock: Clock) -> None:
    soon = (NOW + timedelta(minutes=1)).isoformat()
    later = (NOW + timedelta(minutes=2)).isoformat()
    grant_id = await given(site, uses=1, not_before=soon, expires=later)
    assert (await drawn(site, grant_id)).word == "not in force yet"
    clock.advance(minutes=1)
    await run(site, 1)
    assert (await drawn(site, grant_id)).word == "used up"
    clock.advance(minutes=1)
    card = await drawn(site, grant_id)
    assert (card.word, card.may_end) == ("expired", False)
    other = await given(site, uses=1)
    await site.service.granting.revoke(other, person="ann", via="test")
    card = await drawn(site, other, "carl")
    assert (card.word, card.may_end, card.revoked_by) == ("revoked", False, "Ann")


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (("args.n", "eq", 5), ("args.n", "is", "5")),
        (("args.n", "neq", "5"), ("args.n", "is there and not", '"5"')),
        (("args.n", "in", ["ä", True]), ("args.n", "is one of", '["ä", true]')),
        (("args.n", "exists", True), ("args.n", "is there", None)),
        (("args.n", "exists", False), ("args.n", "is not there", None)),
        (("args.n", "regex", "^a"), ("args.n", "matches, somewhere in it,", '"^a"')),
    ],
)
async def test_a_condition_is_said_in_words(
    site: Site,
    condition: tuple[str, str, object],
    words: tuple[str, str, str | None],
) -> None:
    said = dict(zip(("path", "op", "value"), condition, strict=True))
    card = await drawn(site, await given(site, uses=1, conditions=[said]))
    [clause] = card.clauses
    assert (clause.path, clause.words, clause.value) == words


async def test_who_gave_it_and_who_may_take_it_back(site: Site) -> None:
    grant_id = await given(site, uses=1)
    card = await drawn(site, grant_id, "dora")
    assert (card.givers, card.may_revoke, card.in_file) == (("Ann",), False, False)
    assert (await drawn(site, grant_id, "ann")).givers == ("You",)
    assert (await drawn(site, grant_id, "ann")).may_revoke
    assert (await drawn(site, grant_id, "carl")).may_revoke
    own = await drawn(site, "file:own")
    assert (own.in_file, own.givers, own.bounds[0].left) == (True, (), "7 of 7 uses left")


async def test_one_that_this_release_does_not_understand_is_drawn(
    site: Site, tmp_path: Path
) -> None:
    grant_id = await given(site, uses=1)
    with closing(sqlite3.connect(tmp_path / "approval.db", isolation_level=None)) as database:
        database.execute("UPDATE standing_grant SET spec = '{}'")
    card = await drawn(site, grant_id)
    assert (card.grant.tools, card.bounds, card.clauses) == ((), (), ())
    assert (card.in_file, card.may_end) == (False, True)
