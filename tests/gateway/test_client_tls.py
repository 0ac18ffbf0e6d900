"""A client over TLS: whoever cannot prove its name is told nothing."""

import asyncio
import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from approval.errors import NeverSent
from approval.gateway.client import HttpClient
from tests.gateway.raw_server import OK, Peer, always_ok, answering, on_each_loop, serving

LIMIT = 1 << 20


def client(url: str, **more: Any) -> HttpClient:
    return HttpClient(url, **{"connect_timeout": 5.0, **more})


async def asked(http: HttpClient, body: bytes = b"{}", **more: Any) -> tuple[int, bytes]:
    response = await http.request("POST", {}, body, **more)
    return response.status, await response.read(LIMIT)


@on_each_loop
async def test_a_trusted_server_is_asked_over_tls() -> None:
    async with (
        serving(answering(OK, OK), tls=server_side()) as server,
        client(server.url, tls=trusting()) as http,
    ):
        assert await asked(http) == (200, b"ok")
        assert await asked(http, b"x" * LIMIT) == (200, b"ok")
        assert [len(peer.requests) for peer in server.peers] == [2]


@on_each_loop
async def test_a_name_is_resolved_and_verified() -> None:
    async with (
        serving(answering(OK), tls=server_side(), name="localhost") as server,
        client(server.url, tls=trusting()) as http,
    ):
        assert await asked(http, fresh=True) == (200, b"ok")
        assert b"\r\nHost: localhost:" in server.requests[0]


@on_each_loop
async def test_an_untrusted_server_is_told_nothing() -> None:
    async with serving(always_ok, tls=server_side()) as server, client(server.url) as http:
        with pytest.raises(NeverSent, match="CERTIFICATE_VERIFY_FAILED"):
            await asked(http)
        assert server.requests == []


@on_each_loop
async def test_a_server_of_another_name_is_told_nothing() -> None:
    # An old way to write the address of the certificate, and not one of its names.
    async with (
        serving(always_ok, tls=server_side(), name="127.1") as server,
        client(server.url, tls=trusting()) as http,
    ):
        with pytest.raises(NeverSent, match=r"CERTIFICATE_VERIFY_FAILED.*127\.1"):
            await asked(http)
        assert server.requests == []


@on_each_loop
async def test_a_server_that_speaks_no_tls_is_told_nothing() -> None:
    async def story(peer: Peer) -> None:
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.ended()

    async with serving(story) as server, client(secured(server.url), tls=trusting()) as http:
        with pytest.raises(NeverSent, match="SSL"):
            await asked(http)


@on_each_loop
async def test_a_server_that_never_shakes_hands_is_given_up() -> None:
    async def story(peer: Peer) -> None:
        await peer.ended()

    async with serving(story) as server:
        url = secured(server.url)
        async with client(url, tls=trusting(), connect_timeout=0.1) as http:
            with pytest.raises(NeverSent, match=r"did not answer within 0\.1 seconds"):
                await asked(http)
            await server.came.wait()
            await server.peers[0].gone.wait()


@on_each_loop
async def test_giving_up_while_connecting_leaves_nothing_open() -> None:
    async def story(peer: Peer) -> None:
        await peer.ended()

    async with serving(story) as server, client(secured(server.url), tls=trusting()) as http:
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(asked(http))
            await server.came.wait()
            waiting.cancel()
        await server.peers[0].gone.wait()
        assert http._connections == set()


def secured(url: str) -> str:
    return url.replace("http:", "https:")


@cache
def certificate() -> tuple[bytes, bytes]:
    """Make a certificate that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "approval tests")])
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    now = datetime.now(UTC)  # noqa: TID251  # TLS looks at the real clock
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def server_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        path.write_bytes(b"".join(certificate()))
        context.load_cert_chain(path)
    return context


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=certificate()[0].decode())
