"""Units of work: what is read and written together, the same on every database.

Each is a plain function over a SQLAlchemy connection inside a transaction that its engine has
opened, and an engine may run it more than once before its transaction is committed. Lock order
everywhere: names, call, attempt, the agent where its pending calls are bounded, grants, counts,
meters, audit head last; the engine writes the audit entries and notices a unit leaves in its `Work`
after the units, so that the head is held for the shortest time, and notices are numbered in the
order of commits.

Where a unit reads a row that it goes on to write, it says `with_for_update()`: PostgreSQL locks the
row, and SQLite, which has one writer at a time, leaves the words out.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Row,
    Select,
    bindparam,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.exc import IntegrityError

from approval.core.admission import Counted
from approval.core.audit import Entry, Written
from approval.core.call import Answer, Attempt, Call, CallId, CallPage, Listener, Status, ToolCall
from approval.core.demand import Count, Demand, Offer, under
from approval.core.intake import REDELIVER
from approval.core.ledger import Reservation
from approval.core.lifecycle import Change, Event
from approval.errors import Conflict, NotFound, Refused
from approval.ports import Admission, Claiming, Counting, Covering, Credential, Limits, Step
from approval.store import alerts, freezing, granting, ledger, pending, rows, windows
from approval.store.prepared import Columns, Executor, Write
from approval.store.tables import (
    FILED,
    LIVE,
    attempts,
    audit,
    call_bodies,
    calls,
    credentials,
    notices,
    processes,
    votes,
)
from approval.store.work import Work

ALIVE: Final = timedelta(seconds=15)
KEEP_NOTICES: Final = timedelta(hours=1)
MOST_CHANGES: Final = 5000
"""The most notices that are read at once."""
CREDENTIALS: Final = "credentials"
"""The subject of a notice that says: tokens were issued or revoked."""


# --- calls ---

_CALL = select(calls, call_bodies.c.arguments).join(
    call_bodies, call_bodies.c.call_id == calls.c.id
)
_CALL_BY_ID = _CALL.where(calls.c.id == bindparam("id"))
_CALL_TO_CHANGE = _CALL_BY_ID.with_for_update(of=calls)
_EQUAL = _CALL.where(
    calls.c.agent == bindparam("agent"),
    calls.c.upstream == bindparam("upstream"),
    calls.c.tool == bindparam("tool"),
    calls.c.arguments_digest == bindparam("arguments_digest"),
    calls.c.key == bindparam("key"),
)
# The index `call_live_once` lets this find one row at most. It is asked first, for ids tell which
# call is the latest only while the clock moves: set back, it stands still until it has caught up.
_EQUAL_LIVE = _EQUAL.where(text(LIVE)).with_for_update(of=calls)
_EQUAL_LATEST = _EQUAL.order_by(calls.c.id.desc()).limit(1).with_for_update(of=calls)
_VOTES = select(votes).where(votes.c.call_id == bindparam("id")).order_by(votes.c.at)
_ATTEMPT = (
    select(attempts)
    .where(attempts.c.call_id == bindparam("id"))
    .order_by(attempts.c.number.desc())
    .limit(1)
)


def get(connection: Executor, call_id: CallId) -> Call:
    """Read one call; `NotFound` if there is none."""
    return _get(connection, _CALL_BY_ID, call_id)


def _get(connection: Executor, query: Select[Any], call_id: CallId) -> Call:
    row = connection.execute(query, {"id": call_id}).mappings().one_or_none()
    if row is None:
        raise NotFound("there is no such call")
    return _whole(connection, row)


def _whole(connection: Executor, row: Columns) -> Call:
    key = {"id": row["id"]}
    # What cannot be there is not asked for: reading is most of what a decision and a claim take.
    voted, claimed = row["version"] > 1, row["status"] not in _UNCLAIMED
    given = connection.execute(_VOTES, key).mappings().all() if voted else ()
    attempt = connection.execute(_ATTEMPT, key).mappings().one_or_none() if claimed else None
    return rows.to_call(row, given, attempt, _held(connection, row))


_UNCLAIMED: Final = frozenset({Status.PENDING.value, Status.APPROVED.value})


def _held(connection: Executor, row: Columns) -> tuple[Reservation, ...]:
    """Read what the call has taken from meters; most take nothing, and nothing is read then."""
    takes = row["currency"] is not None or row["grant_id"] is not None
    return ledger.held_by(connection, row["id"]) if takes else ()


def count(work: Work, counts: tuple[Count, ...], step: Counting) -> Counted:
    """Raise the counts of a call that is merely counted, and leave its entry."""
    demand = Demand(counts=counts)
    counted = step(ledger.holdings(work, demand), work.now)
    work.connection.together([*ledger.counting(counted.taken, work.now)])
    work.entries.append(counted.entry)
    return counted


def admit(
    work: Work,
    asked: ToolCall,
    demand: Demand | None,
    step: Admission,
    covering: Covering | None = None,
    max_pending: int | None = None,
) -> Change:
    """Find the latest equal call, run the step on what its demand meets, write what it says."""
    identity = {
        "agent": asked.agent,
        "upstream": asked.upstream,
        "tool": asked.tool,
        "arguments_digest": asked.arguments_digest,
        "key": asked.key,
    }
    # Of two requests that would make one call, or two calls under one key, the second waits here:
    # there is no row yet that it could wait for.
    work.alone("\0".join((asked.agent, asked.key) if asked.key else identity.values()))
    row = (
        work.connection.execute(_EQUAL_LIVE, identity).mappings().one_or_none()
        or work.connection.execute(_EQUAL_LATEST, identity).mappings().one_or_none()
    )
    existing = _whole(work.connection, row) if row is not None else None
    # What is live is joined, and nothing that joins is counted.
    most = max_pending if existing is None or existing.status.ended else None
    waiting = pending.met(work, asked.agent, most)
    offers = _offers(work, asked.agent, covering)
    demand = under(demand, offers)
    held = ledger.holdings(work, demand)
    amount = demand.amount if demand is not None else None
    frozen = freezing.frozen(work.connection, asked, amount)
    held = replace(held, offers=offers, frozen=frozen, pending=waiting)
    _refuse_reused_key(work, asked)
    change = step(existing, held, work.now)
    match change.event:
        case Event.HOLD | Event.ALLOW:
            _insert(work, change, windows.guarding(demand, held.elsewhere))
            return alerts.reserved(work, change, demand, held)
        case Event.DENY:
            work.entries.append(change.entry())  # nothing is kept of it but this
        case None:
            pass
        case _:
            _save(work, existing, change)
    return change


def _offers(work: Work, agent: str, covering: Covering | None) -> tuple[Offer, ...]:
    """Name the grants that cover a call; those issued stay unrevoked until it is committed."""
    if covering is None:
        return ()
    return covering(granting.in_force(work, agent))


def claim(work: Work, call_id: CallId, claiming: Claiming) -> Change:
    """Read the call under the lock, and what its demand meets now; run the step, write."""
    before = _get(work.connection, _CALL_TO_CHANGE, call_id)
    demand, step = claiming(before)
    held = ledger.holdings(work, demand, call_id=call_id, own=before.reservations)
    frozen = freezing.frozen(work.connection, before.asked, before.amount)
    held = replace(held, frozen=frozen)
    change = step(before, held, work.now)
    if change.event is not None:
        _save(work, before, change, windows.guarding(demand, held.elsewhere))
    return alerts.reserved(work, change, demand, held)


def _refuse_reused_key(work: Work, asked: ToolCall) -> None:
    """One key stands for one call: with other arguments it is the agent's mistake, not a call."""
    if not asked.key:
        return
    other = (
        select(calls.c.id)
        .where(
            calls.c.agent == asked.agent,
            calls.c.key == asked.key,
            calls.c.created_at > work.now - REDELIVER,
            (calls.c.arguments_digest != asked.arguments_digest)
            | (calls.c.tool != asked.tool)
            | (calls.c.upstream != asked.upstream),
        )
        .limit(1)
    )
    if work.connection.execute(other).first() is not None:
        raise Refused("key_reused", "This key already stands for another call; choose a new key.")


