"""What a check of policies looks at, and what it says: a policy where it is in force, a remark."""

import enum
from dataclasses import dataclass

from approval.core.identity import Agent, Directory
from approval.core.policy import Policy


class Severity(enum.StrEnum):
    """How bad: an error guards nothing or asks nobody, a note is for whoever has time."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that is probably not meant: where it stands, and the remedy."""

    severity: Severity
    code: str
    source: str
    path: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One policy where it is in force: for these agents, alone or `above` an upstream's own."""

    policy: Policy
    upstream: str
    askers: tuple[Agent, ...]
    directory: Directory
    above: Policy | None = None

    def remark(self, severity: Severity, code: str, path: str, what: str, remedy: str) -> Remark:
        source = self.policy.source
        return Remark(
            severity=severity, code=code, source=source, path=path, what=what, remedy=remedy
        )
