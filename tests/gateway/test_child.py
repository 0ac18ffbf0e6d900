import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from approval.errors import NeverSent
from approval.gateway.child import CHUNK, INHERITED, MAX_BACKLOG, Child, Lines
from approval.gateway.settings import UpstreamSettings
from approval.gateway.upstream import MAX_ANSWER
from tests.fakes.launch import noisy_command
from tests.gateway.wire import DEADLINE_SECONDS

GRACE = 0.2


class Heard:
    """What a program said, and that it ended."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ended = asyncio.Event()

    def hear(self, line: bytes, message: dict[str, object]) -> None:
        assert orjson.loads(line) == message
        self.messages.put_nowait(message)


@asynccontextmanager
async def running(
    *argv: str, env: dict[str, SecretStr] | None = None
) -> AsyncIterator[tuple[Child, Heard]]:
    heard = Heard()
    settings = UpstreamSettings(command=argv, env=env or {})
    program = Child("shop", settings, grace=GRACE, hear=heard.hear, ended=heard.ended.set)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        await program.start(tasks)
        try:
            yield program, heard
        finally:
            await program.stop()
    assert program.gone


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_program_hears_and_is_heard_line_by_line() -> None:
    async with running(*noisy_command("--garbage")) as (program, heard):
        assert program.alive
        program.send(b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
        assert (await heard.messages.get())["result"] == {}
        assert program.garbage == 6  # the empty line is none
        assert heard.messages.empty()
    assert heard.ended.is_set()
    assert not program.alive


async def test_a_program_gets_its_own_environment_and_none_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("APPROVAL_SECRET", "hunter2")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    code = (
        "import json, os\n"
        "print(json.dumps({'jsonrpc': '2.0', 'env': dict(os.environ)}), flush=True)"
    )
    async with running(*python(code), env={"SHOP_KEY": SecretStr("key")}) as (_, heard):
        environment = (await heard.messages.get())["env"]
    given = environment.keys() - {"LC_CTYPE"}  # which Python sets for itself
    assert given <= {*INHERITED, "SHOP_KEY"}
    assert environment["SHOP_KEY"] == "key"
    assert environment["TZ"] == "Europe/Berlin"
    assert environment["PATH"] == os.environ["PATH"]


async def test_what_a_program_started_ends_with_it() -> None:
    code = (
        "import json, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import signal, time;"
        " signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'])\n"
        "print(json.dumps({'jsonrpc': '2.0', 'pid': child.pid}), flush=True)\n"
        "time.sleep(600)\n"
    )
    async with running(*python(code)) as (program, heard):
        pid = (await heard.messages.get())["pid"]
        assert alive(pid)
        await program.stop()
        await program.stop()  # once more does nothing
    for _ in range(1000):
        if not alive(pid) or _is_zombie(pid):
            return
        await asyncio.sleep(0.01)  # killed, and not yet gone
    pytest.fail("it lives on")


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_program_that_closes_its_output_is_ended() -> None:
    code = "import os, time; os.close(1); time.sleep(600)"
    async with running(*python(code)) as (program, heard):
        await heard.ended.wait()
        with pytest.raises(NeverSent, match="is not running"):
            program.send(b"{}")


async def test_an_endless_line_ends_the_program() -> None:
    length = MAX_ANSWER + CHUNK
    code = f"import sys, time; sys.stdout.write('x' * {length}); time.sleep(600)"
    async with running(*python(code)) as (_, heard):
        await heard.ended.wait()
        assert heard.messages.empty()


async def test_a_program_that_reads_nothing_takes_only_so_much() -> None:
    async with running(*python("import time; time.sleep(600)")) as (program, _):
        program.send(b"x" * (MAX_BACKLOG + CHUNK))
        with pytest.raises(NeverSent, match="does not read"):
            program.send(b"{}")


@pytest.mark.parametrize("argv", [("no-such-program-here",), (sys.executable, "\0")])
async def test_a_program_that_cannot_start_says_so(argv: tuple[str, ...]) -> None:
    heard = Heard()
    program = Child(
        "shop",
        UpstreamSettings(command=argv),
        grace=GRACE,
        hear=heard.hear,
        ended=heard.ended.set,
    )
    async with asyncio.TaskGroup() as tasks:
        with pytest.raises(NeverSent, match='"shop" cannot be started'):
            await program.start(tasks)
    with pytest.raises(NeverSent, match="is not running"):
        program.send(b"{}")
    await program.stop()
    assert not program.alive


async def test_what_a_program_complains_of_is_logged_for_the_curious(
    caplog: pytest.LogCaptureFixture,
) -> None:
    code = "import sys; sys.stderr.write('a\\nb\\x1b[2J'); sys.stderr.flush(); print('{}')"
    with caplog.at_level("DEBUG", logger="approval.gateway.child"):
        async with running(*python(code)) as (_, heard):
            await heard.ended.wait()
    said = [each.getMessage() for each in caplog.records if "program says" in each.getMessage()]
    assert said == ["the program says: a\\nb\\x1b[2J"]


async def test_trouble_in_reading_ends_the_program_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def explode(line: bytes, message: dict[str, object]) -> None:
        raise RuntimeError("a bug of ours")

    ended = asyncio.Event()
    settings = UpstreamSettings(command=python('print(\'{"jsonrpc": "2.0"}\')'))
    program = Child("shop", settings, grace=GRACE, hear=explode, ended=ended.set)
    async with asyncio.timeout(DEADLINE_SECONDS), asyncio.TaskGroup() as tasks:
        await program.start(tasks)
        await ended.wait()
    assert "reading a program's streams failed" in caplog.text


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_cut_wherever_the_chunks_end(size: int) -> None:
    whole = b"one\n\ntwo two\r\nthree\nrest"
    lines = Lines()
    cut = [
        line
        for start in range(0, len(whole), size)
        for line in lines.feed(whole[start : start + size])
    ]
    assert cut == [b"one", b"", b"two two\r", b"three"]
    assert lines.pending == len(b"rest")
