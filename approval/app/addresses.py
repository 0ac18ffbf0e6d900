"""Where the service listens, by which names it is reached, and whom it hears through a proxy."""

import errno
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Middleware

from approval.config.sections import Listen, Network, Server
from approval.errors import Misconfigured

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def bind(listen: Listen) -> socket.socket:
    """Take the address without listening yet: nobody gets in, and the port is known.

    Raises:
        Misconfigured: If the address cannot be taken.
    """
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((listen.host, listen.port))
    except OSError as error:
        bound.close()
        raise taken(listen, error) from error
    return bound


def taken(listen: Listen, error: OSError) -> Misconfigured:
    """Word why an address cannot be listened on."""
    reason = (error.strerror or str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        reason = "another program listens there; stop it, or choose another port"
    elif error.errno == errno.EACCES:
        reason = "this account may not; choose a port above 1023"
    elif isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        reason = "this machine has no such address; write 127.0.0.1, or one of its own"
    return Misconfigured((f"server.listen: {listen.netloc} cannot be used: {reason}",))


def public_url(server: Server, port: int) -> str:
    """Say what links start with: as configured, or as it follows from where we listen."""
    if server.public_url is not None:
        return server.public_url
    scheme = "https" if server.tls is not None else "http"
    return f"{scheme}://{Listen(server.listen.host, port).netloc}"


def hosts(server: Server, url: str, port: int) -> tuple[str, ...]:
    """List what a `Host` header may say: it is how a strange web page is told from an agent."""
    named = (urlsplit(url).netloc, *server.allowed_hosts)
    if server.listen.is_loopback:
        named = (*named, *LOOPBACK, *(f"{host}:{port}" for host in LOOPBACK))
    return tuple(dict.fromkeys(named))


def through_proxies(server: Server) -> Middleware:
    """Hear strangers only through a trusted proxy, and believe nobody else about who asks."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if speaks_in_the_open(server, request.remote):
            raise web.HTTPForbidden(
                text="This address is not in [server] trusted_proxies: connect through the proxy."
            )
        if not is_proxy(server, request.remote):
            return await handler(request)
        return await handler(_as_forwarded(request, server.trusted_proxies))

    return middleware


def is_proxy(server: Server, remote: str | None) -> bool:
    """Say whether this peer's word on who is behind it counts."""
    peer = _address(remote)
    return peer is not None and _trusted(peer, server.trusted_proxies)


def speaks_in_the_open(server: Server, remote: str | None) -> bool:
    """Say whether this peer came past the proxy: its token would have travelled unencrypted."""
    peer = _address(remote)
    is_local = peer is not None and peer.is_loopback
    return server.tls is None and not is_local and not is_proxy(server, remote)


def _as_forwarded(request: web.Request, proxies: tuple[Network, ...]) -> web.Request:
    chain = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
    remote = request.remote
    # From the right: each proxy appends whom it heard; left of the last trusted one anybody wrote.
    for text in reversed([part.strip() for part in chain if part.strip()]):
        address = _address(text)
        if address is None:
            break
        remote = str(address)
        if not _trusted(address, proxies):
            break
    scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
    return request.clone(
        remote=remote or "", scheme=scheme if scheme in {"http", "https"} else request.scheme
    )


def _address(text: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text or "")
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _trusted(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, proxies: tuple[Network, ...]
) -> bool:
    return any(address in network for network in proxies)