def advance(work: Work, call_id: CallId, step: Step, limits: Limits | None = None) -> Change:
    """Read the call under the lock, run the step, write what it says."""
    before = _get(work.connection, _CALL_TO_CHANGE, call_id)
    change = step(before, work.now)
    if change.event is not None:
        _save(work, before, change)
    return alerts.booked(work, change, limits)


# Built once: making an `update` with its values anew takes longer than the database does over it.
_INSERT = insert(calls)
_INSERT_BODY = insert(call_bodies)
_INSERT_VOTE = insert(votes)
_INSERT_ATTEMPT = insert(attempts)
_SAVE = update(calls).where(
    calls.c.id == bindparam("b_id"), calls.c.version == bindparam("b_version")
)
_SAVE_ATTEMPT = update(attempts).where(
    attempts.c.call_id == bindparam("b_id"), attempts.c.number == bindparam("b_number")
)
_SAVE_ANSWER = update(call_bodies).where(call_bodies.c.call_id == bindparam("b_id"))


def _insert(work: Work, change: Change, demand: Demand | None) -> None:
    call = change.call
    made = [
        Write(_INSERT, rows.call_row(call)),
        Write(_INSERT_BODY, {"call_id": call.id, "arguments": call.asked.arguments}),
    ]
    if call.attempt is not None:
        made.append(Write(_INSERT_ATTEMPT, rows.attempt_row(call.id, call.attempt)))
    try:
        _book(work, change, demand, made)
    except IntegrityError as twice:
        raise Conflict("an equal call was admitted at the same moment") from twice
    _tell(work, change)


