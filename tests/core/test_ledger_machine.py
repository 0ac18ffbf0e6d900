"""Many calls at random on a few meters, kept in a dictionary (semantics: 27 to 30, 34, 35, 37)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from approval.core import ledger
from approval.core.ledger import Booking, Kind, LedgerEntry, Reservation, State
from approval.core.meters import Draw, Meter, Soft, Usage, all_draws, room, window_start
from approval.core.money import Money
from approval.core.scopes import Scope
from approval.core.subject import Subject
from approval.core.windows import Calendar, Rolling, Unit
from tests.factories import NOW

HOURS = timedelta(hours=6)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


METERS = (
    Meter(name="day", origin="p", limit=usd(10), window=Calendar(unit=Unit.DAY)),
    Meter(
        name="week",
        origin="p",
        limit=usd(20),
        window=Calendar(unit=Unit.WEEK, zone="America/Havana"),
        scope=(Scope.AGENT,),
        soft=Soft(override_by=("cfo",), up_to=usd(6)),
    ),
    Meter(
        name="rolling",
        origin="p",
        limit=usd(12),
        window=Rolling(span=timedelta(hours=24)),
        scope=(Scope.GROUP,),
        soft=Soft(override_by=("cfo",), up_to=usd(3)),
    ),
)
AGENTS = tuple(
    Subject(agent=name, upstream="shop", tool="buy", arguments={}, groups=groups)
    for name, groups in {"a": ("red",), "b": ("red", "blue"), "c": ()}.items()
)
Row = tuple[str, datetime]


@dataclass(kw_only=True)
class Purchase:
    """A call and all that it holds; either every meter has its reservation, or none."""

    draws: tuple[Draw, ...]
    reservations: list[Reservation]
    trail: list[LedgerEntry] = field(default_factory=list)
    lowest: list[int] = field(default_factory=list)
    """What meters had room for: the least that each reservation has taken since it was made."""

    ended: bool = False

    @property
    def live(self) -> bool:
        return not self.ended


class Spending(RuleBasedStateMachine):
    """`sums` is what a store would keep; everything else is told from the reservations."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.purchases: list[Purchase] = []
        self.sums: dict[Row, Usage] = {}

    # --- what happens ---

    @rule(
        agent=st.sampled_from(AGENTS),
        amount=st.integers(0, 7),
        meters=st.sets(st.sampled_from(METERS), min_size=1),
        overridden=st.booleans(),
    )
    def admit(self, agent: Subject, amount: int, meters: set[Meter], *, overridden: bool) -> None:
        draws = all_draws(meters, agent, usd(amount))
        bookings = [
            ledger.reserve(draw, self.usage(draw), self.now, override=overridden) for draw in draws
        ]
        made = [booking for booking in bookings if booking is not None]
        if len(made) == len(draws):
            purchase = Purchase(draws=draws, reservations=[])
            self.purchases.append(purchase)
            self.book(purchase, made)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        purchase = data.draw(st.sampled_from(self.live()))
        moved = [
            ledger.rehome(held, draw, self.usage(draw, held), self.now)
            for draw, held in self.held(purchase)
        ]
        bookings = [booking for booking in moved if booking is not None]
        if len(bookings) < len(moved):
            self.end(purchase, [ledger.void(each) for each in purchase.reservations])
        else:
            self.book(purchase, bookings)

    @precondition(lambda self: self.live())
    @rule(data=st.data(), actual=st.integers(0, 9))
    def settle(self, data: st.DataObject, actual: int) -> None:
        purchase = data.draw(st.sampled_from(self.live()))
        before = [self.usage(draw) for draw in purchase.draws]
        bookings = [ledger.post(each, usd(actual)) for each in purchase.reservations]
        freed = [each.amount.minor - actual for each in purchase.reservations]
        counts = [self.counts(draw, held) for draw, held in self.held(purchase)]
        self.end(purchase, bookings)
        for draw, usage, difference, counted in zip(
            purchase.draws, before, freed, counts, strict=True
        ):
            # 37: settling lower frees exactly the difference, settling higher is marked.
            after = self.usage(draw)
            if counted:
                assert usage.taken - after.taken == difference
            assert all(each.overran is (difference < 0) for each in purchase.reservations)

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        purchase = data.draw(st.sampled_from(self.live()))
        self.end(purchase, [ledger.void(each) for each in purchase.reservations])

    @precondition(lambda self: self.live())
    @rule(data=st.data(), share=st.integers(0, 7))
    def type_an_amount(self, data: st.DataObject, share: int) -> None:
        purchase = data.draw(st.sampled_from(self.live()))
        typed = usd(min(share, purchase.reservations[0].amount.minor))
        self.book(purchase, [ledger.lower(each, typed) for each in purchase.reservations])

    @precondition(lambda self: self.settled())
    @rule(data=st.data(), actual=st.integers(0, 9))
    def correct(self, data: st.DataObject, actual: int) -> None:
        purchase = data.draw(st.sampled_from(self.settled()))
        self.book(purchase, [ledger.adjust(each, usd(actual)) for each in purchase.reservations])

    @rule(hours=st.integers(1, 8))
    def wait(self, hours: int) -> None:
        self.now += hours * HOURS

    @rule(agent=st.sampled_from(AGENTS), amount=st.integers(1, 7), meter=st.sampled_from(METERS))
    def admit_and_reject(self, agent: Subject, amount: int, meter: Meter) -> None:
        # 34: a call that came to nothing leaves exactly the room that was there.
        for draw in all_draws([meter], agent, usd(amount)):
            usage = self.usage(draw)
            made = ledger.reserve(draw, usage, self.now, override=True)
            if made is not None:
                held = ledger.applied(usage, made.entries)
                assert room(draw, held) <= room(draw, usage)
                assert ledger.applied(held, ledger.void(made.reservation).entries) == usage

    # --- what always holds ---

    @invariant()
    def no_window_is_beyond_its_limit(self) -> None:
        # 27, and 35 for every instant: between two reservations the sum of a window only falls.
        for draw in self.every_draw():
            window = draw.meter.window
            rows = [each for each in self.allowed() if each[0].meter_id == draw.meter_id]
            for last, _ in rows:
                if isinstance(window, Rolling):
                    within = [r for r in rows if last.at - window.span < r[0].at <= last.at]
                else:
                    within = [r for r in rows if r[0].window_start == last.window_start]
                overridden = sum(reservation.override for reservation, _ in within)
                assert sum(taken for _, taken in within) - overridden <= draw.meter.limit.minor
                assert overridden <= (draw.meter.soft.up_to.minor if draw.meter.soft else 0)

    @invariant()
    def sums_are_those_of_the_reservations(self) -> None:
        # 28
        counted: dict[Row, Counter[str]] = {}
        for each in self.reservations():
            row = counted.setdefault((each.meter_id, each.window_start), Counter())
            row["held" if each.state is State.HELD else "posted"] += each.taken
            row["overridden"] += each.override
        for key, usage in self.sums.items():
            assert usage == Usage(**counted.get(key, Counter()))

    @invariant()
    def only_live_calls_hold_money(self) -> None:
        # 29
        for purchase in self.purchases:
            held = [each.state is State.HELD for each in purchase.reservations]
            assert all(held) if purchase.live else not any(held)
            assert len(purchase.reservations) == len(purchase.draws)

    @invariant()
    def every_trail_adds_up(self) -> None:
        # 30
        for purchase in self.purchases:
            moved = Counter[Kind]()
            for entry in purchase.trail:
                moved[entry.kind] += entry.amount
                assert entry.amount > 0
            taken = sum(each.taken for each in purchase.reservations)
            came, went = moved[Kind.RESERVE] + moved[Kind.OVERRUN], moved[Kind.VOID]
            assert came == taken + went + moved[Kind.ADJUST]

    # --- the dictionary that keeps it ---

    def usage(self, draw: Draw, leaving_out: Reservation | None = None) -> Usage:
        """Sum what counts now, a rolling window from its reservations, as a store would."""
        window, row = draw.meter.window, window_start(draw, self.now)
        if not isinstance(window, Rolling):
            return self.sums.get((draw.meter_id, row), Usage())
        counted = [
            each
            for each in self.reservations()
            if each.meter_id == draw.meter_id
            and each.at > window.start(self.now)
            and each is not leaving_out
        ]
        return Usage(
            held=sum(each.taken for each in counted if each.state is State.HELD),
            posted=sum(each.taken for each in counted if each.state is not State.HELD),
            overridden=sum(each.override for each in counted),
        )

    def counts(self, draw: Draw, held: Reservation) -> bool:
        """Say whether a reservation counts in the window of now."""
        if isinstance(draw.meter.window, Rolling):
            return held.at > draw.meter.window.start(self.now)
        return held.window_start == window_start(draw, self.now)

    def book(self, purchase: Purchase, bookings: Sequence[Booking]) -> None:
        purchase.reservations = [booking.reservation for booking in bookings]
        known = purchase.lowest or [0 for _ in bookings]
        purchase.lowest = [
            taken if self.anew(booking) else min(taken, lowest)
            for booking, lowest in zip(bookings, known, strict=True)
            for taken in [booking.reservation.taken]
        ]
        for booking in bookings:
            purchase.trail += booking.entries
            for entry in booking.entries:
                row = (entry.meter_id, entry.window_start)
                self.sums[row] = ledger.applied(self.sums.get(row, Usage()), [entry])

    def end(self, purchase: Purchase, bookings: Sequence[Booking]) -> None:
        self.book(purchase, bookings)
        purchase.ended = True

    def held(self, purchase: Purchase) -> Iterator[tuple[Draw, Reservation]]:
        return zip(purchase.draws, purchase.reservations, strict=True)

    def live(self) -> list[Purchase]:
        return [each for each in self.purchases if each.live]

    def settled(self) -> list[Purchase]:
        return [each for each in self.purchases if each.ended]

    def reservations(self) -> list[Reservation]:
        return [each for purchase in self.purchases for each in purchase.reservations]

    def every_draw(self) -> tuple[Draw, ...]:
        found = {draw.meter_id: draw for each in self.purchases for draw in each.draws}
        return tuple(found.values())

    def allowed(self) -> list[tuple[Reservation, int]]:
        """Give each reservation with what of it is no overrun."""
        return [
            pair
            for each in self.purchases
            for pair in zip(each.reservations, each.lowest, strict=True)
        ]

    def anew(self, booking: Booking) -> bool:
        return any(entry.kind is Kind.RESERVE for entry in booking.entries)


TestSpending = Spending.TestCase
TestSpending.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
