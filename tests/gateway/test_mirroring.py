"""Arguments repeated in headers: what the official SDK would send, and its server would take."""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound

from approval.core import canonical
from approval.core.canonical import JSON
from approval.errors import NeverSent
from approval.gateway.headers import decode_value
from approval.gateway.mirroring import MAX_BYTES, mirrored


def marked(name: object, kind: str = "string") -> dict[str, Any]:
    return {"type": kind, "x-mcp-header": name}


def wanted(properties: JSON, arguments: str) -> dict[str, str]:
    schema: JSON = {"type": "object", "properties": properties}
    return dict(mirrored(schema, canonical.read(arguments.encode())))


@pytest.mark.parametrize(
    ("properties", "arguments", "built"),
    [
        ({"a": marked("Region")}, '{"a":"eu"}', {"Mcp-Param-Region": "eu"}),
        ({"a": marked("Region")}, '{"a":""}', {"Mcp-Param-Region": ""}),
        ({"a": marked("Region")}, '{"a":"é"}', {"Mcp-Param-Region": "=?base64?w6k=?="}),
        ({"a": marked("A")}, '{"a":" x"}', {"Mcp-Param-A": "=?base64?IHg=?="}),
        ({"a": marked("A")}, '{"a":"x\\r\\nB: c"}', {"Mcp-Param-A": "=?base64?eA0KQjogYw==?="}),
        (
            {"a": marked("A")},
            '{"a":"=?base64?eA==?="}',
            {"Mcp-Param-A": "=?base64?PT9iYXNlNjQ/ZUE9PT89?="},
        ),
        ({"a": marked("A", "boolean")}, '{"a":true}', {"Mcp-Param-A": "true"}),
        ({"a": marked("A", "boolean")}, '{"a":false}', {"Mcp-Param-A": "false"}),
        ({"a": marked("A", "integer")}, '{"a":-3}', {"Mcp-Param-A": "-3"}),
        ({"a": marked("A", "integer")}, '{"a":0}', {"Mcp-Param-A": "0"}),
        ({"a": marked("A", "number")}, '{"a":1.5}', {"Mcp-Param-A": "1.5"}),
        ({"a": marked("A_b")}, '{"a":"x"}', {"Mcp-Param-A_b": "x"}),
        (
            {"to": {"type": "object", "properties": {"city": marked("City")}}, "b": marked("B")},
            '{"to":{"city":"Oslo"},"b":"y"}',
            {"Mcp-Param-City": "Oslo", "Mcp-Param-B": "y"},
        ),
        # A mark on an argument that holds more of them does not hide those.
        (
            {"to": {"x-mcp-header": "To", "properties": {"city": marked("City")}}},
            '{"to":{"city":"Oslo"}}',
            {"Mcp-Param-City": "Oslo"},
        ),
        # What has no value, or no plain one, has no header.
        ({"a": marked("A")}, '{"b":"x"}', {}),
        ({"a": marked("A")}, '{"a":null}', {}),
        ({"a": marked("A")}, '{"a":["x"]}', {}),
        ({"a": marked("A")}, '{"a":{"a":"x"}}', {}),
        ({"to": {"properties": {"city": marked("City")}}}, '{"to":"Oslo"}', {}),
        # What is not marked is nobody's to route by.
        ({"a": {"type": "string"}}, '{"a":"x"}', {}),
        # Marks that the specification forbids.
        ({"a": marked("")}, '{"a":"x"}', {}),
        ({"a": marked("A B")}, '{"a":"x"}', {}),
        ({"a": marked("A:")}, '{"a":"x"}', {}),
        ({"a": marked("A\r\nB")}, '{"a":"x"}', {}),
        ({"a": marked("A\n")}, '{"a":"x"}', {}),
        ({"a": marked("é")}, '{"a":"x"}', {}),
        ({"a": marked(True)}, '{"a":"x"}', {}),
        ({"a": marked("A"), "b": marked("a")}, '{"a":"x","b":"y"}', {}),
        ({"a": marked("A"), "b": marked("a")}, '{"a":"x"}', {}),
        ({"a": {"type": "array", "items": marked("A")}}, '{"a":["x"]}', {}),
        ({"a": True}, '{"a":"x"}', {}),
        (["a"], '{"a":"x"}', {}),
    ],
)
def test_a_schemas_marks_become_headers(
    properties: JSON, arguments: str, built: dict[str, str]
) -> None:
    assert wanted(properties, arguments) == built


@pytest.mark.parametrize("schema", [None, True, [], {}, {"properties": None}])
def test_a_schema_that_says_nothing_wants_nothing(schema: JSON) -> None:
    assert not mirrored(schema, {"a": "x"})


def test_what_no_server_would_read_is_not_sent() -> None:
    properties: JSON = {"a": marked("A"), "b": marked("B")}
    most = "x" * (MAX_BYTES - 2 * len("Mcp-Param-A"))
    assert len(wanted(properties, json.dumps({"a": most[:-4], "b": "x" * 4}))) == 2
    with pytest.raises(NeverSent, match="in headers than a server would read"):
        wanted(properties, json.dumps({"a": most, "b": "x"}))


VALUES: st.SearchStrategy[Any] = st.one_of(
    st.text(), st.integers(-(2**53) + 1, 2**53 - 1), st.booleans(), st.none(), st.just(["x"])
)
LEAVES = st.tuples(st.sampled_from(["string", "integer", "boolean", None]), VALUES)
NAMES = st.sampled_from(["a", "b", "é", "properties", "x-mcp-header"])
TREES: st.SearchStrategy[Any] = st.dictionaries(
    NAMES, LEAVES | st.dictionaries(NAMES, LEAVES, max_size=3), max_size=4
)
"""Objects in objects: at each leaf the type under which it is marked, and its argument."""


def _schema(tree: Any, numbers: "count[int]") -> dict[str, Any]:
    if isinstance(tree, dict):
        inner = {name: _schema(each, numbers) for name, each in tree.items()}
        return {"type": "object", "properties": inner}
    return {"type": "string"} if tree[0] is None else marked(f"H{next(numbers)}", tree[0])


def _arguments(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {name: _arguments(each) for name, each in tree.items()}
    return tree[1]


@given(TREES)
def test_the_official_server_takes_what_is_built_and_its_client_builds_the_same(tree: Any) -> None:
    schema, arguments = _schema(tree, count(1)), _arguments(tree)
    assert inbound.find_invalid_x_mcp_header(schema) is None
    written = canonical.canonical_arguments(canonical.read(json.dumps(arguments).encode()))
    built = mirrored(schema, canonical.read(written))
    assert inbound.validate_mcp_param_headers(schema, json.loads(written), built) is None
    theirs = inbound.mcp_param_headers(inbound.x_mcp_header_map(schema), arguments)
    assert {name: decode_value(value) for name, value in built.items()} == {
        name: inbound.decode_header_value(value) for name, value in theirs.items()
    }