def _book(work: Work, change: Change, demand: Demand | None, besides: Iterable[Write] = ()) -> None:
    """Move the money of a change, and raise its counts, in the order of locks."""
    limits = {draw.meter_id: draw for draw in demand.draws} if demand is not None else {}
    writes = (*besides, *ledger.counting(change.taken, work.now))
    ledger.book(work.connection, change.call.id, change.bookings, limits, work.now, writes)
    if change.freezes:
        freezing.freeze(work, change)


def _save(work: Work, before: Call | None, change: Change, demand: Demand | None = None) -> None:
    """Write the call as it is now, guarded by the version it was read at."""
    call, connection = change.call, work.connection
    if before is None:
        raise ValueError("a step changed a call that was not there")
    row = rows.call_row(call)
    del row["id"]
    saved = connection.execute(_SAVE, {**row, "b_id": call.id, "b_version": before.version})
    if saved.rowcount != 1:
        raise Conflict("the call was changed at the same moment")
    for vote in call.votes[len(before.votes) :]:
        connection.execute(_INSERT_VOTE, rows.vote_row(call.id, vote))
    if call.attempt is not None and call.attempt != before.attempt:
        _save_attempt(connection, call.id, before.attempt, call.attempt)
    if change.issue is not None:
        granting.keep(work, change.issue.grant, change.issue.entry)
    if change.answer is not None:
        _save_answer(connection, call.id, change.answer)
    _book(work, change, demand)
    _tell(work, change)


def _save_attempt(
    connection: Executor, call_id: CallId, before: Attempt | None, attempt: Attempt
) -> None:
    row = rows.attempt_row(call_id, attempt)
    if before is None or before.number != attempt.number:
        connection.execute(_INSERT_ATTEMPT, row)
    else:
        connection.execute(_SAVE_ATTEMPT, {**row, "b_id": call_id, "b_number": attempt.number})


