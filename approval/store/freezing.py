"""Freezes in the database: after an overrun a tool spends nothing for its agent until lifted."""

from typing import Any, Final

from sqlalchemy import Row, bindparam, insert, select, update

from approval.core.audit import Entry
from approval.core.call import CallId, ToolCall
from approval.core.lifecycle import Change
from approval.core.money import Money
from approval.errors import NotFound
from approval.ports import Freeze
from approval.store.prepared import Executor
from approval.store.tables import freezes
from approval.store.work import Work

MOST_LISTED: Final = 500

_FREEZE = insert(freezes)
_KNOWN = select(freezes.c.call_id).where(freezes.c.call_id == bindparam("call_id"))
_IN_FORCE = (
    select(freezes.c.call_id)
    .where(
        freezes.c.agent == bindparam("agent"),
        freezes.c.upstream == bindparam("upstream"),
        freezes.c.tool == bindparam("tool"),
        freezes.c.lifted_at.is_(None),
    )
    .order_by(freezes.c.at)
    .limit(1)
)
_LIFT = update(freezes).where(
    freezes.c.call_id == bindparam("b_call_id"), freezes.c.lifted_at.is_(None)
)


def freeze(work: Work, change: Change) -> None:
    """Freeze the tool of a call that took more than was approved, once for each call."""
    asked, call_id = change.call.asked, change.call.id
    if work.connection.execute(_KNOWN, {"call_id": call_id}).first() is not None:
        return
    row = {
        "call_id": call_id,
        "agent": asked.agent,
        "upstream": asked.upstream,
        "tool": asked.tool,
        "at": work.now,
        "lifted_at": None,
        "lifted_by": "",
    }
    work.connection.execute(_FREEZE, row)


def frozen(connection: Executor, asked: ToolCall, amount: Money | None) -> str:
    """Name the call whose overrun froze this tool for this agent; empty if none did.

    A call that spends nothing, which has no amount, is free of it. Read this once its meters are
    locked: of an overrun that drew on one of them all is then known.
    """
    if amount is None:
        return ""
    key = {"agent": asked.agent, "upstream": asked.upstream, "tool": asked.tool}
    found: str | None = connection.execute(_IN_FORCE, key).scalar()
    return found or ""


def lift(work: Work, call_id: CallId, entry: Entry) -> None:
    """Let the tool spend again.

    Raises:
        NotFound: If nothing is frozen by that call.
    """
    row = {"lifted_at": work.now, "lifted_by": entry.actor, "b_call_id": call_id}
    if work.connection.execute(_LIFT, row).rowcount == 0:
        raise NotFound("nothing is frozen by that call")
    work.entries.append(entry)


def find(connection: Executor) -> tuple[Freeze, ...]:
    """Read the freezes in force, the newest first."""
    query = select(freezes).where(freezes.c.lifted_at.is_(None)).order_by(freezes.c.at.desc())
    return tuple(_freeze(row) for row in connection.execute(query.limit(MOST_LISTED)))


def _freeze(row: Row[Any]) -> Freeze:
    return Freeze(
        call_id=CallId(row.call_id),
        agent=row.agent,
        upstream=row.upstream,
        tool=row.tool,
        at=row.at,
    )
