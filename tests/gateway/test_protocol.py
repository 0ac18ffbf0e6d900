"""Messages of both eras become values, or are refused with a reason and a code."""

import orjson
import pytest
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    NAME_BEARING_METHODS,
    InboundLadderRejection,
    classify_inbound_request,
)
from mcp_types import jsonrpc, methods, version

from approval.core import canonical
from approval.core.canonical import JSON, Number
from approval.gateway import protocol
from approval.gateway.protocol import BadMessage, Kind, Message, is_known, message, parse
from tests.gateway.raw_bodies import CALL, ERAS, in_both_eras

META: dict[str, JSON] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    "io.modelcontextprotocol/clientInfo": {"name": "agent", "version": "1"},
    "progressToken": "t1",
}


def refusal(body: bytes) -> BadMessage:
    with pytest.raises(BadMessage) as refused:
        parse(body)
    return refused.value


@pytest.mark.parametrize(
    ("body", "reason"),
    [pytest.param(body, reason, id=name) for name, body, reason in in_both_eras()],
)
def test_a_body_that_readers_could_take_differently_is_refused(body: bytes, reason: str) -> None:
    bad = refusal(body)
    assert bad.reason == reason
    assert bad.status == 400
    answer = orjson.loads(bad.body())
    assert answer["jsonrpc"] == "2.0"
    assert answer["error"] == {"code": bad.code, "message": str(bad)}
    assert str(bad).isprintable()


@pytest.mark.parametrize("era", ERAS)
def test_the_call_the_traps_are_made_from_is_good(era: str) -> None:
    read = parse(CALL.replace(b"%META%", ERAS[era]))
    assert (read.kind, read.id, read.method, read.tool) == (Kind.REQUEST, 1, "tools/call", "pay")
    assert read.modern == (era == "modern")


def test_a_modern_call_is_read_whole() -> None:
    params: dict[str, JSON] = {
        "name": "pay",
        "arguments": {"amount": 3, "price": Number("1.10")},
        "_meta": {**META, "dev.approval/key": "second"},
        "later": None,
    }
    raw: dict[str, JSON] = {
        "jsonrpc": "2.0",
        "id": "é",
        "method": "tools/call",
        "params": params,
    }
    read = parse(canonical.write(raw))
    assert read == Message(
        kind=Kind.REQUEST,
        raw=raw,
        id="é",
        method="tools/call",
        params=params,
        protocol_version="2026-07-28",
        capabilities={"elicitation": {}},
        client_name="agent",
        progress_token="t1",
    )
    assert read.modern
    assert (read.tool, read.subject, read.key) == ("pay", "pay", "second")
    assert read.arguments == {"amount": 3, "price": Number("1.10")}
    assert canonical.write(read.raw) == canonical.write(raw)


def test_initialize_says_who_the_client_is() -> None:
    read = parse(
        b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
        b'"capabilities":{"roots":{}},"clientInfo":{"name":"cli","version":"2"}}}'
    )
    assert (read.client_name, read.capabilities, read.modern) == ("cli", {"roots": {}}, False)


def test_what_a_client_says_of_itself_in_odd_shapes_is_ignored() -> None:
    read = parse(
        b'{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":[],'
        b'"clientInfo":{"name":7}}}'
    )
    assert (read.client_name, read.capabilities) == ("", {})


def test_notifications_and_answers_are_read() -> None:
    cancelled = parse(
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":3}}'
    )
    assert (cancelled.kind, cancelled.id, cancelled.params) == (
        Kind.NOTIFICATION,
        None,
        {"requestId": 3},
    )
    assert parse(b'{"jsonrpc":"2.0","method":"notifications/initialized"}').params == {}
    answer = parse(b'{"jsonrpc":"2.0","id":"s1","result":{"action":"accept"}}')
    assert (answer.kind, answer.id, answer.method) == (Kind.RESPONSE, "s1", "")
    refused = parse(b'{"jsonrpc":"2.0","id":5,"error":{"code":-1,"message":"no","data":[1]}}')
    assert (refused.kind, refused.id) == (Kind.RESPONSE, 5)
    modern = parse(
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"_meta":'
        b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}'
    )
    assert modern.protocol_version == "2026-07-28"