def _save_answer(connection: Executor, call_id: CallId, answer: Answer) -> None:
    row = {"answer": answer.body, "answer_status": answer.status.value}
    connection.execute(_SAVE_ANSWER, {**row, "b_id": call_id})


def _tell(work: Work, change: Change) -> None:
    work.entries.append(change.entry())
    work.notices.append((change.call.id, change.call.version))


_ENDED: Final = tuple(status.value for status in Status if status.ended)


def listen(work: Work, call_id: CallId, listener: Listener, owner: str) -> None:
    """Note what the agent knows of a call that has not ended.

    That it has gone says only the one who held its line, and only if it was told nothing.
    """
    named = (calls.c.id == call_id) & calls.c.status.not_in(_ENDED)
    if listener is Listener.GONE:
        named &= calls.c.listener == Listener.WAITING.value
        named &= calls.c.listener_owner == owner
    row = {"listener": listener.value, "listener_owner": owner}
    if work.connection.execute(update(calls).where(named).values(row)).rowcount:
        work.notices.append((call_id, 0))


def deliver(work: Work, call_id: CallId, entry: Entry) -> None:
    """Note the first time that the agent was handed the call's outcome.

    A call in doubt has none yet: what a person or a late answer finds is still to be handed over.
    """
    noted = work.connection.execute(
        update(calls)
        .where(calls.c.id == call_id, calls.c.delivered_at.is_(None), calls.c.status.in_(_ENDED))
        .values(delivered_at=work.now)
    )
    if noted.rowcount:
        work.entries.append(entry)


def answer(connection: Executor, call_id: CallId) -> Answer | None:
    """Read what the upstream answered."""
    row = connection.execute(select(call_bodies).where(call_bodies.c.call_id == call_id)).first()
    if row is None or row.answer is None:
        return None
    return Answer(status=Status(row.answer_status), body=row.answer)


def find(
    connection: Executor, states: Collection[Status], after: str | None, limit: int
) -> CallPage:
    """Read a page of calls, newest first (ids sort by time)."""
    query = _CALL.order_by(calls.c.id.desc()).limit(limit + 1)
    if states:
        query = query.where(calls.c.status.in_(sorted(status.value for status in states)))
    if after is not None:
        query = query.where(calls.c.id < after)
    found = connection.execute(query).mappings().all()
    page = tuple(_whole(connection, row) for row in found[:limit])
    return CallPage(calls=page, next=page[-1].id if len(found) > limit else None)


# What is asked again and again while nothing happens. Said in these words, the first timer is found
# in the partial index on timers, and not by going through every call there ever was.
_DUE = (
    select(calls.c.id)
    .where(calls.c.timer_at < bindparam("now"))
    .order_by(calls.c.timer_at)
    .limit(500)
)
_NEXT_TIMER = select(func.min(calls.c.timer_at)).where(calls.c.timer_at.is_not(None))
_MARK = select(func.max(notices.c.id))
_CHANGES = (
    select(notices)
    .where(notices.c.id > bindparam("after"))
    .order_by(notices.c.id)
    .limit(MOST_CHANGES)
)


def due(connection: Executor, now: datetime) -> tuple[CallId, ...]:
    """Name calls whose timer has passed."""
    return tuple(CallId(row.id) for row in connection.execute(_DUE, {"now": now}))


def next_timer(connection: Executor) -> datetime | None:
    """Tell when the next timer is due, or None if no call has one."""
    found: datetime | None = connection.execute(_NEXT_TIMER).scalar()
    return found


# --- what other processes did ---


def changes(connection: Executor, after: int) -> tuple[tuple[tuple[str, int], ...], int]:
    """Name what changed after this mark, and its version; -1 answers the present mark alone."""
    if after < 0:
        return (), connection.execute(_MARK).scalar() or 0
    found = connection.execute(_CHANGES, {"after": after}).all()
    named = tuple((row.subject, row.version) for row in found)
    return named, found[-1].id if found else after


