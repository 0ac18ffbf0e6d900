"""Grants on a real database: never used more than they allow, and never once they are revoked."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from approval.core import intake, issued, steps
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, Choice, Status, new_call_id
from approval.core.canonical import JSON
from approval.core.demand import Holdings, Offer
from approval.core.grantable import Wish
from approval.core.grants import Grant
from approval.core.issued import Issued
from approval.core.lifecycle import Change, Event
from approval.core.money import Money
from approval.core.rulebook import Rulebook
from approval.core.scopes import Scope
from approval.core.steps import Ballot
from approval.errors import Conflict, NotFound
from approval.store.store import SqlStore
from tests.factories import (
    NOW,
    PRICED_PURCHASES,
    Clock,
    make_asked,
    make_directory,
    make_lease,
    make_policy,
)
from tests.store.conftest import Database

BUY = "create_incoming_phone_number"
RULES = Rulebook(directory=make_directory(), policies={"shop": make_policy(PRICED_PURCHASES)})
ISSUE = Entry(tag=Tag.GRANT_ISSUE, subject="grt_1", actor="person:ann")
REVOKE = Entry(tag=Tag.GRANT_REVOKE, subject="grt_1", actor="person:ann")


def grant(grant_id: str = "grt_1", **words: object) -> Grant:
    asked = {"agent": "ops-agent", "tools": BUY, **words}
    return replace(issued.read_issue(asked, source="test"), id=grant_id)


async def keep(store: SqlStore, given: Grant) -> None:
    entry = Entry(tag=Tag.GRANT_ISSUE, subject=given.id, actor="person:ann")
    await store.keep_grant(given, entry)


async def ask(store: SqlStore, number: int, rules: Rulebook = RULES) -> Change:
    arguments: JSON = {"number": number}
    asked = make_asked(arguments)
    verdict = rules.judge(asked.agent, asked.upstream, asked.tool, arguments)

    def covering(issued: Sequence[Grant]) -> tuple[Offer, ...]:
        return rules.offers(asked, verdict, issued)

    def step(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        assert existing is None
        call_id = new_call_id(now, number.to_bytes(10))
        lease = make_lease()
        return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

    return await store.admit(asked, verdict.demand, step, covering)


async def asked_at_once(store: SqlStore, other: SqlStore, rules: Rulebook = RULES) -> list[Change]:
    """Ask twenty times at once, half of it through another process's store."""
    return await asyncio.gather(*[ask((store, other)[n % 2], n, rules) for n in range(20)])


@pytest.mark.parametrize(
    ("words", "covered"),
    [({"uses": 7}, 7), ({"total": "20.00 USD"}, 6), ({"uses": 9, "total": "12.00 USD"}, 4)],
)
async def test_uses_and_total_are_never_exceeded_by_twenty_at_once(
    store: SqlStore, other: SqlStore, words: dict[str, object], covered: int
) -> None:
    await keep(store, grant("grt_1", **words))
    changes = await asked_at_once(store, other)

    ran = [change.call for change in changes if change.event is Event.ALLOW]
    held = [change.call for change in changes if change.event is Event.HOLD]
    assert (len(ran), len(held)) == (covered, 20 - covered)
    assert {call.grant for call in ran} == {"grt_1"}
    assert {call.status for call in held} == {Status.PENDING}
    assert all(call.requirement.factors and call.grant is None for call in held)
    assert (await store.verify()).problems == ()


def counting(*scope: str, limit: str = "12.00 USD") -> Rulebook:
    """Count what is spent by these scopes; a pot has room for four calls at 3.00 USD."""
    pot = {"limit": limit, "window": {"calendar": "day"}, "scope": [*scope]}
    policy = make_policy({**PRICED_PURCHASES, "meters": {"pot": pot}})
    return Rulebook(directory=make_directory(), policies={"shop": policy})


