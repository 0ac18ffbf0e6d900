"""Where the service listens, by which names, and whom it believes about who asks."""

import socket

import pytest
from aiohttp import ClientSession, web

from approval.app import addresses
from approval.config.sections import Listen, Server
from approval.errors import Misconfigured


def server(**changes: object) -> Server:
    return Server.model_validate(changes)


def test_a_bound_address_has_its_port_and_lets_nobody_in() -> None:
    bound = addresses.bind(Listen("127.0.0.1", 0))
    with bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname(), timeout=1)


def test_an_address_that_is_taken_is_said_to_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        listen = Listen("127.0.0.1", other.getsockname()[1])
        with pytest.raises(Misconfigured) as caught:
            addresses.bind(listen)
    assert caught.value.problems == (
        (
            f"server.listen: {listen.netloc} cannot be used: another program listens there; stop"
            f" it, or choose another port"
        ),
    )


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied"), "this account may not"),
        (socket.gaierror(-2, "Name or service not known"), "this machine has no such address"),
        (OSError(99, "Cannot assign requested address"), "this machine has no such address"),
        (OSError(5, "Input/output error"), "input/output error"),
    ],
)
def test_why_an_address_cannot_be_used_is_said(error: OSError, told: str) -> None:
    assert told in str(addresses.taken(Listen("192.0.2.1", 80), error))


def test_links_follow_from_where_we_listen_unless_they_are_configured() -> None:
    assert addresses.public_url(server(), 1234) == "http://127.0.0.1:1234"
    assert addresses.public_url(server(listen="[::1]:0"), 5) == "http://[::1]:5"
    assert addresses.public_url(server(tls={"cert": "c", "key": "k"}), 7) == "https://127.0.0.1:7"
    assert addresses.public_url(server(public_url="https://a.example"), 7) == "https://a.example"


def test_hosts_are_ours_alone_beyond_loopback() -> None:
    near = addresses.hosts(server(allowed_hosts=["b.example"]), "http://127.0.0.1:80", 80)
    assert near == (
        "127.0.0.1:80",
        "b.example",
        "127.0.0.1",
        "localhost",
        "[::1]",
        "localhost:80",
        "[::1]:80",
    )
    far = server(listen="0.0.0.0:80", public_url="https://a.example")
    assert addresses.hosts(far, "https://a.example", 80) == ("a.example",)


PROXIES = ["10.0.0.0/24", "127.0.0.1"]


@pytest.mark.parametrize(
    ("remote", "proxy", "in_the_open"),
    [
        ("10.0.0.7", True, False),
        ("::ffff:10.0.0.7", True, False),
        ("127.0.0.1", True, False),
        ("127.0.0.9", False, False),
        ("192.0.2.1", False, True),
        ("not an address", False, True),
        (None, False, True),
    ],
)
def test_whoever_comes_past_the_proxy_is_not_heard(
    remote: str | None, proxy: bool, in_the_open: bool
) -> None:
    behind = server(trusted_proxies=PROXIES)
    assert addresses.is_proxy(behind, remote) is proxy
    assert addresses.speaks_in_the_open(behind, remote) is in_the_open
    encrypted = server(trusted_proxies=PROXIES, tls={"cert": "c", "key": "k"})
    assert addresses.speaks_in_the_open(encrypted, remote) is False


async def seen(given: Server, headers: list[tuple[str, str]]) -> tuple[int, str]:
    """Ask a real server behind the middleware who it thinks is asking, and how."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.scheme} {request.remote}")

    app = web.Application(middlewares=[addresses.through_proxies(given)])
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{site.port}/"
        async with ClientSession() as session, session.get(url, headers=headers) as response:
            return response.status, await response.text()
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("headers", "who"),
    [
        ([], "http 127.0.0.1"),
        ([("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "https")], "https 192.0.2.9"),
        ([("X-Forwarded-For", "1.1.1.1, 192.0.2.9, 10.0.0.3")], "http 192.0.2.9"),
        ([("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "192.0.2.9")], "http 192.0.2.9"),
        ([("X-Forwarded-For", "192.0.2.9, unknown")], "http 127.0.0.1"),
        ([("X-Forwarded-Proto", "javascript")], "http 127.0.0.1"),
    ],
)
async def test_a_proxy_says_who_asks(headers: list[tuple[str, str]], who: str) -> None:
    assert await seen(server(trusted_proxies=PROXIES), headers) == (200, who)


async def test_nobody_else_says_who_asks() -> None:
    given = server(trusted_proxies=["10.0.0.1"])
    forged = [("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "https")]
    assert await seen(given, forged) == (200, "http 127.0.0.1")
