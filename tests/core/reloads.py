"""Calls that wait while the rules about their money change: (then, now) x what becomes of them.

Strictest of both. What tightened holds at the claim; what loosened releases nothing. The call is
the second of two purchases at $4.00, the first of which waits as well all the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from approval.core import intake, steps
from approval.core.call import Answer, Call, Choice, Status, new_call_id
from approval.core.canonical import JSON
from approval.core.demand import Holdings
from approval.core.ledger import State
from approval.core.lifecycle import Change, Event
from approval.core.rulebook import Rulebook
from approval.core.steps import Ballot
from tests.core.money_machine import PROCESSES
from tests.core.till import Till
from tests.factories import Clock, make_asked, make_lease, make_rulebook

BUY, OTHER = "create_incoming_phone_number", "buy_something_else"
FIRST, SECOND = PROCESSES
PRICE = 400
WINDOWS: Mapping[str, Mapping[str, object]] = {
    "day": {"calendar": "day"},
    "rolling": {"rolling": "24h"},
    "all time": {"all_time": True},
}
ZONES = ("Europe/Berlin", "Asia/Tokyo", "America/New_York")
SOFT: Mapping[str, object] = {"override_by": "finance", "up_to": "2.00 USD"}
NO_MORE: Mapping[str, object] = {}
Meters = Mapping[str, Mapping[str, object]]


def pot(limit: str = "10.00 USD", window: str = "day", **more: object) -> Meters:
    return {"pot": {"limit": limit, "window": WINDOWS[window], "scope": [], **more}}


def rules(
    price: object = "4.00 USD",
    meters: Meters | None = None,
    *,
    draws: tuple[str, ...] | None = None,
    spend: Mapping[str, object] | None = None,
    gate: Mapping[str, object] | None = NO_MORE,
    tool: Mapping[str, object] = NO_MORE,
) -> Rulebook:
    """Hold purchases for finance at a price; with `price` None they charge nothing (any more)."""
    meters = pot() if meters is None else meters
    names = list(meters if draws is None else draws)
    amount = {"fixed": price} if isinstance(price, str) else price
    charged = {"amount": amount, "meters": names, **(spend or {})}
    asked = {"approvers": "finance", "run_within": "48h"}
    asking = {} if gate is None else {"require_approval": [{**asked, **gate}]}
    rule = {**asking, **({} if price is None else {"spend": charged}), **tool}
    others = {"amount": {"fixed": "4.00 USD"}, "meters": list(meters)}
    document: dict[str, object] = {
        "dialect": "approval-1",
        "version": "1",
        "default": "deny",
        "tools": {BUY: rule, OTHER: {"spend": others}},
    }
    return make_rulebook(document | ({"meters": meters} if meters else {}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Rules then and now, and what becomes of the call that waits.

    `note` is how the reason begins for which it does not run; empty where it runs. It is booked on
    so many `meters` then. `wait` passes before the claim, and `meanwhile` so many other purchases
    are made at once under the rules of now.
    """

    then: Rulebook
    now: Rulebook
    note: str = ""
    meters: int = 1
    wait: timedelta = timedelta(minutes=1)
    meanwhile: int = 0


def play(till: Till, clock: Clock, case: Case) -> None:
    """Ask and approve under the rules of then, claim under those of now; look at all the money."""
    waits = begin(till, case.then, 1)
    call = approve(till, begin(till, case.then, 2), case.then)
    clock.now += case.wait
    for number in range(case.meanwhile):
        assert begin(till, case.now, 10 + number, tool=OTHER).status is Status.EXECUTING
    before = total(till)
    change = claim(till, call, case.now)
    if case.note:
        assert change.event is Event.INVALIDATE
        assert change.call.note.startswith(case.note), change.call.note
        assert all(each.state is State.VOID for each in change.call.reservations)
        assert total(till) == (before[0] - PRICE * len(call.reservations), before[1])
    else:
        assert change.event is Event.CLAIM, change.call.note
        check_claimed(change, call, case.now, till.now())
        held, posted = total(till)
        assert (held, posted) == (before[0] + PRICE * (case.meters - len(call.reservations)), 0)
        check_ended(end(till, change.call).call, case.meters)
        assert total(till) == (held - PRICE * case.meters, PRICE * case.meters)
    assert till.get(waits.id, SECOND).reservations == waits.reservations