def test_arguments_left_out_are_the_empty_object() -> None:
    read = parse(b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}')
    assert read.arguments == {}
    assert "arguments" not in read.params


def test_only_a_tools_call_has_a_tool() -> None:
    read = parse(b'{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"greet"}}')
    assert (read.tool, read.subject, read.key) == ("", "greet", "")
    listing = parse(b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"x"}}')
    assert (listing.tool, listing.subject) == ("", None)


@pytest.mark.parametrize(
    ("identifier", "legal"),
    [
        (0, True),
        (-(2**53) + 1, True),
        (2**53 - 1, True),
        (2**53, False),
        ("", True),
        ("x" * 1024, True),
        ("x" * 1025, False),
    ],
)
def test_ids_are_bounded_to_the_digit(identifier: str | int, legal: bool) -> None:
    raw: dict[str, JSON] = {"jsonrpc": "2.0", "id": identifier, "method": "ping"}
    if legal:
        assert message(raw).id == identifier
    else:
        with pytest.raises(BadMessage, match='"id" must be'):
            message(raw)


def test_a_refusal_repeats_the_id_it_is_about_where_that_is_readable() -> None:
    assert refusal(b'{"jsonrpc":"2.0","id":"q7","method":"x y"}').id == "q7"
    assert refusal(b'{"jsonrpc":"1.0","id":4,"method":"ping"}').id == 4
    assert refusal(b'{"jsonrpc":"2.0","id":true,"method":"ping"}').id is None
    assert orjson.loads(refusal(b"[]").body())["id"] is None


def test_refusals_carry_the_code_that_the_specification_gives() -> None:
    assert refusal(b"{").code == jsonrpc.PARSE_ERROR
    assert refusal(b"[]").code == jsonrpc.INVALID_REQUEST
    assert refusal(b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}').code == jsonrpc.INVALID_PARAMS


def test_hostile_names_cannot_write_into_the_error() -> None:
    bad = refusal(b'{"jsonrpc":"2.0","id":1,"method":"ping","\\u202e\\n' + b"x" * 999 + b'":1}')
    assert str(bad).startswith('the message has a member "\\u202e\\nxxx')
    assert len(str(bad)) < 200


def test_names_that_decide_nothing_may_be_what_they_like() -> None:
    params: dict[str, JSON] = {
        "name": "pay",
        "Amount": 1,
        "amount": 2,
        "\uff41mount": 3,
        "meta": {},
    }
    raw: dict[str, JSON] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "pay", "arguments": {"Name": 1, "name": 2, "\uff4eame": 3}, "meta": {}},
    }
    assert message(raw).arguments == {"Name": 1, "name": 2, "\uff4eame": 3}
    assert message({**raw, "params": params}).params == params


# The names that decide something, typed a second time: a slip in the code must not move the test.
POLICED = {
    "": ("jsonrpc", "id", "method", "params", "result", "error"),
    "params": (
        *("name", "arguments", "_meta", "task", "inputResponses", "requestState", "uri", "taskId"),
        *("requestId", "cursor", "protocolVersion", "capabilities", "clientInfo", "progressToken"),
        *("ref", "argument", "level", "notifications"),
    ),
    "_meta": (
        *("io.modelcontextprotocol/protocolVersion", "io.modelcontextprotocol/clientCapabilities"),
        *("io.modelcontextprotocol/clientInfo", "io.modelcontextprotocol/logLevel"),
        *("io.modelcontextprotocol/related-task", "dev.approval/key", "progressToken"),
    ),
}


@pytest.mark.parametrize(
    ("where", "name"), [(where, name) for where, names in POLICED.items() for name in names]
)
def test_no_name_that_decides_something_has_a_twin(where: str, name: str) -> None:
    for twin in (name.upper(), f"{name} ", name.replace(name[-1], chr(ord(name[-1]) + 0xFEE0))):
        inner: dict[str, JSON] = {twin: "x"}
        params: dict[str, JSON] = inner if where == "params" else {"_meta": inner}
        raw: dict[str, JSON] = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        with pytest.raises(BadMessage) as refused:
            message(raw | (inner if where == "" else {"params": params}))
        assert refused.value.reason == "twin_member"


