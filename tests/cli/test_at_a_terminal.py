"""Commands at a real terminal: a token is prompted for, an approval confirmed, a link shown."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from approval.core.call import Status
from tests.cli.desk import ANN, desk

ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """A program on a terminal of its own: read what it shows, type what it asks for."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self.shown = ""

    def until(self, text: str) -> None:
        """Read until this text was shown."""
        while text not in self.shown:
            ready, _, _ = select.select([self._master], [], [], 20)
            assert ready, f"{text!r} was not shown, but {self.shown!r}"
            try:
                self.shown += os.read(self._master, 65_536).decode()
            except OSError as error:  # the program has ended
                raise AssertionError(self.shown) from error

    def until_unseen(self) -> None:
        """Wait until what is typed is not shown: the prompt comes a moment before that."""
        deadline = time.monotonic() + 20
        while termios.tcgetattr(self._master)[3] & termios.ECHO:
            assert time.monotonic() < deadline, "typing stays visible"
            time.sleep(0.01)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode() + b"\n")


@contextmanager
def at_a_terminal(*words: str) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "APPROVAL_TOKEN"}
    process = subprocess.Popen(
        [sys.executable, "-m", "approval", *words],
        cwd=ROOT,
        env={**environment, "COLUMNS": "200", "TERM": "dumb"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_token_is_typed_unseen_and_an_approval_is_confirmed(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    with at_a_terminal("approve", call.id, "--config", str(at.config)) as terminal:
        terminal.until("Your token")
        terminal.until_unseen()
        terminal.type(ANN)
        terminal.until("Approve this as ann?")
        terminal.type("y")
        terminal.until("is approved by person:ann")
        assert terminal.process.wait(10) == 0
    assert ANN not in terminal.shown
    assert call.digest in terminal.shown
    assert at.call(call.id).status is Status.APPROVED


def test_no_is_an_answer_too(tmp_path: Path) -> None:
    at = desk(tmp_path)
    call = at.hold()
    (tmp_path / "token").write_text(ANN)
    words = ("approve", call.id, "--config", str(at.config), "--token-file", f"{tmp_path}/token")
    with at_a_terminal(*words) as terminal:
        terminal.until("Approve this as ann?")
        terminal.type("n")
        terminal.until("Nothing was decided.")
        assert terminal.process.wait(10) == 1
    assert at.call(call.id).status is Status.PENDING


def test_what_a_call_costs_is_asked_for(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.price('{ ask = true, up_to = "500.00 USD" }')
    call = at.hold()
    (tmp_path / "token").write_text(ANN)
    words = ("approve", call.id, "--config", str(at.config), "--token-file", f"{tmp_path}/token")
    with at_a_terminal(*words) as terminal:
        terminal.until("What does it cost, up to 500.00 USD?")
        terminal.type("12.34 USD")
        terminal.until("Approve this at 12.34 USD as ann?")
        terminal.type("y")
        terminal.until("is approved at 12.34 USD by person:ann")
        assert terminal.process.wait(10) == 0
    assert str(at.call(call.id).cost) == "12.34 USD"


def test_a_login_link_is_shown_at_a_terminal(tmp_path: Path) -> None:
    at = desk(tmp_path)
    at.config.write_text(at.config.read_text() + '[server]\nlisten = "127.0.0.1:0"\n')
    with at_a_terminal("serve", "--config", str(at.config)) as terminal:
        terminal.until("sign in as bob: http://127.0.0.1:")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(15) == 0
    assert "sign in as ann: http://127.0.0.1:" in terminal.shown