def check_claimed(change: Change, before: Call, rules: Rulebook, now: datetime) -> None:
    """Whatever was reserved still is, and what the rules know of counts in the window of now."""
    held = {each.meter_id: each for each in change.call.reservations}
    assert {each.meter_id for each in before.reservations} <= held.keys()
    assert {(each.state, each.amount.minor) for each in held.values()} <= {(State.HELD, PRICE)}
    demand = rules.judge_waiting(before).demand
    for draw in demand.draws if demand is not None else ():
        assert held[draw.meter_id].window_start == draw.meter.window.row(now)
    assert change.taken == ()


def check_ended(call: Call, meters: int) -> None:
    assert [(each.state, each.posted) for each in call.reservations] == [
        (State.POSTED, PRICE)
    ] * meters


# --- what may change meanwhile ---

STATED = {"argument": "/amount", "unit": "minor", "currency": "USD"}
JAR: Meters = {"jar": {"limit": "10.00 USD", "window": WINDOWS["day"], "scope": []}}
FULL_JAR: Meters = {"jar": {"limit": "3.99 USD", "window": WINDOWS["day"], "scope": []}}
LIMITED: Mapping[str, object] = {"rate_limit": {"max": 2, "window": "1h"}}
NARROWER: Mapping[str, object] = {"rate_limit": {"max": 1, "window": "2h"}}
LET_PASS = rules(meters=pot("6.00 USD", soft=SOFT, over="ask"))
ABOVE = {"path": "spend.amount", "op": "gt", "value": "100.00 USD"}
TOMORROW = timedelta(hours=24)
PER_WINDOW = {
    f"{name}, {window}": Case(
        then=rules(meters=pot(then, window)), now=rules(meters=pot(now, window)), note=note
    )
    for window in WINDOWS
    for name, then, now, note in (
        ("the same limit", "10.00 USD", "10.00 USD", ""),
        ("the same limit, which is full", "8.00 USD", "8.00 USD", ""),
        ("a higher limit", "8.00 USD", "100.00 USD", ""),
        ("a lower limit that is kept", "10.00 USD", "8.00 USD", ""),
        ("a lower limit that is not", "10.00 USD", "7.99 USD", "budget: The limit pot is 7.99"),
        ("a limit below the call", "10.00 USD", "0.01 USD", "budget: The limit pot is 0.01"),
    )
}
PER_ZONE = {
    f"{name}, and days of {zone}": Case(
        then=rules(),
        now=rules(meters={"pot": {**pot(limit)["pot"], "window": days}}),
        note=note,
        wait=wait,
        meanwhile=meanwhile,
    )
    for zone in ZONES
    for days in [{"calendar": "day", "zone": zone}]
    for name, limit, wait, meanwhile, note in (
        ("the limit just kept", "8.00 USD", timedelta(minutes=1), 0, ""),
        ("a lower limit", "7.99 USD", timedelta(minutes=1), 0, "budget: The limit pot is 7.99"),
        ("others in the new row", "12.00 USD", timedelta(minutes=1), 1, ""),
        ("the next day", "4.00 USD", timedelta(hours=24), 0, ""),
    )
}
CASES: Mapping[str, Case] = {
    **PER_WINDOW,
    **PER_ZONE,
    "let pass by people": Case(then=LET_PASS, now=LET_PASS),
    "let pass, and the limit lower": Case(
        then=LET_PASS,
        now=rules(meters=pot("5.99 USD", soft=SOFT, over="ask")),
        note="budget: ",
    ),
    "let pass, and less may be": Case(
        then=LET_PASS,
        now=rules(meters=pot("6.00 USD", soft={**SOFT, "up_to": "1.99 USD"}, over="ask")),
        note="budget: ",
    ),
    "let pass, and nobody may any more": Case(
        then=LET_PASS, now=rules(meters=pot("6.00 USD")), note="budget: "
    ),
    "a higher price": Case(then=rules(), now=rules("4.01 USD"), note="price_changed"),
    "a lower price": Case(then=rules(), now=rules("3.99 USD"), note="price_changed"),
    "another currency": Case(
        then=rules(), now=rules("4.00 EUR", pot("10.00 EUR")), note="price_changed"
    ),
    "a meter of another currency": Case(
        then=rules(), now=rules(meters=pot("10.00 EUR")), note="budget: "
    ),
    "a price that nobody can tell": Case(
        then=rules(),
        now=rules({**STATED, "argument": "/cost"}),
        note="policy_denies",
    ),
    "a price where there was none": Case(
        then=rules(None, {}), now=rules(), note="price_changed", meters=0
    ),
    "a cap for one call below it": Case(
        then=rules(), now=rules(STATED, spend={"per_call": "3.99 USD"}), note="policy_denies"
    ),
    "a cap for one call at it": Case(
        then=rules(), now=rules(STATED, spend={"per_call": "4.00 USD"})
    ),
    "no price": Case(then=rules(), now=rules(None)),
    "no price, and a rate": Case(then=rules(), now=rules(None, tool=LIMITED)),
    "no price, and no meter": Case(then=rules(), now=rules(None, {})),
    "no price, and a lower limit": Case(
        then=rules(), now=rules(None, pot("7.99 USD")), note="budget: "
    ),
    "no price, on the next day": Case(then=rules(), now=rules(None), wait=TOMORROW),
    "no price, and the next day is full": Case(
        then=rules(), now=rules(None), wait=TOMORROW, meanwhile=2, note="budget: "
    ),
    "no meter in the rule": Case(then=rules(), now=rules(draws=())),
    "no meter in the rule, and a lower limit": Case(
        then=rules(), now=rules(meters=pot("7.99 USD"), draws=()), note="budget: "
    ),
    "no meter in the rule, on the next day": Case(then=rules(), now=rules(draws=()), wait=TOMORROW),
    "no meter at all": Case(then=rules(), now=rules(meters={})),
    "no meter at all, on the next day": Case(then=rules(), now=rules(meters={}), wait=TOMORROW),
    "another meter": Case(then=rules(), now=rules(meters=JAR), meters=2),
    "another meter, and no room in it": Case(
        then=rules(), now=rules(meters=FULL_JAR), note="budget: The limit jar is 3.99"
    ),
    "one meter more": Case(then=rules(), now=rules(meters={**pot(), **JAR}), meters=2),
    "one meter more, and the first is lower": Case(
        then=rules(), now=rules(meters={**pot("7.99 USD"), **JAR}), note="budget: The limit pot"
    ),
    "a full rate, which counted it": Case(then=rules(tool=LIMITED), now=rules(tool=LIMITED)),
    "a lower rate": Case(then=rules(tool=LIMITED), now=rules(tool=NARROWER)),
    "a rate where there was none": Case(then=rules(), now=rules(tool=NARROWER)),
    "no rate": Case(then=rules(tool=LIMITED), now=rules()),
    "a gate that more must pass": Case(
        then=rules(), now=rules(gate={"quorum": 2}), note="approval_no_longer_enough"
    ),
    "no gate": Case(then=rules(), now=rules(gate=None)),
    "a rule that denies": Case(
        then=rules(), now=rules(tool={"deny_if": [{"conditions": []}]}), note="policy_denies"
    ),
    "a condition on a price that is gone": Case(
        then=rules(),
        now=rules(
            None,
            tool={"deny_if": [{"conditions": [ABOVE]}]},
        ),
        note="policy_denies",
    ),
}


