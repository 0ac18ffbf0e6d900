"""Headers and body must say the same, and only what we build goes upstream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound
from multidict import CIMultiDict, CIMultiDictProxy

from approval.core.canonical import JSON
from approval.gateway import headers, protocol
from approval.gateway.headers import decode_value, encode_value, upstream_headers
from approval.gateway.protocol import BadMessage, Message, message

Pairs = list[tuple[str, str]]

TRANSPORT: Pairs = [
    ("Host", "127.0.0.1"),
    ("Content-Type", "application/json"),
    ("Accept", "application/json, text/event-stream"),
]
ENVELOPE: dict[str, JSON] = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def multi(pairs: Pairs) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def changed(name: str, *values: str) -> CIMultiDictProxy[str]:
    kept = [pair for pair in TRANSPORT if pair[0] != name]
    return multi([*kept, *((name, value) for value in values)])


def request(
    method: str = "tools/call", *, modern: bool = True, name: str = "name", about: str = "pay"
) -> Message:
    params: dict[str, JSON] = {name: about}
    if modern:
        params["_meta"] = dict(ENVELOPE)
    return message({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})


def refusal(check: str, given_headers: CIMultiDictProxy[str], *about: Message) -> BadMessage:
    with pytest.raises(BadMessage) as refused:
        getattr(headers, check)(given_headers, *about)
    return refused.value


def test_ordinary_headers_pass() -> None:
    ordinary = multi(
        [*TRANSPORT, ("Authorization", "Bearer x"), ("X-Any", "é"), ("Accept", "x/y"), ("A", "1")]
    )
    headers.check_any(ordinary)
    headers.check_body_headers(ordinary)


@pytest.mark.parametrize(
    ("more", "reason", "code"),
    [
        ([("X_Auth_User", "x")], "header_name", -32600),
        ([("Mcp_Name", "x")], "header_name", -32600),
        ([("Host", "evil")], "header_repeated", -32600),
        ([("content-type", "application/json")], "header_repeated", -32600),
        ([("Authorization", "a"), ("authorization", "b")], "header_repeated", -32600),
        ([("Mcp-Session-Id", "a"), ("mcp-session-id", "a")], "header_repeated", -32020),
        ([("MCP-Protocol-Version", "2025-06-18")] * 2, "header_repeated", -32020),
        ([("Mcp-Method", "a"), ("MCP-METHOD", "a")], "header_repeated", -32020),
        ([("Mcp-Name", "a")] * 2, "header_repeated", -32020),
        ([("Mcp-Param-Region", "a")] * 2, "header_repeated", -32020),
        ([("Content-Encoding", "identity")] * 2, "header_repeated", -32600),
        ([("Content-Length", "1")] * 2, "header_repeated", -32600),
        ([("Origin", "a")] * 2, "header_repeated", -32600),
        ([("Last-Event-ID", "a")] * 2, "header_repeated", -32600),
        ([("Mcp-Name", "päy")], "header_value", -32020),
        ([("Mcp-Name", "a\tb")], "header_value", -32020),
        ([("Mcp-Param-X", "\udcff")], "header_value", -32020),
        ([("Mcp-Param-", "a")], "header_value", -32020),
        ([("Mcp-Session-Id", "a b")], "header_value", -32020),
        ([("Mcp-Session-Id", "")], "header_value", -32020),
        ([("Mcp-Session-Id", "x" * 1025)], "header_value", -32020),
        ([("Last-Event-ID", "é")], "header_value", -32020),
    ],
)
def test_headers_that_two_readers_could_take_differently_are_refused(
    more: Pairs, reason: str, code: int
) -> None:
    bad = refusal("check_any", multi([*TRANSPORT, *more]))
    assert (bad.reason, bad.status, bad.code) == (reason, 400, code)


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        " application/json ",
    ],
)
def test_json_in_utf_8_is_the_only_media_type(media: str) -> None:
    headers.check_body_headers(changed("Content-Type", media))


@pytest.mark.parametrize(
    "media",
    [
        (),
        ("",),
        ("text/plain",),
        ("application/json, text/plain",),
        ("application/jsonx",),
        ("application/json-rpc",),
        ("application/x-json",),
        ("application/vnd.api+json",),
        ("application/json; charset=utf-16",),
        ("application/json; charset=utf-8; x=y",),
        ("application/json; charset=latin1",),
        ("application/json;",),
        ("application /json",),
        ("application/json\n",),
        ("\u0430pplication/json",),
        ("application/\u017fon",),
        ("application/j\u017fon",),
        ("multipart/form-data",),
    ],
)
def test_a_media_type_that_only_looks_like_json_is_refused(media: tuple[str, ...]) -> None:
    bad = refusal("check_body_headers", changed("Content-Type", *media))
    assert (bad.reason, bad.status) == ("media_type", 415)


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "", "x"])
def test_a_compressed_body_is_refused_unread(coding: str) -> None:
    bad = refusal("check_body_headers", multi([*TRANSPORT, ("Content-Encoding", coding)]))
    assert (bad.reason, bad.status) == ("content_coding", 415)


def test_identity_is_no_coding() -> None:
    headers.check_body_headers(multi([*TRANSPORT, ("Content-Encoding", "Identity")]))


@pytest.mark.parametrize(
    ("accept", "admits"),
    [
        (("application/json, text/event-stream",), True),
        (("text/event-stream", "application/json"), True),
        (("*/*",), True),
        (("application/*, text/*;q=0.5",), True),
        (("Application/JSON;v=1, TEXT/event-stream;q=0.1",), True),
        (("application/json",), False),
        (("text/event-stream",), False),
        (("application/json, text/html",), False),
        (("application/json, text/event-stream;q=0",), False),
        (("application/json, text/event-stream; a=b; q=0.000",), False),
        ((), False),
    ],
)
def test_both_kinds_of_answer_must_be_acceptable(accept: tuple[str, ...], admits: bool) -> None:
    given_headers = changed("Accept", *accept)
    if admits:
        headers.check_body_headers(given_headers)
    else:
        bad = refusal("check_body_headers", given_headers)
        assert (bad.reason, bad.status) == ("not_acceptable", 406)


GOOD: Pairs = [
    ("MCP-Protocol-Version", "2026-07-28"),
    ("Mcp-Method", "tools/call"),
    ("Mcp-Name", "pay"),
]


def without(name: str, *more: tuple[str, str]) -> Pairs:
    return [*(pair for pair in GOOD if pair[0] != name), *more]


@pytest.mark.parametrize(
    ("pairs", "about"),
    [
        (GOOD, request()),
        ([(name.lower(), value) for name, value in GOOD], request()),
        (without("Mcp-Name", ("Mcp-Name", "=?base64?cGF5?=")), request()),
        (without("Mcp-Name", ("Mcp-Name", "=?base64?w6k=?=")), request(about="é")),
        ([*GOOD, ("Mcp-Param-X", "1")], request()),
        (without("Mcp-Name", ("Mcp-Name", "file:///x")), request("resources/read", name="uri")),
        (without("Mcp-Method"), request()),
        (without("Mcp-Name"), request()),
        (without("MCP-Protocol-Version"), request()),
        ([], request()),
        (without("Mcp-Method", ("Mcp-Method", "tools/list")), request()),
        (without("Mcp-Method", ("Mcp-Method", "Tools/call")), request()),
        (without("Mcp-Method", ("Mcp-Method", "tools/call ")), request()),
        (without("Mcp-Name", ("Mcp-Name", "Pay")), request()),
        (without("Mcp-Name", ("Mcp-Name", "")), request()),
        (without("Mcp-Name", ("Mcp-Name", "=?base64?cGF5?")), request()),
        (without("Mcp-Name", ("Mcp-Name", "=?base64?cGF6?=")), request()),
        (without("Mcp-Name", ("Mcp-Name", "=?base64?cGE=?=")), request(about="pa")),
        (without("Mcp-Name", ("Mcp-Name", "=?base64?cGF=?=")), request(about="pa")),
        (without("Mcp-Name", ("Mcp-Name", "=?base64?!?=")), request()),
        (without("Mcp-Name", ("Mcp-Name", "=?base64?/w==?=")), request()),
        (without("Mcp-Name", ("Mcp-Name", "=?BASE64?cGF5?=")), request()),
        (without("MCP-Protocol-Version", ("MCP-Protocol-Version", "2025-11-25")), request()),
        (without("MCP-Protocol-Version", ("MCP-Protocol-Version", "2027-01-01")), request()),
        (GOOD, request(modern=False)),
        (without("Mcp-Method", ("Mcp-Method", "tools/list")), request("tools/list", modern=False)),
        (
            [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "tools/list")],
            request("tools/list", name="cursor"),
        ),
        (
            [("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Method", "server/discover")],
            request("server/discover", name="x"),
        ),
    ],
)
def test_modern_requests_are_judged_as_the_official_ladder_does(
    pairs: Pairs, about: Message
) -> None:
    lowered = {name.lower(): value for name, value in pairs}
    oracle = inbound.classify_inbound_request(about.raw, headers=lowered)
    if isinstance(oracle, inbound.InboundLadderRejection):
        bad = refusal("check_post", multi(pairs), about)
        assert (bad.code, bad.status, bad.id) == (oracle.code, 400, 7)
    else:
        assert headers.check_post(multi(pairs), about) == "2026-07-28"


def test_an_unknown_modern_version_is_answered_with_those_we_speak() -> None:
    meta: dict[str, JSON] = {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2027-01-01"}
    about = message({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {"_meta": meta}})
    pairs = [("MCP-Protocol-Version", "2027-01-01"), ("Mcp-Method", "tools/list")]
    bad = refusal("check_post", multi(pairs), about)
    oracle = inbound.classify_inbound_request(about.raw, headers={k.lower(): v for k, v in pairs})
    assert isinstance(oracle, inbound.InboundLadderRejection)
    assert (bad.code, bad.data) == (oracle.code, oracle.data)


def test_the_official_ladder_looks_at_less_than_we_do() -> None:
    named = [("Mcp-Name", "pay"), ("MCP-Protocol-Version", "2026-07-28")]
    listing = request("tools/list", name="cursor")
    bad = refusal("check_post", multi([*named, ("Mcp-Method", "tools/list")]), listing)
    assert bad.code == protocol.HEADER_MISMATCH
    task = request("tasks/get", name="taskId", about="t1")
    bad = refusal("check_post", multi([*named, ("Mcp-Method", "tasks/get")]), task)
    assert str(bad) == 'Mcp-Name is "pay"; it must repeat the body, which says "t1"'


def test_what_only_the_operator_knows_may_be_about_anything() -> None:
    custom = request("acme/do", name="thing")
    pairs = [*without("Mcp-Method"), ("Mcp-Method", "acme/do")]
    assert headers.check_post(multi(pairs), custom) == "2026-07-28"
    # The modern revision knows no such notification, whatever the legacy ones know.
    notice = message({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})
    about = multi([("MCP-Protocol-Version", "2026-07-28"), ("Mcp-Name", "thing")])
    assert headers.check_post(about, notice) == "2026-07-28"


@pytest.mark.parametrize(
    ("pairs", "version"),
    [
        ([], ""),
        ([("MCP-Protocol-Version", "2024-11-05")], "2024-11-05"),
        ([("MCP-Protocol-Version", "2025-11-25")], "2025-11-25"),
        ([("Mcp-Method", "tools/call"), ("Mcp-Name", "pay")], ""),
    ],
)
def test_a_legacy_request_says_its_version_in_the_header_or_nowhere(
    pairs: Pairs, version: str
) -> None:
    assert headers.check_post(multi(pairs), request(modern=False)) == version


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([("MCP-Protocol-Version", "2026-07-28")], -32602),
        ([("MCP-Protocol-Version", "2025-06-19")], -32602),
        ([("MCP-Protocol-Version", "2025-06-18 ")], -32602),
        ([("MCP-Protocol-Version", "2025-06-18, 2025-11-25")], -32602),
        ([("Mcp-Method", "tools/list")], -32020),
        ([("Mcp-Name", "echo")], -32020),
    ],
)
def test_a_legacy_request_must_not_claim_what_it_is_not(pairs: Pairs, code: int) -> None:
    bad = refusal("check_post", multi(pairs), request(modern=False))
    assert (bad.code, bad.status, bad.id) == (code, 400, 7)


def notice(*, modern: bool) -> Message:
    params: dict[str, JSON] = {"requestId": 1}
    if modern:
        params["_meta"] = dict(ENVELOPE)
    return message({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})


def test_a_notification_may_leave_its_version_to_the_header() -> None:
    version = [("MCP-Protocol-Version", "2026-07-28")]
    method = ("Mcp-Method", "notifications/cancelled")
    for modern in (True, False):
        assert headers.check_post(multi(version), notice(modern=modern)) == "2026-07-28"
        assert headers.check_post(multi([*version, method]), notice(modern=modern)) == "2026-07-28"
    assert headers.check_post(multi([]), notice(modern=False)) == ""


def test_a_notification_must_not_contradict_its_headers() -> None:
    version = ("MCP-Protocol-Version", "2026-07-28")
    for pairs in (
        [],
        [("MCP-Protocol-Version", "2025-06-18")],
        [version, ("Mcp-Method", "notifications/progress")],
        [version, ("Mcp-Name", "pay")],
    ):
        assert refusal("check_post", multi(pairs), notice(modern=True)).code == -32020


def test_an_answer_belongs_to_the_legacy_wire() -> None:
    answer = message({"jsonrpc": "2.0", "id": 3, "result": {}})
    assert headers.check_post(multi([("MCP-Protocol-Version", "2025-11-25")]), answer)
    bad = refusal("check_post", multi([("MCP-Protocol-Version", "2026-07-28")]), answer)
    assert (bad.code, bad.id) == (-32600, None)


def test_modern_upstream_headers_are_built_from_the_body() -> None:
    received = multi(
        [
            *TRANSPORT,
            ("Authorization", "Bearer agent"),
            ("Cookie", "a=b"),
            ("Forwarded", "for=1"),
            ("X-Forwarded-For", "1"),
            ("Mcp-Session-Id", "agents-own"),
            ("Mcp-Method", "tools/list"),
            ("Mcp-Name", "echo"),
            ("mcp-param-Region", "=?base64?w6k=?="),
        ]
    )
    built = upstream_headers(request(about="é"), version="2026-07-28", received=received)
    assert built == {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "=?base64?w6k=?=",
        "mcp-param-Region": "=?base64?w6k=?=",
    }


def test_legacy_upstream_headers_name_the_session() -> None:
    built = upstream_headers(
        request(modern=False),
        version="2025-06-18",
        session_id="s1",
        received=multi([("Mcp-Param-X", "1")]),
    )
    assert built == {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": "2025-06-18",
        "Mcp-Session-Id": "s1",
    }
    assert upstream_headers(None, session_id="s1", last_event_id="9") == {
        "Accept": "text/event-stream",
        "Mcp-Session-Id": "s1",
        "Last-Event-ID": "9",
    }


def test_a_message_about_nothing_has_no_name_header() -> None:
    built = upstream_headers(request("tools/list", name="cursor"), version="2026-07-28")
    assert (built["Mcp-Method"], "Mcp-Name" in built) == ("tools/list", False)
    answer = message({"jsonrpc": "2.0", "id": 3, "result": {}})
    assert "Mcp-Method" not in upstream_headers(answer, version="2026-07-28")


@given(st.text())
def test_header_values_are_written_as_the_official_codec_does(text: str) -> None:
    assert encode_value(text) == inbound.encode_header_value(text)
    assert decode_value(encode_value(text)) == text


@given(st.from_regex(r"(=\?base64\?)?[A-Za-z0-9+/=]{0,12}(\?=)?", fullmatch=True))
def test_header_values_are_read_as_the_official_codec_does(value: str) -> None:
    assert decode_value(value) == inbound.decode_header_value(value)


PIECES = st.sampled_from(
    ["2026-07-28", "2025-11-25", "tools/call", "tools/list", "pay", "=?base64?cGF5?=", "", "x"]
)


@given(
    st.dictionaries(
        st.sampled_from(["MCP-Protocol-Version", "Mcp-Method", "Mcp-Name"]), PIECES, max_size=3
    ),
    st.booleans(),
)
def test_no_headers_pass_that_the_official_ladder_refuses(
    given_headers: dict[str, str], modern: bool
) -> None:
    about = request(modern=modern)
    oracle = inbound.classify_inbound_request(
        about.raw, headers={name.lower(): value for name, value in given_headers.items()}
    )
    try:
        version, code = headers.check_post(multi(list(given_headers.items())), about), 0
    except BadMessage as bad:
        version, code = None, bad.code
    if isinstance(oracle, inbound.InboundModernRoute):
        assert version == "2026-07-28"
    elif modern or code == protocol.INVALID_PARAMS:
        assert code == oracle.code
    else:
        # A legacy request is none to the ladder; it must not have become a modern one.
        assert version != "2026-07-28"
