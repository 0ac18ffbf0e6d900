"""A stand-in for an upstream says what a call took where the call's terms read it."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from approval.app.pretending import NOTHING, again, ending, saying
from approval.config.suites import Ending
from approval.core import steps
from approval.core.call import Answer, Call, Status
from approval.core.canonical import write
from approval.core.demand import Terms
from approval.core.ledger import Reservation, State
from approval.core.money import Money, Unit
from approval.core.pointers import Pointer, read_pointer
from approval.core.price import Actual
from approval.errors import AnswerLost, NeverSent
from tests.factories import NOW, make_call

TEXT = read_pointer("/content/0/text")
PLACES = ("/cost", "/structuredContent/cost", "/content/0/cost", "/a~1b/c~0d", "/0")
MINOR = Actual(at=read_pointer("/cents"), unit=Unit.MINOR)


def spending(actual: Actual | None, amount: str = "20.00 USD") -> Call:
    return make_call(amount=Money.parse(amount), terms=Terms(actual=actual))


def pointers(*places: str) -> st.SearchStrategy[Pointer]:
    found = [read_pointer(each, inside=inside) for each in places for inside in (None, TEXT)]
    return st.sampled_from(found)


@given(
    pointers(*PLACES),
    st.one_of(st.none(), st.just("USD"), pointers("/currency", "/structuredContent/currency")),
    st.sampled_from(list(Unit)),
    st.booleans(),
    st.integers(1, 10**12),
)
def test_the_terms_read_what_was_said(
    at: Pointer, currency: str | Pointer | None, unit: Unit, text: bool, minor: int
) -> None:
    call = spending(Actual(at=at, unit=unit, currency=currency, text=text))
    body = saying(call, Money(minor, "USD"))
    assert body is not None
    assert steps.took(call, Answer(status=Status.EXECUTED, body=body)) == Money(minor, "USD")


@pytest.mark.parametrize(
    ("actual", "took"),
    [
        (None, "1.00 USD"),
        (MINOR, "0.00 USD"),
        (replace(MINOR, currency="USD"), "1.00 EUR"),
        (MINOR, "1.00 EUR"),
        (replace(MINOR, currency=read_pointer("/cents")), "1.00 USD"),
        (replace(MINOR, currency=read_pointer("/cents/currency")), "1.00 USD"),
        (replace(MINOR, currency=read_pointer("/Cents")), "1.00 USD"),
    ],
)
def test_what_the_terms_do_not_read_cannot_be_said(actual: Actual | None, took: str) -> None:
    assert saying(spending(actual), Money.parse(took)) is None


def test_a_call_that_spends_nothing_takes_nothing() -> None:
    assert saying(make_call(terms=Terms(actual=MINOR)), Money(1, "USD")) is None


@pytest.mark.parametrize(
    ("ends", "status"),
    [(Ending.EXECUTED, Status.EXECUTED), (Ending.ERRORED, Status.ERRORED)],
)
async def test_it_answers_what_it_is_given(ends: Ending, status: Status) -> None:
    assert await ending(ends, b"{}")(make_call()) == Answer(status=status, body=b"{}")
    assert (await ending(ends)(make_call())).body == NOTHING


@pytest.mark.parametrize(("ends", "error"), [(Ending.FAILED, NeverSent), (Ending.LOST, AnswerLost)])
async def test_it_ends_without_an_answer(ends: Ending, error: type[Exception]) -> None:
    with pytest.raises(error):
        await ending(ends)(make_call())


# --- what was recorded, once more ---


def recorded(
    posted: int | None, actual: Actual | None = MINOR, *, status: Status = Status.EXECUTED
) -> Call:
    held = Reservation(
        meter_id="m", window_start=NOW, at=NOW, amount=Money(2000, "USD"), state=State.POSTED
    )
    uses = replace(held, meter_id="u", amount=Money(1, "use"), posted=1)
    kept = () if posted is None else (replace(held, posted=posted), uses)
    return replace(spending(actual), status=status, reservations=kept)


def answered(cents: int) -> Answer:
    return Answer(status=Status.EXECUTED, body=write({"result": {"cents": cents, "id": "x"}}))


@pytest.mark.parametrize(
    ("was", "kept", "took"),
    [
        # the answer itself, where it accounts for what was booked
        (recorded(100), answered(100), 100),
        (recorded(2000), Answer(status=Status.EXECUTED, body=NOTHING), None),
        (recorded(2000, None), answered(70), 70),
        (recorded(None), answered(70), 70),
        (recorded(2000, status=Status.ERRORED), answered(70), 70),
        # what was booked, where retention took the answer or a person corrected it
        (recorded(100), None, 100),
        (recorded(2000, None), None, 2000),
        (recorded(30), answered(100), 30),
        (recorded(30, None), answered(100), 30),
        # nothing, where nothing is known
        (recorded(None), None, None),
        (recorded(0), None, None),
    ],
)
def test_a_replayed_call_takes_what_the_recorded_one_took(
    was: Call, kept: Answer | None, took: int | None
) -> None:
    call = spending(MINOR)
    body = again(call, was, kept)
    found = steps.took(call, Answer(status=Status.EXECUTED, body=body))
    assert found == (None if took is None else Money(took, "USD"))
    accounts = kept is not None and steps.took(call, kept) == found
    assert kept is None or (body == kept.body) is accounts


def test_what_new_terms_read_nowhere_is_the_answer_as_it_was() -> None:
    assert again(spending(None), recorded(100), answered(100)) == answered(100).body
    assert again(spending(None), recorded(100), None) == NOTHING
