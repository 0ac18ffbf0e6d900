"""Budgets as people see them in a browser: which ones, and the bar and the columns of each."""

from dataclasses import dataclass
from datetime import date
from typing import Final

from approval import budgets
from approval.budgets import Pot
from approval.core import meters
from approval.core.identity import Right
from approval.service import Service

WIDTH: Final = 1000
"""How long a bar is, in the units of its picture: a limit, or what was taken if that is more."""

HEIGHT: Final = 40
"""How high the column of the dearest day is."""

CALLS: Final = 200
"""Of how many calls, the newest that a person may see, they see the meters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A day in the chart. A day on which little was spent still has something to see."""

    day: date
    height: int
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """One budget, drawn: lengths of what is spent and held, where the limit stands, and days."""

    pot: Pot
    spent: int
    held: int
    limit: int
    columns: tuple[Column, ...]
    story: str

    @property
    def level(self) -> str:
        """Say how full it is, as a class of the page: nothing below four fifths."""
        counted, limit = self.pot.usage.counted, self.pot.meter.limit.minor
        if counted >= limit:
            return "full"
        return "high" if counted * 100 >= limit * 80 else ""


async def seen_by(service: Service, person: str) -> tuple[Pot, ...]:
    """Read the budgets that a person may see: all of them with `read_all`."""
    pots = await service.budgets.pots()
    directory = service.rules.directory
    if directory.has_right(person, Right.READ_ALL):
        return pots
    page = await service.find(person, limit=CALLS)
    return budgets.visible(pots, person, directory, page.calls)


def gauge(pot: Pot) -> Gauge:
    """Draw a budget."""
    usage, limit = pot.usage, pot.meter.limit.minor
    scale = max(limit, usage.taken, 1)
    spent = usage.posted * WIDTH // scale
    most = max((minor for _, minor in pot.days), default=0)
    columns = tuple(_column(pot, day, minor, most) for day, minor in pot.days)
    return Gauge(
        pot=pot,
        spent=spent,
        held=(usage.taken * WIDTH // scale) - spent,
        limit=limit * WIDTH // scale,
        columns=columns,
        story=_story(pot, most),
    )


def _column(pot: Pot, day: date, minor: int, most: int) -> Column:
    height = max(2, minor * HEIGHT // most) if minor > 0 else 0
    return Column(day=day, height=height, words=f"{day}: {meters.shown(pot.money(minor))}")


def _story(pot: Pot, most: int) -> str:
    """Say the chart in a sentence, for those who do not see it."""
    if most <= 0:
        return "Nothing was spent in the last 30 days."
    total = sum(max(0, minor) for _, minor in pot.days)
    dearest = next(day for day, minor in pot.days if minor == most)
    told = meters.shown(pot.money(total))
    return f"{told} in the last 30 days, most on {dearest}: {meters.shown(pot.money(most))}."
