"""What commands print, and how they end: data is never markup, and never moves the cursor.

Tool names, arguments and reasons come from agents and upstreams. Printed raw, an escape sequence
could repaint the very call that a person is about to approve.
"""

import enum
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from approval.errors import ApprovalError, Misconfigured, StoreUnavailable


class Exit(enum.IntEnum):
    """How a command ends; the README lists them."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    MISCONFIGURED = 3
    STORE = 4
    INTERRUPTED = 130


class Declined(ApprovalError):
    """A command that was understood and cannot be done; the text says why and the remedy."""


def plain(text: str) -> str:
    """Make any text fit for a terminal: one line, and every invisible character spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(text: str, style: str = "") -> None:
    """Print one line of our own words and others' data."""
    _console().print(Text(plain(text), style=style), soft_wrap=True)


def hint(text: str) -> None:
    """Print a line for a person beside what the command is asked for: to standard error."""
    console = Console(stderr=True, highlight=False)
    console.print(Text(plain(text), style="dim"), soft_wrap=True)


def complain(problems: Iterable[str]) -> None:
    """Print what went wrong, to standard error."""
    console = Console(stderr=True, highlight=False)
    for problem in problems:
        line = Text.assemble(("error: ", "bold red"), plain(problem))
        console.print(line, soft_wrap=True)


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print rows under columns; the first column is never cut, for it is copied."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        grid.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        grid.add_row(*(Text(plain(cell)) for cell in row))
    _console().print(grid)


def facts(pairs: Iterable[tuple[str, str]]) -> None:
    """Print names and values below each other."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(Text(plain(name)), Text(plain(value)))
    _console().print(grid)


def write_json(value: object) -> None:
    """Print a value for scripts: one JSON document, in which all but ASCII is escaped."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=True) + "\n")


def write_line(text: str) -> None:
    """Print a line for scripts, exactly."""
    sys.stdout.write(text + "\n")


def is_person() -> bool:
    """Say whether somebody sits at this terminal, to be asked and shown secrets."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def progress(what: str) -> Iterator[Callable[[int], None]]:
    """Show how many are done, where somebody looks at standard error; elsewhere nothing."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda done: None
        return
    with console.status(what) as status:
        yield lambda done: status.update(f"{what}: {done}")


@contextmanager
def reporting(failed: Exit | None = None) -> Iterator[None]:
    """Turn what goes wrong inside into words on standard error and an exit code.

    `failed` is the code of every failure, for a command whose other codes are answers.
    """
    try:
        yield
    except (ApprovalError, BaseExceptionGroup) as error:
        ours = tuple(_leaves(error))
        code, *others = {_code(each) for each in ours}
        if code is None or others:
            raise  # a fault of ours, or several things at once: everything is shown
        complain(dict.fromkeys(problem for each in ours for problem in _problems(each)))
        raise typer.Exit(failed or code) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(Exit.INTERRUPTED) from error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Take what went wrong out of its groups: tasks that run together wrap it."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _code(error: BaseException) -> Exit | None:
    match error:
        case Misconfigured():
            return Exit.MISCONFIGURED
        case StoreUnavailable():
            return Exit.STORE
        case ApprovalError():
            return Exit.REFUSED
        case _:
            return None


def _problems(error: BaseException) -> tuple[str, ...]:
    return error.problems if isinstance(error, Misconfigured) else (str(error),)


def _console() -> Console:
    # Made anew: tests and pipes change what standard output is.
    return Console(highlight=False)
