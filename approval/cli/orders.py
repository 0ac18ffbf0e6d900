"""What a command line asks for, as values: who claims to decide, and what."""

import enum
from dataclasses import dataclass
from pathlib import Path

from approval.core.call import Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How a person says who they are: a token, or a mere claim where `local = "trust"`."""

    claimed: str | None = None
    token_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A decision as the command line gave it. `ask`: have the person confirm what is shown.

    `amount` is what the person types that the call costs, where they are asked.
    `grant` is such as "10 uses within 24h up to 20.00 USD", or empty.
    """

    call: str
    choice: Choice
    reason: str = ""
    digest: str | None = None
    ask: bool = False
    amount: str | None = None
    grant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a person says of a call that ran, how they know, and what it took; empty if unknown."""

    call: str
    evidence: str
    amount: str = ""


class Dialect(enum.StrEnum):
    """Whose policy a file is that is to be imported."""

    AUTO = "auto"
    INTERCEPT = "intercept"
    POLICYLAYER = "policylayer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """How to import a policy. `promote` is the text of the denials that become gates, or empty."""

    dialect: Dialect = Dialect.AUTO
    promote: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantOrder:
    """A grant as the command line asks for it. `conditions` are JSON, `lasts` is such as "24h"."""

    agent: str
    tools: tuple[str, ...]
    upstream: str | None = None
    conditions: tuple[str, ...] = ()
    max_per_call: str | None = None
    total: str | None = None
    uses: int | None = None
    lasts: str | None = None
    reason: str = ""
