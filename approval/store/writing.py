"""Whether writing works: a store's writes, and why the last of them could not be made."""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from approval.core.audit import Entry
from approval.errors import StoreUnavailable
from approval.store.work import Work

log = logging.getLogger(__name__)

T = TypeVar("T")


class Writes(Protocol):
    """What an engine must do to be written to."""

    async def write(self, unit: Callable[[Work], T]) -> T: ...
    async def journal(self, entry: Entry) -> None: ...


class Writing:
    """Writes through an engine, and remembers a failure until something can be written again.

    Only the database's own trouble counts: what one caller's unit raises says nothing of others.
    """

    def __init__(self, engine: Writes) -> None:
        self._engine = engine
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why nothing could be written the last time, in the engine's words; None if it could."""
        return self._trouble

    async def write(self, unit: Callable[[Work], T]) -> T:
        """Run one unit, and commit; on disk at the return."""
        return await self._watched(self._engine.write(unit))

    async def journal(self, entry: Entry) -> None:
        """Write one audit entry; on disk at the return."""
        await self._watched(self._engine.journal(entry))

    async def _watched(self, written: Awaitable[T]) -> T:
        try:
            result = await written
        except StoreUnavailable as error:
            self._trouble = str(error)
            raise
        if self._trouble is not None:
            self._trouble = None
            log.info("the database can be written again")
        return result
