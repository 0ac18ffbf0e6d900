"""Checking the trail from its first entry: the chain, its story, the calls and sums it led to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson
from sqlalchemy import Connection, Row, select

from approval.core import audit as chain
from approval.core.audit import GENESIS
from approval.core.call import Status
from approval.core.lifecycle import Event, replayed
from approval.errors import Conflict
from approval.ports import TrailReport
from approval.store import sql
from approval.store.sums import Sums
from approval.store.tables import audit, audit_head, from_microseconds

CHUNK = 1000
MAX_PROBLEMS = 100

_EVENTS: Final[Mapping[str, Event]] = {f"call:{event}": event for event in Event}


def verify(connection: Connection) -> TrailReport:
    """Recompute every hash, replay every event through the table, compare with what is kept."""
    check = _Check()
    for row in _entries(connection):
        check.entry(row)
    check.head(connection.execute(select(audit_head)).all())
    check.calls(sql.statuses(connection))
    for found in check.sums.problems(connection):
        check.problem(found)
    return TrailReport(
        entries=check.seq,
        calls=len(check.lives),
        head=f"{check.seq}:{check.hash.hex()}",
        problems=tuple(check.problems),
    )


def _entries(connection: Connection) -> Iterator[Row[tuple[int, str, bytes, bytes]]]:
    after = 0
    while True:
        query = select(audit).where(audit.c.seq > after).order_by(audit.c.seq).limit(CHUNK)
        found = connection.execute(query).all()
        yield from found
        if len(found) < CHUNK:
            return
        after = found[-1].seq


class _Check:
    """What has been read so far: the chain's end, and the state of every call the trail names."""

    def __init__(self) -> None:
        self.seq = 0
        self.hash = GENESIS
        self.at = ""
        self.lives: dict[str, tuple[Status, int]] = {}
        self.sums = Sums()
        self.problems: list[str] = []

    def problem(self, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text)

    def entry(self, row: Row[tuple[int, str, bytes, bytes]]) -> None:
        if row.seq != self.seq + 1:
            self.problem(f"entry {self.seq + 1} is missing")
        self.seq = row.seq
        # SQLite keeps in a column whatever is put there, so even the types are to be checked.
        if tuple(map(type, (row.subject, row.body, row.hash))) != (str, bytes, bytes):
            self.problem(f"entry {row.seq} does not hold what an entry holds")
            return
        self.hash = chain.link(self.hash, row.body)
        if self.hash != row.hash:
            self.problem(f"entry {row.seq} was changed, or one before it")
            self.hash = row.hash  # go on from here, so that one change is one problem
        try:
            body = orjson.loads(row.body)
            self.columns(row, body)
            self.event(row.subject, body)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            self.problem(f"entry {row.seq} cannot be read")

    def columns(self, row: Row[tuple[int, str, bytes, bytes]], body: dict[str, object]) -> None:
        if body["seq"] != row.seq or not _is_filed(row.subject, body):
            self.problem(f"entry {row.seq} stands in another's place")
        if not self.at <= (at := str(body["at"])):
            self.problem(f"entry {row.seq} is older than the one before it")
        self.at = at

    def event(self, subject: str, body: dict[str, object]) -> None:
        """Follow one event of a call through the transition table."""
        facts, event = body["facts"], _EVENTS.get(str(body["tag"]))
        if event is None or not isinstance(facts, dict) or "version" not in facts:
            return  # nothing happened to a call that is kept
        before = self.lives.get(subject)
        status, version = before if before is not None else (None, 0)
        try:
            target = replayed(status, event)
        except Conflict as impossible:
            self.problem(f"{subject}: {impossible}")
            target = Status(str(facts["to"]))
        if facts["version"] != version + 1 or facts["to"] != target:
            self.problem(f"{subject}: version {facts['version']} does not follow {version}")
        self.lives[subject] = (target, version + 1)
        self.sums.add(subject, facts.get("ledger", []))

    def head(self, heads: Sequence[Row[tuple[int, int, bytes, int, int]]]) -> None:
        """Compare the end of what was read with where the trail says that it ends."""
        if len(heads) != 1:
            self.problem("the head of the trail is missing")
            return
        told = heads[0]
        if (told.seq, told.hash) != (self.seq, self.hash):
            self.problem(
                f"the trail ends at {self.seq}, but its head says {told.seq}: entries are missing"
            )
        elif self.at and _written(told.at) != self.at:
            self.problem(f"the head says that the trail ends at another time than {self.at}")

    def calls(self, kept: dict[str, tuple[str, int]]) -> None:
        """Compare where the trail leads with what is kept."""
        for call_id in sorted(kept.keys() | self.lives.keys(), key=str):
            told, found = self.lives.get(call_id), kept.get(call_id)
            if told is None or found is None or (told[0].value, told[1]) != found:
                self.problem(
                    f"{call_id}: the trail says {_word(told)}, the database {_word(found)}"
                )


def _is_filed(subject: str, body: dict[str, object]) -> bool:
    """Say whether an entry stands under its subject, or under none where nobody looks for it."""
    facts = body["facts"]
    passing = isinstance(facts, dict) and chain.is_passing(str(body["tag"]), facts)
    return subject == body["subject"] or (passing and not subject)


def _written(at: object) -> str:
    """Write the head's time as the trail writes times; "" if it is none."""
    try:
        return from_microseconds(at).isoformat(timespec="microseconds") if type(at) is int else ""
    except OverflowError:
        return ""


def _word(state: tuple[str, int] | None) -> str:
    return "nothing" if state is None else f"{state[0]} at version {state[1]}"
