"""The life of a call is exactly one table: everything in it, and nothing that is not in it."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from approval.core.audit import Entry, Tag
from approval.core.call import Call, Status
from approval.core.demand import Terms
from approval.core.ledger import Booking, Kind, LedgerEntry, Reservation, State
from approval.core.lifecycle import (
    TRANSITIONS,
    Change,
    Event,
    Funds,
    booked,
    diagram,
    move,
    replayed,
)
from approval.core.meters import USES
from approval.core.money import Money
from approval.core.price import OnError
from approval.errors import Conflict
from tests.factories import NOW, make_call

# The design's own words, typed a second time: a slip in the code must not move the test with it.
STORY = """
new        hold            pending      reserve
new        allow           executing    reserve
new        deny            denied       none
pending    join            pending      keep
pending    tighten         pending      lower
pending    endorse         pending      keep
pending    approve         approved     lower
pending    reject          rejected     void
pending    expire          expired      void
pending    cancel          cancelled    void
pending    invalidate      invalidated  void
approved   join            approved     keep
approved   release         approved     keep
approved   revoke          rejected     void
approved   expire          expired      void
approved   cancel          cancelled    void
approved   invalidate      invalidated  void
approved   claim           executing    keep
executing  join            executing    keep
executing  succeed         executed     post
executing  err             errored      by_rule
executing  fail            failed       void
executing  lose            in_doubt     keep
in_doubt   join            in_doubt     keep
in_doubt   succeed_late    executed     post
in_doubt   err_late        errored      by_rule
in_doubt   settle_executed executed     post
in_doubt   settle_failed   failed       void
executed   correct         executed     adjust
errored    correct         errored      adjust
failed     correct         failed       adjust
"""
ROWS = [line.split() for line in STORY.strip().splitlines()]
WANTED = {
    (None if source == "new" else Status(source), Event(event)): (Status(to), Funds[funds.upper()])
    for source, event, to, funds in ROWS
}
SOURCES: tuple[Status | None, ...] = (None, *Status)
PAIRS = list(product(SOURCES, Event))


@pytest.mark.parametrize(("source", "event"), PAIRS)
def test_every_pair_of_status_and_event_does_what_the_story_says(
    source: Status | None, event: Event
) -> None:
    found = TRANSITIONS.get((source, event))
    assert (found and (found.target, found.funds)) == WANTED.get((source, event))


@pytest.mark.parametrize(("source", "event"), list(product(Status, Event)))
def test_a_call_moves_along_the_table_or_not_at_all(source: Status, event: Event) -> None:
    call = make_call(status=source, version=4)
    if (source, event) not in WANTED:
        with pytest.raises(Conflict, match=f"the call is {source} and takes no {event}"):
            move(call, event, "clock", now=NOW)
        return
    target, funds = WANTED[source, event]
    ended_at = NOW if target.ended and not source.ended else None
    assert move(call, event, "clock", now=NOW, facts={"why": "x"}) == Change(
        call=make_call(status=target, version=5, ended_at=ended_at),
        event=event,
        previous=source,
        funds=funds,
        actor="clock",
        facts={"why": "x"},
    )


@pytest.mark.parametrize(("source", "event"), PAIRS)
def test_replaying_follows_the_same_table(source: Status | None, event: Event) -> None:
    if (source, event) in WANTED:
        assert replayed(source, event) is WANTED[source, event][0]
        return
    with pytest.raises(Conflict, match="which cannot happen"):
        replayed(source, event)


def test_no_end_has_a_way_out() -> None:
    after = {key: to for key, to in TRANSITIONS.items() if key[0] is not None and key[0].ended}
    assert [key for key, to in after.items() if to.target is not key[0]] == []


def test_of_an_ended_call_only_the_money_moves_and_only_by_correcting_it() -> None:
    corrections = {key for key, to in TRANSITIONS.items() if to.funds is Funds.ADJUST}
    ended = {key for key in TRANSITIONS if key[0] is not None and key[0].ended}
    assert corrections == ended == {key for key in TRANSITIONS if key[1] is Event.CORRECT}


def test_what_has_left_for_the_upstream_never_waits_again() -> None:
    waiting = {Status.PENDING, Status.APPROVED}
    after_claim = {Status.EXECUTING, Status.IN_DOUBT}
    back = [
        key for key, to in TRANSITIONS.items() if key[0] in after_claim and to.target in waiting
    ]
    assert back == []


def test_only_a_claim_leads_to_executing_and_only_a_loss_to_doubt() -> None:
    into = {
        status: {
            event
            for (source, event), to in TRANSITIONS.items()
            if to.target is status and source is not status
        }
        for status in (Status.EXECUTING, Status.IN_DOUBT)
    }
    # What a policy allows at a price is claimed as it begins.
    claims = {Event.ALLOW, Event.CLAIM}
    assert into == {Status.EXECUTING: claims, Status.IN_DOUBT: {Event.LOSE}}


def test_every_end_says_what_becomes_of_the_money() -> None:
    for (source, _), to in TRANSITIONS.items():
        if source is not None and not source.ended and to.target.ended:
            assert to.funds in {Funds.POST, Funds.VOID, Funds.BY_RULE}


def test_of_a_denied_call_no_version_is_told_for_no_record_of_it_is_kept() -> None:
    denied = make_call(status=Status.DENIED)
    change = Change(call=denied, event=Event.DENY, actor="policy", facts={"codes": ["limit"]})
    assert change.entry().facts == {"to": "denied", "codes": ["limit"]}


@pytest.mark.parametrize("event", [event for event in Event if event is not Event.DENY])
def test_every_event_has_its_word_in_the_trail(event: Event) -> None:
    change = Change(
        call=make_call(version=3),
        event=event,
        previous=Status.PENDING,
        actor="person:ann",
        facts={"why": "x"},
    )
    assert change.entry() == Entry(
        tag=Tag(f"call:{event.value}"),
        subject="apr_00000000000000000000000000",
        actor="person:ann",
        facts={"from": "pending", "to": "pending", "version": 3, "why": "x"},
    )


def test_where_nothing_happened_there_is_nothing_to_write() -> None:
    with pytest.raises(ValueError, match="has no audit entry"):
        Change(call=make_call()).entry()


def test_a_call_that_goes_on_keeps_the_end_it_does_not_have() -> None:
    later = move(make_call(), Event.ENDORSE, "person:ann", now=NOW + timedelta(minutes=1))
    assert later.call.ended_at is None


def test_the_diagram_is_drawn_from_the_table() -> None:
    assert diagram().splitlines() == [
        "stateDiagram-v2",
        "    [*] --> pending: hold",
        "    [*] --> executing: allow",
        "    [*] --> denied: deny",
        "    pending --> approved: approve",
        "    pending --> rejected: reject",
        "    pending --> expired: expire",
        "    pending --> cancelled: cancel",
        "    pending --> invalidated: invalidate",
        "    approved --> rejected: revoke",
        "    approved --> expired: expire",
        "    approved --> cancelled: cancel",
        "    approved --> invalidated: invalidate",
        "    approved --> executing: claim",
        "    executing --> executed: succeed",
        "    executing --> errored: err",
        "    executing --> failed: fail",
        "    executing --> in_doubt: lose",
        "    in_doubt --> executed: succeed_late / settle_executed",
        "    in_doubt --> errored: err_late",
        "    in_doubt --> failed: settle_failed",
        "    cancelled --> [*]",
        "    denied --> [*]",
        "    errored --> [*]",
        "    executed --> [*]",
        "    expired --> [*]",
        "    failed --> [*]",
        "    invalidated --> [*]",
        "    rejected --> [*]",
    ]


# --- the money ---

DAY = NOW.replace(hour=0)
PRICE = Money(100, "USD")
HELD = Reservation(meter_id="m", window_start=DAY, at=NOW, amount=PRICE, override=30)
USE = Reservation(meter_id="u", window_start=DAY, at=NOW, amount=Money(1, USES))


def priced_call(status: Status, on_error: OnError = OnError.KEEP) -> Call:
    terms = Terms(on_error=on_error)
    return make_call(status=status, amount=PRICE, terms=terms, reservations=(HELD, USE))


def entry(kind: Kind, amount: int, override: int = 0, of: Reservation = HELD) -> LedgerEntry:
    return LedgerEntry(
        kind=kind,
        meter_id=of.meter_id,
        window_start=DAY,
        amount=amount,
        override=override,
    )


POSTED = (
    replace(HELD, state=State.POSTED, posted=100),
    replace(USE, state=State.POSTED, posted=1),
)
VOIDED = (replace(HELD, state=State.VOID, override=0), replace(USE, state=State.VOID))
BOOKED: dict[str, tuple[tuple[Reservation, ...], list[LedgerEntry]]] = {
    "keep": ((HELD, USE), []),
    "lower": ((HELD, USE), []),  # to less only where somebody typed it: see `test_asking`
    "post": (POSTED, [entry(Kind.POST, 100, 30), entry(Kind.POST, 1, of=USE)]),
    "void": (VOIDED, [entry(Kind.VOID, 100, 30), entry(Kind.VOID, 1, of=USE)]),
    "by_rule": (POSTED, [entry(Kind.POST, 100, 30), entry(Kind.POST, 1, of=USE)]),
}


@pytest.mark.parametrize(("source", "event", "funds"), [(r[0], r[1], r[3]) for r in ROWS])
def test_every_row_moves_the_money_as_the_story_says(source: str, event: str, funds: str) -> None:
    if source == "new":  # what begins is `intake`'s to reserve
        return
    if event == "correct":  # what is booked moves on a person's word alone: see `steps.correct`
        return
    change = move(priced_call(Status(source)), Event(event), "clock", now=NOW)
    reservations, entries = BOOKED[funds]
    assert change.call.reservations == reservations
    assert [each for booking in change.bookings for each in booking.entries] == entries
    live = [each for each in change.call.reservations if each.state is State.HELD]
    assert bool(live) is not change.call.status.ended  # 29


@pytest.mark.parametrize("event", [Event.ERR, Event.ERR_LATE])
@pytest.mark.parametrize(
    ("on_error", "actual", "posted"),
    [
        (OnError.KEEP, None, 100),
        # An answer that is an error lowers nothing that was to be kept.
        (OnError.KEEP, 40, 100),
        (OnError.KEEP, 0, 100),
        (OnError.KEEP, 140, 140),
        (OnError.POST, None, 100),
        (OnError.POST, 40, 40),
        (OnError.POST, 140, 140),
        (OnError.VOID, None, 0),
        (OnError.VOID, 40, 0),
    ],
)
def test_an_error_costs_what_the_tool_says(
    event: Event, on_error: OnError, actual: int | None, posted: int
) -> None:
    source = Status.EXECUTING if event is Event.ERR else Status.IN_DOUBT
    took = None if actual is None else Money(actual, "USD")
    change = move(priced_call(source, on_error), event, "clock", now=NOW, actual=took)
    money, use = change.call.reservations
    is_void = on_error is OnError.VOID
    assert money.state is use.state is (State.VOID if is_void else State.POSTED)
    assert (money.posted, use.posted) == (posted, 0 if is_void else 1)


@pytest.mark.parametrize("event", [Event.SUCCEED, Event.SUCCEED_LATE, Event.SETTLE_EXECUTED])
@pytest.mark.parametrize(
    ("actual", "posted", "moved"),
    [
        (None, 100, [entry(Kind.POST, 100, 30)]),
        (Money(100, "USD"), 100, [entry(Kind.POST, 100, 30)]),
        # What people let pass is given back first.
        (Money(80, "USD"), 80, [entry(Kind.POST, 80, 10), entry(Kind.VOID, 20, 20)]),
        (Money(60, "USD"), 60, [entry(Kind.POST, 60), entry(Kind.VOID, 40, 30)]),
        (Money(0, "USD"), 0, [entry(Kind.VOID, 100, 30)]),
        (Money(130, "USD"), 130, [entry(Kind.POST, 100, 30), entry(Kind.OVERRUN, 30)]),
        (Money(10, "EUR"), 100, [entry(Kind.POST, 100, 30)]),
    ],
)
def test_a_success_costs_what_it_took(
    event: Event, actual: Money | None, posted: int, moved: list[LedgerEntry]
) -> None:
    source = Status.EXECUTING if event is Event.SUCCEED else Status.IN_DOUBT
    change = move(priced_call(source), event, "clock", now=NOW, actual=actual)
    money, use = change.call.reservations
    assert (money.posted, money.overran) == (posted, posted > 100)
    assert list(change.bookings[0].entries) == moved
    # The uses of a grant are no money: the call is one, whatever it took.
    assert (use.posted, use.overran) == (1, False)


def test_what_is_settled_is_not_settled_again() -> None:
    call = replace(priced_call(Status.EXECUTING), reservations=POSTED)
    for event in (Event.FAIL, Event.SUCCEED):
        assert move(call, event, "clock", now=NOW).bookings == ()


def test_the_trail_tells_every_movement() -> None:
    change = move(
        priced_call(Status.EXECUTING), Event.SUCCEED, "s", now=NOW, actual=Money(120, "USD")
    )
    start = DAY.isoformat()
    assert change.entry().facts["ledger"] == [
        ["post", "m", start, 100, 30],
        ["overrun", "m", start, 20, 0],
        ["post", "u", start, 1, 0],
    ]


def test_bookings_are_added_to_those_before_and_the_latest_stands() -> None:
    other = replace(HELD, meter_id="a")
    first = Booking(reservation=HELD, entries=(entry(Kind.RESERVE, 100, 30),))
    second = Booking(reservation=other, entries=(entry(Kind.RESERVE, 100, 30, of=other),))
    third = Booking(reservation=POSTED[0], entries=(entry(Kind.POST, 100, 30),))
    change = booked(booked(Change(call=make_call()), [first, second]), [third])
    assert change.bookings == (first, second, third)
    assert change.call.reservations == (other, POSTED[0])
