import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.session import ClientRequestContext, IncomingMessage

from tests.fakes.launch import effects, fixture_command, fixture_over_http

LEGACY, MODERN = "legacy", "2026-07-28"
DEADLINE_SECONDS = 60

pytestmark = pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")


async def accept(
    context: ClientRequestContext, params: types.ElicitRequestParams
) -> types.ElicitResult:
    return types.ElicitResult(action="accept", content={"name": "Ann"})


async def answer(
    context: ClientRequestContext, params: types.CreateMessageRequestParams
) -> types.CreateMessageResult:
    text = types.TextContent(text="word")
    return types.CreateMessageResult(role="assistant", content=text, model="none")


class Agent:
    """A client of the SDK that notes what comes besides its answers."""

    def __init__(self, server: str | StdioServerParameters, mode: str) -> None:
        self.heard: asyncio.Queue[IncomingMessage] = asyncio.Queue()
        self.logged: list[object] = []
        self.client = Client(
            server,
            mode=mode,
            elicitation_callback=accept,
            sampling_callback=answer,
            logging_callback=self.note,
            log_level="info",
            message_handler=self.hear,
        )

    async def note(self, params: types.LoggingMessageNotificationParams) -> None:
        self.logged.append(params.data)

    async def hear(self, message: IncomingMessage) -> None:
        await self.heard.put(message)

    async def say(self, tool: str, **arguments: object) -> str:
        result = await self.client.call_tool(tool, arguments)
        assert isinstance(result.content[0], types.TextContent)
        return result.content[0].text


def stdio(*flags: str) -> StdioServerParameters:
    command, *arguments = fixture_command("--stdio", *flags)
    return StdioServerParameters(command=command, args=arguments)


async def connect(stack: AsyncExitStack, wire: str, mode: str, *flags: str) -> Agent:
    await stack.enter_async_context(asyncio.timeout(DEADLINE_SECONDS))
    if wire == "stdio":
        agent = Agent(stdio(*flags), mode)
    else:
        agent = Agent(await stack.enter_async_context(fixture_over_http(*flags)), mode)
    await stack.enter_async_context(agent.client)
    return agent


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
@pytest.mark.parametrize("wire", ["stdio", "http"])
async def test_every_tool_does_what_it_says(wire: str, mode: str, tmp_path: Path) -> None:
    log = tmp_path / "effects"
    async with AsyncExitStack() as stack:
        agent = await connect(stack, wire, mode, "--log", str(log))
        assert agent.client.protocol_version == (MODERN if mode == MODERN else "2025-11-25")
        assert await agent.say("echo", text="hi") == "hi"
        assert [await agent.say("count"), await agent.say("count")] == ["1", "2"]
        assert await agent.say("elicit") == "accept Ann"
        assert await agent.say("slow", seconds=0) == "slow, but here"
        # A little less than a MiB: the SDK's client takes no larger event on a stream.
        assert len(await agent.say("big", size=1_000_000)) == 1_000_000
        assert await agent.say("fail") == "The tool failed."
        measured = await agent.client.call_tool("measure", {"text": "four"})
        assert measured.structured_content == {"length": 4}
        with pytest.raises(MCPError, match=r"The protocol failed\."):
            await agent.client.call_tool("fault", {})
        with pytest.raises(MCPError, match="Unknown tool: nothing"):
            await agent.client.call_tool("nothing", {})
    ran = [entry["tool"] for entry in effects(log)]
    rounds = 1 if mode == LEGACY else 2  # the round trip calls the tool again
    expected = ["echo", "count", "count", *["elicit"] * rounds, "slow", "big", "fail"]
    assert ran == [*expected, "measure", "fault"]


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
@pytest.mark.parametrize("wire", ["stdio", "http"])
async def test_progress_and_logs_arrive_before_the_answer(wire: str, mode: str) -> None:
    steps: list[tuple[float, float | None, str | None]] = []

    async def step(progress: float, total: float | None, message: str | None) -> None:
        steps.append((progress, total, message))

    async with AsyncExitStack() as stack:
        agent = await connect(stack, wire, mode)
        await agent.client.call_tool("progress", {}, progress_callback=step)
        await agent.say("log")
        await agent.say("echo", text="flush")
    assert steps == [(1, 3, "step 1"), (2, 3, "step 2"), (3, 3, "step 3")]
    assert agent.logged == ["one", "two"]


@pytest.mark.parametrize("wire", ["stdio", "http"])
async def test_the_older_era_is_asked_and_told_by_the_server(wire: str) -> None:
    async with AsyncExitStack() as stack:
        agent = await connect(stack, wire, LEGACY)
        assert await agent.say("sample") == "word"
        await agent.client.subscribe_resource("memo://note")
        await agent.say("grow")
        assert await agent.say("touch") == "revision 1"
        heard = {type(await agent.heard.get()), type(await agent.heard.get())}
        names = [tool.name for tool in (await agent.client.list_tools()).tools]
    assert heard == {types.ToolListChangedNotification, types.ResourceUpdatedNotification}
    assert names[-1] == "grown_0"


@pytest.mark.parametrize("wire", ["stdio", "http"])
async def test_the_newer_era_is_told_on_the_stream_it_listens_on(wire: str) -> None:
    async with AsyncExitStack() as stack:
        agent = await connect(stack, wire, MODERN)
        listening: Any = agent.client.listen(
            tools_list_changed=True, resource_subscriptions=["memo://note"]
        )
        events = await stack.enter_async_context(listening)
        await agent.say("grow")
        await agent.say("touch")
        heard = [type(await anext(events)).__name__ for _ in range(2)]
    assert heard == ["ToolsListChanged", "ResourceUpdated"]


@pytest.mark.parametrize("mode", [LEGACY, MODERN])
async def test_resources_and_prompts_are_served(mode: str) -> None:
    async with AsyncExitStack() as stack:
        agent = await connect(stack, "http", mode, "--json")
        [note] = (await agent.client.list_resources()).resources
        [content] = (await agent.client.read_resource(note.uri)).contents
        [prompt] = (await agent.client.list_prompts()).prompts
        greeting = await agent.client.get_prompt(prompt.name, {"name": "Ann"})
    assert content == types.TextResourceContents(uri="memo://note", text="revision 0")
    assert greeting.messages[0].content == types.TextContent(text="Greet Ann.")
