"""Suites of cases: read strictly, and everything wrong told at once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from approval.config.suites import Ending, read_suite
from approval.core.call import Outcome
from approval.core.money import Money
from approval.errors import Misconfigured


def written(folder: Path, steps: str, more: str = "") -> Path:
    path = folder / "policy.tests.toml"
    path.write_text(f'[[case]]\nname = "a"\nagent = "bot"\n{more}\nsteps = [{steps}]\n')
    return path


def test_a_case_is_read_with_its_clock_and_what_happens(tmp_path: Path) -> None:
    steps = (
        '{ call = "buy", args = { n = 1 }, repeat = 2, ends = "lost", expect = "allow" },'
        '{ decide = "approve", by = "ann", took = "5.00 USD" },'
        '{ advance = "90s" }, { meter = "pot", held = "1.15 USD" }'
    )
    [case] = read_suite(written(tmp_path, steps, "at = 2026-03-29T01:30:00Z")).case
    assert case.at == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    call, decide, advance, meter = case.steps
    assert (call.call, dict(call.args), call.repeat) == ("buy", {"n": 1}, 2)
    assert (call.ends, call.expect) == (Ending.LOST, Outcome.ALLOW)
    assert decide.took == Money(500, "USD")
    assert advance.advance == timedelta(seconds=90)
    assert (meter.meter, meter.held, meter.posted) == ("pot", Money(115, "USD"), None)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ("{}", "case[0].steps[0]: says not what happens"),
        ('{ call = "a", advance = "1s" }', "case[0].steps[0]: says not what happens"),
        ('{ call = "a" }', "says not what is expected"),
        ('{ decide = "approve" }', "says not who decides"),
        ('{ decide = "reject", by = "ann", amount = "1.00 USD" }', "types an amount"),
        ('{ advance = "1s", amount = "1.00 USD" }', "types an amount"),
        (
            '{ call = "a", took = "1.00 USD", expect = "gate" }',
            "says what was taken of a call that does not run here",
        ),
        (
            '{ decide = "reject", by = "ann", took = "1.00 USD" }',
            "says what was taken of a call that does not run here",
        ),
        (
            '{ call = "a", took = "1.00 USD", ends = "lost", expect = "allow" }',
            'says what was taken, and ends "lost", which is no answer',
        ),
        ('{ advance = "1s", took = "1.00 USD" }', "says what was taken of a call"),
        ('{ meter = "pot" }', "says not what is in the meter"),
        ('{ meter = "pot", held = 1.15 }', "case[0].steps[0].held"),
        ('{ advance = "soon" }', "case[0].steps[0].advance: is no duration"),
        ('{ call = "a", expect = "maybe" }', "case[0].steps[0].expect"),
        ('{ call = "a", expect = "deny", because = "x" }', "case[0].steps[0].because: is not"),
        ("", "case[0].steps"),
    ],
)
def test_a_step_that_says_too_little_or_too_much_is_told(
    tmp_path: Path, steps: str, told: str
) -> None:
    with pytest.raises(Misconfigured) as failure:
        read_suite(written(tmp_path, steps))
    assert told in "\n".join(failure.value.problems)


def test_a_time_without_a_zone_is_told(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match='"at" has no zone'):
        read_suite(written(tmp_path, '{ advance = "1s" }', "at = 2026-03-29T01:30:00"))


def test_a_file_that_is_not_there_or_no_toml_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.tests.toml"
    with pytest.raises(Misconfigured, match="cannot be read"):
        read_suite(path)
    path.write_text("[[case")
    with pytest.raises(Misconfigured, match="is no TOML"):
        read_suite(path)
