"""Calls that cost money or are counted, on a real store; and the law that all sums obey."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from approval.core import canonical, intake, steps
from approval.core.call import Answer, Call, Choice, Status, new_call_id
from approval.core.canonical import JSON
from approval.core.demand import Holdings
from approval.core.lifecycle import Change
from approval.core.rulebook import Rulebook
from approval.core.steps import Ballot
from approval.store.store import SqlStore
from tests.factories import make_asked, make_directory, make_lease, make_rulebook
from tests.store.conftest import Database

BUY = "create_incoming_phone_number"
DAY: Mapping[str, object] = {"calendar": "day"}
NOTHING_DONE = Answer(status=Status.FAILED, body=b"{}")


def buying(
    limit: str = "100.00 USD",
    *,
    price: str = "10.00 USD",
    window: Mapping[str, object] = DAY,
    asking: bool = False,
    freezes: bool = False,
    name: str = "pot",
    meter: Mapping[str, object] | None = None,
    besides: Mapping[str, object] | None = None,
    **tool: object,
) -> Rulebook:
    """Let numbers be bought at a price, from one pot for all; `asking` holds each for finance."""
    spend = {
        "amount": {"fixed": price},
        "actual": {"result": "/cents", "unit": "minor"},
        "meters": [name, *(besides or {})],
        "on_overrun": "freeze" if freezes else "alert",  # freezing has tests of its own
    }
    rule = {"approvers": "finance", "run_within": "24h"}
    gate = {"require_approval": [rule]} if asking else {}
    return make_rulebook(
        {
            "dialect": "approval-1",
            "version": "1",
            "default": "deny",
            "tools": {BUY: {"spend": spend, **gate, **tool}},
            "meters": {
                name: {"limit": limit, "window": window, "scope": [], **(meter or {})},
                **(besides or {}),
            },
        }
    )


def answered(cents: int | None, status: Status = Status.EXECUTED) -> Answer:
    """Give an upstream's answer, which may say what it took."""
    result: JSON = {} if cents is None else {"cents": cents}
    return Answer(status=status, body=canonical.write({"result": result}))


async def ask(
    store: SqlStore, number: int, rules: Rulebook, agent: str = "ops-agent", tool: str = BUY
) -> Change:
    """Ask for one number; each is another call."""
    arguments: JSON = {"number": number}
    asked = make_asked(arguments, agent=agent, tool=tool)
    verdict = rules.judge(agent, asked.upstream, asked.tool, arguments)

    def step(existing: Call | None, holdings: Holdings, now: datetime) -> Change:
        call_id = new_call_id(now, number.to_bytes(10))
        lease = make_lease()
        return intake.begin(asked, verdict, holdings, call_id=call_id, lease=lease, now=now)

    return await store.admit(asked, verdict.demand, step)


async def vote(
    store: SqlStore, call: Call, rules: Rulebook, choice: Choice, typed: str | None = None
) -> Call:
    ballot = Ballot(person="ann", choice=choice, digest=call.digest, via="web", amount=typed)
    verdict = rules.judge(call.asked.agent, "shop", BUY, canonical.read(call.asked.arguments))

    def step(call: Call, now: datetime) -> Change:
        return steps.decide(call, ballot, directory=make_directory(), verdict=verdict, now=now)

    return (await store.advance(call.id, step)).call


async def claim(store: SqlStore, call: Call, rules: Rulebook) -> Change:
    verdict = rules.judge(call.asked.agent, "shop", BUY, canonical.read(call.asked.arguments))

    def step(call: Call, holdings: Holdings, now: datetime) -> Change:
        return steps.claim(
            call,
            holdings,
            lease=make_lease(),
            directory=rules.directory,
            verdict=verdict,
            now=now,
        )

    return await store.claim(call.id, lambda call: (verdict.demand, step))


async def end(store: SqlStore, call: Call, found: Answer) -> Change:
    def step(call: Call, now: datetime) -> Change:
        return steps.answer(call, found, owner="me", now=now)

    return await store.advance(call.id, step)


# --- the law ---

Sums = dict[tuple[object, object], tuple[int, int, int]]
"""Held, posted and overridden, by meter and window."""

_WINDOWS = "SELECT meter_id, window_start, held, posted, overridden FROM meter_window"
_RESERVED = (
    "SELECT meter_id, window_start,"
    " sum(CASE state WHEN 'held' THEN amount ELSE 0 END),"
    " sum(CASE state WHEN 'posted' THEN posted ELSE 0 END), sum(override)"
    " FROM reservation GROUP BY meter_id, window_start"
)
_ENTERED = (
    "SELECT meter_id, window_start,"
    " sum(CASE kind WHEN 'reserve' THEN amount WHEN 'post' THEN -amount WHEN 'void' THEN -amount"
    " ELSE 0 END),"
    " sum(CASE kind WHEN 'post' THEN amount WHEN 'overrun' THEN amount WHEN 'adjust' THEN -amount"
    " ELSE 0 END),"
    " sum(CASE kind WHEN 'reserve' THEN override WHEN 'void' THEN -override"
    " WHEN 'adjust' THEN -override ELSE 0 END)"
    " FROM ledger_entry GROUP BY meter_id, window_start"
)


async def summed(database: Database, query: str = _WINDOWS) -> Sums:
    """Read sums behind the store's back, without rows that come to nothing."""
    rows = [
        tuple(int(Decimal(str(each))) for each in row[2:]) for row in await database.execute(query)
    ]
    keys = [row[:2] for row in await database.execute(query)]
    return {
        (meter_id, start): (held, posted, overridden)
        for (meter_id, start), (held, posted, overridden) in zip(keys, rows, strict=True)
        if (held, posted, overridden) != (0, 0, 0)
    }


async def lawful(database: Database) -> Sums:
    """Hold the three tellings of all sums against each other: windows, reservations, entries."""
    windows = await summed(database)
    assert windows == await summed(database, _RESERVED)
    assert windows == await summed(database, _ENTERED)
    return windows


async def pot(database: Database) -> tuple[int, int, int]:
    """Give the sums of the only window that holds anything."""
    [sums] = (await lawful(database)).values()
    return sums
