"""What a request asks for, read strictly: bodies, members, parameters."""

import re
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from approval.core import canonical
from approval.core.call import Choice, Status
from approval.core.canonical import JSON
from approval.core.grantable import Wish, read_wish
from approval.core.money import Money
from approval.web.deciding import CALL_ID, words
from approval.web.problems import Problem
from approval.web.schemas import MAX_WAIT_SECONDS

MAX_BODY: Final = 64 * 1024
NOT_BUILT: Final = frozenset({"arguments", "override"})
"""Members of a decision that will mean something; ignoring one would decide something else."""


async def read_body(request: web.Request, known: set[str]) -> dict[str, JSON]:
    """Read a JSON object with no members but the known ones.

    Raises:
        Problem: If it is of another type, too large, or has other members.
        Unreadable: If it is not JSON that everybody reads alike.
    """
    if request.content_type != "application/json" or (request.charset or "utf-8") != "utf-8":
        raise Problem(415, "media_type", "Send Content-Type: application/json.")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise Problem(415, "content_coding", "Send the body without a content coding.")
    body = canonical.read(await request.read(), limit=MAX_BODY)
    if not isinstance(body, dict):
        raise Problem(422, "body", "The body is one JSON object.")
    for name in body.keys() - known:
        if name in NOT_BUILT:
            raise Problem(422, "not_built", f'"{name}" comes with a later release; leave it out.')
        shown = canonical.quoted(name)
        wanted = ", ".join(sorted(known))
        raise Problem(422, "unknown_member", f'"{shown}" is not known here; known are: {wanted}.')
    return body


def text(body: Mapping[str, JSON], name: str) -> str | None:
    """Take a member that is text or absent.

    Raises:
        Problem: If it is something else.
    """
    value = body.get(name)
    if value is None and name not in body:
        return None
    if not isinstance(value, str):
        raise Problem(422, name, f"{name} is a text.")
    return value


def wish(body: Mapping[str, JSON]) -> Wish | None:
    """Read the grant that an approver would give along with an approval.

    Raises:
        Problem: If it is not as it should be, or stands beside a rejection.
    """
    said = body.get("grant")
    if said is None:
        return None
    if body.get("decision") == Choice.REJECT:
        raise Problem(422, "grant", "A rejection gives no grant; leave it out.")
    if not isinstance(said, dict):
        raise Problem(422, "grant", 'The grant is {"uses", "within", "total"}.')
    try:
        return read_wish(said)
    except ValueError as error:
        raise Problem(422, "grant", f"The grant: {error}.") from error


def wish_of_form(fields: Mapping[str, str]) -> Wish | None:
    """Read the same from a form, where it was ticked.

    Raises:
        Problem: If it is not as it should be.
    """
    if not fields.get("grant"):
        return None
    uses, total = fields.get("uses", "").strip(), fields.get("total", "").strip()
    number = int(uses) if uses.isascii() and uses.isdecimal() and len(uses) < 10 else None
    said: dict[str, JSON] = {"uses": number, "within": fields.get("within", "").strip()}
    return wish({"grant": said | ({"total": total} if total else {})})


def settlement(outcome: str, evidence: str) -> tuple[bool, str]:
    """Check what a person says of a call in doubt.

    Raises:
        Problem: If it is neither outcome, or nothing shows it.
    """
    if outcome not in {"executed", "failed"}:
        raise Problem(422, "outcome", 'The outcome is "executed" or "failed".')
    return outcome == "executed", shown(evidence)


def shown(evidence: str) -> str:
    """Check what shows that something is as a person says.

    Raises:
        Problem: If nothing does.
    """
    said = words("evidence", evidence)
    if not said:
        raise Problem(422, "evidence", "Say what shows it: an order number, a log line, a person.")
    return said


def amount(body: Mapping[str, JSON]) -> Money | None:
    """Take an amount: `"1.15 USD"`, or an object as answers have it; None if it is absent.

    Raises:
        Problem: If it is anything else.
    """
    written = typed(body)
    return None if written is None else money(written)


def typed(body: Mapping[str, JSON]) -> str | None:
    """Take an amount as it was written, `"1.15 USD"`; what it comes to is read by who decides.

    Raises:
        Problem: If it is neither text nor an object as answers have it.
    """
    match body.get("amount"):
        case None if "amount" not in body:
            return None
        case str() as written:
            return written
        case {"amount": str() as number, "currency": str() as currency, **rest} if not rest:
            return f"{number} {currency}"
        case _:
            detail = 'The amount is "1.15 USD", or {"amount": "1.15", "currency": "USD"}.'
            raise Problem(422, "amount", detail)


def entered(fields: Mapping[str, str]) -> str | None:
    """Take an amount from a form, whose currency stands beside the field; None if it is empty."""
    digits = fields.get("amount", "").strip()
    if not digits:
        return None
    return digits if " " in digits else f"{digits} {fields.get('currency', '')}"


def money(written: str) -> Money:
    """Read what a call took.

    Raises:
        Problem: If it is no amount.
    """
    try:
        return Money.parse(written)
    except ValueError as error:
        raise Problem(422, "amount", f"The amount is not readable: {error}.") from error


def only_parameters(request: web.Request, known: set[str]) -> None:
    """Refuse a misspelt parameter, which would otherwise widen what is answered."""
    for name in request.query:
        if name not in known:
            shown, wanted = canonical.quoted(name), ", ".join(sorted(known))
            detail = f'The parameter "{shown}" is not known here; known are: {wanted}.'
            raise Problem(400, "unknown_parameter", detail)
        if name != "state" and len(request.query.getall(name)) > 1:
            raise Problem(400, "repeated_parameter", f"{name} appears twice.")


def states(request: web.Request) -> tuple[Status, ...]:
    given = request.query.getall("state", [])
    known = {str(status): status for status in Status}
    if any(state not in known for state in given):
        raise Problem(400, "state", f"The states are: {', '.join(known)}.")
    return tuple(known[state] for state in given)


def after(request: web.Request) -> str | None:
    given = request.query.get("after")
    if given is not None and not CALL_ID.fullmatch(given):
        raise Problem(400, "after", "after is the last page's next.")
    return given


def integer(
    request: web.Request, name: str, default: int, *, least: int = 0, most: int = 2**53
) -> int:
    given = request.query.get(name)
    if given is None:
        return default
    if not re.fullmatch(r"[0-9]{1,16}", given) or not least <= int(given) <= most:
        raise Problem(400, name, f"{name} is a whole number from {least} to {most}.")
    return int(given)


def seconds(request: web.Request) -> float | None:
    """Read `wait=30s`; more than the most is cut."""
    given = request.query.get("wait")
    if given is None:
        return None
    if not re.fullmatch(r"[0-9]{1,4}s", given):
        raise Problem(400, "wait", "wait is a number of seconds, such as 30s.")
    return float(min(int(given[:-1]), MAX_WAIT_SECONDS))
