"""How answers are read: the same however they are cut, and none where two readings exist."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from approval.errors import AnswerLost, NeverSent
from approval.gateway.connection import MAX_UNREAD, Connection, Response
from tests.gateway.raw_answers import (
    ANSWERS,
    BROKEN_OFF,
    CHUNKED,
    HEAD,
    LAST_ANSWERS,
    MALFORMED,
    SIZED,
)
from tests.gateway.raw_server import on_each_loop

LIMIT = 1 << 24
REQUEST = b"POST / HTTP/1.1\r\n\r\n"


@dataclass(kw_only=True)
class Keeper:
    """Notes which connections come back."""

    kept: list[Connection] = field(default_factory=list)
    forgotten: list[Connection] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def keep(self, connection: Connection) -> None:
        self.kept.append(connection)

    def forget(self, connection: Connection) -> None:
        self.forgotten.append(connection)
        self.gone.set()


@dataclass(kw_only=True)
class Line:
    """A connection to a socket in the test's own hands."""

    keeper: Keeper
    connection: Connection
    far: socket.socket

    async def answered(self, *pieces: bytes, method: str = "POST", ends: bool = False) -> Response:
        """Ask, and let the answer come in just these pieces."""
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(self.connection.ask(method, REQUEST))
            await asyncio.get_running_loop().sock_recv(self.far, len(REQUEST))
            for piece in pieces:
                self.connection.data_received(piece)
            if ends:
                self.far.close()
        return asked.result()

    async def fails(self, *pieces: bytes, ends: bool = False) -> str:
        """Ask for an answer that is none, and give the reason."""
        with pytest.raises((AnswerLost, ExceptionGroup)) as caught:
            await (await self.answered(*pieces, ends=ends)).read(LIMIT)
        error = caught.value
        if isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        assert type(error) is AnswerLost
        await self.keeper.gone.wait()
        assert self.keeper.kept == []
        return str(error)


@asynccontextmanager
async def line(*, once: bool = False) -> AsyncIterator[Line]:
    near, far = socket.socketpair()
    far.setblocking(False)
    loop, keeper = asyncio.get_running_loop(), Keeper()
    with far:
        transport, connection = await loop.create_connection(
            lambda: Connection(keeper, once=once), sock=near
        )
        connection.opened(transport)
        try:
            yield Line(keeper=keeper, connection=connection, far=far)
        finally:
            connection.drop()
            async with asyncio.timeout(5):
                await keeper.gone.wait()


