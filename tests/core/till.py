"""What keeps calls and their money, as the money machine asks it: the pure core, or a store."""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from approval.core.call import Call, CallId, ToolCall
from approval.core.demand import Demand, Offer
from approval.core.ledger import LedgerEntry
from approval.core.lifecycle import Change
from approval.core.meters import Usage
from approval.ports import Admission, Claim, Step

Row = tuple[str, datetime]


class Till(Protocol):
    """What keeps calls and their money. `process` says through whose hands."""

    def admit(
        self,
        asked: ToolCall,
        demand: Demand | None,
        step: Admission,
        offers: tuple[Offer, ...],
        process: str,
    ) -> Change: ...

    def claim(
        self, call_id: CallId, demand: Demand | None, step: Claim, process: str
    ) -> Change: ...

    def advance(self, call_id: CallId, step: Step, process: str) -> Change: ...

    def get(self, call_id: CallId, process: str) -> Call: ...

    def sums(self, process: str) -> Mapping[Row, Usage]: ...

    def entries(self, process: str) -> Counter[tuple[str, LedgerEntry]]: ...

    def now(self) -> datetime: ...

    def close(self) -> None: ...
