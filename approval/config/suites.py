"""Read the tests of a policy: cases with a clock and a history, written beside the policy."""

import tomllib
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from approval.config.problems import Problems
from approval.core.call import Choice, Outcome
from approval.core.money import Money
from approval.core.spans import read_duration
from approval.errors import Misconfigured

MOST_REPEATS: Final = 10_000


def _duration(value: object) -> object:
    found = read_duration(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('is no duration; write "90s", "15m", "2h" or "1d"')
    return found


def _money(value: object) -> object:
    return Money.parse(value if isinstance(value, str) else "")


Span = Annotated[timedelta, BeforeValidator(_duration)]
Amount = Annotated[Money, BeforeValidator(_money)]


class Ending(StrEnum):
    """What the upstream makes of a call that runs."""

    EXECUTED = "executed"
    ERRORED = "errored"
    FAILED = "failed"
    LOST = "lost"


class Step(BaseModel):
    """One thing that happens. Exactly one of `call`, `decide`, `advance` and `meter` says what."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    call: str | None = None
    args: Mapping[str, object] = Field(default_factory=dict)
    repeat: int = Field(default=1, ge=1, le=MOST_REPEATS)
    ends: Ending = Ending.EXECUTED
    took: Amount | None = None
    expect: Outcome | None = None
    reason: str | None = None
    approvers: tuple[str, ...] | None = None

    decide: Choice | None = None
    by: str | None = None
    amount: Amount | None = None

    advance: Span | None = None

    meter: str | None = None
    held: Amount | None = None
    posted: Amount | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        said = [self.call, self.decide, self.advance, self.meter]
        if sum(each is not None for each in said) != 1:
            raise ValueError("says not what happens; write one of call, decide, advance and meter")
        if self.call is not None and self.expect is None:
            raise ValueError('says not what is expected; write expect = "allow", "gate" or "deny"')
        if self.decide is not None and self.by is None:
            raise ValueError('says not who decides; write by = "ann"')
        if self.amount is not None and self.decide is not Choice.APPROVE:
            raise ValueError("types an amount; whoever approves does that, so write it there")
        if self.took is not None:
            self._runs()
        if self.meter is not None and self.held is None and self.posted is None:
            raise ValueError("says not what is in the meter; write held or posted")
        return self

    def _runs(self) -> None:
        """Hold against the step that it says what the upstream took."""
        if self.expect is not Outcome.ALLOW and self.decide is not Choice.APPROVE:
            raise ValueError(
                "says what was taken of a call that does not run here; write took where it does"
            )
        if self.ends not in {Ending.EXECUTED, Ending.ERRORED}:
            raise ValueError(
                f'says what was taken, and ends "{self.ends}", which is no answer; remove one'
            )


class Case(BaseModel):
    """A story of its own: an agent, a clock, and what happens. It begins with nothing spent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    agent: str
    upstream: str | None = None
    at: datetime = datetime.fromisoformat("2026-01-05T12:00:00+00:00")
    steps: tuple[Step, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _zoned(self) -> Self:
        if self.at.tzinfo is None:
            raise ValueError('"at" has no zone; write 2026-03-29T01:30:00+01:00, or end it with Z')
        return self


class Suite(BaseModel):
    """One file of cases."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: tuple[Case, ...] = Field(min_length=1)


def read_suite(path: Path) -> Suite:
    """Read a file of cases.

    Raises:
        Misconfigured: With everything that is wrong, each with file, key and remedy.
    """
    problems = Problems(str(path))
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise Misconfigured((f"{path}: cannot be read: {error.strerror}",)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misconfigured((f"{path}: is no TOML: {error}; correct the file",)) from error
    suite = problems.read(Suite, table, ())
    problems.raise_any()
    if suite is None:
        raise Misconfigured((f"{path}: holds no cases",))
    return suite
