"""A unit's share of a transaction: what it writes with, and what it leaves to be written last."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import insert

from approval.core.audit import Entry
from approval.store.prepared import Transaction
from approval.store.tables import notices

_NOTICE = insert(notices)


def _is_alone(name: str) -> None:
    """Do nothing: there is one writer at a time, whatever the name."""


@dataclass(slots=True)
class Work:
    """One unit's share of a transaction: its connection, the store's time, what it leaves behind.

    `alone` keeps everybody else who asks for the same name out until the transaction ends: for what
    has no row yet that could be locked. `entries` go into the trail, and `notices` to the other
    processes, with the same commit.
    """

    connection: Transaction
    clock: Callable[[], datetime]
    alone: Callable[[str], None] = _is_alone
    entries: list[Entry] = field(default_factory=list)
    notices: list[tuple[str, int]] = field(default_factory=list)
    read_at: datetime | None = None

    @property
    def now(self) -> datetime:
        """The store's time, read when a unit first asks for it: once it has its locks."""
        if self.read_at is None:
            self.read_at = self.clock()
        return self.read_at


def tell(work: Work, now: datetime) -> None:
    """Write what a unit leaves for other processes to hear."""
    for subject, version in work.notices:
        row = {"subject": subject, "version": version, "at": now}
        work.connection.execute(_NOTICE, row)
