"""Read the configuration again while the service runs: rules change, sockets and servers do not."""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from approval.app.opening import ACTOR
from approval.app.running import policy_entry
from approval.config import Config, load
from approval.core.audit import Entry, Tag
from approval.core.canonical import quoted
from approval.errors import ApprovalError, Misconfigured
from approval.service import Service

log = logging.getLogger(__name__)

MAX_PROBLEMS: Final = 20
MAX_PROBLEM_CHARACTERS: Final = 300

FIXED: Final = ("server", "database", "upstreams", "gateway", "audit")
"""What a running service cannot change; a restart does."""

Stamp = tuple[int, int, int] | None


class Reloader:
    """Keeps the rules in force those of the files, as long as the files can be read."""

    def __init__(
        self, service: Service, config: Config, environment: Mapping[str, str] | None = None
    ) -> None:
        self.config = config
        self._service = service
        self._environment = environment
        self._seen = _stamps(config.files)

    def changed(self) -> bool:
        """Say whether a file is another one than at the last reading."""
        return _stamps(self.config.files) != self._seen

    async def reload(self) -> bool:
        """Put what the files say now in force, all of it or nothing.

        A mistake leaves the old rules in force; the log and the trail say so.
        """
        # Taken first: a file that changes while it is read is read once more.
        stamps = _stamps(self.config.files)
        try:
            config = load(self.config.path, self._environment)
            await self._service.adopt(config.rulebook(), policy_entry(config.rulebook()))
        except Misconfigured as error:
            self._seen = stamps
            await self._refuse(error.problems)
            return False
        except ApprovalError:
            # Not remembered as seen: the next look tries again.
            log.exception("the rules could not be replaced; the old ones stay in force")
            return False
        self._say_what_stays(config)
        self.config = config
        self._seen = {path: stamps.get(path, _stamp(path)) for path in config.files}
        log.info("the configuration was read again and is in force")
        return True

    async def _refuse(self, problems: tuple[str, ...]) -> None:
        log.error(
            "the configuration was not read again; the old rules stay in force:\n%s",
            "\n".join(problems),
        )
        told = [quoted(problem, MAX_PROBLEM_CHARACTERS) for problem in problems[:MAX_PROBLEMS]]
        facts = {"count": len(problems), "problems": told}
        entry = Entry(tag=Tag.POLICY_REFUSE, subject="policy", actor=ACTOR, facts=facts)
        try:
            await self._service.note(entry)
        except ApprovalError:
            log.exception("the trail could not be told of the refused configuration")

    def _say_what_stays(self, config: Config) -> None:
        for name in FIXED:
            if getattr(config, name) != getattr(self.config, name):
                log.warning("[%s] has changed; restart the service to put it in force", name)
        for warning in config.warnings:
            log.warning("%s", warning)


def _stamps(files: Iterable[Path]) -> dict[Path, Stamp]:
    return {path: _stamp(path) for path in files}


def _stamp(path: Path) -> Stamp:
    try:
        facts = path.stat()
    except OSError:
        return None
    return (facts.st_mtime_ns, facts.st_size, facts.st_ino)
