import asyncio
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError, StdioServerParameters
from typing_extensions import override

from approval.demo import shop
from tests.fakes.launch import effects, shop_command

NUMBER = "+14155550100"
PRICE = {"amount": "1.15", "currency": "USD"}
BOUGHT = {
    "sid": "PN000001",
    "phone_number": NUMBER,
    "friendly_name": NUMBER,
    "monthly_price": PRICE,
}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
SERVER_INFO = {
    "io.modelcontextprotocol/serverInfo": {"name": "phone-number-shop", "version": "1.0.0"}
}


class Session:
    """Messages to a shop in this process, and its answers as they would be read off the wire."""

    def __init__(self, ledger: Path | None = None) -> None:
        file = ledger.open("a+b") if ledger else None
        if file:
            file.seek(0)
        self.ledger = file
        self.server = shop.Server(shop.Stock(file))

    def send(self, message: object) -> Any:
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        return json.loads(json.dumps(self.server.answer(line)))

    def ask(self, method: str, **params: object) -> Any:
        return self.send({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})

    def call(self, tool: str, **arguments: object) -> Any:
        return self.ask("tools/call", name=tool, arguments=arguments, _meta=ENVELOPE)["result"]

    def buy(self, number: str = NUMBER, **arguments: object) -> Any:
        return self.call("create_incoming_phone_number", phone_number=number, **arguments)


@contextmanager
def session(ledger: Path | None = None) -> Iterator[Session]:
    opened = Session(ledger)
    try:
        yield opened
    finally:
        if opened.ledger:
            opened.ledger.close()


def text_of(result: Any) -> str:
    text: str = result["content"][0]["text"]
    return text


