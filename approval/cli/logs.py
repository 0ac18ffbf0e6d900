"""The log of a running service: one event a line on standard error, nothing invisible in it."""

import logging
import sys
from typing import Final

from typing_extensions import override

from approval.cli.terminal import plain

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """Writes time, level, logger, message and the facts given in `extra`.

    Facts may come from agents and upstreams: escapes in them would forge lines or move the cursor.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    @override
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        facts = [f"{k}={v}" for k, v in sorted(vars(record).items()) if k not in _STANDARD]
        lines = (" ".join([text.partition("\n")[0], *facts]), *text.split("\n")[1:])
        # A traceback keeps its lines, indented: none of them can pass for an event of its own.
        return "\n    ".join(plain(line) for line in lines)


def only_errors() -> None:
    """Keep warnings off a command's terminal: what it could not do, it says itself."""
    if logging.lastResort is not None:
        logging.lastResort.setLevel(logging.ERROR)


def set_up(*, verbose: bool) -> None:
    """Send the log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    # Others' debug lines hold what ours never do: bodies and headers.
    for name in ("aiohttp", "asyncio", "sqlalchemy", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
