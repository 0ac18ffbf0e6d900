"""Grants out of a decision: how far a rule lets them reach, and what an approver asks for.

A rule's bounds and the wishes of several approvers meet in the narrowest of all: nobody gives more
than everybody whose approval is needed would give.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from typing_extensions import override

from approval.core.canonical import quoted
from approval.core.money import Money
from approval.core.spans import read_duration, span_text

MOST_USES: Final = 10**9

_SENTENCE = re.compile(r"([0-9]{1,9}) uses? within ([0-9]+[smhd])(?: up to (.+))?")
_REMEDY = 'write it like "10 uses within 24h up to 20.00 USD"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """A rule's `grantable`: how far a grant made from one decision may reach beyond that call.

    So often, for so long, for so much in all; and `vary` names the arguments that may differ.
    """

    uses: int
    within: timedelta
    total: Money | None = None
    vary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The grant that an approver would give along with the approval, in the rule's own terms."""

    uses: int
    within: timedelta
    total: Money | None = None

    @override
    def __str__(self) -> str:
        """Word it as people write it: `10 uses within 24h up to 20.00 USD`."""
        said = f"{self.uses} use{'' if self.uses == 1 else 's'} within {span_text(self.within)}"
        return said if self.total is None else f"{said} up to {self.total}"

    def plain(self) -> dict[str, object]:
        """Write it as plain JSON, as `read_wish` reads it."""
        return plain(self)


def plain(bounds: Bounds | Wish) -> dict[str, object]:
    """Write bounds or a wish as plain JSON; what is not bounded is left out."""
    said: dict[str, object] = {"uses": bounds.uses, "within": span_text(bounds.within)}
    if bounds.total is not None:
        said["total"] = str(bounds.total)
    if isinstance(bounds, Bounds):
        said["vary"] = list(bounds.vary)
    return said


def parse_wish(text: str) -> Wish:
    """Read a wish as people write it: `10 uses within 24h up to 20.00 USD`.

    Raises:
        ValueError: If it is written in any other way.
    """
    found = _SENTENCE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{quoted(text, 60)} is no grant; {_REMEDY}")
    uses, within, total = found.groups()
    said = {"uses": int(uses), "within": within}
    return read_wish(said if total is None else {**said, "total": total})


def read_wish(said: Mapping[str, object]) -> Wish:
    """Read a wish from its members.

    Raises:
        ValueError: If one is missing, or not as it should be; the text names it.
    """
    if strays := sorted(said.keys() - {"uses", "within", "total"}):
        raise ValueError(f"{quoted(strays[0])} is not known; known are total, uses, within")
    uses, within, total = said.get("uses"), said.get("within"), said.get("total")
    if not isinstance(uses, int) or isinstance(uses, bool) or not 1 <= uses <= MOST_USES:
        raise ValueError(f"uses is a whole number from 1 to {MOST_USES}")
    span = read_duration(within) if isinstance(within, str) else None
    if span is None:
        raise ValueError('within is a time; write "90m", "24h" or "30d"')
    if total is None:
        return Wish(uses=uses, within=span)
    try:
        money = Money.parse(total) if isinstance(total, str) else None
    except ValueError as error:
        raise ValueError(f"total: {error}") from error
    if money is None or money.minor == 0:
        raise ValueError('total is an amount above zero; write "20.00 USD"')
    return Wish(uses=uses, within=span, total=money)


def narrowest(wishes: Iterable[Wish | None]) -> Wish | None:
    """Give what every approver would give; None where one of them would give nothing.

    A grant stands in for all whose approval is needed, and who approves one call has not said
    yes to the next ones. Totals in different currencies have nothing in common, so they give none.
    """
    found = list(wishes)
    said = [wish for wish in found if wish is not None]
    if not said or len(said) < len(found):
        return None
    totals = {wish.total for wish in said if wish.total is not None}
    if len({total.currency for total in totals}) > 1:
        return None
    return Wish(
        uses=min(wish.uses for wish in said),
        within=min(wish.within for wish in said),
        total=min(totals, default=None),
    )


def meet(a: Bounds | None, b: Bounds | None) -> Bounds | None:
    """Give what two rules on one call both let their approvers give."""
    if a is None or b is None:
        return None
    totals = [bounds.total for bounds in (a, b) if bounds.total is not None]
    if len({total.currency for total in totals}) > 1:
        return None
    return Bounds(
        uses=min(a.uses, b.uses),
        within=min(a.within, b.within),
        total=min(totals, default=None),
        vary=tuple(name for name in a.vary if name in b.vary),
    )


def on_call(bounds: Bounds | None, amount: Money | None) -> Bounds | None:
    """Give what the bounds come to on a call that costs so much; None where no grant fits it.

    A total in another currency than the call's, or on a call without a price, would be a grant that
    covers nothing.
    """
    if bounds is None or bounds.total is None:
        return bounds
    if amount is None or amount.currency != bounds.total.currency:
        return None
    return bounds
