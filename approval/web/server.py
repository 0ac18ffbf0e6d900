"""The web room as one part: its routes, and the guard that stands before all of them."""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from approval.errors import ApprovalError, StoreUnavailable
from approval.service import Service
from approval.web import problems
from approval.web.api import Api
from approval.web.auth import Door
from approval.web.events import Events
from approval.web.pages import HARDENING, HSTS, Pages
from approval.web.problems import Problem
from approval.web.settings import WebSettings
from approval.web.views import Views
from approval.web.waiting import Waiting

log = logging.getLogger(__name__)

FOREIGN: Final = "/mcp/"
"""Agents' addresses: the gateway guards them itself."""

PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Asked by machines that know an address and no name, and telling nothing."""


class Web:
    """People's side of the service.

    `now` is the store's clock; `trouble` says why nothing can be written, if nothing can.
    """

    def __init__(
        self,
        service: Service,
        settings: WebSettings,
        *,
        now: Callable[[], Awaitable[datetime]],
        trouble: Callable[[], str | None],
    ) -> None:
        self._service = service
        self._settings = settings
        self._trouble = trouble
        self._waiting = Waiting()
        self._door = Door(service, settings)
        self._pages = Pages(trouble)
        self._api = Api(service, settings, self._door, self._waiting)
        self._views = Views(service, self._door, self._waiting, self._pages, now)
        self.events = Events(service, self._door, self._waiting, now)

    def install(self, app: web.Application) -> None:
        """Put this room into an application."""
        app.add_routes(self.routes())
        app.middlewares.append(self.middleware)
        app.on_shutdown.append(self._on_shutdown)

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/healthz", self._healthy),
            web.get("/readyz", self._ready),
            *self._pages.routes(),
            *self._views.routes(),
            *self.events.routes(),
            *self._api.routes(),
        ]

    def close(self) -> None:
        """End every stream and long poll: the HTTP server would wait for them."""
        self._waiting.close()

    async def _on_shutdown(self, app: web.Application) -> None:
        self.close()

    @property
    def middleware(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith(FOREIGN):
                return await handler(request)
            response = await self._answered(request, handler)
            if not response.prepared:
                self._harden(response)
            return response

        return guard

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            if request.path not in PROBES:
                self._check_host(request)
                await self._door.refuse_agents(request)
            return await handler(request)
        except web.HTTPException as error:
            return await self._refused(request, problems.of_http(error))
        except ApprovalError as error:
            if isinstance(error, StoreUnavailable):
                log.warning("the store is away: %s", error)
            return await self._refused(request, problems.of(error))
        except Exception:
            log.exception("a request failed")
            return await self._refused(request, problems.of(ApprovalError()))

    def _check_host(self, request: web.Request) -> None:
        given = request.headers.getall("Host", [])
        if len(given) != 1 or given[0].lower() not in self._settings.hosts:
            detail = (
                "This service does not answer to that host name. Use its public URL, or let the"
                " operator add the name to [server] allowed_hosts."
            )
            raise Problem(421, "host", detail)

    async def _refused(self, request: web.Request, problem: Problem) -> web.StreamResponse:
        if problems.wants_problem(request):
            return problems.document(problem, request.path)
        response = await self._views.problem_page(request, problem)
        response.headers.update(problem.headers)
        return response

    def _harden(self, response: web.StreamResponse) -> None:
        for name, value in HARDENING.items():
            response.headers.setdefault(name, value)
        if self._settings.secure:
            response.headers["Strict-Transport-Security"] = HSTS

    async def _healthy(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _ready(self, request: web.Request) -> web.StreamResponse:
        """Say whether calls can be taken and decided: the store is read, and writes as well."""
        if self._waiting.closed:
            return web.Response(status=503, text="stopping\n")
        try:
            await self._service.trail(limit=1)
        except StoreUnavailable:
            return web.Response(status=503, text="the store is away\n")
        trouble = self._trouble()
        if trouble is not None:
            return web.Response(status=503, text=f"{trouble}\n")
        return web.Response(text="ready\n")
