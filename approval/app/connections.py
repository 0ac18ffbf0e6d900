"""Connections of our server: what a stranger sent that is no request is neither logged nor echoed.

aiohttp writes what its parser refuses into the log, as an error with a traceback, and into its
answer: a bearer token with a slip in its header would stand in both, and anybody could fill a disk.
"""

import asyncio
import logging
from functools import partial
from typing import Final

from aiohttp import web
from typing_extensions import override

from approval.app.newcomers import Make

KEEPALIVE_SECONDS: Final = 75.0
"""How long a connection may idle between two requests: longer than the minute after which reverse
proxies drop one, for whoever closes first may cut off a request that is on its way."""

SERVER: Final = "approval"
"""What answers name: aiohttp would tell its version, and Python's, to whoever asks."""

log = logging.getLogger(__name__)


class Connection(web.RequestHandler):
    """aiohttp's end of a connection, which keeps to itself what it could not read."""

    __slots__ = ()

    @override
    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no request, and what a handler failed at; then the connection ends."""
        if status >= 500:
            response = super().handle_error(request, status, exc, message)
        else:
            # Of the error, too, not a word: its text quotes the line that was refused.
            log.debug("what was sent is no request")
            response = web.Response(status=status, text="This is no HTTP request.\n")
            response.force_close()
        response.headers["Server"] = SERVER
        return response


def maker(server: web.Server) -> Make:
    """Make connections for this server, as its runner would have made its own kind."""
    return partial(
        Connection,
        server,
        loop=asyncio.get_running_loop(),
        access_log=None,  # type: ignore[arg-type]  # its way to say that there is none
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_SECONDS,
    )
