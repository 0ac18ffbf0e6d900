from datetime import UTC, datetime
from typing import Final

import pytest

from approval.core.grants import Origin
from approval.core.money import Money
from approval.web.grant_form import Form, Mistaken, read_grant
from tests.factories import NOW

GOOD: Final = {"agent": "ops-agent", "tools": "create_*", "uses": "3"}


def test_a_whole_form_is_read_as_the_file_and_the_command_line_would() -> None:
    grant = read_grant(
        {
            "agent": "ops-agent",
            "upstream": "shop",
            "tools": " create_* \r\n\r\nsearch",
            "uses": " 10 ",
            "total": "20.00 USD",
            "max_per_call": "2.00 USD",
            "lasts": "24h",
            "conditions": '{"path": "args.n", "op": "lte", "value": 5}\r\n',
            "reason": " the move ",
        },
        NOW,
    )
    assert (grant.agent, grant.upstream, grant.uses) == ("ops-agent", "shop", 10)
    assert [each.text for each in grant.tools] == ["create_*", "search"]
    assert (grant.total, grant.max_per_call) == (Money(2000, "USD"), Money(200, "USD"))
    assert grant.expires == datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    [condition] = grant.conditions
    assert (condition.path.text, condition.operator, condition.literal) == ("args.n", "lte", 5)
    assert (grant.reason, grant.origin, grant.path) == ("the move", Origin.CONSOLE, "")


def test_what_is_left_empty_is_not_bounded() -> None:
    grant = read_grant(
        {**GOOD, "upstream": "", "total": " ", "conditions": "\n", "reason": ""}, NOW
    )
    assert (grant.upstream, grant.total, grant.expires) == (None, None, None)
    assert (grant.conditions, grant.reason) == ((), "")


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"agent": ""}, {"agent": ["blank"]}),
        ({"tools": " \n "}, {"tools": ["name a tool"]}),
        ({"uses": "0"}, {"uses": ["this is 0"]}),
        ({"uses": "-1"}, {"uses": ["'-1'"]}),
        ({"uses": "1e3"}, {"uses": ["'1e3'"]}),
        ({"uses": "1_0"}, {"uses": ["'1_0'"]}),
        ({"uses": "٣"}, {"uses": ["whole number"]}),
        ({"uses": "9" * 400}, {"uses": ["whole number"]}),
        ({"total": "20"}, {"total": ["no currency"]}),
        ({"total": "-1.00 USD"}, {"total": ["no amount"]}),
        ({"total": "0.00 USD"}, {"total": ["nothing pass"]}),
        ({"total": "NaN USD", "max_per_call": "1 EUR"}, {"total": ["NaN"]}),
        ({"total": "1.00 USD", "max_per_call": "1.00 EUR"}, {"total": ["one currency"]}),
        ({"lasts": "soon"}, {"lasts": ['"soon" is no time']}),
        ({"lasts": "soon", "uses": ""}, {"lasts": ['"soon" is no time']}),
        ({"lasts": "400d"}, {"lasts": ["is no time"]}),
        ({"uses": ""}, {"form": ["would never end"]}),
        ({"conditions": "{"}, {"conditions": ["line 1: "]}),
        ({"conditions": '"\ud800"'}, {"conditions": ["line 1: "]}),
        (
            {"conditions": '{\n\n{"path": "args.n", "op": "is", "value": 1}'},
            {"conditions": ["line 1: ", "line 3, value: is: there is no operator"]},
        ),
        ({"conditions": "\n[]"}, {"conditions": ["line 2: this is a list"]}),
        ({"reason": "x" * 1001}, {"reason": ["1001 characters"]}),
        ({"reason": "a\u202eb"}, {"reason": ["invisible characters"]}),
        ({"agent": "", "uses": "x"}, {"agent": ["blank"], "uses": ["'x'"]}),
    ],
)
def test_what_is_wrong_stands_at_its_field(
    changes: dict[str, str], wrong: dict[str, list[str]]
) -> None:
    with pytest.raises(Mistaken) as caught:
        read_grant({**GOOD, **changes}, NOW)
    found = caught.value.wrong
    assert found.keys() == wrong.keys()
    for name, parts in wrong.items():
        assert len(found[name]) == len(parts), found
        for told, part in zip(found[name], parts, strict=True):
            assert part in told
            assert "/grant/0" not in told


def test_an_empty_form_holds_nothing_and_nothing_is_wrong_with_it() -> None:
    form = Form(typed={"uses": "3"}, wrong={"total": ("no",)})
    assert (form.value("uses"), form.value("total")) == ("3", "")
    assert (form.problems("total"), form.problems("uses")) == (("no",), ())
