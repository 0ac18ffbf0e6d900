"""Read the conditions of a rule or a grant from a document into tests that are ready to judge."""

from approval.core.conditions import Condition, Path, Test, compile_path, compile_test
from approval.core.document import Place, kind
from approval.core.vocabulary import CONDITION, check_keys
from approval.errors import Unreadable


def read_conditions(entry: Place) -> tuple[Condition, ...]:
    """Read what stands under `conditions`; an entry without them has none, which hold always."""
    if not entry.has("conditions"):
        return ()
    return tuple(
        condition
        for place in entry.at("conditions").elements()
        if (condition := _condition(place)) is not None
    )


def _condition(place: Place) -> Condition | None:
    if not isinstance(place.value, dict):
        place.complain(f"this is {kind(place.value)}; write {{path, op, value}}")
        return None
    check_keys(place, CONDITION, "a condition")
    if not place.has("value"):
        place.complain("the value is missing; for exists write true or false")
        return None
    path = _compiled_path(place.at("path"))
    test = _compiled_test(place)
    return None if path is None or test is None else Condition(path=path, test=test)


def _compiled_path(place: Place) -> Path | None:
    text = place.text()
    try:
        return compile_path(text) if text else None
    except Unreadable as error:
        place.complain(str(error))
        return None


def _compiled_test(place: Place) -> Test | None:
    operator = place.at("op").text()
    try:
        return compile_test(operator, place.at("value").value) if operator else None
    except Unreadable as error:
        place.at("value").complain(f"{operator}: {error}")
        return None