_BEAT = update(processes).where(processes.c.instance == bindparam("b_instance"))
_FIRST_BEAT = insert(processes)
_FORGET_PROCESSES = delete(processes).where(processes.c.heartbeat_at < bindparam("before"))
# Not the newest: its number tells PostgreSQL's engine whether anything was written since.
_NEWEST = select(func.max(notices.c.id)).scalar_subquery()
_FORGET_NOTICES = delete(notices).where(notices.c.at < bindparam("before"), notices.c.id < _NEWEST)


def heartbeat(work: Work, instance: str) -> None:
    """Say that this process lives; forget the dead and what everybody has read."""
    connection, row = work.connection, {"instance": instance, "heartbeat_at": work.now}
    if connection.execute(_BEAT, {**row, "b_instance": instance}).rowcount == 0:
        connection.execute(_FIRST_BEAT, row)
    connection.execute(_FORGET_PROCESSES, {"before": work.now - 4 * ALIVE})
    connection.execute(_FORGET_NOTICES, {"before": work.now - KEEP_NOTICES})


def living(connection: Executor, now: datetime) -> frozenset[str]:
    """Name the processes with a recent sign of life."""
    query = select(processes.c.instance).where(processes.c.heartbeat_at >= now - ALIVE)
    return frozenset(str(row.instance) for row in connection.execute(query))


# --- credentials ---


def keep_credential(work: Work, credential: Credential, entry: Entry) -> None:
    """Keep an issued secret's digest; forget those that have expired."""
    expired = credentials.c.expires_at <= work.now
    work.connection.execute(delete(credentials).where(expired))
    work.connection.execute(
        insert(credentials),
        {
            "digest": credential.digest,
            "kind": credential.kind,
            "subject": credential.subject,
            "created_at": credential.created_at,
            "expires_at": credential.expires_at,
        },
    )
    work.entries.append(entry)
    work.notices.append((CREDENTIALS, 0))


def find_credentials(connection: Executor, kind: str, now: datetime) -> tuple[Credential, ...]:
    """Read the unexpired credentials of one kind."""
    valid = credentials.c.expires_at.is_(None) | (credentials.c.expires_at > now)
    found = connection.execute(select(credentials).where(credentials.c.kind == kind, valid)).all()
    return tuple(_credential(row) for row in found)


def spend_credential(work: Work, kind: str, digest: str, entry: Entry) -> Credential | None:
    """Take a credential away and answer it, if it is there and has not expired."""
    same = (credentials.c.kind == kind) & (credentials.c.digest == digest)
    query = select(credentials).where(same).with_for_update()
    row = work.connection.execute(query).one_or_none()
    if row is None or (row.expires_at is not None and row.expires_at <= work.now):
        return None
    taken = work.connection.execute(delete(credentials).where(same))
    if taken.rowcount != 1:
        return None
    found = _credential(row)
    work.entries.append(replace(entry, facts={**entry.facts, "bearer": found.subject}))
    work.notices.append((CREDENTIALS, 0))
    return found


def _credential(row: Row[Any]) -> Credential:
    return Credential(
        digest=row.digest,
        kind=row.kind,
        subject=row.subject,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


# --- the trail ---


def trail(connection: Executor, after: int, limit: int, subject: str | None) -> tuple[Written, ...]:
    """Read audit entries in order."""
    query = select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(limit)
    if subject is not None:
        query = query.where(audit.c.subject == subject, text(FILED))
    return tuple(
        Written(seq=row.seq, body=row.body, hash=row.hash) for row in connection.execute(query)
    )


def statuses(connection: Executor) -> dict[str, tuple[str, int]]:
    """Read every call's status and version: what the trail, replayed, must lead to."""
    query = select(calls.c.id, calls.c.status, calls.c.version)
    return {row.id: (row.status, row.version) for row in connection.execute(query)}
