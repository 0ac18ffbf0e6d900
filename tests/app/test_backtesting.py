"""Recorded calls, replayed under other rules."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from approval.app.backtesting import Backtest, backtest
from approval.core.call import Answer, Call, Choice, Outcome, Status
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
