"""What a meter allows, how it is named, and what agents and people are told of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.core.meters import (
    USES,
    Draw,
    Meter,
    Over,
    Soft,
    Usage,
    admits,
    alerts,
    all_draws,
    draws,
    overshoot,
    refusal,
    room,
    room_at,
    window_start,
    words,
)
from approval.core.money import CAP, Money
from approval.core.scopes import Scope
from approval.core.subject import Subject
from approval.core.windows import ALWAYS, AllTime, Calendar, Rolling, Unit, Weekday, Window

NOW = datetime(2026, 11, 25, 22, 0, tzinfo=UTC)
DAY = Calendar(unit=Unit.DAY)
MONTH = Calendar(unit=Unit.MONTH)
ROLLING = Rolling(span=timedelta(hours=24))
OPS = Subject(
    agent="ops", upstream="shop", tool="buy", arguments={}, groups=("sales", "night-shift")
)


def usd(minor: int) -> Money:
    return Money(minor, "USD")


def meter(limit: int = 500, window: Window = DAY, *, up_to: int | None = None) -> Meter:
    soft = None if up_to is None else Soft(override_by=("cfo",), up_to=usd(up_to))
    return Meter(name="numbers-day", origin="p", limit=usd(limit), window=window, soft=soft)


def draw(of: Meter, amount: int = 115, currency: str = "USD") -> Draw:
    [found] = draws(of, OPS, Money(amount, currency))
    return found


def ids(of: Meter, subject: Subject = OPS, *, grant: str | None = None) -> list[str]:
    return [each.meter_id for each in draws(of, subject, usd(1), grant=grant)]


# --- whose sums ---


def test_one_meter_named_by_several_tools_is_one_pot() -> None:
    assert ids(meter()) == ids(meter(), replace(OPS, tool="sell", agent="other", upstream="b"))


@pytest.mark.parametrize(
    ("scope", "other"),
    [
        (Scope.AGENT, replace(OPS, agent="other")),
        (Scope.TOOL, replace(OPS, tool="sell")),
        (Scope.UPSTREAM, replace(OPS, upstream="b")),
        (Scope.GROUP, replace(OPS, groups=("other", "third"))),
    ],
)
def test_a_scope_makes_a_pot_for_each(scope: Scope, other: Subject) -> None:
    scoped = replace(meter(), scope=(scope,))
    assert set(ids(scoped)).isdisjoint(ids(scoped, other))
    unscoped = replace(meter(), scope=tuple(each for each in Scope if each is not scope))
    assert ids(unscoped, other) == ids(unscoped)


def test_a_grant_has_a_pot_of_its_own() -> None:
    scoped = replace(meter(), scope=(Scope.GRANT,))
    pots = [*ids(scoped, grant="a"), *ids(scoped, grant="b"), *ids(scoped)]
    assert len(set(pots)) == 3


def test_an_agent_draws_on_the_meter_of_each_of_its_groups() -> None:
    scoped = replace(meter(), scope=(Scope.GROUP,))
    found = draws(scoped, OPS, usd(115))
    assert [each.key for each in found] == [(("group", "sales"),), (("group", "night-shift"),)]
    assert {each.amount for each in found} == {usd(115)}
    assert len({each.meter_id for each in found}) == 2


@pytest.mark.parametrize(
    "changed",
    [
        replace(meter(), limit=usd(9)),
        replace(meter(), over=Over.ASK, soft=Soft(override_by=("cfo",), up_to=usd(1))),
        replace(meter(), window=Calendar(unit=Unit.DAY, zone="Europe/Berlin")),
        replace(meter(), window=Calendar(unit=Unit.DAY, week_start=Weekday.SUNDAY)),
    ],
)
def test_changed_terms_keep_the_name_of_the_sums(changed: Meter) -> None:
    """What was spent is then found in the store: see `tests/store/test_windows.py`."""
    assert ids(changed) == ids(meter())


def test_a_changed_span_keeps_what_was_spent() -> None:
    assert ids(meter(window=ROLLING)) == ids(meter(window=Rolling(span=timedelta(days=7))))


@pytest.mark.parametrize(
    "changed",
    [
        replace(meter(), name="other"),
        replace(meter(), origin="other"),
        replace(meter(), limit=Money(500, "EUR")),
        replace(meter(), window=MONTH),
        replace(meter(), window=ROLLING),
        replace(meter(), window=AllTime()),
        replace(meter(), scope=(Scope.AGENT,)),
    ],
)
def test_what_sums_mean_something_else_for_begins_anew(changed: Meter) -> None:
    assert set(ids(changed)).isdisjoint(ids(meter()))


def test_the_order_in_which_scopes_are_written_does_not_matter() -> None:
    one, other = (Scope.AGENT, Scope.TOOL), (Scope.TOOL, Scope.AGENT)
    assert ids(replace(meter(), scope=one)) == ids(replace(meter(), scope=other))


def test_a_call_draws_once_from_each_meter_and_locks_them_in_one_order() -> None:
    grouped = replace(meter(), name="grouped", scope=(Scope.GROUP,))
    found = all_draws([meter(), grouped, meter()], OPS, usd(1))
    assert [each.meter_id for each in found] == sorted({*ids(meter()), *ids(grouped)})
    assert found == all_draws([grouped, meter()], replace(OPS, groups=OPS.groups[::-1]), usd(1))


def test_the_row_of_a_window_is_its_start() -> None:
    assert window_start(draw(meter()), NOW) == datetime(2026, 11, 25, tzinfo=UTC)
    assert window_start(draw(meter(window=MONTH)), NOW) == datetime(2026, 11, 1, tzinfo=UTC)
    assert window_start(draw(meter(window=ROLLING)), NOW) == ALWAYS
    assert window_start(draw(meter(window=AllTime())), NOW) == ALWAYS


# --- room ---


@pytest.mark.parametrize(
    ("held", "posted", "overridden", "left", "fits", "overridable"),
    [
        (0, 0, 0, 500, True, True),
        (385, 0, 0, 115, True, True),
        (0, 385, 0, 115, True, True),
        (200, 185, 0, 115, True, True),
        (386, 0, 0, 114, False, True),
        (500, 0, 0, 0, False, True),
        (0, 900, 0, 0, False, True),
        (0, 515, 15, 0, False, True),
        (0, 585, 85, 0, False, True),
        (0, 586, 86, 0, False, False),
        (0, 485, 100, 115, True, True),
        (0, 486, 100, 114, False, True),
        (100, 586, 200, 14, False, False),
        (CAP, CAP, 0, 0, False, True),
    ],
)
def test_a_call_fits_exactly_up_to_the_limit_and_an_override_exactly_up_to_its_cap(
    held: int, posted: int, overridden: int, left: int, fits: bool, overridable: bool
) -> None:
    usage = Usage(held=held, posted=posted, overridden=overridden)
    soft, hard = draw(meter(up_to=200)), draw(meter())
    assert room(soft, usage) == room(hard, usage) == usd(left)
    assert (admits(soft, usage), admits(soft, usage, override=True)) == (fits, overridable)
    assert (admits(hard, usage), admits(hard, usage, override=True)) == (fits, fits)


sums = st.integers(0, 1200)


@given(held=sums, posted=sums, amount=sums, limit=st.integers(1, 1000), up_to=st.integers(1, 500))
def test_what_is_admitted_keeps_the_invariant(
    held: int, posted: int, amount: int, limit: int, up_to: int
) -> None:
    usage, taking = Usage(held=held, posted=posted), draw(meter(limit, up_to=up_to), amount)
    excess = overshoot(taking, usage)
    assert 0 <= excess <= amount
    assert admits(taking, usage) is (amount == 0 or held + posted + amount <= limit)
    if admits(taking, usage, override=True):
        # No more beyond the limit than before, save what is overridden and capped.
        counted = held + posted + amount - excess
        assert counted <= max(limit, held + posted)
        assert excess <= up_to


def test_another_currency_never_fits() -> None:
    taking = draw(meter(up_to=500), 1, "EUR")
    assert not admits(taking, Usage())
    assert not admits(taking, Usage(), override=True)
    assert refusal(taking, Usage(), NOW).code == "currency"


def test_sums_that_contradict_themselves_admit_nothing() -> None:
    for wrong in ({"held": -1}, {"posted": -1}, {"overridden": -1}, {"posted": 5, "overridden": 6}):
        with pytest.raises(ValueError, match="contradict"):
            Usage(**wrong)


def test_a_meter_that_makes_no_sense_is_no_meter() -> None:
    with pytest.raises(ValueError, match="nobody to ask"):
        replace(meter(), over=Over.ASK)
    with pytest.raises(ValueError, match="one currency"):
        replace(meter(), soft=Soft(override_by=("cfo",), up_to=Money(1, "EUR")))


# --- when there is room again, and who is told ---


@pytest.mark.parametrize(
    ("amount", "counted", "after"),
    [
        (115, [], timedelta(0)),
        (115, [(23, 385)], timedelta(0)),
        (115, [(23, 386)], timedelta(hours=1)),
        (115, [(23, 1), (5, 385)], timedelta(hours=1)),
        (116, [(23, 1), (5, 385)], timedelta(hours=19)),
        (115, [(5, 250), (23, 250)], timedelta(hours=1)),
        (300, [(5, 250), (23, 250)], timedelta(hours=19)),
        (500, [(5, 250), (23, 250)], timedelta(hours=19)),
        (501, [], None),
        (115, [(24, 500)], timedelta(0)),
        (115, [(25, 500)], timedelta(0)),
    ],
)
def test_a_rolling_window_has_room_when_enough_has_rolled_out(
    amount: int, counted: list[tuple[int, int]], after: timedelta | None
) -> None:
    entries = [(NOW - timedelta(hours=hours), minor) for hours, minor in counted]
    found = room_at(draw(meter(window=ROLLING), amount), ROLLING, entries, NOW)
    assert found == (None if after is None else NOW + after)


def test_a_rolling_window_never_has_room_for_another_currency() -> None:
    assert room_at(draw(meter(window=ROLLING), 1, "EUR"), ROLLING, [], NOW) is None


@pytest.mark.parametrize(
    ("before", "after", "reached"),
    [
        (0, 249, ()),
        (0, 250, (50,)),
        (249, 250, (50,)),
        (250, 251, ()),
        (250, 399, ()),
        (399, 400, (80,)),
        (0, 400, (50, 80)),
        (499, 500, (100,)),
        (0, 900, (50, 80, 100)),
        (500, 900, ()),
        (500, 100, ()),
    ],
)
def test_a_percentage_is_reached_once(before: int, after: int, reached: tuple[int, ...]) -> None:
    assert alerts(before, after, usd(500)) == reached


@given(path=st.lists(st.integers(0, 700), max_size=8).map(sorted), limit=st.integers(1, 600))
def test_however_small_the_steps_each_percentage_is_reached_once(
    path: list[int], limit: int
) -> None:
    steps = [0, *path]
    told = [each for a, b in zip(steps, path, strict=False) for each in alerts(a, b, usd(limit))]
    assert tuple(told) == alerts(0, steps[-1], usd(limit))


# --- words ---


@pytest.mark.parametrize(
    ("window", "told"),
    [
        (MONTH, "$41.95 of $50.00 left this month, $40.80 after this"),
        (DAY, "$41.95 of $50.00 left today, $40.80 after this"),
        (Calendar(unit=Unit.WEEK), "$41.95 of $50.00 left this week, $40.80 after this"),
        (ROLLING, "$41.95 of $50.00 left in any 24 hours, $40.80 after this"),
        (AllTime(), "$41.95 of $50.00 left in all, $40.80 after this"),
    ],
)
def test_the_card_says_what_is_left(window: Window, told: str) -> None:
    assert words(draw(meter(5000, window)), Usage(held=300, posted=505)) == told


def test_the_card_says_what_is_lacking_and_what_cannot_be_compared() -> None:
    month = meter(5000, MONTH)
    assert words(draw(month), Usage(posted=805), at_most=True) == (
        "$41.95 of $50.00 left this month, at least $40.80 after this"
    )
    assert words(draw(month), Usage(posted=4960)) == (
        "$0.40 of $50.00 left this month, $0.75 too little for this"
    )
    assert words(draw(month, 115, "EUR"), Usage()) == (
        "$50.00 of $50.00 left this month; this is in another currency, 1.15 EUR"
    )


def test_other_currencies_and_uses_are_worded_as_what_they_are() -> None:
    yen = Meter(name="m", origin="p", limit=Money(5000, "JPY"), window=DAY)
    assert words(draw(yen, 1000, "JPY"), Usage()) == (
        "5000 JPY of 5000 JPY left today, 4000 JPY after this"
    )
    uses = Meter(name="m", origin="p", limit=Money(2, USES), window=AllTime())
    assert words(draw(uses, 1, USES), Usage()) == "2 uses of 2 uses left in all, 1 use after this"


@pytest.mark.parametrize(
    ("window", "taken", "amount", "rolled_out", "told", "wait"),
    [
        (
            DAY,
            460,
            115,
            None,
            (
                "The limit numbers-day is 5.00 USD a day; 4.60 USD is used or held, 0.40 USD is"
                " left, this call needs 1.15 USD. It resets at 2026-11-26T00:00:00Z."
            ),
            timedelta(hours=2),
        ),
        (
            DAY,
            0,
            501,
            None,
            (
                "The limit numbers-day is 5.00 USD a day; 0.00 USD is used or held, 5.00 USD is"
                " left, this call needs 5.01 USD. Waiting does not help: ask for less."
            ),
            None,
        ),
        (
            ROLLING,
            460,
            115,
            NOW + timedelta(hours=1),
            (
                "The limit numbers-day is 5.00 USD in any 24 hours; 4.60 USD is used or held, 0.40"
                " USD is left, this call needs 1.15 USD. There is room from 2026-11-25T23:00:00Z."
            ),
            timedelta(hours=1),
        ),
        (
            AllTime(),
            600,
            115,
            None,
            (
                "The limit numbers-day is 5.00 USD in all; 6.00 USD is used or held, 0.00 USD is"
                " left, this call needs 1.15 USD."
            ),
            None,
        ),
    ],
)
def test_a_refusal_says_why_and_until_when(
    window: Window,
    taken: int,
    amount: int,
    rolled_out: datetime | None,
    told: str,
    wait: timedelta | None,
) -> None:
    taking = draw(meter(window=window), amount)
    found = refusal(taking, Usage(posted=taken), NOW, rolled_out=rolled_out)
    assert (found.code, found.text, found.retry_after) == ("limit", told, wait)


def test_a_refusal_can_word_sums_beyond_any_amount() -> None:
    assert (
        "10000000000000.00 USD is used" in refusal(draw(meter()), Usage(posted=3 * CAP), NOW).text
    )
