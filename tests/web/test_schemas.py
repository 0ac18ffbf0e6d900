"""The schemas of the API fit together, each with all it refers to."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from approval.core.call import Choice, Listener, Status
from approval.web.openapi import OPERATIONS
from approval.web.schemas import PARAMETERS, SCHEMAS, ref

PREFIX = "#/components/schemas/"


def references(value: Any) -> Iterator[str]:
    """Name every schema that this one refers to, however deep."""
    if isinstance(value, dict):
        if isinstance(named := value.get("$ref"), str):
            yield named.removeprefix(PREFIX)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from references(each)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_one_and_refers_to_others_that_are_there(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert set(references(SCHEMAS[name])) <= SCHEMAS.keys()
    assert list(references(ref(name))) == [name]


def test_every_schema_is_what_an_address_takes_or_answers_or_part_of_it() -> None:
    used = {each.answers for each in OPERATIONS} | {each.takes for each in OPERATIONS if each.takes}
    used |= {"Problem", *(name for each in PARAMETERS.values() for name in references(each))}
    while more := {name for each in used for name in references(SCHEMAS[each])} - used:
        used |= more
    assert used == SCHEMAS.keys()
    assert {name for each in OPERATIONS for name in each.parameters} == PARAMETERS.keys()


def test_words_that_stand_for_states_are_the_programs_own() -> None:
    call: Any = SCHEMAS["Call"]
    assert call["properties"]["state"]["enum"] == [str(each) for each in Status]
    assert call["properties"]["listener"]["enum"] == [str(each) for each in Listener]
    decision: Any = SCHEMAS["Decision"]
    assert decision["properties"]["decision"]["enum"] == [str(each) for each in Choice]