def served(ledger: Path | None = None, **extra: str) -> StdioServerParameters:
    command, *arguments = shop_command()
    env = extra | ({"SHOP_LEDGER": str(ledger)} if ledger else {})
    return StdioServerParameters(command=command, args=arguments, env=env, cwd=Path.cwd())


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28", "auto"])
async def test_an_agent_searches_buys_lists_and_releases(mode: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with asyncio.timeout(30), Client(served(ledger), mode=mode) as agent:
        tools = {tool.name: tool for tool in (await agent.list_tools()).tools}
        found = await agent.call_tool("search_available_numbers", {"area_code": "212"})
        number = found.structured_content["numbers"][0]["phone_number"]
        bought = await agent.call_tool("create_incoming_phone_number", {"phone_number": number})
        listed = await agent.call_tool("list_incoming_phone_numbers")
        released = await agent.call_tool("release_phone_number", {"phone_number": number})
        empty = await agent.call_tool("list_incoming_phone_numbers")
    assert list(tools) == [
        "search_available_numbers",
        "create_incoming_phone_number",
        "list_incoming_phone_numbers",
        "release_phone_number",
    ]
    assert tools["search_available_numbers"].annotations == types.ToolAnnotations(
        read_only_hint=True, open_world_hint=False
    )
    record = BOUGHT | {"phone_number": "+12125550100", "friendly_name": "+12125550100"}
    assert bought.structured_content == record
    assert json.loads(bought.content[0].text) == record  # type: ignore[union-attr]
    assert listed.structured_content == {"numbers": [record]}
    assert released.structured_content == {"released": "+12125550100"}
    assert empty.structured_content == {"numbers": []}
    assert [(line["tool"], line["arguments"], line["outcome"]) for line in effects(ledger)] == [
        ("create_incoming_phone_number", {"phone_number": "+12125550100"}, "bought"),
        ("release_phone_number", {"phone_number": "+12125550100"}, "released"),
    ]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_an_unknown_tool_is_an_error_of_the_protocol(mode: str) -> None:
    async with asyncio.timeout(30), Client(served(), mode=mode) as agent:
        with pytest.raises(MCPError, match="Unknown tool: 'steal'") as raised:
            await agent.call_tool("steal", {})
    assert raised.value.error.code == -32602


async def test_a_held_back_answer_leaves_the_effect_in_the_ledger(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    server = served(ledger, SHOP_DELAY="0.4")
    async with asyncio.timeout(30), Client(server, mode="legacy") as agent:
        async with asyncio.TaskGroup() as tasks:
            arguments = {"phone_number": NUMBER}
            buying = tasks.create_task(agent.call_tool("create_incoming_phone_number", arguments))
            while not effects(ledger):
                await agent.list_tools()
            assert not buying.done()
        assert buying.result().structured_content == BOUGHT


def test_what_was_taken_is_answered_although_the_agent_has_closed_its_end() -> None:
    message = {"name": "list_incoming_phone_numbers", "_meta": ENVELOPE}
    line = json.dumps({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": message})
    run = subprocess.run(
        shop_command(),
        input=line.encode() + b"\n\nnot json\n",
        env=os.environ | {"SHOP_DELAY": "0.05"},
        capture_output=True,
        timeout=30,
        check=True,
    )
    answers = [json.loads(answer) for answer in run.stdout.splitlines()]
    assert [answer.get("error", {}).get("code") for answer in answers] == [-32700, -32700, None]
    assert answers[-1]["id"] == 5
    assert run.stderr == b""


def test_an_interrupt_ends_the_shop_without_a_trace() -> None:
    process = subprocess.Popen(
        shop_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        process.stdin.flush()
        assert process.stdout.readline() == b'{"jsonrpc": "2.0", "id": 1, "result": {}}\n'
        process.send_signal(2)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, b"")


def test_it_imports_nothing_beyond_the_standard_library() -> None:
    code = "import sys, approval.demo.shop; print(*{name.split('.')[0] for name in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # The interpreter's own site files may load what a virtual environment brought.
    start = subprocess.run(
        [sys.executable, "-c", "import sys; print(*{name.split('.')[0] for name in sys.modules})"],
        capture_output=True,
        text=True,
        check=True,
    )
    brought = set(run.stdout.split()) - set(start.stdout.split()) - {"approval"}
    assert brought <= sys.stdlib_module_names
    assert not brought & {"asyncio", "dataclasses", "http", "logging"}  # slow to import


def test_a_number_is_sold_once_and_again_after_its_release() -> None:
    with session() as one:
        assert one.buy(friendly_name="Front desk")["structuredContent"] == BOUGHT | {
            "friendly_name": "Front desk"
        }
        again = one.buy()
        assert again["isError"] is True
        assert text_of(again) == f"{NUMBER} has been sold already. Search for another number."
        one.call("release_phone_number", phone_number=NUMBER)
        assert one.buy()["structuredContent"] == BOUGHT | {"sid": "PN000002"}


def test_releasing_what_was_not_bought_is_refused() -> None:
    with session() as one:
        refusal = one.call("release_phone_number", phone_number=NUMBER)
    assert refusal["isError"] is True
    assert "is not one of your numbers" in text_of(refusal)


def test_search_shows_the_same_five_free_numbers_every_time() -> None:
    with session() as one:
        one.buy("+14155550101")
        found = one.call("search_available_numbers", country="US")["structuredContent"]["numbers"]
    assert found == [
        {"phone_number": f"+14155550{line}", "monthly_price": PRICE}
        for line in (100, 102, 103, 104, 105)
    ]


def test_two_shops_on_one_ledger_sell_from_one_stock(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with session(ledger) as one, session(ledger) as two:
        assert one.buy()["isError"] is False
        assert two.buy()["isError"] is True
        assert two.buy("+14155550101")["structuredContent"]["sid"] == "PN000002"
        numbers = one.call("list_incoming_phone_numbers")["structuredContent"]["numbers"]
        assert [entry["phone_number"] for entry in numbers] == [NUMBER, "+14155550101"]
    with session(ledger) as later:
        assert later.buy()["isError"] is True
    assert [entry["outcome"] for entry in effects(ledger)] == [
        "bought",
        "refused",
        "bought",
        "refused",
    ]


def test_the_ledger_keeps_the_request_as_it_came(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    with session(ledger) as one:
        one.call("search_available_numbers")
        one.buy()
    assert effects(ledger) == [
        {
            "tool": "create_incoming_phone_number",
            "arguments": {"phone_number": NUMBER},
            "meta": ENVELOPE,
            "outcome": "bought",
        }
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({}, "The argument phone_number is missing."),
        ({"phone_number": 14155550100}, "The argument phone_number must be a string that matches"),
        ({"phone_number": NUMBER + "\n"}, "The argument phone_number must be a string that"),
        ({"phone_number": "+1415555010\u0660"}, "The argument phone_number must be a string that"),
        ({"phone_number": NUMBER, "price": "0"}, "There is no argument 'price'. Known: phone_num"),
    ],
)
def test_arguments_that_do_not_fit_buy_nothing(
    arguments: dict[str, object], problem: str, tmp_path: Path
) -> None:
    ledger = tmp_path / "ledger"
    with session(ledger) as one:
        refusal = one.call("create_incoming_phone_number", **arguments)
    assert refusal["isError"] is True
    assert text_of(refusal).startswith(problem)
    assert effects(ledger) == []


@pytest.mark.parametrize(
    ("line", "code", "identity"),
    [
        (b"", -32700, None),
        (b"{", -32700, None),
        (b"\xff", -32700, None),
        (b"[" * 100_000, -32700, None),
        (b"[]", -32600, None),
        (b'{"id": 1, "method": "ping"}', -32600, None),
        (b'{"jsonrpc": "2.0", "id": true, "method": "ping"}', -32600, None),
        (b'{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', -32600, None),
        (b'{"jsonrpc": "2.0", "id": null, "method": "ping"}', -32600, None),
        (b'{"jsonrpc": "2.0", "id": "a", "method": "ping", "params": []}', -32602, "a"),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}', -32600, 1),
        (b'{"jsonrpc": "2.0", "id": 1, "method": "initialize"}', -32602, 1),
    ],
)
def test_a_bad_line_gets_an_error_and_the_shop_goes_on(
    line: bytes, code: int, identity: object
) -> None:
    with session() as one:
        answer = one.send(line)
        assert (answer["error"]["code"], answer["id"]) == (code, identity)
        assert one.ask("ping")["result"] == {}


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "id": 1, "result": {}},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}},
    ],
)
def test_what_is_no_request_gets_no_answer(message: object) -> None:
    with session() as one:
        assert one.send(message) is None


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ],
)
def test_initialize_settles_a_version_of_the_older_era(wanted: str, given: str) -> None:
    with session() as one:
        greeting = one.ask("initialize", protocolVersion=wanted)["result"]
        listed = one.ask("tools/list")["result"]
        called = one.ask("tools/call", name="list_incoming_phone_numbers")["result"]
        unknown = one.ask("server/shutdown")["error"]
        paged = one.ask("tools/list", cursor="x")["error"]
    assert greeting["protocolVersion"] == given
    assert greeting["serverInfo"] == {"name": "phone-number-shop", "version": "1.0.0"}
    assert set(listed) == {"tools"}
    assert set(called) == {"content", "structuredContent", "isError"}
    assert (unknown["code"], paged["code"]) == (-32601, -32602)