def test_the_method_tables_are_those_of_the_official_types_and_the_tasks() -> None:
    tasks = {
        "2025-11-25": {"tasks/cancel", "tasks/get", "tasks/list", "tasks/result"},
        "2026-07-28": {"tasks/cancel", "tasks/get", "tasks/update"},
    }
    status = {"2025-11-25": {"notifications/tasks/status"}}
    for revision in version.KNOWN_PROTOCOL_VERSIONS:
        requests = {method for method, of in methods.CLIENT_REQUESTS if of == revision}
        notices = {method for method, of in methods.CLIENT_NOTIFICATIONS if of == revision}
        assert protocol.REQUESTS[revision] == requests | tasks.get(revision, set())
        assert protocol.NOTIFICATIONS[revision] == notices | status.get(revision, set())
    assert set(protocol.REQUESTS) == {"", *version.KNOWN_PROTOCOL_VERSIONS}
    assert protocol.LEGACY_VERSIONS == version.HANDSHAKE_PROTOCOL_VERSIONS
    assert protocol.MODERN_VERSIONS == version.MODERN_PROTOCOL_VERSIONS
    assert NAME_BEARING_METHODS.items() <= protocol.SUBJECTS.items()


@pytest.mark.parametrize(
    ("method", "revision", "known"),
    [
        ("tools/call", "2024-11-05", True),
        ("tools/call", "2026-07-28", True),
        ("tools/call", "", True),
        ("tools/execute", "2026-07-28", False),
        ("initialize", "2026-07-28", False),
        ("server/discover", "2025-11-25", False),
        ("server/discover", "", False),
        ("tasks/get", "2025-06-18", False),
        ("tasks/update", "2026-07-28", True),
        ("sampling/createMessage", "2025-11-25", False),
        ("tools/call", "2030-01-01", False),
        ("notifications/initialized", "", True),
        ("notifications/initialized", "2026-07-28", False),
        ("notifications/cancelled", "2026-07-28", True),
        ("notifications/tools/list_changed", "2025-11-25", False),
    ],
)
def test_a_method_is_known_in_its_own_revisions_only(
    method: str, revision: str, known: bool
) -> None:
    raw: dict[str, JSON] = {"jsonrpc": "2.0", "method": method, "params": {"name": "x"}}
    if not method.startswith("notifications/"):
        raw["id"] = 1
    assert is_known(message(raw), revision) is known


def test_whom_an_answer_answers_is_not_the_tables_business() -> None:
    assert is_known(message({"jsonrpc": "2.0", "id": 1, "result": {}}), "2030-01-01")


def test_error_and_result_bodies_are_json_rpc() -> None:
    assert protocol.error_body(None, -32700, "no") == (
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}'
    )
    assert protocol.error_body("a", -32022, "no", {"supported": []}) == (
        b'{"jsonrpc":"2.0","id":"a","error":{"code":-32022,"message":"no","data":{"supported":[]}}}'
    )
    assert protocol.result_body(3, {"a": Number("1.10")}) == (
        b'{"jsonrpc":"2.0","id":3,"result":{"a":1.10}}'
    )


def test_the_status_of_an_error_is_the_official_one_in_the_modern_era() -> None:
    for code in range(-32800, -31999):
        assert protocol.http_status(code, modern=True) == ERROR_CODE_HTTP_STATUS.get(code, 200)
    assert protocol.http_status(protocol.METHOD_NOT_FOUND, modern=False) == 200
    assert protocol.http_status(protocol.PARSE_ERROR, modern=False) == 400


@pytest.mark.parametrize(
    "meta",
    [
        {**META, "io.modelcontextprotocol/protocolVersion": 1},
        {"io.modelcontextprotocol/protocolVersion": "2026-07-28"},
        [],
        None,
        META,
    ],
)
def test_an_envelope_is_refused_with_the_code_of_the_official_ladder(meta: JSON) -> None:
    raw: dict[str, JSON] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/list",
        "params": {"_meta": meta},
    }
    oracle = classify_inbound_request(raw)
    if isinstance(oracle, InboundLadderRejection):
        with pytest.raises(BadMessage) as refused:
            message(raw)
        assert refused.value.code == oracle.code
    else:
        assert message(raw).protocol_version == oracle.protocol_version
