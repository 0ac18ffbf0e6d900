"""A running service: its doors, its trail, and its end."""

import asyncio
import json
import socket
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import ClientSession, TCPConnector, web

from approval.app.connections import KEEPALIVE_SECONDS
from approval.app.newcomers import Newcomers
from approval.app.running import Running, _shorten, running
from approval.config import Config
from approval.errors import Misconfigured
from tests.config.files import PEOPLE, SHOP, TOKEN, VALID, read

FREE = '[server]\nlisten = "127.0.0.1:0"\n'


async def tags(service: Running) -> list[str]:
    return [json.loads(entry.body)["tag"] for entry in await service.store.trail()]


async def test_a_start_and_its_rules_are_in_the_trail_before_anything_else(tmp_path: Path) -> None:
    config = read(tmp_path, FREE + VALID)
    async with running(config) as service:
        assert await tags(service) == ["service:start", "policy:load"]
        (entry,) = await service.store.trail(after=1)
    assert json.loads(entry.body)["facts"] == {
        "agents": 1,
        "narrowing": {},
        "people": 2,
        "policies": {"shop": config.rulebook().policies["shop"].digest},
    }


async def test_agents_people_and_probes_each_find_their_door(tmp_path: Path) -> None:
    async with running(read(tmp_path, FREE + VALID)) as service, ClientSession() as session:
        for path, status in (
            ("/healthz", 200),
            ("/readyz", 200),
            ("/v1/calls", 401),
            ("/mcp/shop", 401),
            ("/nowhere", 404),
        ):
            async with session.get(service.url + path, allow_redirects=False) as response:
                assert (path, response.status) == (path, status)
                assert response.headers["Server"] == "approval"


PROXY_IDLE_SECONDS = 60
"""How long reverse proxies keep a connection to a server that nothing is asked on."""


def test_an_idle_connection_outlives_a_proxys_patience() -> None:
    # Were it closed here first, the proxy might just be sending a call on it, and could not know
    # whether that was read.
    assert KEEPALIVE_SECONDS == 75
    assert KEEPALIVE_SECONDS > PROXY_IDLE_SECONDS


async def test_an_idle_connection_is_closed_when_its_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("approval.app.connections.KEEPALIVE_SECONDS", 0.2)
    async with running(read(tmp_path, FREE + VALID)) as service, asyncio.timeout(10):
        host, port = service.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        assert (await reader.read()).startswith(b"HTTP/1.1 200")  # answered, then closed
        writer.close()


async def test_a_strange_host_name_is_refused_at_every_door(tmp_path: Path) -> None:
    async with running(read(tmp_path, FREE + VALID)) as service, ClientSession() as session:
        for path in ("/", "/mcp/shop", "/v1/calls"):
            headers = {"Host": "rebound.example"}
            async with session.get(service.url + path, headers=headers) as response:
                assert (path, response.status) == (path, 421)


async def test_nobody_is_let_in_after_the_end_and_the_end_is_in_the_trail(tmp_path: Path) -> None:
    config = read(tmp_path, FREE + VALID)
    async with running(config) as service:
        host, port = service.url.removeprefix("http://").split(":")
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=1)
    async with running(config) as again:
        assert await tags(again) == [
            *("service:start", "policy:load", "service:stop", "service:start", "policy:load")
        ]


async def test_an_address_in_use_ends_the_start_and_leaves_the_other_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = read(tmp_path, VALID.replace("[groups]", "[groups]"))
        port = other.getsockname()[1]
        taken = read(tmp_path, f'[server]\nlisten = "127.0.0.1:{port}"\n' + VALID)
        with pytest.raises(Misconfigured, match="another program listens there"):
            async with running(taken):
                raise AssertionError("it must not start")
    assert not (tmp_path / "approval.db").exists()
    assert config.server.listen.port == 8080


async def test_two_processes_on_one_file_see_each_others_decisions(tmp_path: Path) -> None:
    config = read(tmp_path, FREE + VALID)
    async with running(config) as one, running(config) as two:
        token = await one.service.keyring.issue("person", "ann", actor="test")
        async with asyncio.timeout(5):
            while two.service.keyring.person(token) is None:
                await two.service.poll()
        headers = {"Authorization": f"Bearer {token}"}
        async with ClientSession(headers=headers) as session:
            for service in (one, two):
                async with session.get(service.url + "/v1/calls") as response:
                    assert await response.json() == {"calls": [], "next": None}


async def answers(session: ClientSession, url: str, wanted: int) -> str:
    """Ask until the answer is this one, as an orchestrator's probe does."""
    async with asyncio.timeout(20):
        while True:
            async with session.get(url) as response:
                if response.status == wanted:
                    return await response.text()
            await asyncio.sleep(0.1)


async def test_a_service_that_nobody_asks_notices_that_it_cannot_write(tmp_path: Path) -> None:
    config = read(tmp_path, FREE + VALID)
    async with running(config) as service, ClientSession() as session:
        url = service.url + "/readyz"
        with closing(sqlite3.connect(tmp_path / "approval.db", isolation_level=None)) as other:
            assert await answers(session, url, 200) == "ready\n"
            other.execute("BEGIN IMMEDIATE")
            told = await answers(session, url, 503)
            assert told == "the database could not be written: database is locked\n"
        assert await answers(session, url, 200) == "ready\n"


def encrypted(folder: Path) -> Config:
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
        " -days 2 -keyout key.pem -out cert.pem"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return read(folder, FREE + 'tls = { cert = "cert.pem", key = "key.pem" }\n' + VALID)


async def test_with_a_certificate_everything_is_encrypted(tmp_path: Path) -> None:
    config = await asyncio.to_thread(encrypted, tmp_path)
    async with running(config) as service:
        assert service.url.startswith("https://127.0.0.1:")
        async with (
            ClientSession(connector=TCPConnector(ssl=False)) as session,
            session.get(service.url + "/healthz") as response,
        ):
            assert response.status == 200
            assert "Strict-Transport-Security" in response.headers


async def test_behind_a_proxy_links_start_with_its_name(tmp_path: Path) -> None:
    text = (
        FREE
        + 'public_url = "https://approval.example.com"\ntrusted_proxies = ["127.0.0.1"]\n'
        + SHOP
        + PEOPLE
        + '[agents.a]\nupstreams = ["shop"]\ntoken = { env = "T" }\n'
    )
    async with running(read(tmp_path, text, T=TOKEN)) as service:
        assert service.url == "https://approval.example.com"
        link = await service.login_link("ann")
        assert link.startswith("https://approval.example.com/login?token=")


class Straight:
    """Stands where the gateway does, and says that it was asked."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="straight")


@pytest.mark.parametrize("direct", [True, False])
async def test_behind_a_proxy_nobody_goes_past_the_check_of_who_asks(direct: bool) -> None:
    async def through(request: web.Request) -> web.StreamResponse:
        return web.Response(text="through")

    app = web.Application()
    app.add_routes([web.post("/mcp/shop", through), web.get("/healthz", through)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    assert runner.server is not None
    newcomers = Newcomers(runner.server, 5)
    _shorten(runner.server, Straight(), newcomers, direct=direct)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as bound:
        accepting = await newcomers.accept(bound, None)
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with ClientSession() as session:
            async with session.post(f"{url}/mcp/shop") as response:
                assert await response.text() == ("straight" if direct else "through")
            async with session.get(f"{url}/healthz") as response:
                assert await response.text() == "through"
            assert newcomers.waiting == {}  # struck off either way
        accepting.close()
        newcomers.close()
        await runner.cleanup()