def test_results_of_the_newer_era_say_what_they_are_and_how_long_they_last() -> None:
    with session() as one:
        discovered = one.ask("server/discover", _meta=ENVELOPE)["result"]
        listed = one.ask("tools/list", _meta=ENVELOPE)["result"]
        called = one.call("list_incoming_phone_numbers")
    lasting = {"ttlMs": 60_000, "cacheScope": "public"}
    assert discovered == {
        "supportedVersions": ["2026-07-28"],
        "capabilities": {"tools": {}},
        "instructions": shop.INSTRUCTIONS,
        "resultType": "complete",
        "_meta": SERVER_INFO,
        **lasting,
    }
    assert {key: listed[key] for key in listed if key != "tools"} == {
        "resultType": "complete",
        "_meta": SERVER_INFO,
        **lasting,
    }
    assert (called["resultType"], called["_meta"]) == ("complete", SERVER_INFO)


@pytest.mark.parametrize(
    ("method", "meta", "code"),
    [
        ("server/discover", {}, -32602),
        ("tools/list", {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}, -32602),
        ("tools/list", ENVELOPE | {"io.modelcontextprotocol/protocolVersion": 1}, -32602),
        ("tools/list", ENVELOPE | {"io.modelcontextprotocol/protocolVersion": "2027"}, -32022),
        ("ping", ENVELOPE, -32601),
        ("logging/setLevel", ENVELOPE, -32601),
    ],
)
def test_a_wrong_envelope_is_an_error(method: str, meta: dict[str, object], code: int) -> None:
    with session() as one:
        error = one.ask(method, _meta=meta)["error"]
    assert error["code"] == code
    if code == -32022:
        assert error["data"]["requested"] == "2027"
        assert error["data"]["supported"][0] == "2026-07-28"


def test_an_agent_that_has_gone_does_not_stop_the_effect(tmp_path: Path) -> None:
    class Gone(io.BytesIO):
        @override
        def write(self, data: object) -> int:
            raise BrokenPipeError

    params = {"name": "create_incoming_phone_number", "arguments": {"phone_number": NUMBER}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}
    line = json.dumps({**message, "params": params | {"_meta": ENVELOPE}}).encode()
    stock = shop.Stock()
    shop.serve(io.BytesIO(line + b"\n"), Gone(), stock, 0)
    assert list(stock.sold) == [NUMBER]


@pytest.mark.parametrize("delay", ["0", "0.01"])
@pytest.mark.parametrize("ledger", [None, "ledger"])
def test_a_run_answers_every_line_whatever_the_environment(
    delay: str, ledger: str | None, tmp_path: Path
) -> None:
    params = {"name": "create_incoming_phone_number", "arguments": {"phone_number": NUMBER}}
    buy = {"jsonrpc": "2.0", "id": 2, "method": "tools/call"}
    note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    messages: tuple[object, ...] = (note, {**buy, "params": {**params, "_meta": ENVELOPE}}, [])
    lines = b"".join(json.dumps(message).encode() + b"\n" for message in messages)
    path = tmp_path / "ledger"
    environment = {"SHOP_DELAY": delay} | ({"SHOP_LEDGER": str(path)} if ledger else {})
    out = io.BytesIO()
    shop.run(environment, io.BytesIO(lines), out)
    answers = {answer["id"]: answer for answer in map(json.loads, out.getvalue().splitlines())}
    assert set(answers) == {2, None}
    assert answers[2]["result"]["structuredContent"] == BOUGHT
    assert len(effects(path)) == (ledger is not None)
