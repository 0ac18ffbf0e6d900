"""A client of one server: which connection carries what, and what is never sent at all."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from approval.errors import AnswerLost, NeverSent
from approval.gateway.client import MAX_IDLE, HttpClient
from tests.gateway.raw_server import OK, Peer, always_ok, answering, on_each_loop, serving

LIMIT = 1 << 20
NOTHING: Mapping[str, str] = {}


def client(url: str, **more: Any) -> HttpClient:
    return HttpClient(url, **{"connect_timeout": 5.0, **more})


async def asked(http: HttpClient, body: bytes = b"{}", **more: Any) -> tuple[int, bytes]:
    response = await http.request("POST", NOTHING, body, **more)
    return response.status, await response.read(LIMIT)


@on_each_loop
async def test_a_request_is_written_as_it_should_be() -> None:
    own = {"User-Agent": "approval", "X-Name": "Zoë"}
    async with serving(always_ok) as server, client(server.url + "?a=b&c=é", headers=own) as http:
        sent = {"Accept": "text/event-stream", "user-agent": "agent", "x-name": "other"}
        response = await http.request("POST", sent, b"body")
        assert await response.read(LIMIT) == b"ok"
        response = await http.request("GET", NOTHING, fresh=True)
        assert await response.read(LIMIT) == b"ok"
    start = (
        "POST /mcp?a=b&c=%C3%A9 HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{server.port}\r\n"
        "User-Agent: approval\r\n"
        "X-Name: Zoë\r\n"
    )
    rest = "Accept: text/event-stream\r\nContent-Length: 4\r\n\r\nbody"
    assert server.requests == [
        (start + rest).encode(),
        (start.replace("POST", "GET") + "Connection: close\r\n\r\n").encode(),
    ]


@on_each_loop
async def test_requests_in_turn_share_a_connection() -> None:
    async with serving(always_ok) as server, client(server.url) as http:
        for _ in range(5):
            assert await asked(http) == (200, b"ok")
        assert [len(peer.requests) for peer in server.peers] == [5]


@on_each_loop
async def test_a_fresh_request_has_a_connection_to_itself() -> None:
    ends = asyncio.Event()

    async def story(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        assert await peer.ended() == b""
        ends.set()

    async with serving(story) as server, client(server.url) as http:
        await asked(http)
        assert await asked(http, fresh=True) == (200, b"ok")
        await ends.wait()  # though the server would have kept it
        assert await asked(http, fresh=True) == (200, b"ok")
        assert [len(peer.requests) for peer in server.peers] == [1, 1, 1]
        assert len(http._connections) <= 2


@on_each_loop
async def test_the_connection_used_last_is_used_next() -> None:
    async with serving(always_ok) as server, client(server.url) as http:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(asked(http))
        last = [*http._idle][-1]
        await asked(http)
        await asked(http)
        assert [*http._idle][-1] is last
        assert sorted(len(peer.requests) for peer in server.peers) == [1, 1, 3]


@on_each_loop
async def test_no_more_than_so_many_idle_connections_are_kept() -> None:
    everybody = asyncio.Barrier(MAX_IDLE + 20)

    async def story(peer: Peer) -> None:
        await peer.request()
        await everybody.wait()
        peer.send(OK)
        await peer.ended()

    async with serving(story) as server, client(server.url) as http:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(MAX_IDLE + 20):
                tasks.create_task(asked(http))
        assert len(http._idle) == MAX_IDLE
        assert len(server.peers) == MAX_IDLE + 20


@on_each_loop
async def test_idle_connections_are_closed_in_time() -> None:
    ended = asyncio.Event()

    async def story(peer: Peer) -> None:
        await answering(OK)(peer)
        ended.set()

    async with serving(story) as server, client(server.url, idle=0.05) as http:
        await asked(http)
        await ended.wait()
        assert http._idle == {}
        await asked(http)
        assert len(server.peers) == 2


@on_each_loop
async def test_a_sweep_leaves_what_was_used_since() -> None:
    async with serving(always_ok) as server, client(server.url) as http:
        await asked(http)
        http._sweep()
        await asked(http)
        assert len(server.peers) == 1


@on_each_loop
async def test_a_connection_that_was_idle_too_long_is_not_used() -> None:
    async with serving(always_ok) as server, client(server.url, idle=0.0) as http:
        await asked(http)
        await asked(http)
        assert [len(peer.requests) for peer in server.peers] == [1, 1]


@on_each_loop
async def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    closed = asyncio.Event()

    async def story(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.writer.drain()
        if len(server.peers) == 1:
            peer.writer.transport.abort()
        closed.set()
        await peer.ended()

    async with serving(story) as server, client(server.url) as http:
        await asked(http)
        await closed.wait()
        assert await asked(http) == (200, b"ok")
        assert [len(peer.requests) for peer in server.peers] == [1, 1]


@on_each_loop
async def test_an_answer_that_nobody_asked_for_is_nobodys() -> None:
    sent = asyncio.Event()

    async def story(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        if len(server.peers) == 1:
            await peer.writer.drain()
            await asyncio.sleep(0)
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
            await peer.writer.drain()
        sent.set()
        await peer.ended()

    async with serving(story) as server, client(server.url) as http:
        assert await asked(http) == (200, b"ok")
        await sent.wait()
        assert await asked(http) == (200, b"ok")
        assert len(server.peers) == 2


@on_each_loop
async def test_a_request_whose_answer_is_lost_is_not_repeated() -> None:
    async def story(peer: Peer) -> None:
        await peer.request()
        peer.send(OK)
        await peer.request()  # on a connection that worked before

    async with serving(story) as server, client(server.url) as http:
        await asked(http)
        with pytest.raises(AnswerLost, match="the connection ended"):
            await asked(http, b"once")
        assert [request[-4:] for request in server.requests] == [b"\r\n{}", b"once"]


@on_each_loop
async def test_a_reset_connection_loses_the_answer() -> None:
    async def story(peer: Peer) -> None:
        await peer.request()
        reset = struct.pack("ii", 1, 0)
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        peer.writer.transport.abort()

    async with serving(story) as server, client(server.url) as http:
        with pytest.raises(AnswerLost, match="ConnectionResetError"):
            await asked(http)


@on_each_loop
async def test_a_redirect_is_not_followed() -> None:
    away = b"HTTP/1.1 307 T\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(away)) as server, client(server.url) as http:
        response = await http.request("POST", NOTHING, b"{}")
        assert (response.status, response.headers["location"]) == (307, "/elsewhere")
        assert len(server.requests) == 1


@on_each_loop
async def test_a_cookie_is_not_kept() -> None:
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    async with serving(answering(cookie, OK)) as server, client(server.url) as http:
        await asked(http)
        await asked(http)
        assert b"a=b" not in server.requests[1]


@on_each_loop
async def test_requests_at_once_never_mix_their_answers() -> None:
    async with echoing() as url, client(url) as http:

        async def ask(number: int) -> None:
            body = b"%d." % number * (1 + number * 37 % 4000)
            for _ in range(3):
                assert await asked(http, body, fresh=number % 7 == 0) == (200, body)

        async with asyncio.TaskGroup() as tasks:
            for number in range(200):
                tasks.create_task(ask(number))


@on_each_loop
async def test_answers_of_cancelled_requests_reach_nobody_else() -> None:
    async with echoing() as url, client(url) as http:

        async def ask(number: int) -> None:
            for turn in range(5):
                body = b"%d/%d" % (number, turn)
                try:
                    async with asyncio.timeout(0.001 * (number % 9) if number % 3 else None):
                        assert await asked(http, body) == (200, body)
                except TimeoutError:
                    continue

        async with asyncio.TaskGroup() as tasks:
            for number in range(120):
                tasks.create_task(ask(number))


@on_each_loop
async def test_leaving_the_client_ends_every_connection_and_request() -> None:
    async def story(peer: Peer) -> None:
        await answering(OK)(peer)

    async with serving(story) as server:
        http = client(server.url)
        async with asyncio.TaskGroup() as tasks:
            async with http:
                await asked(http)
                waiting = tasks.create_task(lost(http))  # the second on its connection
                await asyncio.sleep(0)
            assert http._connections == set()
        assert waiting.result() == "no whole answer came: the connection ended"
        with pytest.raises(NeverSent, match="ended before anything was sent"):
            await asked(http)


@on_each_loop
async def test_nobody_listens_so_nothing_was_sent() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
        async with client(url) as http:
            with pytest.raises(NeverSent, match=r"no connection to 127\.0\.0\.1"):
                await asked(http)


@pytest.mark.parametrize(
    "url",
    [
        *("", "nonsense", "ftp://127.0.0.1/", "http://", "http://:80/", "http:///mcp"),
        *("http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://me@127.0.0.1/"),
        *(f"http://{'x' * 64}.invalid/", "http://[::g]/", "http://a..b/"),
    ],
)
async def test_an_address_that_is_none_sends_nothing(url: str) -> None:
    async with client(url) as http:
        with pytest.raises(NeverSent):
            await asked(http)


async def test_a_path_cannot_break_out_of_its_line() -> None:
    async with serving(always_ok) as server, client(server.url + "/a\r\nX: y /é") as http:
        await asked(http)
        first_line = server.requests[0].partition(b"\r\n")[0]
        assert first_line == b"POST /mcp/aX:%20y%20/%C3%A9 HTTP/1.1"
        assert b"\r\nX" not in server.requests[0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "b\r\nX-C: d"),
        ("X-A", "b\nX-C: d"),
        ("X-A", "b\rX-C: d"),
        ("X-A", "b\0"),
        ("X-A", "é"),
        ("X-A: b\r\nX-C", "d"),
        ("X A", "b"),
        ("X-A:", "b"),
        ("", "b"),
        ("X\u017f", "b"),
        ("Transfer-Encoding", "chunked"),
        ("content-length", "0"),
        ("Connection", "close"),
        ("HOST", "elsewhere"),
    ],
)
async def test_a_header_that_would_change_the_request_is_not_sent(name: str, value: str) -> None:
    async with serving(always_ok) as server:
        async with client(server.url) as http:
            with pytest.raises(NeverSent, match="header"):
                await http.request("POST", {"X-Good": "yes", name: value}, b"{}")
        async with client(server.url, headers={name: value}) as http:
            if (name, value) != ("X-A", "é"):  # an operator's own may be UTF-8
                with pytest.raises(NeverSent, match="header"):
                    await asked(http)
        assert server.requests == []


@pytest.mark.parametrize("method", ["", "POST / HTTP/1.1\r\n", "P T"])
async def test_a_method_that_is_none_is_not_sent(method: str) -> None:
    async with serving(always_ok) as server, client(server.url) as http:
        with pytest.raises(NeverSent, match="no HTTP method"):
            await http.request(method, NOTHING)
        assert server.peers == []


@on_each_loop
async def test_a_connection_that_comes_after_the_end_is_not_used() -> None:
    async with serving(always_ok) as server:
        async with asyncio.TaskGroup() as tasks:
            http = client(server.url)
            async with http:
                waiting = tasks.create_task(unsent(http))
                await asyncio.sleep(0)
        assert "ended before anything was sent" in waiting.result()
        assert server.requests == []


@asynccontextmanager
async def echoing() -> AsyncIterator[str]:
    """Run a real server that answers each request with its body, sooner or later."""

    async def echo(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        for _ in range(sum(body) % 13):
            await asyncio.sleep(0)
        if len(body) % 2:
            return web.Response(body=body)
        stream = web.StreamResponse()
        await stream.prepare(request)
        await stream.write(body[:5])
        await asyncio.sleep(0.001 * (len(body) % 5))
        if len(body) > 5:
            await stream.write(body[5:])
        return stream

    app = web.Application()
    app.router.add_post("/", echo)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def lost(http: HttpClient) -> str:
    with pytest.raises(AnswerLost) as caught:
        await asked(http)
    return str(caught.value)


async def unsent(http: HttpClient) -> str:
    with pytest.raises(NeverSent) as caught:
        await asked(http)
    return str(caught.value)