@pytest.mark.parametrize("scope", [("grant",), ("grant", "tool"), ("agent", "grant", "upstream")])
async def test_a_meter_that_counts_by_grant_has_a_pot_for_each_and_one_for_none(
    store: SqlStore, other: SqlStore, scope: tuple[str, ...]
) -> None:
    """Twenty at once: four pass under each grant, four are held, and there is no room for more."""
    rules = counting(*scope)
    await keep(store, grant("grt_1", expires="2026-12-01T00:00:00Z"))
    await keep(store, grant("grt_2", expires="2026-12-02T00:00:00Z"))
    changes = await asked_at_once(store, other, rules)

    by_grant = Counter((change.event, change.call.grant) for change in changes)
    expected = {(Event.ALLOW, "grt_1"): 4, (Event.ALLOW, "grt_2"): 4, (Event.HOLD, None): 4}
    assert by_grant == {**expected, (Event.DENY, None): 8}
    pots = {dict(each.key)[Scope.GRANT]: each.meter_id for each in await store.kept()}
    assert pots.keys() == {"grt_1", "grt_2", None}
    for change in changes:
        drawn = [each.meter_id for each in change.call.reservations]
        assert drawn == ([] if change.event is Event.DENY else [pots[change.call.grant]])
    assert (await store.verify()).problems == ()


async def test_a_call_that_waited_stays_in_the_pot_of_those_without_a_grant(
    store: SqlStore,
) -> None:
    rules = counting("grant")
    held = (await ask(store, 1, rules)).call
    await keep(store, grant("grt_1", uses=9))
    assert (await ask(store, 2, rules)).call.grant == "grt_1"
    verdict = rules.judge_waiting(held)
    assert verdict.demand is not None
    assert {draw.meter_id for draw in verdict.demand.draws} == {
        each.meter_id for each in held.reservations
    }


async def test_a_pot_for_all_is_drawn_on_alike_under_a_grant_and_under_none(
    store: SqlStore, other: SqlStore
) -> None:
    rules = counting()
    await keep(store, grant("grt_1", uses=2))
    changes = await asked_at_once(store, other, rules)
    by_grant = Counter((change.event, change.call.grant) for change in changes)
    expected = {(Event.ALLOW, "grt_1"): 2, (Event.HOLD, None): 2, (Event.DENY, None): 16}
    assert by_grant == expected


async def test_the_file_and_the_store_give_grants_alike(store: SqlStore) -> None:
    rules = replace(RULES, grants=(grant("file:one", uses=1),))
    await keep(store, grant("grt_2", uses=1, expires="2026-12-01T00:00:00Z"))

    used = [(await ask(store, number, rules)).call.grant for number in range(3)]
    assert used == ["grt_2", "file:one", None]


async def test_a_revoked_grant_admits_nothing(store: SqlStore, other: SqlStore) -> None:
    await keep(store, grant(uses=100))
    assert (await ask(store, 1)).event is Event.ALLOW
    revoked = await other.revoke_grant("grt_1", REVOKE)

    assert (revoked.revoked_at, revoked.revoked_by) == (NOW, "person:ann")
    assert (await ask(store, 2)).event is Event.HOLD
    assert [each.revoked_at for each in (await store.grants()).grants] == [NOW]
    with pytest.raises(Conflict, match="revoked already"):
        await store.revoke_grant("grt_1", REVOKE)
    with pytest.raises(NotFound):
        await store.revoke_grant("grt_2", REVOKE)


