"""Raw bodies that must never travel on, each with the reason it is refused for.

The table is what anybody can try with `curl`: bytes in, one reason out. Envelope traps are made for
both eras from one template; what is wrong with the bytes themselves is wrong in either.
"""

from collections.abc import Iterator

LEGACY = b'"_meta":{}'
MODERN = (
    b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",'
    b'"io.modelcontextprotocol/clientCapabilities":{}}'
)
ERAS = {"legacy": LEGACY, "modern": MODERN}

CALL = (
    b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay","arguments":{},%META%}}'
)
"""A good call; every trap below differs from it in one thing."""


def call(
    *,
    head: bytes = b'"jsonrpc":"2.0","id":1,"method":"tools/call"',
    named: bytes = b'"name":"pay"',
    arguments: bytes = b'"arguments":{}',
    more: bytes = b"",
    tail: bytes = b"",
) -> bytes:
    parts = b",".join(part for part in (named, arguments, more, b"%META%") if part)
    return b"{" + head + b',"params":{' + parts + b"}" + tail + b"}"


def deep(levels: int) -> bytes:
    return call(arguments=b'"arguments":{"a":' + b"[" * levels + b"]" * levels + b"}")


BODIES: list[tuple[str, bytes, str]] = [
    # What several readers make of the same bytes.
    ("no body", b"", "empty"),
    ("white space", b" \n", "empty"),
    ("half a body", CALL[:-9], "syntax"),
    ("two bodies", CALL + CALL, "syntax"),
    ("text behind it", CALL + b"x", "syntax"),
    ("byte order mark", b"\xef\xbb\xbf" + CALL, "bom"),
    ("UTF-16", CALL.decode().encode("utf-16"), "bom"),
    ("UTF-16 without mark", CALL.decode().encode("utf-16-le"), "encoding"),
    ("UTF-32", CALL.decode().encode("utf-32-be"), "encoding"),
    ("gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab\xae\x05\x00", "encoding"),
    ("Latin-1", call(named=b'"name":"p\xe4y"'), "encoding"),
    ("overlong UTF-8", call(named=b'"name":"p\xc1\xa1y"'), "encoding"),
    ("raw surrogate", call(named=b'"name":"p\xed\xa0\x80y"'), "encoding"),
    ("escaped surrogate", call(named=b'"name":"p\\ud800y"'), "surrogate"),
    ("surrogates the wrong way round", call(named=b'"name":"\\udc00\\ud800"'), "surrogate"),
    ("surrogate in a member name", call(arguments=b'"arguments":{"\\udfff":1}'), "surrogate"),
    ("raw NUL", call(named=b'"name":"pay\0"'), "encoding"),
    ("raw control character", call(named=b'"name":"p\x1fay"'), "syntax"),
    ("comment", call(more=b'"a":/* */1'), "syntax"),
    ("trailing comma", call(arguments=b'"arguments":{"a":1,}'), "syntax"),
    ("single quotes", call(named=b"'name':'pay'"), "syntax"),
    ("plus sign", call(arguments=b'"arguments":{"amount":+1}'), "syntax"),
    ("leading zero", call(arguments=b'"arguments":{"amount":0100}'), "syntax"),
    ("hexadecimal", call(arguments=b'"arguments":{"amount":0x10}'), "syntax"),
    ("underscore in a number", call(arguments=b'"arguments":{"amount":1_000}'), "syntax"),
    ("no digit before the point", call(arguments=b'"arguments":{"amount":.5}'), "syntax"),
    ("full-width digits", call(arguments='"arguments":{"amount":\uff11}'.encode()), "syntax"),
    ("NaN", call(arguments=b'"arguments":{"amount":NaN}'), "not_a_number"),
    ("Infinity", call(arguments=b'"arguments":{"amount":Infinity}'), "not_a_number"),
    ("-Infinity", call(arguments=b'"arguments":{"amount":-Infinity}'), "not_a_number"),
    ("1e400", call(arguments=b'"arguments":{"amount":1e400}'), "number_not_finite"),
    ("-1e400", call(arguments=b'"arguments":{"amount":-1e400}'), "number_not_finite"),
    ("1e400 as id", CALL.replace(b'"id":1', b'"id":1e400'), "number_not_finite"),
    ("5,000 digits", call(arguments=b'"arguments":{"a":' + b"1" * 5000 + b"}"), "number_too_long"),
    ("41 digits", call(arguments=b'"arguments":{"a":0.' + b"1" * 39 + b"}"), "number_too_long"),
    ("huge exponent", call(arguments=b'"arguments":{"a":1e-99999}'), "number_exponent"),
    ("65 levels", deep(62), "too_deep"),
    ("2,000 levels", deep(2000), "too_deep"),
    ("100,001 values", call(arguments=b'"arguments":{"a":[' + b"1," * 100_000 + b"1]}"),
     "too_many_values"),
    ("over 4 MiB", call(arguments=b'"arguments":{"a":"' + b"x" * 4_194_304 + b'"}'), "too_large"),
    # Duplicate members: every common reader keeps the last and says nothing.
    ("two methods", CALL.replace(b'"params"', b'"method":"ping","params"'), "duplicate_member"),
    ("two ids", CALL.replace(b'"id":1', b'"id":1,"id":2'), "duplicate_member"),
    ("two params", call(tail=b',"params":{"name":"echo"}'), "duplicate_member"),
    ("two names", call(named=b'"name":"echo","name":"pay"'), "duplicate_member"),
    ("two names, one escaped", call(named=b'"name":"echo","n\\u0061me":"pay"'), "duplicate_member"),
    ("two arguments", call(more=b'"arguments":{"a":1}'), "duplicate_member"),
    ("two amounts", call(arguments=b'"arguments":{"amount":1,"amount":9}'), "duplicate_member"),
    ("two amounts deep down", call(arguments=b'"arguments":{"a":[[{"b":1,"c":0,"b":2}]]}'),
     "duplicate_member"),
    ("two equal members", call(named=b'"name":"pay","name":"pay"'), "duplicate_member"),
    # Near-twins: readers that fold case, width or invisible characters take them for the real ones.
    ("Method", call(tail=b',"Method":"ping"'), "twin_member"),
    ("METHOD alone", CALL.replace(b'"method"', b'"METHOD"'), "twin_member"),
    ("Params", call(tail=b',"Params":{}'), "twin_member"),
    ("params with a long s", call(tail=',"param\u017f":{}'.encode()), "twin_member"),
    ("ID", call(tail=b',"ID":2'), "twin_member"),
    ("id with a dotless i", call(tail=',"\u0131d":2'.encode()), "twin_member"),
    ("full-width method", call(tail=',"\uff4d\uff45\uff54\uff48\uff4f\uff44":"ping"'.encode()),
     "twin_member"),
    ("JsonRPC", call(tail=b',"JsonRPC":"2.0"'), "twin_member"),
    ("method and NUL", call(tail=b',"method\\u0000":"ping"'), "nul_in_name"),
    ("name and NUL", call(more=b'"name\\u0000":"echo"'), "nul_in_name"),
    ("NUL in an argument's name", call(arguments=b'"arguments":{"a\\u0000":1}'), "nul_in_name"),
    ("Name", call(more=b'"Name":"echo"'), "twin_member"),
    ("Name alone", call(named=b'"Name":"pay"'), "twin_member"),
    ("name with a space", call(more=b'"name ":"echo"'), "twin_member"),
    ("name with a tab", call(more=b'"name\\t":"echo"'), "twin_member"),
    ("name with a zero-width space", call(more=b'"na\\u200bme":"echo"'), "twin_member"),
    ("name with a direction mark", call(more=b'"\\u202ename":"echo"'), "twin_member"),
    ("name with a soft hyphen", call(more=b'"na\\u00adme":"echo"'), "twin_member"),
    ("full-width name", call(more='"\uff4e\uff41\uff4d\uff45":"echo"'.encode()), "twin_member"),
    ("superscript name", call(more='"\u207fame":"echo"'.encode()), "twin_member"),
    ("ARGUMENTS", call(more=b'"ARGUMENTS":{"a":1}'), "twin_member"),
    ("arguments with a long s", call(more='"argument\u017f":{}'.encode()), "twin_member"),
    ("_Meta", call(more=b'"_Meta":{}'), "twin_member"),
    ("_meta with a full-width line", call(more='"\uff3fmeta":{}'.encode()), "twin_member"),
    ("Task", call(more=b'"Task":{}'), "twin_member"),
    ("task with a Kelvin sign", call(more='"tas\u212a":{}'.encode()), "twin_member"),
    ("inputresponses", call(more=b'"inputresponses":{}'), "twin_member"),
    ("RequestState", call(more=b'"RequestState":"x"'), "twin_member"),
    ("URI", call(more=b'"URI":"x"'), "twin_member"),
    ("taskid", call(more=b'"taskid":"x"'), "twin_member"),
    ("RequestId", call(more=b'"RequestId":1'), "twin_member"),
    ("Cursor", call(more=b'"Cursor":"x"'), "twin_member"),
    ("protocolversion", call(more=b'"protocolversion":"x"'), "twin_member"),
    ("version in another case", CALL.replace(
        b"%META%", b'"_meta":{"io.modelcontextprotocol/ProtocolVersion":"2026-07-28"}'),
     "twin_member"),
    ("progress token in another case", CALL.replace(b"%META%", b'"_meta":{"progresstoken":1}'),
     "twin_member"),
    # Envelopes.
    ("batch of one", b"[" + CALL + b"]", "batch"),
    ("empty batch", b"[]", "batch"),
    ("batch behind a good call", b"[" + CALL + b"," + CALL + b"]", "batch"),
    ("text", b'"tools/call"', "not_an_object"),
    ("null", b"null", "not_an_object"),
    ("number", b"1", "not_an_object"),
    ("no members", b"{}", "jsonrpc"),
    ("no jsonrpc", CALL.replace(b'"jsonrpc":"2.0",', b""), "jsonrpc"),
    ("jsonrpc 1.0", CALL.replace(b'"2.0"', b'"1.0"'), "jsonrpc"),
    ("jsonrpc 2.00", CALL.replace(b'"2.0"', b'"2.00"'), "jsonrpc"),
    ("jsonrpc as a number", CALL.replace(b'"2.0"', b"2.0"), "jsonrpc"),
    ("unknown member", call(tail=b',"auth":"x"'), "unknown_member"),
    ("request with a result", call(tail=b',"result":{}'), "unknown_member"),
    ("request with an error", call(tail=b',"error":{"code":1,"message":"x"}'), "unknown_member"),
    ("id null", CALL.replace(b'"id":1', b'"id":null'), "id"),
    ("id true", CALL.replace(b'"id":1', b'"id":true'), "id"),
    ("id 7.0", CALL.replace(b'"id":1', b'"id":7.0'), "id"),
    ("id 1e2", CALL.replace(b'"id":1', b'"id":1e2'), "id"),
    ("id -0", CALL.replace(b'"id":1', b'"id":-0'), "id"),
    ("id beyond 2^53", CALL.replace(b'"id":1', b'"id":9007199254740993'), "id"),
    ("id beyond 64 bits", CALL.replace(b'"id":1', b'"id":18446744073709551616'), "id"),
    ("id an object", CALL.replace(b'"id":1', b'"id":{}'), "id"),
    ("id a list", CALL.replace(b'"id":1', b'"id":[1]'), "id"),
    ("id of 20 kB", CALL.replace(b'"id":1', b'"id":"' + b"x" * 20_000 + b'"'), "id"),
    ("call without id", CALL.replace(b'"id":1,', b""), "id_missing"),
    ("notification with id",
     b'{"jsonrpc":"2.0","id":1,"method":"notifications/cancelled","params":{%META%}}',
     "id_unexpected"),
    ("method null", CALL.replace(b'"tools/call"', b"null"), "method"),
    ("method a list", CALL.replace(b'"tools/call"', b'["tools/call"]'), "method"),
    ("method empty", CALL.replace(b"tools/call", b""), "method"),
    ("method with NUL", CALL.replace(b"tools/call", b"tools/call\\u0000"), "method"),
    ("method with a space", CALL.replace(b"tools/call", b"tools/call "), "method"),
    ("method with a line break", CALL.replace(b"tools/call", b"tools/call\\n"), "method"),
    ("method with a tab before it", CALL.replace(b"tools/call", b"\\ttools/call"), "method"),
    ("method with a zero-width joiner", CALL.replace(b"tools/call", b"tools\\u200d/call"),
     "method"),
    ("method with a backslash", CALL.replace(b"tools/call", b"tools\\\\call"), "method"),
    ("method with two slashes", CALL.replace(b"tools/call", b"tools//call"), "method"),
    ("method with a slash behind it", CALL.replace(b"tools/call", b"tools/call/"), "method"),
    ("method with a slash before it", CALL.replace(b"tools/call", b"/tools/call"), "method"),
    ("method with a query", CALL.replace(b"tools/call", b"tools/call?x"), "method"),
    ("method percent-coded", CALL.replace(b"tools/call", b"tools%2fcall"), "method"),
    ("method in full width", CALL.replace(b"tools/call", "\uff54ools/call".encode()), "method"),
    ("method with a division slash", CALL.replace(b"tools/call", "tools\u2215call".encode()),
     "method"),
    ("method in Cyrillic", CALL.replace(b"tools/call", "t\u043e\u043els/call".encode()), "method"),
    ("method Tools/Call", CALL.replace(b"tools/call", b"Tools/Call"), "method_twin"),
    ("method TOOLS/CALL", CALL.replace(b"tools/call", b"TOOLS/CALL"), "method_twin"),
    ("params null", b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":null}', "params"),
    ("params a list", b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["pay"]}', "params"),
    ("params text", b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"pay"}', "params"),
    ("_meta null", CALL.replace(b"%META%", b'"_meta":null'), "meta"),
    ("_meta a list", CALL.replace(b"%META%", b'"_meta":[]'), "meta"),
    ("no params", b'{"jsonrpc":"2.0","id":1,"method":"tools/call"}', "tool_name"),
    ("no name", call(named=b""), "tool_name"),
    ("name empty", call(named=b'"name":""'), "tool_name"),
    ("name of 129 characters", call(named=b'"name":"' + b"x" * 129 + b'"'), "tool_name"),
    ("name with a line break", call(named=b'"name":"pay\\n"'), "tool_name"),
    ("name with NUL", call(named=b'"name":"pay\\u0000"'), "tool_name"),
    ("name with space behind", call(named=b'"name":"pay "'), "tool_name"),
    ("name with a zero-width space", call(named=b'"name":"pa\\u200by"'), "tool_name"),
    ("name with a direction override", call(named=b'"name":"\\u202eyap"'), "tool_name"),
    ("name null", call(named=b'"name":null'), "subject"),
    ("name a number", call(named=b'"name":1'), "subject"),
    ("name a list", call(named=b'"name":["pay"]'), "subject"),
    ("arguments null", call(arguments=b'"arguments":null'), "arguments"),
    ("arguments a list", call(arguments=b'"arguments":[]'), "arguments"),
    ("arguments text", call(arguments=b'"arguments":"{}"'), "arguments"),
    ("progress token true", CALL.replace(b"%META%", b'"_meta":{"progressToken":true}'),
     "progress_token"),
    ("progress token 1.5", CALL.replace(b"%META%", b'"_meta":{"progressToken":1.5}'),
     "progress_token"),
    ("progress token null", CALL.replace(b"%META%", b'"_meta":{"progressToken":null}'),
     "progress_token"),
    ("own key a number", CALL.replace(b"%META%", b'"_meta":{"dev.approval/key":1}'), "key"),
    ("own key empty", CALL.replace(b"%META%", b'"_meta":{"dev.approval/key":""}'), "key"),
    ("own key invisible", CALL.replace(b"%META%", b'"_meta":{"dev.approval/key":"a\\u200b"}'),
     "key"),
    ("version a number", CALL.replace(
        b"%META%", b'"_meta":{"io.modelcontextprotocol/protocolVersion":20260728}'), "version"),
    ("version null", CALL.replace(
        b"%META%", b'"_meta":{"io.modelcontextprotocol/protocolVersion":null}'), "version"),
    ("version without capabilities", CALL.replace(
        b"%META%", b'"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'),
     "capabilities"),
    ("answer with result and error",
     b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}', "response"),
    ("answer with neither", b'{"jsonrpc":"2.0","id":1}', "response"),
    ("answer without id", b'{"jsonrpc":"2.0","result":{}}', "id"),
    ("answer with id null", b'{"jsonrpc":"2.0","id":null,"result":{}}', "id"),
    ("answer with id 1.0", b'{"jsonrpc":"2.0","id":1.0,"result":{}}', "id"),
    ("answer with text as result", b'{"jsonrpc":"2.0","id":1,"result":"yes"}', "result"),
    ("answer with text as error", b'{"jsonrpc":"2.0","id":1,"error":"no"}', "error"),
    ("answer with a text as code",
     b'{"jsonrpc":"2.0","id":1,"error":{"code":"1","message":"x"}}', "error"),
    ("answer with true as code",
     b'{"jsonrpc":"2.0","id":1,"error":{"code":true,"message":"x"}}', "error"),
    ("answer with params", b'{"jsonrpc":"2.0","id":1,"result":{},"params":{}}', "unknown_member"),
    ("answer with Result", b'{"jsonrpc":"2.0","id":1,"result":{},"Result":{}}', "twin_member"),
]  # fmt: skip


def in_both_eras() -> Iterator[tuple[str, bytes, str]]:
    """Every body once for each era it can be written in."""
    for name, body, reason in BODIES:
        for era, meta in ERAS.items():
            yield f"{era}: {name}", body.replace(b"%META%", meta), reason