# --- the steps, through either process ---


def begin(till: Till, rules: Rulebook, number: int, tool: str = BUY) -> Call:
    arguments: JSON = {"number": number, "amount": PRICE}
    asked = make_asked(arguments, tool=tool)
    verdict = rules.judge(asked.agent, asked.upstream, tool, arguments)

    def step(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        call_id = new_call_id(now, number.to_bytes(10))
        lease = make_lease()
        return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

    return till.admit(asked, verdict.demand, step, (), FIRST).call


def approve(till: Till, call: Call, rules: Rulebook) -> Call:
    ballot = Ballot(person="ann", choice=Choice.APPROVE, digest=call.digest, via="web")

    def step(call: Call, now: datetime) -> Change:
        verdict = rules.judge_waiting(call)
        return steps.decide(call, ballot, directory=rules.directory, verdict=verdict, now=now)

    return till.advance(call.id, step, SECOND).call


def claim(till: Till, call: Call, rules: Rulebook) -> Change:
    verdict = rules.judge_waiting(call)

    def step(call: Call, holdings: Holdings, now: datetime) -> Change:
        lease, directory = make_lease(), rules.directory
        return steps.claim(
            call, holdings, lease=lease, directory=directory, verdict=verdict, now=now
        )

    return till.claim(call.id, verdict.demand, step, FIRST)


def end(till: Till, call: Call) -> Change:
    answer = Answer(status=Status.EXECUTED, body=b"{}")
    return till.advance(
        call.id, lambda call, now: steps.answer(call, answer, owner="me", now=now), SECOND
    )


def total(till: Till) -> tuple[int, int]:
    """Give what all meters hold and have posted together."""
    sums = till.sums(FIRST).values()
    return sum(usage.held for usage in sums), sum(usage.posted for usage in sums)
