"""What a person says that a call took: on settling it, and on correcting what was booked."""

from dataclasses import replace
from datetime import timedelta

import pytest

from approval.core import steps
from approval.core.call import Call, Status
from approval.core.ledger import Kind, Reservation, State
from approval.core.lifecycle import Change, Event
from approval.core.meters import USES
from approval.core.money import Money
from approval.errors import Conflict
from tests.core.lives import SETTLE_FROM, doubtful_call
from tests.factories import NOW


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def taking(amount: Money, meter_id: str = "m", **changes: object) -> Reservation:
    made = Reservation(meter_id=meter_id, window_start=NOW, at=NOW, amount=amount)
    return replace(made, **changes)  # type: ignore[arg-type]


HELD = (taking(usd(115)), taking(Money(1, USES), "u"))
BOOKED = tuple(replace(each, state=State.POSTED, posted=each.amount.minor) for each in HELD)
DOUBT = doubtful_call(amount=usd(115), reservations=HELD)


def ended(status: Status = Status.ERRORED, **changes: object) -> Call:
    call = replace(
        DOUBT, status=status, reservations=BOOKED, ended_at=NOW, ended_by="upstream:shop", note="x"
    )
    return replace(call, **changes)  # type: ignore[arg-type]


def settle(call: Call, actual: Money | None, *, executed: bool = True) -> Change:
    return steps.settle(
        call, executed=executed, person="dora", evidence="line 7", now=SETTLE_FROM, actual=actual
    )


def correct(call: Call, actual: Money) -> Change:
    later = NOW + timedelta(days=3)
    return steps.correct(call, person="dora", evidence="line 7", actual=actual, now=later)


def entries(change: Change) -> list[tuple[Kind, str, int]]:
    return [(e.kind, e.meter_id, e.amount) for each in change.bookings for e in each.entries]


@pytest.mark.parametrize(
    ("actual", "posted", "moved", "freezes"),
    [
        (None, 115, [(Kind.POST, "m", 115)], False),
        (usd(0), 0, [(Kind.VOID, "m", 115)], False),
        (usd(100), 100, [(Kind.POST, "m", 100), (Kind.VOID, "m", 15)], False),
        (usd(120), 120, [(Kind.POST, "m", 115), (Kind.OVERRUN, "m", 5)], True),
    ],
)
def test_a_doubt_is_booked_as_what_the_person_says_that_it_took(
    actual: Money | None, posted: int, moved: list[tuple[Kind, str, int]], freezes: bool
) -> None:
    change = settle(DOUBT, actual)
    assert [each.posted for each in change.call.reservations] == [posted, 1]
    assert entries(change) == [*moved, (Kind.POST, "u", 1)]
    assert change.freezes is freezes
    said = {} if actual is None else {"actual": str(actual)}
    assert change.facts == {"evidence": "line 7", **said}


@pytest.mark.parametrize(
    ("call", "actual", "executed", "told"),
    [
        (DOUBT, usd(0), False, "took nothing"),
        (DOUBT, Money(115, "EUR"), True, "counted in USD, not EUR"),
        (DOUBT, Money(1, USES), True, "counted in USD, not use"),
        (doubtful_call(), usd(115), True, "has no amount"),
    ],
)
def test_no_amount_is_taken_that_such_a_call_cannot_have(
    call: Call, actual: Money, executed: bool, told: str
) -> None:
    with pytest.raises(Conflict, match=told):
        settle(call, actual, executed=executed)


@pytest.mark.parametrize("status", [Status.EXECUTED, Status.ERRORED])
@pytest.mark.parametrize(
    ("minor", "moved"),
    [
        (0, [(Kind.ADJUST, "m", 115)]),
        (100, [(Kind.ADJUST, "m", 15)]),
        (500, [(Kind.OVERRUN, "m", 385)]),
    ],
)
def test_a_correction_moves_the_money_and_nothing_else_and_never_freezes(
    status: Status, minor: int, moved: list[tuple[Kind, str, int]]
) -> None:
    call = ended(status)
    change = correct(call, usd(minor))
    assert (change.event, change.previous) == (Event.CORRECT, status)
    assert (change.actor, change.freezes) == ("person:dora", False)
    assert change.facts == {"actual": str(usd(minor)), "evidence": "line 7"}
    assert entries(change) == moved
    corrected = (replace(BOOKED[0], posted=minor), BOOKED[1])
    assert change.call == replace(call, version=call.version + 1, reservations=corrected)
    assert "frozen" not in change.entry().facts


def test_a_correction_may_be_corrected_and_repeating_it_changes_nothing() -> None:
    raised = correct(ended(), usd(500)).call
    assert correct(raised, usd(500)) == Change(call=raised)
    assert entries(correct(raised, usd(115))) == [(Kind.ADJUST, "m", 385)]
    assert correct(ended(), usd(115)) == Change(call=ended())


@pytest.mark.parametrize(
    ("call", "actual", "told"),
    [
        (ended(amount=None, reservations=()), usd(1), "has no amount"),
        (ended(), Money(1, "EUR"), "counted in USD, not EUR"),
        (ended(reservations=()), usd(1), "draws on no meter in USD"),
        (ended(reservations=(BOOKED[1],)), usd(1), "nothing was booked"),
    ],
)
def test_only_what_was_booked_is_corrected(call: Call, actual: Money, told: str) -> None:
    with pytest.raises(Conflict, match=told):
        correct(call, actual)


VOIDED = tuple(replace(each, state=State.VOID) for each in HELD)


@pytest.mark.parametrize("status", [Status.ERRORED, Status.FAILED])
@pytest.mark.parametrize("minor", [1, 100, 115, 500])
def test_what_was_given_back_is_booked_on_a_persons_evidence(status: Status, minor: int) -> None:
    """An error that was free by rule did spend, or what was settled as failed did happen."""
    call = ended(status, reservations=VOIDED)
    change = correct(call, usd(minor))
    assert (change.event, change.call.status, change.freezes) == (Event.CORRECT, status, False)
    # The use of a grant that was given back with it was one after all.
    assert entries(change) == [(Kind.OVERRUN, "m", minor), (Kind.OVERRUN, "u", 1)]
    assert [(e.state, e.posted) for e in change.call.reservations] == [
        (State.POSTED, minor),
        (State.POSTED, 1),
    ]
    assert correct(change.call, usd(minor)) == Change(call=change.call)
    assert entries(correct(change.call, usd(0))) == [(Kind.ADJUST, "m", minor)]


@pytest.mark.parametrize("status", [Status.ERRORED, Status.FAILED])
def test_that_a_call_took_nothing_changes_nothing_where_all_was_given_back(status: Status) -> None:
    call = ended(status, reservations=VOIDED)
    assert correct(call, usd(0)) == Change(call=call)


@pytest.mark.parametrize("status", set(Status) - {Status.EXECUTED, Status.ERRORED, Status.FAILED})
def test_only_a_call_that_ran_is_corrected(status: Status) -> None:
    with pytest.raises(Conflict, match=f"the call is {status}"):
        correct(ended(status), usd(1))
