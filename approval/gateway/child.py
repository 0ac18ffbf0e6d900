"""A server that runs as a program of ours and speaks on its standard streams, one line a message.

What real ones do there shapes this: lines of hundreds of kilobytes (asyncio's own reader stops at
64 KiB), chatter that is no message, logs on the error stream until its pipe is full, and programs
that ignore being asked to end. Trouble of one stays with it.
"""

import asyncio
import logging
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress

import orjson

from approval.core.canonical import quoted
from approval.errors import NeverSent
from approval.gateway.settings import UpstreamSettings
from approval.gateway.upstream import MAX_ANSWER

log = logging.getLogger(__name__)

INHERITED = ("PATH", "HOME", "LANG", "TZ", "TMPDIR")
MAX_BACKLOG = 32 * 1024 * 1024
CHUNK = 1 << 16
MAX_LOGGED = 500

Hear = Callable[[bytes, dict[str, object]], None]
"""Takes a line that holds a message, and the same line read; must not wait."""


class Child:
    """One running program. `hear` gets its messages; `ended` is called once, when it is gone."""

    def __init__(
        self,
        name: str,
        settings: UpstreamSettings,
        *,
        grace: float,
        hear: Hear,
        ended: Callable[[], None],
    ) -> None:
        self._name = name
        self._settings = settings
        self._grace = grace
        self._hear = hear
        self._ended = ended
        self._process: Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._closed = False
        self._stopped = False
        self.garbage = 0
        """How many lines were no messages."""

    @property
    def alive(self) -> bool:
        return self._process is not None and not self._closed

    @property
    def gone(self) -> bool:
        """Say whether nothing of it is left to stop."""
        return self._stopped

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Start the program; its streams are read in `tasks` until it ends.

        Raises:
            NeverSent: If it cannot be started.
        """
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._settings.command,
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
                cwd=self._settings.cwd,
                env=_environment(self._settings),
                # A group of its own: what it starts itself is ended with it.
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise NeverSent(f'the upstream "{self._name}" cannot be started: {error}') from error
        self._reading = tasks.create_task(self._run(self._process))

    def send(self, line: bytes) -> None:
        """Write one message. It is on its way as a whole, or not at all.

        Raises:
            NeverSent: If the program is gone or reads nothing any more.
        """
        process = self._process
        if process is None or process.stdin is None or self._closed or process.stdin.is_closing():
            raise NeverSent(f'the upstream "{self._name}" is not running')
        if process.stdin.transport.get_write_buffer_size() > MAX_BACKLOG:
            raise NeverSent(f'the upstream "{self._name}" does not read what it is sent')
        process.stdin.write(line + b"\n")

    async def stop(self) -> None:
        """End the program: politely first, for good after its grace."""
        process = self._process
        if process is None or self._stopped:
            return
        self._close(process)
        _signal(process, signal.SIGTERM)
        await self._gone(process)
        # Also when it ended itself: what it started may have stayed, and may hold its pipes open.
        _signal(process, signal.SIGKILL)
        await self._gone(process)
        self._stopped = True  # the number of a group that has ended may be another's one day
        if self._reading is not None and self._reading is not asyncio.current_task():
            self._reading.cancel()

    async def _gone(self, process: Process) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._grace):
                await process.wait()

    async def _run(self, process: Process) -> None:
        try:
            async with asyncio.TaskGroup() as streams:
                drain = streams.create_task(self._drain(process))
                await self._read(process)
                await self.stop()
                drain.cancel()
        except* Exception:
            log.exception("reading a program's streams failed", extra={"upstream": self._name})
            await self.stop()

    async def _read(self, process: Process) -> None:
        """Take its messages, and stop it when its output ends: nothing can come of it then."""
        if process.stdout is None:
            return
        lines = Lines()
        while chunk := await process.stdout.read(CHUNK):
            for line in lines.feed(chunk):
                self._take(line)
            if lines.pending > MAX_ANSWER:
                log.error("a line was too long to be a message", extra={"upstream": self._name})
                break

    def _take(self, line: bytes) -> None:
        try:
            message = orjson.loads(line)
        except orjson.JSONDecodeError:
            message = None
        if isinstance(message, dict) and message.get("jsonrpc") == "2.0":
            self._hear(line, message)
        elif line.strip():
            self.garbage += 1
            log.debug("a line was no message", extra={"upstream": self._name})

    async def _drain(self, process: Process) -> None:
        if process.stderr is None:
            return
        while chunk := await process.stderr.read(CHUNK):
            if log.isEnabledFor(logging.DEBUG):
                text = quoted(chunk[: MAX_LOGGED * 4].decode(errors="replace"), MAX_LOGGED)
                log.debug("the program says: %s", text, extra={"upstream": self._name})

    def _close(self, process: Process) -> None:
        if self._closed:
            return
        self._closed = True
        if process.stdin is not None:
            process.stdin.close()
        self._ended()


class Lines:
    """Cuts a stream of bytes into lines. Looks at each byte once, however long the line."""

    def __init__(self) -> None:
        self._start: list[bytes] = []
        self.pending = 0
        """How many bytes of an unfinished line are kept."""

    def feed(self, chunk: bytes) -> list[bytes]:
        first, *rest = chunk.split(b"\n")
        self._start.append(first)
        self.pending += len(first)
        if not rest:
            return []
        whole = [b"".join(self._start), *rest[:-1]]
        self._start, self.pending = [rest[-1]], len(rest[-1])
        return whole


def _environment(settings: UpstreamSettings) -> dict[str, str]:
    """Give the program what it was configured with: our own environment holds our secrets."""
    kept = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return kept | {name: secret.get_secret_value() for name, secret in settings.env.items()}


def _signal(process: Process, number: signal.Signals) -> None:
    # The leader may be gone while others of its group are not, so its exit says nothing.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