def split(answer: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = sorted({cut % len(answer) for cut in cuts} | {0, len(answer)})
    return [answer[start:end] for start, end in pairwise(ends)]


@pytest.mark.parametrize(("answer", "status", "body"), ANSWERS.values(), ids=ANSWERS)
async def test_an_answer_is_read_and_its_connection_kept(
    answer: bytes, status: int, body: bytes
) -> None:
    async with line() as open_line:
        for _ in range(2):  # the second time on the same connection
            response = await open_line.answered(answer)
            assert (response.status, await response.read(LIMIT)) == (status, body)
            assert open_line.keeper.kept.pop() is open_line.connection
            assert open_line.connection.is_quiet()


@given(st.sampled_from(sorted(ANSWERS)), st.lists(st.integers(min_value=0), max_size=8))
@settings(deadline=None, max_examples=150)
def test_however_an_answer_is_cut_it_is_read_the_same(name: str, cuts: list[int]) -> None:
    answer, status, body = ANSWERS[name]

    async def story() -> None:
        async with line() as open_line:
            whole = await open_line.answered(answer)
            wanted = (status, list(whole.headers.items()), body)
            for pieces in (split(answer, cuts), split(answer, range(len(answer)))):
                response = await open_line.answered(*pieces)
                read = await response.read(LIMIT)
                assert (response.status, list(response.headers.items()), read) == wanted
            assert open_line.keeper.kept == [open_line.connection] * 3

    asyncio.run(story())


async def test_headers_are_found_in_any_case_and_repeated_ones_kept() -> None:
    async with line() as open_line:
        response = await open_line.answered(ANSWERS["odd headers"][0])
        assert list(response.headers.items()) == [
            ("X-A", ""),
            ("X-B", ""),
            ("X-A", "é b"),
            ("content-LENGTH", "3"),
        ]
        assert response.headers["Content-Length"] == "3"


@pytest.mark.parametrize("name", ["interim", "trailers"])
async def test_headers_beside_the_head_are_not_the_answers(name: str) -> None:
    async with line() as open_line:
        response = await open_line.answered(ANSWERS[name][0])
        assert await response.read(LIMIT) == b"abc"
        assert len(response.headers) == 1


@pytest.mark.parametrize(("answer", "body"), LAST_ANSWERS.values(), ids=LAST_ANSWERS)
async def test_an_answer_is_read_and_its_connection_dropped(answer: bytes, body: bytes) -> None:
    async with line() as open_line:
        response = await open_line.answered(answer)
        assert await response.read(LIMIT) == body
        await open_line.keeper.gone.wait()
        assert open_line.keeper.kept == []
        with pytest.raises(NeverSent, match="closed before anything"):
            await open_line.connection.ask("POST", REQUEST)


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
async def test_an_answer_with_two_readings_is_none(answer: bytes) -> None:
    async with line() as open_line:
        assert len(await open_line.fails(answer)) < 200


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
async def test_an_answer_with_two_readings_is_none_however_it_is_cut(answer: bytes) -> None:
    cuts = [*range(1, 200), *range(200, len(answer), 1000)]
    async with line() as open_line:
        await open_line.fails(*split(answer, cuts))


@pytest.mark.parametrize("answer", BROKEN_OFF.values(), ids=BROKEN_OFF)
async def test_an_answer_that_breaks_off_is_lost(answer: bytes) -> None:
    async with line() as open_line:
        pieces = [answer] if answer else []
        assert await open_line.fails(*pieces, ends=True) == (
            "no whole answer came: the connection ended"
        )


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    async with line() as open_line:
        response = await open_line.answered(HEAD + b"\r\nabc", b"def", ends=True)
        assert await response.read(LIMIT) == b"abcdef"
        await open_line.keeper.gone.wait()
        assert open_line.keeper.kept == []


async def test_the_answer_to_a_head_request_has_no_body() -> None:
    async with line() as open_line:
        response = await open_line.answered(SIZED, method="HEAD")
        assert (response.status, await response.read(LIMIT)) == (200, b"")
        await open_line.keeper.gone.wait()
        assert open_line.keeper.kept == []


async def test_a_connection_for_one_request_is_not_kept() -> None:
    async with line(once=True) as open_line:
        response = await open_line.answered(SIZED + b"abc")
        assert await response.read(LIMIT) == b"abc"
        await open_line.keeper.gone.wait()
        assert open_line.keeper.kept == []


@on_each_loop
async def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    async with line() as open_line:
        assert open_line.connection.is_quiet()
        open_line.far.send(SIZED + b"abc")
        assert not open_line.connection.is_quiet()  # before the loop has seen them
        await open_line.keeper.gone.wait()
        with pytest.raises(NeverSent):
            await open_line.connection.ask("POST", REQUEST)
        assert open_line.keeper.kept == []


@on_each_loop
async def test_the_end_of_an_idle_connection_is_known_at_once() -> None:
    async with line() as open_line:
        open_line.far.close()
        assert not open_line.connection.is_quiet()
        await open_line.keeper.gone.wait()
        assert open_line.keeper.forgotten == [open_line.connection]


async def test_a_connection_that_was_never_opened_sends_nothing() -> None:
    connection = Connection(Keeper(), once=False)
    assert not connection.is_quiet()
    with pytest.raises(NeverSent):
        await connection.ask("POST", REQUEST)
    connection.drop()


async def test_a_body_is_read_up_to_the_limit_and_no_further() -> None:
    async with line() as open_line:
        assert await (await open_line.answered(SIZED + b"abc")).read(3) == b"abc"
        response = await open_line.answered(SIZED, b"ab", b"c")
        with pytest.raises(AnswerLost, match="longer than 2 bytes"):
            await response.read(2)
        response = await open_line.answered(CHUNKED + b"3\r\nabc\r\n")
        with pytest.raises(AnswerLost, match="longer than 2 bytes"):
            await response.read(2)
        await open_line.keeper.gone.wait()


async def test_chunks_come_as_they_come() -> None:
    async with line() as open_line:
        response = await open_line.answered(CHUNKED + b"3\r\nabc\r\n")
        chunks = response.chunks()
        assert await anext(chunks) == b"abc"
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(_next(chunks))
            await asyncio.sleep(0)
            open_line.connection.data_received(b"1")
            open_line.connection.data_received(b"\r\nd\r\n1\r\ne\r\n")
            open_line.connection.data_received(b"0\r\n\r\n")
        assert waiting.result() == b"de"
        assert [chunk async for chunk in chunks] == []
        assert open_line.keeper.kept == [open_line.connection]


async def test_what_came_before_a_break_is_handed_over_first() -> None:
    async with line() as open_line:
        response = await open_line.answered(CHUNKED + b"3\r\nabc\r\n")
        open_line.connection.data_received(b"no chunk")
        chunks = response.chunks()
        assert await anext(chunks) == b"abc"
        with pytest.raises(AnswerLost, match="Invalid character in chunk size"):
            await anext(chunks)


async def test_closing_an_answer_wakes_its_reader_and_drops_the_connection() -> None:
    async with line() as open_line:
        response = await open_line.answered(CHUNKED)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_lost(response))
            await asyncio.sleep(0)
            response.close()
        assert reading.result() == "no whole answer came: it was closed before its end"
        await open_line.keeper.gone.wait()
        response.close()
        assert open_line.keeper.kept == []


