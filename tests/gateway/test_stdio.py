"""Programs as upstreams: one for each older session, and one that all newer agents share."""

import asyncio
import json
import os
import sys
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from approval.errors import Unreadable
from approval.gateway.settings import GatewaySettings, UpstreamSettings
from approval.gateway.stdio import _swap
from tests.factories import ALLOW_EVERYTHING, OTHER_AGENT_TOKEN
from tests.gateway.wire import (
    BRIEF,
    LEGACY,
    MODERN,
    RawAgent,
    Stream,
    Wire,
    command,
    serve,
    settings,
)

TALKATIVE = [sys.executable, str(Path(__file__).with_name("talkative.py"))]


def talkative(*flags: str, **more: Any) -> UpstreamSettings:
    return command([*TALKATIVE, *flags], **more)


def served(
    folder: Path, *flags: str, gateway_settings: GatewaySettings = BRIEF, **more: Any
) -> AbstractAsyncContextManager[Wire]:
    return serve(
        folder, talkative(*flags, **more), ALLOW_EVERYTHING, gateway_settings=gateway_settings
    )


async def asked(agent: RawAgent, tool: str, **arguments: Any) -> Any:
    return json.loads((await agent.call(tool, arguments)).text)


async def test_each_older_session_has_a_program_of_its_own(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        other = await RawAgent.connected(wire, LEGACY)
        first, second = await asked(agent, "pid"), await asked(other, "pid")
        assert first != second
        assert await asked(agent, "pid") == first
        # Ids arrive as they were given: the program has no other client.
        answered = await agent.post(agent.call_message("id", request_id="mine"))
        assert (answered.text, answered.message["id"]) == ("mine", "mine")
        await agent.delete()
        assert not _runs(first)
        assert _runs(second)
    assert not _runs(second)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_newer_agents_share_one_program_and_none_can_tell(tmp_path: Path) -> None:
    async with served(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent, other = RawAgent(wire, MODERN), RawAgent(wire, MODERN, token=OTHER_AGENT_TOKEN)
        assert await asked(agent, "pid") == await asked(other, "pid")
        # The same id and the same token from both, at once.
        message = agent.call_message("progress", meta={"progressToken": 7}, request_id=3)
        both = [tasks.create_task(each.post(message)) for each in (agent, other)]
        names = set()
        for each in both:
            note, answered = (await each).messages
            assert note["params"]["progressToken"] == 7
            assert answered["id"] == 3
            names.add(answered["result"]["content"][0]["text"])
        assert len(names) == 2  # the program saw two tokens
        seen = [each for each in await asked(agent, "heard") if each.get("id") == 3]
        assert seen == []


async def test_a_text_that_equals_our_id_stays_what_it_is(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        agent = RawAgent(wire, MODERN)
        answered = await agent.post(agent.call_message("id", request_id=3))
        assert answered.message["id"] == 3
        assert "-" in answered.text


async def test_what_a_shared_program_says_to_nobody_reaches_nobody(tmp_path: Path) -> None:
    log: dict[str, Any] = {"method": "notifications/message", "params": {"data": "secret"}}
    said = [
        log,
        {"method": "notifications/progress", "params": {"progressToken": "guess"}},
        {"method": "notifications/progress", "params": {"progressToken": [1]}},
        {"method": "notifications/tools/list_changed"},
        {"method": "notifications/resources/updated", "params": {"_meta": [1]}},
        {"id": "guess", "result": {}},
        {"id": 7, "result": {}},
    ]
    async with served(tmp_path) as wire:
        agent, other = RawAgent(wire, MODERN), RawAgent(wire, MODERN, token=OTHER_AGENT_TOKEN)
        assert len((await agent.call("say", {"messages": said})).messages) == 1
        level = {"io.modelcontextprotocol/logLevel": "info"}
        mine = await agent.call("say", {"messages": [log]}, meta=level)
        assert mine.messages[0] == {"jsonrpc": "2.0", **log}
        # With two who asked for logs nobody knows whose they are.
        hanging = other.call_message("hang", {"messages": []}, meta=level)
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(other.post(hanging))
            while len(await asked(agent, "heard")) < 5:
                pass
            again = await agent.call("say", {"messages": [log]}, meta=level)
            assert len(again.messages) == 1
            waiting.cancel()


async def test_hanging_up_cancels_the_request_at_the_shared_program(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        agent = RawAgent(wire, MODERN)
        async with agent.opened(agent.call_message("hang", {"messages": []})) as response:
            await Stream(response).until(bool)
        while not (cancelled := await _heard(agent, "notifications/cancelled")):
            pass
        (hung,) = [each for each in await _heard(agent, "tools/call") if _tool(each) == "hang"]
        assert [each["params"]["requestId"] for each in cancelled] == [hung["id"]]


def _tool(message: dict[str, Any]) -> object:
    return message["params"]["name"]


async def _heard(agent: RawAgent, method: str) -> list[dict[str, Any]]:
    return [each for each in await asked(agent, "heard") if each.get("method") == method]


async def test_subscriptions_are_told_apart(tmp_path: Path) -> None:
    key = "io.modelcontextprotocol/subscriptionId"
    async with served(tmp_path) as wire:
        agent = RawAgent(wire, MODERN)
        message = agent.message("subscriptions/listen", {"notifications": {}}, request_id="s")
        async with agent.opened(message) as response:
            heard = Stream(response)
            assert (await heard.next())["params"]["_meta"] == {key: "s"}
            (asked_for,) = await _heard(agent, "subscriptions/listen")
            changed: dict[str, Any] = {
                "method": "notifications/tools/list_changed",
                "params": {"_meta": {key: asked_for["id"]}},
            }
            await agent.call("say", {"messages": [changed]})
            assert (await heard.next())["params"]["_meta"] == {key: "s"}
            # The end of a subscription names it twice.
            end = {"id": asked_for["id"], "result": {"_meta": {key: asked_for["id"]}}}
            await agent.call("say", {"messages": [end]})
            assert await heard.next() == {
                "jsonrpc": "2.0",
                "id": "s",
                "result": {"_meta": {key: "s"}},
            }


@pytest.mark.parametrize("era", [LEGACY, MODERN])
async def test_a_request_that_no_agent_knows_is_refused_in_its_place(
    era: str, tmp_path: Path
) -> None:
    async with served(tmp_path) as wire:
        agent = await RawAgent.connected(wire, era)
        method = "log" if era == LEGACY else "sampling/createMessage"
        answered = await agent.call("ask", {"method": method})
        assert len(answered.messages) == 1
        refused = json.loads(answered.text)
        assert (refused["id"], refused["error"]["code"]) == ("theirs", -32601)


async def test_an_older_program_asks_its_agent_and_hears_the_answer(tmp_path: Path) -> None:
    async with served(tmp_path, methods=("acme/ask",)) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        for method in ("sampling/createMessage", "roots/list", "acme/ask"):
            async with agent.opened(agent.call_message("ask", {"method": method})) as response:
                heard = Stream(response)
                question = await heard.next()
                assert (question["id"], question["method"]) == ("theirs", method)
                reply = {"jsonrpc": "2.0", "id": "theirs", "result": {"n": 1.5}}
                assert (await agent.post(reply)).status == 202
                answer = (await heard.next())["result"]["content"][0]["text"]
                assert json.loads(answer) == reply


async def test_what_an_older_program_says_unasked_finds_its_agent(tmp_path: Path) -> None:
    changed = {"method": "notifications/tools/list_changed"}
    unknown = {"method": "notifications/acme"}
    token: dict[str, Any] = {"method": "notifications/progress", "params": {"progressToken": 1}}
    async with served(tmp_path) as wire, asyncio.TaskGroup() as tasks:
        agent = await RawAgent.connected(wire, LEGACY)
        # With one request open it is heard there, in order.
        said = await agent.call("say", {"messages": [unknown, changed]})
        assert [each.get("method") for each in said.messages] == [changed["method"], None]
        async with agent.listening() as heard:
            await heard.until(bool)
            hanging = agent.call_message("hang", {"messages": []}, meta={"progressToken": 1})
            waiting = tasks.create_task(agent.post(hanging))
            while len(await _heard(agent, "tools/call")) < 3:
                pass
            # With several open the listening stream has it; progress goes to its own request.
            said = await agent.call("say", {"messages": [changed, token]})
            assert len(said.messages) == 1
            assert (await heard.next())["method"] == changed["method"]
            waiting.cancel()


async def test_what_is_said_while_nobody_listens_is_kept_for_who_does(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        changed = {"method": "notifications/tools/list_changed"}
        await agent.call("say_after", {"messages": [changed]})
        async with agent.listening() as heard:
            assert (await heard.next())["method"] == "notifications/tools/list_changed"
            headers = agent.headers({})
            async with wire.http.get(wire.url(), headers=headers) as second:
                assert second.status == 409


async def test_a_program_that_ends_ends_its_streams(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        async with agent.listening() as heard:
            await heard.until(bool)
            assert (await agent.call("exit")).status == 502
            with pytest.raises(EOFError):
                await heard.next()
        assert (await agent.ask("ping")).status == 404


async def test_a_request_id_in_use_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        agent = await RawAgent.connected(wire, LEGACY)
        hanging = agent.call_message("hang", {"messages": []}, request_id=5)
        async with agent.opened(hanging) as response:
            await Stream(response).until(bool)
            again = await agent.post(hanging)
            assert (again.status, again.error["code"]) == (400, -32600)


async def test_an_older_agent_without_a_session_is_told_to_begin_one(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        agent = RawAgent(wire, LEGACY)
        refused = await agent.ask("ping")
        assert (refused.status, refused.error["code"]) == (400, -32600)
        assert "initialize" in refused.error["message"]
        async with wire.http.get(wire.url(), headers=agent.headers({})) as response:
            assert response.status == 400


@pytest.mark.parametrize("flags", [["--only", "legacy"], ["--deaf"]], ids=str)
async def test_an_older_program_makes_a_newer_agent_fall_back(
    flags: list[str], tmp_path: Path
) -> None:
    hasty = settings(probe_timeout=timedelta(milliseconds=300))
    async with served(tmp_path, *flags, gateway_settings=hasty) as wire:
        agent = RawAgent(wire, MODERN)
        for _ in range(2):
            refused = await agent.ask("server/discover")
            assert refused.status == 400
            assert refused.error["code"] == -32600  # no error of the newer protocol
        assert (await RawAgent.connected(wire, LEGACY)).session
        async with wire.sdk("auto") as client:
            assert client.protocol_version == LEGACY


async def test_a_newer_program_tells_an_older_agent_what_it_serves(tmp_path: Path) -> None:
    async with served(tmp_path, "--only", "modern") as wire:
        refused = await RawAgent(wire, LEGACY).initialize()
        assert refused.error["code"] == -32022
        assert refused.error["data"] == {"supported": [MODERN], "requested": LEGACY}
        assert (await RawAgent(wire, MODERN).ask("tools/list")).result == {}


async def test_a_programs_error_has_the_newer_protocols_status(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        error = {"code": -32602, "message": "no"}
        agent = RawAgent(wire, MODERN)
        async with agent.opened(agent.call_message("hang", {"messages": []})) as response:
            await Stream(response).until(bool)
            (hung,) = [e for e in await _heard(agent, "tools/call") if _tool(e) == "hang"]
            await agent.call("say", {"messages": [{"id": hung["id"], "error": error}]})
            assert error == (await Stream(response).next())["error"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"id":"ours","n":1.50}', b'{"id":7,"n":1.50}'),
        (b'{"n":1}', b'{"n":1}'),
        (b'{"id":"ours","result":{"t":"ours"}}', b'{"id":7,"result":{"t":"ours"}}'),
        (b'{"id":"ours","result":{"t":"\\"ours\\""}}', b'{"id":7,"result":{"t":"\\"ours\\""}}'),
    ],
)
def test_the_agents_id_is_put_back_and_nothing_else_changes(line: bytes, expected: bytes) -> None:
    assert _swap(line, "ours", 7) == expected


def test_a_line_with_two_readings_is_not_guessed_at() -> None:
    with pytest.raises(Unreadable):
        _swap(b'{"id":"ours","id":"ours"}', "ours", 7)


async def test_an_answer_with_two_readings_is_lost(tmp_path: Path) -> None:
    async with served(tmp_path) as wire:
        await _unreadable(wire)


async def _unreadable(wire: Wire) -> None:
    agent = RawAgent(wire, MODERN)
    shared = wire.gateway._upstreams["shop"].shared()
    async with agent.opened(agent.call_message("hang", {"messages": []})) as response:
        await Stream(response).until(bool)
        (hung,) = [e for e in await _heard(agent, "tools/call") if _tool(e) == "hang"]
        ours = json.dumps(hung["id"]).encode()
        note = b'{"method":"notifications/x","params":{"_meta":{"a":%b,"a":%b}}}' % (ours, ours)
        meta = {"io.modelcontextprotocol/subscriptionId": hung["id"]}
        shared._hear(note, {"method": "notifications/x", "params": {"_meta": meta}})  # type: ignore[attr-defined]
        line = b'{"id":%b,"id":%b,"result":{}}' % (ours, ours)
        shared._hear(line, {"id": hung["id"], "result": {}})  # type: ignore[attr-defined]
        assert "lost" in (await Stream(response).next())["error"]["message"]
