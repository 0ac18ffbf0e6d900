"""Recorded calls, replayed under other rules."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from approval.app.backtesting import Backtest, backtest
from approval.core.audit import Entry, Tag
from approval.core.call import Answer, Call, Choice, Outcome, Status
from approval.core.grants import Grant
from approval.core.policy import tool_pattern
from approval.core.rulebook import Rulebook
from approval.core.steps import Ballot
from approval.service import Service
from approval.store.store import SqlStore
from tests.factories import Clock, make_asked, make_rulebook, make_service

TOOL = "create_incoming_phone_number"
GATE = {"require_approval": [{"approvers": "finance"}]}
PRICE = {"amount": {"fixed": "2.00 USD"}, "meters": ["pot"]}


def rules(tool: Mapping[str, object], limit: str = "5.00 USD") -> Rulebook:
    return make_rulebook(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {TOOL: tool},
            "defaults": {"require_approval": {"approvers": "finance"}},
            "meters": {"pot": {"limit": limit, "window": {"calendar": "day"}}},
        }
    )


async def lived(service: Service, number: int, *, bought: bool, typed: str | None = None) -> None:
    """Hold a call and bring it to its end."""
    asked = make_asked({"number": number})
    verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, {"number": number})
    call = (await service.submit(asked, verdict)).call
    choice = Choice.APPROVE if bought else Choice.REJECT
    ballot = Ballot(person="ann", choice=choice, digest=call.digest, via="t", amount=typed)
    await service.decide(call.id, ballot)
    if bought:

        async def send(call: Call) -> Answer:
            return Answer(status=Status.EXECUTED, body=b'{"result":{}}')

        await service.execute(call.id, send)


async def replayed(folder: Path, new: Rulebook) -> Backtest:
    """Record four purchases, of which the second was rejected, and replay them."""
    clock = Clock()
    async with make_service(folder, rules=rules(GATE), clock=clock) as service:
        for number in range(4):
            clock.advance(minutes=1)
            await lived(service, number, bought=number != 1)
        store = service._store
        assert isinstance(store, SqlStore)
        since = clock.now - timedelta(hours=1)
        done: list[int] = []
        found = await backtest(new, store, since=since, upstream="shop", told=done.append)
        assert done == [1, 2, 3, 4]
        return found


async def test_the_same_rules_change_nothing(tmp_path: Path) -> None:
    found = await replayed(tmp_path, rules(GATE))
    assert found.matrix == Counter({(Outcome.GATE, Outcome.GATE): 4})
    assert found.changed == []


async def test_a_limit_counts_what_was_bought_and_not_what_was_rejected(tmp_path: Path) -> None:
    found = await replayed(tmp_path, rules({**GATE, "spend": PRICE}))
    assert found.matrix == Counter(
        {(Outcome.GATE, Outcome.GATE): 3, (Outcome.GATE, Outcome.DENY): 1}
    )
    [changed] = found.changed
    assert (changed.code, changed.call.asked.arguments) == ("limit", b'{"number":3}')


async def test_looser_rules_show_what_nobody_would_be_asked(tmp_path: Path) -> None:
    found = await replayed(tmp_path, rules({}))
    assert found.matrix == Counter({(Outcome.GATE, Outcome.ALLOW): 4})


async def test_what_would_run_for_money_is_replayed_with_it(tmp_path: Path) -> None:
    found = await replayed(tmp_path, rules({"spend": PRICE}, "100.00 USD"))
    assert found.matrix == Counter({(Outcome.GATE, Outcome.ALLOW): 4})


async def test_stricter_rules_show_what_would_be_denied(tmp_path: Path) -> None:
    found = await replayed(tmp_path, rules({"deny_if": [{}]}))
    assert {each.code for each in found.changed} == {"deny_if:true"}
    assert found.matrix == Counter({(Outcome.GATE, Outcome.DENY): 4})


async def test_where_nothing_is_recorded_nothing_is_replayed(tmp_path: Path) -> None:
    async with make_service(tmp_path) as service:
        store = service._store
        assert isinstance(store, SqlStore)
        since = await store.now() - timedelta(days=30)
        found = await backtest(rules(GATE), store, since=since, upstream="shop", told=print)
        assert (found.calls, found.changed) == (0, [])


async def test_where_an_approver_types_it_is_replayed_at_the_most_that_may_be_typed(
    tmp_path: Path,
) -> None:
    typed = {"amount": {"ask": True, "up_to": "2.00 USD"}, "meters": ["pot"]}
    found = await replayed(tmp_path, rules({**GATE, "spend": typed}))
    assert found.matrix == Counter(
        {(Outcome.GATE, Outcome.GATE): 3, (Outcome.GATE, Outcome.DENY): 1}
    )
    assert [changed.code for changed in found.changed] == ["limit"]


async def test_what_was_typed_then_is_typed_again(tmp_path: Path) -> None:
    typed = {"amount": {"ask": True, "up_to": "3.00 USD"}, "meters": ["pot"]}
    document, clock = rules({**GATE, "spend": typed}), Clock()
    async with make_service(tmp_path, rules=document, clock=clock) as service:
        for number in range(3):
            await lived(service, number, bought=True, typed="1.00 USD")
        store = service._store
        assert isinstance(store, SqlStore)
        since = clock.now - timedelta(hours=1)
        found = await backtest(document, store, since=since, upstream="shop", told=lambda _: None)
    assert found.matrix == Counter({(Outcome.GATE, Outcome.GATE): 3})


# --- what the upstream took ---


def metered(limit: str = "100.00 USD", bound: str = "20.00 USD", **more: object) -> Rulebook:
    """Calls that take what the answer says, at most `bound`."""
    actual = {"result": "/cents", "unit": "minor"}
    spend = {"amount": {"at_most": bound}, "actual": actual, "meters": ["pot"], **more}
    return rules({"spend": spend}, limit)


async def spent(service: Service, number: int, took: int, status: Status) -> None:
    """Let a call run at once, and take this many cents."""
    asked = make_asked({"number": number})
    verdict = service.rules.judge(asked.agent, asked.upstream, asked.tool, {"number": number})
    submission = await service.submit(asked, verdict)

    async def send(call: Call) -> Answer:
        return Answer(status=status, body=orjson.dumps({"result": {"cents": took}}))

    assert submission.claimed_at is not None
    service.carry_out(submission, send)
    await service.changed(submission.call)


async def compared(
    folder: Path,
    old: Rulebook,
    new: Rulebook,
    took: list[int],
    *,
    status: Status = Status.EXECUTED,
    forgotten: bool = False,
) -> Backtest:
    """Record calls that took this much under the old rules, and replay them under the new."""
    clock = Clock()
    async with make_service(folder, rules=old, clock=clock) as service:
        store = service._store
        assert isinstance(store, SqlStore)
        for number, cents in enumerate(took):
            clock.advance(seconds=5)
            for freeze in await store.freezes():
                entry = Entry(
                    tag=Tag.FREEZE_LIFT, subject=freeze.call_id, actor="person:dora", facts={}
                )
                await store.lift(freeze.call_id, entry)
            await spent(service, number, cents, status)
        since = clock.now - timedelta(days=1)
        past: SqlStore = Forgetful(store) if forgotten else store  # type: ignore[assignment]
        return await backtest(new, past, since=since, upstream="shop", told=lambda _: None)


class Forgetful:
    """A store whose retention has taken the answers."""

    def __init__(self, store: SqlStore) -> None:
        self.find = store.find

    async def answer(self, call_id: str) -> None:
        return None


ALLOWED = (Outcome.ALLOW, Outcome.ALLOW)
DENIED = (Outcome.ALLOW, Outcome.DENY)


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize(
    ("took", "limit"),
    [
        ([100] * 10, "100.00 USD"),
        ([2000, 100, 1900], "60.00 USD"),
        # an overrun, lifted before the next call
        ([100, 5000, 100, 100], "100.00 USD"),
    ],
)
async def test_a_policy_over_its_own_history_changes_nothing(
    tmp_path: Path, took: list[int], limit: str, *, forgotten: bool
) -> None:
    document = metered(limit)
    found = await compared(tmp_path, document, document, took, forgotten=forgotten)
    assert found.changed == []
    assert found.matrix == Counter({ALLOWED: len(took)})


@pytest.mark.parametrize(
    ("took", "new", "codes"),
    [
        # 30.00 of 35.00 is spent, and the next call sets 20.00 aside
        ([1000, 1000, 1000, 1000], metered("35.00 USD"), ["limit", "limit"]),
        ([1000, 1000, 100, 100], metered("40.00 USD"), ["limit"]),
        # the answer is read where the new rules read it, and is now an overrun that freezes
        ([300, 600, 100], metered(bound="5.00 USD"), ["frozen"]),
        ([300, 600, 100], metered(bound="5.00 USD", on_overrun="alert"), []),
        # what is priced anew is booked at its price
        ([100, 100, 100], rules({"spend": PRICE}, "5.00 USD"), ["limit"]),
    ],
)
async def test_new_limits_meet_what_was_really_taken(
    tmp_path: Path, took: list[int], new: Rulebook, codes: list[str]
) -> None:
    found = await compared(tmp_path, metered(), new, took)
    assert [each.code for each in found.changed] == codes


async def test_an_error_takes_what_the_new_rules_say_of_errors(tmp_path: Path) -> None:
    took, new = [100] * 3, metered("40.00 USD")
    kept = await compared(tmp_path, metered(), new, took, status=Status.ERRORED)
    assert [each.code for each in kept.changed] == ["limit"]
    tool = {"spend": {"amount": {"fixed": "20.00 USD"}, "meters": ["pot"]}, "on_error": "void"}
    again = tmp_path / "again"
    again.mkdir()
    freed = await compared(again, metered(), rules(tool, "20.00 USD"), took, status=Status.ERRORED)
    assert freed.changed == []


async def test_a_call_under_a_grant_that_was_issued_is_counted(tmp_path: Path) -> None:
    grant = Grant(id="grt_1", agent="ops-agent", tools=(tool_pattern("*", ""),), uses=9)
    gated = rules({**GATE, "spend": PRICE}, "100.00 USD")
    ours = replace(gated, grants=(grant,))
    found = await compared(tmp_path, ours, gated, [200, 200])
    assert (found.granted, found.matrix) == (2, Counter({(Outcome.ALLOW, Outcome.GATE): 2}))
    again = tmp_path / "again"
    again.mkdir()
    found = await compared(again, ours, ours, [200, 200])
    assert (found.granted, found.matrix) == (0, Counter({ALLOWED: 2}))
