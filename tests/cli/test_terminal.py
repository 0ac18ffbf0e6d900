"""What is printed: data is never markup, and how a command ends is its exit code."""

import json

import pytest
import typer

from approval.cli import terminal
from approval.cli.terminal import Declined, Exit, reporting
from approval.errors import Conflict, Misconfigured, StoreUnavailable


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("plain text, é and 日本", "plain text, é and 日本"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\r\ttab", r"two\nlines\r\ttab"),
        ("\u202eright to left\u200b", r"\u202eright to left\u200b"),
        ("\x9b\x00\ud800", r"\x9b\x00\ud800"),
    ],
)
def test_what_cannot_be_seen_is_spelt_out(text: str, printed: str) -> None:
    assert terminal.plain(text) == printed


def test_markup_in_data_is_printed_as_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("[red]x[/red] :smile: https://a.example")
    terminal.table(("ID", "B"), [("[b]1[/b]", "[link=x]y[/link]")])
    terminal.facts([("[i]name[/i]", "[/]")])
    terminal.hint("[dim]h[/dim]")
    terminal.complain(["[e]"])
    printed = capsys.readouterr()
    for text in ("[red]x[/red] :smile:", "[b]1[/b]", "[link=x]y[/link]", "[i]name[/i]", "[/]"):
        assert text in printed.out
    assert printed.err == "[dim]h[/dim]\nerror: [e]\n"


def test_a_long_id_is_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.table(("ID", "TEXT"), [("x" * 60, "word " * 40)])
    assert "x" * 60 in capsys.readouterr().out


def test_json_is_ascii_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": "\x1b\x9b\u202eé"}
    terminal.write_json(value)
    printed = capsys.readouterr().out
    assert printed.isascii()
    assert "\x1b" not in printed
    assert json.loads(printed) == value


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (Misconfigured(("a: one", "b: two")), Exit.MISCONFIGURED, "error: a: one\nerror: b: two\n"),
        (StoreUnavailable("disk full"), Exit.STORE, "error: disk full\n"),
        (Declined("no"), Exit.REFUSED, "error: no\n"),
        (Conflict("too late"), Exit.REFUSED, "error: too late\n"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, ""),
    ],
)
def test_every_kind_of_failure_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, told: str
) -> None:
    with pytest.raises(typer.Exit) as caught, reporting():
        raise error
    assert caught.value.exit_code == code
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("together", "code", "told"),
    [
        ([StoreUnavailable("full")], Exit.STORE, "error: full\n"),
        ([Misconfigured(("a",)), Misconfigured(("b", "a"))], Exit.MISCONFIGURED, "a\nerror: b\n"),
        ([ExceptionGroup("x", [Conflict("late")]), Declined("no")], Exit.REFUSED, "error: no\n"),
    ],
)
def test_what_tasks_wrapped_is_told_as_if_they_had_not(
    capsys: pytest.CaptureFixture[str], together: list[Exception], code: int, told: str
) -> None:
    with pytest.raises(typer.Exit) as caught, reporting():
        raise ExceptionGroup("tasks", together)
    assert caught.value.exit_code == code
    assert capsys.readouterr().err.endswith(told)


@pytest.mark.parametrize("other", [StoreUnavailable("full"), ZeroDivisionError()])
def test_different_things_at_once_are_all_shown(other: Exception) -> None:
    with pytest.raises(ExceptionGroup) as caught, reporting():
        raise ExceptionGroup("tasks", [Conflict("late"), other])
    assert caught.value.exceptions[1] is other


@pytest.mark.parametrize("error", [Misconfigured(("a",)), StoreUnavailable("b"), Declined("c")])
def test_a_command_whose_codes_are_answers_fails_with_one_of_its_own(error: Exception) -> None:
    with pytest.raises(typer.Exit) as caught, reporting(failed=Exit.USAGE):
        raise error
    assert caught.value.exit_code == Exit.USAGE


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), reporting():
        raise ZeroDivisionError


def test_a_pipe_is_nobody_to_ask() -> None:
    assert terminal.is_person() is False
