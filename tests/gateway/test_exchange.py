import asyncio

import pytest

from approval.errors import AnswerLost
from approval.gateway import exchange as module
from approval.gateway import protocol
from approval.gateway.exchange import Exchange, Outlet

REQUEST = protocol.message({"jsonrpc": "2.0", "id": 1, "method": "ping"})
LONG = 60.0
SHORT = 0.01


def opened(keep_alive: float = LONG) -> tuple[Exchange, list[Exchange]]:
    done: list[Exchange] = []
    return Exchange(REQUEST, keep_alive, done.append), done


async def test_an_answer_that_comes_first_is_given_plainly() -> None:
    exchange, done = opened()
    exchange.settle(b"{}", 404)
    exchange.settle(b"another", 200)
    reply = await exchange.reply()
    assert (reply.status, reply.content_type, reply.body) == (404, "application/json", b"{}")
    assert reply.chunks is None
    assert done == [exchange]


async def test_what_comes_before_the_answer_opens_a_stream() -> None:
    exchange, done = opened()
    exchange.outlet.put(b"note")
    exchange.settle(b"answer")
    exchange.outlet.put(b"too late")
    async with await exchange.reply() as reply:
        assert reply.content_type == "text/event-stream"
        assert reply.chunks is not None
        chunks = b"".join([chunk async for chunk in reply.chunks])
        assert done == []
    assert chunks == (b"event: message\ndata: note\n\n: \n\nevent: message\ndata: answer\n\n")
    assert done == [exchange]


async def test_a_request_that_is_silent_for_long_opens_a_stream_with_a_comment() -> None:
    exchange, _ = opened(SHORT)
    async with await exchange.reply() as reply:
        assert reply.chunks is not None
        assert [await anext(reply.chunks) for _ in range(3)] == [b": \n\n"] * 3
        exchange.settle(b"answer")
        assert b"answer" in b"".join([chunk async for chunk in reply.chunks])


async def test_an_answer_that_never_comes_is_lost() -> None:
    exchange, done = opened()
    exchange.outlet.end()
    with pytest.raises(AnswerLost, match="ended before it answered"):
        await exchange.reply()
    assert done == [exchange]

    exchange, done = opened()
    exchange.outlet.put(b"note")
    exchange.outlet.end()
    with pytest.raises(AnswerLost, match="ended before it answered"):
        await exchange.result()
    assert done == [exchange]

    exchange, _ = opened()
    exchange.outlet.put(b"note")
    reply = await exchange.reply()
    exchange.outlet.end()
    assert reply.chunks is not None
    with pytest.raises(AnswerLost, match="ended before it answered"):
        _ = [chunk async for chunk in reply.chunks]


async def test_a_request_that_nobody_waits_for_any_more_is_done() -> None:
    exchange, done = opened()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(exchange.reply())
        await asyncio.sleep(0)
        waiting.cancel()
    assert done == [exchange]


async def test_an_answer_alone_skips_what_came_before_it() -> None:
    exchange, done = opened()
    exchange.outlet.put(b"note")
    exchange.settle(b"answer")
    assert await exchange.result() == b"answer"
    assert done == [exchange]


async def test_a_reader_far_behind_loses_some_but_never_the_last() -> None:
    outlet = Outlet(LONG)
    for number in range(module.MAX_QUEUED + 5):
        outlet.put(b"%d" % number)
    outlet.put(b"last", last=True)
    assert outlet.dropped == 5
    got = []
    while (line := await outlet.next()) is not None:
        got.append(line)
    assert (len(got), got[0], got[-1]) == (module.MAX_QUEUED + 1, b"0", b"last")
