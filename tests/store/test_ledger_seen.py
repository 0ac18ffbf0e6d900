"""What people look at of meters: sums that are read without a lock, and what was spent a day."""

from datetime import datetime, timedelta

from approval.core import intake, steps
from approval.core.call import Answer, Call, Outcome, Status, new_call_id
from approval.core.demand import Demand, Holdings
from approval.core.lifecycle import Change
from approval.core.meters import Draw, Meter, Usage, meter_id
from approval.core.money import Money
from approval.core.scopes import Key, Scope
from approval.core.windows import Calendar, Unit
from approval.ports import Kept
from approval.store import sums
from approval.store.store import SqlStore
from approval.store.tables import to_microseconds
from tests.factories import NOW, make_asked, make_lease, make_verdict
from tests.store.conftest import Database

KEY: Key = ((Scope.AGENT, "ops-agent"), (Scope.GROUP, None))


def usd(minor: int) -> Money:
    return Money(minor, "USD")


async def test_what_people_look_at_is_what_was_booked(store: SqlStore) -> None:
    meter = Meter(name="pot", origin="p", limit=usd(1000), window=Calendar(unit=Unit.DAY))
    draw = Draw(meter_id=meter_id(meter, KEY), key=KEY, meter=meter, amount=usd(115))
    demand = Demand(amount=usd(115), draws=(draw,))
    call = await spending(store, demand)
    assert (await store.usage([draw]))[draw.meter_id] == Usage(held=115)
    assert (await store.usage([draw], without=call.id))[draw.meter_id] == Usage()
    assert await store.kept() == (Kept(meter_id=draw.meter_id, origin="p", name="pot", key=KEY),)
    assert await store.spent([draw.meter_id], days(-1, 2)) == {}
    done = Answer(status=Status.EXECUTED, body=b"{}")
    await store.advance(call.id, lambda call, now: steps.answer(call, done, owner="me", now=now))
    assert (await store.usage([draw]))[draw.meter_id] == Usage(posted=115)
    assert (await store.usage([draw], without=call.id))[draw.meter_id] == Usage()
    assert await store.spent([draw.meter_id], days(-1, 2)) == {draw.meter_id: (0, 115, 0)}
    assert await store.spent([draw.meter_id], days(0, 1)) == {draw.meter_id: (115,)}
    assert await store.spent([draw.meter_id], days(-2, 0)) == {}  # the last instant is outside
    assert await store.spent([draw.meter_id], days(1, 3)) == {}
    assert await store.spent([], days(-1, 2)) == {}


def days(first: int, end: int) -> list[datetime]:
    return [NOW + timedelta(days=number) for number in range(first, end + 1)]


async def test_all_meters_are_named_however_many_there_are(
    store: SqlStore, database: Database
) -> None:
    """None is left out, neither in the list nor in what was spent, and none is told twice."""
    count = 2 * sums.PAGE + 1
    numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
    await database.execute(
        "INSERT INTO meter (id, name, origin, currency, key)"
        f" {numbers} SELECT 'm' || i, 'pot', 'p', 'USD', '[]' FROM n"
    )
    await database.execute(
        "INSERT INTO ledger_entry (call_id, meter_id, window_start, kind, amount, override, at)"
        f" {numbers} SELECT 'apr_x', 'm' || i, 0, 'post', i, 0, {to_microseconds(NOW)} FROM n"
    )
    ids = [each.meter_id for each in await store.kept()]
    assert len(ids) == count
    assert set(ids) == {f"m{number}" for number in range(1, count + 1)}
    spent = await store.spent(ids, days(-1, 1))
    assert spent == {f"m{n}": (0, n) for n in range(1, count + 1)}


async def spending(store: SqlStore, demand: Demand) -> Call:
    """Admit a call that runs at once at this price."""
    verdict = make_verdict(Outcome.ALLOW, demand=demand)
    call_id = new_call_id(NOW, bytes(10))

    def begin(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        lease = make_lease()
        return intake.begin(make_asked(), verdict, holdings, call_id=call_id, lease=lease, now=now)

    return (await store.admit(make_asked(), demand, begin)).call