async def test_what_has_ended_is_not_revoked_any_more(store: SqlStore, clock: Clock) -> None:
    for number in (1, 2):
        await keep(store, grant(f"grt_{number}", expires="2026-11-21T12:00:10Z"))
    clock.advance(seconds=9.999999)
    await store.revoke_grant("grt_1", REVOKE)
    clock.advance(microseconds=1)
    before = await store.trail()
    with pytest.raises(Conflict, match="ended at 2026-11-21T12:00:10Z, by itself"):
        await store.revoke_grant("grt_2", REVOKE)
    assert (await store.grant("grt_2")).revoked_at is None
    assert await store.trail() == before


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
async def test_pages_give_every_grant_once_the_newest_first(
    store: SqlStore, clock: Clock, limit: int
) -> None:
    # Two at each moment, and the younger id first: what is read on at must part them.
    for number in (2, 1, 4, 3, 6, 5, 7):
        await keep(store, grant(f"grt_{number}", uses=1))
        clock.advance(seconds=number % 2)
    pages: list[list[str]] = []
    after = None
    while not pages or after is not None:
        assert len(pages) < 7
        page = await store.grants(after=after, limit=limit)
        pages.append([each.grant.id.removeprefix("grt_") for each in page.grants])
        after = page.next
        await keep(store, grant(f"grt_new{len(pages)}", uses=1))  # above all that is read on
    assert [number for page in pages for number in page] == ["7", "5", "6", "3", "4", "1", "2"]
    assert [len(page) for page in pages[:-1]] == [limit] * (7 // limit - (7 % limit == 0))
    with pytest.raises(NotFound):
        await store.grants(after="grt_0")


async def test_of_two_grants_of_one_name_the_first_stands(store: SqlStore, other: SqlStore) -> None:
    given = [store.keep_grant(grant(uses=n), ISSUE) for n in (1, 2)]
    given += [other.keep_grant(grant(uses=n), ISSUE) for n in (3, 4)]
    ended = await asyncio.gather(*given, return_exceptions=True)
    assert [type(each) for each in ended].count(Conflict) == 3
    [kept] = (await store.grants()).grants
    assert [each.grant.uses for each in ended if isinstance(each, Issued)] == [kept.grant.uses]
    assert len(await store.trail()) == 1


async def test_nothing_is_admitted_after_a_revocation_that_races_with_it(
    store: SqlStore, other: SqlStore
) -> None:
    await keep(store, grant(uses=100))
    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(ask(store, number))
        await other.revoke_grant("grt_1", REVOKE)
        for number in range(10, 20):
            group.create_task(ask(store, number))

    written = [entry.body for entry in await store.trail(limit=100)]
    revoked = next(n for n, body in enumerate(written) if b'"grant:revoke"' in body)
    assert not any(b'"call:allow"' in body for body in written[revoked:])


async def test_a_grant_ends_at_its_instant(store: SqlStore, clock: Clock) -> None:
    await keep(store, grant(expires="2026-11-21T12:00:10Z"))
    clock.advance(seconds=9.999999)
    assert (await ask(store, 1)).event is Event.ALLOW
    clock.advance(microseconds=1)
    assert (await ask(store, 2)).event is Event.HOLD


async def test_a_grant_begins_at_its_instant(store: SqlStore, clock: Clock) -> None:
    await keep(store, grant(uses=5, not_before="2026-11-21T12:00:10Z"))
    assert (await ask(store, 1)).event is Event.HOLD
    clock.advance(seconds=10)
    assert (await ask(store, 2)).event is Event.ALLOW


async def test_another_agents_grant_is_no_use(store: SqlStore) -> None:
    await keep(store, replace(grant(uses=5), agent="other-agent"))
    assert (await ask(store, 1)).event is Event.HOLD


async def test_a_use_comes_back_only_where_nothing_was_done(store: SqlStore) -> None:
    await keep(store, grant(uses=1))
    first = (await ask(store, 1)).call
    assert (await ask(store, 2)).event is Event.HOLD

    failed = Answer(status=Status.FAILED, body=b"{}")
    await store.advance(first.id, lambda call, now: steps.answer(call, failed, owner="me", now=now))
    third = (await ask(store, 3)).call
    assert third.grant == "grt_1"
    assert (await store.get(third.id)).grant == "grt_1"

    done = Answer(status=Status.EXECUTED, body=b"{}")
    await store.advance(third.id, lambda call, now: steps.answer(call, done, owner="me", now=now))
    assert (await ask(store, 4)).event is Event.HOLD


async def test_a_call_that_costs_nothing_uses_up_a_grant_too(store: SqlStore) -> None:
    rules = replace(RULES, policies={"shop": make_policy()})
    await keep(store, grant(uses=2))
    begun = [await ask(store, number, rules) for number in range(3)]
    assert [change.event for change in begun] == [Event.ALLOW, Event.ALLOW, Event.HOLD]
    assert [len((await store.get(each.call.id)).reservations) for each in begun] == [1, 1, 0]


async def test_a_grant_that_this_release_does_not_understand_covers_nothing(
    store: SqlStore, database: Database
) -> None:
    await keep(store, grant(uses=2))
    await database.execute("UPDATE standing_grant SET spec = '{}'")
    assert (await ask(store, 1)).event is Event.HOLD
    [listed] = (await store.grants()).grants
    assert (listed.grant.agent, listed.grant.tools) == ("ops-agent", ())
    assert (await store.revoke_grant("grt_1", REVOKE)).revoked_at == NOW


# --- out of a decision ---

GENEROUS = {
    **PRICED_PURCHASES,
    "tools": {
        BUY: {
            "spend": {"amount": {"fixed": "3.00 USD"}, "meters": ["pot"]},
            "require_approval": [
                {
                    "approvers": "finance",
                    "grantable": {
                        "uses": 10,
                        "within": "24h",
                        "total": "20.00 USD",
                        "vary": ["number"],
                    },
                }
            ],
        }
    },
}
GIVING = Rulebook(directory=make_directory(), policies={"shop": make_policy(GENEROUS)})


async def decide(store: SqlStore, call: Call, wish: Wish) -> Change:
    ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="web", grant=wish)

    def step(call: Call, now: datetime) -> Change:
        verdict = GIVING.judge_waiting(call)
        return steps.decide(call, ballot, directory=GIVING.directory, verdict=verdict, now=now)

    return await store.advance(call.id, step)