async def test_closing_an_answer_that_is_whole_leaves_the_connection() -> None:
    async with line() as open_line:
        response = await open_line.answered(SIZED + b"abc")
        response.close()
        assert open_line.connection.is_quiet()
        assert await response.read(LIMIT) == b"abc"


@on_each_loop
async def test_giving_up_while_waiting_drops_the_connection() -> None:
    for pieces in ((), (CHUNKED,), (CHUNKED + b"3\r\nab",)):
        async with line() as open_line:
            assert await _gives_up(open_line, *pieces)
            await open_line.keeper.gone.wait()
            assert open_line.keeper.kept == []


async def test_giving_up_when_the_answer_is_already_whole_harms_nobody() -> None:
    async with line() as open_line:
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(open_line.connection.ask("POST", REQUEST))
            await asyncio.get_running_loop().sock_recv(open_line.far, len(REQUEST))
            open_line.connection.data_received(SIZED + b"abc")
            asked.cancel()
        assert asked.cancelled()
        assert open_line.keeper.kept == [open_line.connection]
        other = await open_line.answered(SIZED + b"def")
        assert await other.read(LIMIT) == b"def"


@on_each_loop
async def test_an_upstream_waits_for_a_slow_reader() -> None:
    body = b"x" * (64 * MAX_UNREAD)
    async with line() as open_line:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        response = await open_line.answered(head)
        sent = await _stuffed(open_line.far, body)
        assert MAX_UNREAD < response.unread <= sent < len(body) // 2
        async with asyncio.TaskGroup() as tasks:
            loop = asyncio.get_running_loop()
            tasks.create_task(loop.sock_sendall(open_line.far, body[sent:]))
            assert await response.read(len(body)) == body
        assert open_line.keeper.kept == [open_line.connection]
        other = await open_line.answered(SIZED + b"def")
        assert await other.read(LIMIT) == b"def"


@on_each_loop
async def test_a_connection_that_was_held_back_at_its_answers_end_hears_again() -> None:
    async with line() as open_line:
        size = b"%x\r\n" % (2 * MAX_UNREAD)
        await open_line.answered(CHUNKED + size + b"x" * (2 * MAX_UNREAD))
        assert open_line.connection._paused
        open_line.connection.data_received(b"\r\n0\r\n\r\n")  # as some transports do even then
        assert open_line.keeper.kept == [open_line.connection]
        open_line.far.send(b"unasked")
        await open_line.keeper.gone.wait()


@on_each_loop
async def test_an_answer_before_the_request_was_sent_whole_ends_the_connection() -> None:
    async with line() as open_line:
        async with asyncio.TaskGroup() as tasks:
            request = b"x" * (1 << 24)
            asked = tasks.create_task(open_line.connection.ask("POST", request))
            await asyncio.get_running_loop().sock_recv(open_line.far, 1)
            open_line.connection.data_received(SIZED + b"abc")
        assert await asked.result().read(LIMIT) == b"abc"
        await open_line.keeper.gone.wait()
        assert open_line.keeper.kept == []


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    return await anext(chunks)


async def _lost(response: Response) -> str:
    with pytest.raises(AnswerLost) as caught:
        await response.read(LIMIT)
    return str(caught.value)


async def _gives_up(open_line: Line, *pieces: bytes) -> bool:
    try:
        async with asyncio.timeout(0.01):
            await (await open_line.answered(*pieces)).read(LIMIT)
    except TimeoutError:
        return True
    return False


async def _stuffed(far: socket.socket, body: bytes) -> int:
    """Send until the other side takes no more, however often it is given the chance."""
    sent = refusals = 0
    while refusals < 100:
        try:
            sent += far.send(body[sent:])
            refusals = 0
        except BlockingIOError:
            refusals += 1
            await asyncio.sleep(0)
    return sent
