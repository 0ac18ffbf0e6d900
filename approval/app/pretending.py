"""Stand in for an upstream: end calls as a case or a record says, and say what they took."""

from collections.abc import Mapping
from typing import Final

from approval.config.suites import Ending
from approval.core import canonical, steps
from approval.core.call import Answer, Call, Status
from approval.core.canonical import JSON
from approval.core.ledger import State
from approval.core.money import Money, Unit
from approval.core.pointers import Pointer
from approval.core.price import Actual
from approval.errors import AnswerLost, NeverSent
from approval.ports import Send

NOTHING: Final = canonical.write({"result": {"content": [], "isError": False}})
"""An answer that says nothing of what the call took."""


def ending(ends: Ending, body: bytes = NOTHING) -> Send:
    """Make an upstream that ends every call like this, and answers `body` where it answers."""

    async def send(call: Call) -> Answer:
        match ends:
            case Ending.EXECUTED:
                return Answer(status=Status.EXECUTED, body=body)
            case Ending.ERRORED:
                return Answer(status=Status.ERRORED, body=body)
            case Ending.FAILED:
                raise NeverSent("the case says so")
            case Ending.LOST:
                raise AnswerLost("the case says so")

    return send


def saying(call: Call, took: Money) -> bytes | None:
    """Make an answer in which the call's terms read that it took this much.

    None where they read it nowhere, or would read it otherwise: in another currency, say.
    """
    actual = call.terms.actual
    if actual is None or call.amount is None:
        return None
    result = _result(actual, took)
    if result is None or call.terms.took(result, call.amount.currency) != took:
        return None
    return canonical.write({"result": result})


def again(call: Call, recorded: Call, kept: Answer | None) -> bytes:
    """Make the answer to a replayed call of what became of the recorded one.

    It is the answer itself, where that is kept and accounts for what was booked. Where retention
    took it, or a person corrected the sum since, it is one that says what was booked.
    """
    body, booked = NOTHING if kept is None else kept.body, _booked(recorded)
    if booked is None or (kept is not None and _accounts_for(kept, recorded, booked)):
        return body
    return saying(call, booked) or body


def _booked(recorded: Call) -> Money | None:
    """Give what was booked for a call in its own currency; None where no meter kept it."""
    amount = recorded.amount
    posted = [
        each.posted
        for each in recorded.reservations
        if each.state is State.POSTED and amount and each.amount.currency == amount.currency
    ]
    return Money(max(posted), amount.currency) if amount is not None and posted else None


def _accounts_for(kept: Answer, recorded: Call, booked: Money) -> bool:
    if recorded.status is not Status.EXECUTED:
        return True  # an error is booked by the policy's word for errors, which may be another now
    said = steps.took(recorded, kept)
    return booked == (said if isinstance(said, Money) else recorded.amount)


def _result(actual: Actual, took: Money) -> JSON | None:
    figure = str(took.minor) if actual.unit is Unit.MINOR else str(took).split(" ")[0]
    said: list[tuple[Pointer, JSON]] = [(actual.at, canonical.read(figure.encode()))]
    if isinstance(actual.currency, Pointer):
        said.append((actual.currency, took.currency))
    result: dict[str, JSON] = {}
    texts: dict[Pointer, dict[str, JSON]] = {}
    for pointer, value in said:
        within = result if pointer.inside is None else texts.setdefault(pointer.inside, {})
        if not _put(within, pointer, value):
            return None
    written: Mapping[Pointer, JSON] = {
        inside: canonical.write(held).decode() for inside, held in texts.items()
    }
    return result if all(_put(result, each, text) for each, text in written.items()) else None


def _put(document: dict[str, JSON], pointer: Pointer, value: JSON) -> bool:
    """Put a value where the pointer finds it; False where something else stands in the way."""
    *above, last = pointer.steps
    for step in above:
        below = document.setdefault(step, {})
        if not isinstance(below, dict):
            return False
        document = below
    return document.setdefault(last, value) is value