@pytest.mark.parametrize(
    ("uses", "total", "covered"), [(4, Money(2000, "USD"), 4), (10, Money(1100, "USD"), 3)]
)
async def test_one_out_of_a_decision_is_never_used_beyond_it(
    store: SqlStore, other: SqlStore, uses: int, total: Money, covered: int
) -> None:
    held = (await ask(store, 99, GIVING)).call
    wish = Wish(uses=uses, within=timedelta(hours=1), total=total)
    assert (await decide(store, held, wish)).event is Event.APPROVE
    asked = [ask((store, other)[n % 2], n, GIVING) for n in range(20)]
    events = [change.event for change in await asyncio.gather(*asked)]
    assert (events.count(Event.ALLOW), events.count(Event.HOLD)) == (covered, 20 - covered)


async def test_decision_and_grant_are_one_or_neither_is(store: SqlStore) -> None:
    held = (await ask(store, 99, GIVING)).call
    await keep(store, grant(f"grt_{held.id.removeprefix('apr_')}", uses=1))  # its name is taken
    wish = Wish(uses=1, within=timedelta(hours=1), total=Money(300, "USD"))
    before = await store.trail()
    with pytest.raises(Conflict):
        await decide(store, held, wish)
    assert await store.get(held.id) == held
    assert await store.trail() == before
    assert len((await store.grants()).grants) == 1


async def test_what_a_call_took_beyond_its_price_reaches_the_shares_of_its_grant(
    store: SqlStore,
) -> None:
    await keep(store, grant(total="10.00 USD", uses=9))
    begun = await ask(store, 1)
    assert begun.call.grant == "grt_1"
    done = Answer(status=Status.EXECUTED, body=b"{}")
    await store.advance(
        begun.call.id, lambda call, now: steps.answer(call, done, owner="me", now=now)
    )

    def correct(call: Call, now: datetime) -> Change:
        spent = Money(850, "USD")
        return steps.correct(call, person="dora", evidence="", actual=spent, now=now)

    change = await store.advance(begun.call.id, correct, lambda kept: ())
    told = [(entry.facts["meter"], entry.facts["percent"]) for entry in change.alerts]
    assert told == [("total of the grant", 50), ("total of the grant", 80)]
