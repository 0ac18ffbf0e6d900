"""What nobody gates passes unchanged: the official client cannot tell that the gateway is there."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext, IncomingMessage

from approval.gateway.settings import UpstreamSettings
from tests.factories import ALLOW_EVERYTHING
from tests.fakes.launch import fixture_command, fixture_over_http
from tests.gateway.wire import ERAS, LEGACY, MODERN, Wire, command, serve

CARRIERS = ("http", "http-json", "stdio")

pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")


@asynccontextmanager
async def fixture(carrier: str) -> AsyncIterator[UpstreamSettings]:
    if carrier == "stdio":
        yield command(fixture_command("--stdio"))
        return
    flags = ("--json",) if carrier == "http-json" else ()
    async with fixture_over_http(*flags) as url:
        yield UpstreamSettings(url=url)


@asynccontextmanager
async def passing(folder: Path, carrier: str) -> AsyncIterator[Wire]:
    async with fixture(carrier) as upstream, serve(folder, upstream, ALLOW_EVERYTHING) as wire:
        yield wire


async def say(client: Client, tool: str, **arguments: object) -> str:
    result = await client.call_tool(tool, arguments)
    assert isinstance(result.content[0], types.TextContent)
    return result.content[0].text


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_tools_answer_as_they_would_without_a_gateway(
    carrier: str, era: str, tmp_path: Path
) -> None:
    async with passing(tmp_path, carrier) as wire, wire.sdk(era) as client:
        assert client.protocol_version == era
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools][:3] == ["echo", "count", "progress"]
        assert not {tool.name for tool in listed.tools} & {"approval_wait", "approval_status"}
        assert await say(client, "echo", text="hi") == "hi"
        assert [await say(client, "count"), await say(client, "count")] == ["1", "2"]
        assert len(await say(client, "big", size=900_000)) == 900_000
        failed = await client.call_tool("fail", {})
        assert failed.is_error
        measured = await client.call_tool("measure", {"text": "four"})
        assert measured.structured_content == {"length": 4}
        with pytest.raises(MCPError, match=r"The protocol failed\.") as caught:
            await client.call_tool("fault", {})
        assert caught.value.error.data == {"why": "asked for"}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_resources_and_prompts_pass(carrier: str, era: str, tmp_path: Path) -> None:
    async with passing(tmp_path, carrier) as wire, wire.sdk(era) as client:
        resources = await client.list_resources()
        assert [str(each.uri) for each in resources.resources] == ["memo://note"]
        read = await client.read_resource("memo://note")
        assert isinstance(read.contents[0], types.TextResourceContents)
        assert read.contents[0].text == "revision 0"
        prompts = await client.list_prompts()
        assert [each.name for each in prompts.prompts] == ["greeting"]
        prompt = await client.get_prompt("greeting", {"name": "Ann"})
        assert isinstance(prompt.messages[0].content, types.TextContent)
        assert prompt.messages[0].content.text == "Greet Ann."
        with pytest.raises(MCPError, match="Resource not found"):
            await client.read_resource("memo://nothing")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("carrier", ["http", "stdio"])
async def test_progress_and_logs_arrive_before_the_answer(
    carrier: str, era: str, tmp_path: Path
) -> None:
    steps: list[tuple[float, float | None, str | None]] = []
    logged: list[object] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    async def note(params: types.LoggingMessageNotificationParams) -> None:
        logged.append(params.data)

    async with (
        passing(tmp_path, carrier) as wire,
        wire.sdk(era, logging_callback=note, log_level="info") as client,
    ):
        await client.call_tool("progress", {}, progress_callback=step)
        await say(client, "log")
        await say(client, "echo", text="flush")
    assert steps == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
    assert logged == ["one", "two"]


async def accept(
    context: ClientRequestContext, params: types.ElicitRequestParams
) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "Ann"})


async def word(
    context: ClientRequestContext, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult:
    text = types.TextContent(text="word")
    return types.CreateMessageResult(role="assistant", content=text, model="none")


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("carrier", ["http", "stdio"])
async def test_the_server_can_ask_the_agents_person(carrier: str, era: str, tmp_path: Path) -> None:
    async with (
        passing(tmp_path, carrier) as wire,
        wire.sdk(era, elicitation_callback=accept, sampling_callback=word) as client,
    ):
        assert await say(client, "elicit") == "accept Ann"
        if era == LEGACY:
            assert await say(client, "sample") == "word"


@pytest.mark.parametrize("carrier", ["http", "stdio"])
async def test_an_older_agent_hears_of_new_tools_and_changed_resources(
    carrier: str, tmp_path: Path
) -> None:
    heard: asyncio.Queue[IncomingMessage] = asyncio.Queue()

    async def hear(message: IncomingMessage) -> None:
        await heard.put(message)

    async def next_of(kind: type[Any]) -> Any:
        while not isinstance(message := await heard.get(), kind):
            pass
        return message

    async with passing(tmp_path, carrier) as wire, wire.sdk(LEGACY, message_handler=hear) as client:
        await client.subscribe_resource("memo://note")
        await say(client, "touch")
        updated = await next_of(types.ResourceUpdatedNotification)
        assert str(updated.params.uri) == "memo://note"
        await say(client, "grow")
        await next_of(types.ToolListChangedNotification)
        listed = await client.list_tools()
        assert [tool.name for tool in listed.tools][-1] == "grown_0"


@pytest.mark.parametrize("carrier", ["http", "stdio"])
async def test_a_newer_agent_listens_to_what_it_chose(carrier: str, tmp_path: Path) -> None:
    async with (
        passing(tmp_path, carrier) as wire,
        wire.sdk(MODERN) as client,
        wire.sdk(MODERN) as other,
        client.listen(tools_list_changed=True) as tools,
        other.listen(resource_subscriptions=["memo://note"]) as notes,
    ):
        await say(client, "touch")
        await say(client, "grow")
        assert type(await anext(aiter(tools))).__name__ == "ToolsListChanged"
        assert type(await anext(aiter(notes))).__name__ == "ResourceUpdated"
