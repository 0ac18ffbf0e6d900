"""Agents in: one endpoint for each upstream, in both eras of the protocol.

A request is let in, read strictly, and told whose it is; then it is relayed as the object that was
read, never as the bytes that came. Only `tools/call` is judged (`calls`), only `tools/list` is
edited (`tools`); everything else that the era knows passes, streams in both directions included.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Self

from aiohttp import web

from approval.core.call import Answer, Call
from approval.core.canonical import JSON
from approval.core.identity import Agent
from approval.errors import AnswerLost, NeverSent, NotFound, Refused
from approval.gateway import entry, headers, protocol, release, tools
from approval.gateway.calls import Calls, Turn
from approval.gateway.protocol import METHOD_NOT_FOUND, MODERN_VERSIONS, BadMessage, Kind, Message
from approval.gateway.relay import failure, plain, relay
from approval.gateway.session import Session, Sessions
from approval.gateway.settings import GatewaySettings, UpstreamSettings
from approval.gateway.stdio import StdioUpstream
from approval.gateway.tools import Listing
from approval.gateway.upstream import Sent, Upstream
from approval.gateway.upstream_http import HttpUpstream
from approval.gateway.waiting import Waiting
from approval.service import Service

log = logging.getLogger(__name__)

PREFIX = "/mcp/"
"""Where agents' endpoints are: what follows is the upstream's name."""

DRAIN_SECONDS = 5.0
SWEEPS_PER_IDLE = 4
LISTENING = Message(kind=Kind.NOTIFICATION, raw={})
"""Stands for the message that a GET or DELETE does not have."""


class Gateway:
    """The endpoints and the servers behind them. Enter it before use.

    `settings` may be replaced while it runs.
    """

    def __init__(
        self,
        service: Service,
        upstreams: Mapping[str, UpstreamSettings],
        settings: GatewaySettings | None = None,
    ) -> None:
        self.settings = settings or GatewaySettings()
        self._service = service
        self._configured = upstreams
        self._upstreams = {
            name: _upstream(name, each, self.settings) for name, each in upstreams.items()
        }
        self._listings = {
            name: Listing(name, offers=each.approval_tools) for name, each in upstreams.items()
        }
        self._sessions = Sessions()
        self._streams: Counter[str] = Counter()
        self._listeners: set[asyncio.Task[object]] = set()
        self._waiting = Waiting(service, self._keep_alive)
        self._calls = Calls(
            service,
            self._waiting,
            settings=lambda: self.settings,
            detached=self.send_detached,
        )

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for upstream in self._upstreams.values():
                await stack.enter_async_context(upstream)
            stack.push_async_callback(self._end_sessions)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            sweeper = tasks.create_task(self._sweep())
            stack.callback(sweeper.cancel)
            stack.callback(self._waiting.close)
            self._exit = stack.pop_all()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    def routes(self) -> list[web.RouteDef]:
        return [web.route("*", f"{PREFIX}{{upstream}}", self.handle)]

    async def send_detached(self, call: Call) -> Answer:
        """Run an approved call that no agent waits for: a `ports.Send`."""
        upstream = self._upstreams.get(call.asked.upstream)
        if upstream is None:
            raise NeverSent(f'there is no upstream "{call.asked.upstream}" any more')
        within = self._service.settings.timeout(call.asked.upstream)
        return await release.send_detached(upstream, call, within=within)

    async def list_tools(self, name: str) -> list[dict[str, JSON]]:
        """Ask an upstream for all its tools, in a session of its own.

        Raises:
            NotFound: If there is no such upstream.
            NeverSent: If it cannot be reached or serves no version that we know.
            AnswerLost: If it answers in no readable way.
        """
        if name not in self._upstreams:
            raise NotFound(f'there is no upstream "{name}"')
        return await release.list_tools(self._upstreams[name])

    async def drain(self) -> None:
        """Tell agents whose calls are held that they are pending, and end listening streams."""
        for task in self._listeners:
            task.cancel()
        try:
            await self._waiting.drain(DRAIN_SECONDS)
        except TimeoutError:
            log.warning("some held calls were detached without a word: their agents are slow")

    def _keep_alive(self) -> float:
        return self.settings.keep_alive.total_seconds()

    # --- letting requests in ---

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request whose path begins with `PREFIX`."""
        try:
            return await self._answer(request)
        except ConnectionError:
            log.debug("an agent hung up while it was being answered")
            return web.Response()  # goes nowhere: there is no connection

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        message: Message | None = None
        try:
            entry.check(request, self.settings)
            agent = self._agent(request)
            name = self._known_upstream(agent, request)
            match request.method:
                case "POST":
                    headers.check_body_headers(request.headers)
                    message = protocol.parse(await entry.body(request, self.settings))
                    return await self._post(self._turn(request, agent, name, message))
                case "GET":
                    return await self._get(self._wordless(request, agent, name))
                case "DELETE":
                    return await self._delete(self._wordless(request, agent, name))
                case _:
                    raise _no_method()
        except BadMessage as bad:
            return plain(bad.body(), bad.status, entry.EXTRA_HEADERS.get(bad.status))
        except Refused as refused:
            many = entry.refusal(429, refused.code, str(refused))
            many.about(message.id if message else None)
            return plain(many.body(), 429, entry.EXTRA_HEADERS[429])
        except (NeverSent, AnswerLost) as error:
            return failure(message, str(error))

    def _agent(self, request: web.Request) -> Agent:
        agent = self._service.keyring.agent(entry.bearer(request))
        if agent is None:
            raise entry.refusal(401, "unknown_token", "this token is no agent's, or was revoked")
        return agent

    def _known_upstream(self, agent: Agent, request: web.Request) -> str:
        name = request.path.removeprefix(PREFIX)
        if name not in self._upstreams or name not in agent.upstreams:
            # What exists for others is not this agent's to know.
            raise entry.refusal(404, "unknown_upstream", "this agent has no such upstream")
        return name

    def _turn(self, request: web.Request, agent: Agent, name: str, message: Message) -> Turn:
        """Find out whose message this is, and in which conversation.

        Raises:
            BadMessage: If its headers say something else, or its session is not there.
        """
        said = headers.check_post(request.headers, message)
        upstream = self._upstreams[name]
        session: Session | None = None
        if said in MODERN_VERSIONS:
            far = upstream.shared()
        elif (session := self._session(request, agent, name)) is not None:
            far = session.far
        else:
            far = upstream.begin()
        return Turn(
            request=request,
            agent=agent,
            upstream=name,
            message=message,
            said=said,
            far=far,
            listing=self._listings[name],
            session=session,
        )

    def _wordless(self, request: web.Request, agent: Agent, name: str) -> Turn:
        """Find the session of a GET or DELETE, which exist only in the older protocol."""
        said = request.headers.get(headers.VERSION, "")
        if said in MODERN_VERSIONS:
            raise _no_method()
        session = self._session(request, agent, name)
        far = session.far if session else self._upstreams[name].begin()
        return Turn(
            request=request,
            agent=agent,
            upstream=name,
            message=LISTENING,
            said=said,
            far=far,
            listing=self._listings[name],
            session=session,
        )

    def _session(self, request: web.Request, agent: Agent, name: str) -> Session | None:
        session_id = request.headers.get(headers.SESSION)
        if session_id is None:
            return None
        session = self._sessions.find(session_id, agent=agent.name, upstream=name)
        if session is not None and session.far.over:
            self._sessions.remove(session)
            session = None
        if session is None:
            raise entry.refusal(404, "unknown_session", "there is no such session: initialize anew")
        return session

    # --- what they ask ---

    async def _post(self, turn: Turn) -> web.StreamResponse:
        message = turn.message
        known = protocol.is_known(message, turn.version)
        if not known and message.method not in self._configured[turn.upstream].methods:
            return _unknown(message)
        with self._busy(turn):
            if message.method == "notifications/cancelled" and await self._calls.cancel_held(turn):
                return web.Response(status=202, headers=entry.NAMED)
            return await self._dispatch(turn)

    async def _dispatch(self, turn: Turn) -> web.StreamResponse:
        match turn.message.method:
            case "tools/call":
                return await self._calls.answer(turn)
            case "tools/list":
                return await self._list(turn)
            case "initialize":
                return await self._initialize(turn)
            case "subscriptions/listen":
                with self._listening(turn):
                    return await self._relay(turn)
            case _:
                return await self._relay(turn)

    async def _relay(self, turn: Turn) -> web.StreamResponse:
        return await relay(turn.request, turn.message, await turn.far.post(turn.sent()))

    async def _list(self, turn: Turn) -> web.StreamResponse:
        listing = turn.listing
        first = "cursor" not in turn.message.params
        rules = self._service.rules
        ours = listing.offers and tools.can_hold(rules, turn.agent, turn.upstream)

        def edit(result: dict[str, JSON]) -> dict[str, JSON]:
            return listing.edit(result, rules, turn.agent, ours=ours, first=first)

        reply = await turn.far.post(turn.sent())
        return await relay(turn.request, turn.message, reply, edit=edit)

    async def _initialize(self, turn: Turn) -> web.StreamResponse:
        await self._make_room(turn.agent)
        sent = Sent(message=turn.message, received=turn.request.headers)
        reply = await turn.far.post(sent)
        session: Session | None = None
        if turn.far.established:
            session = self._sessions.add(
                agent=turn.agent.name,
                upstream=turn.upstream,
                far=turn.far,
                client_name=turn.message.client_name,
                now=_now(),
            )

        def watch(answer: dict[str, object]) -> None:
            result = answer.get("result")
            version = result.get("protocolVersion") if isinstance(result, dict) else None
            if session is not None and isinstance(version, str):
                session.version = version

        ours = {headers.SESSION: session.id} if session is not None else None
        return await relay(turn.request, turn.message, reply, headers=ours, watch=watch)

    async def _make_room(self, agent: Agent) -> None:
        limit = self.settings.max_sessions
        while (oldest := self._sessions.make_room(agent.name, limit=limit, now=_now())) is not None:
            await self._end(oldest)

    async def _get(self, turn: Turn) -> web.StreamResponse:
        last_event_id = turn.request.headers.get(headers.LAST_EVENT, "")
        with self._busy(turn), self._listening(turn):
            reply = await turn.far.listen(last_event_id)
            return await relay(turn.request, LISTENING, reply)

    async def _delete(self, turn: Turn) -> web.StreamResponse:
        if turn.session is None:
            raise entry.refusal(400, "no_session", f"{headers.SESSION} must name what to end")
        return web.Response(status=await self._end(turn.session), headers=entry.NAMED)

    # --- sessions and streams ---

    @contextmanager
    def _busy(self, turn: Turn) -> Iterator[None]:
        session = turn.session
        if session is None:
            yield
            return
        session.busy += 1
        try:
            yield
        finally:
            session.busy -= 1
            session.used_at = _now()

    @contextmanager
    def _listening(self, turn: Turn) -> Iterator[None]:
        """Count a listening stream of the agent's, and end it when the gateway drains.

        Raises:
            Refused: If the agent has as many as it may.
        """
        name = turn.agent.name
        if self._streams[name] >= self.settings.max_streams:
            text = f"this agent listens to {self.settings.max_streams} streams, the most it may"
            raise Refused("too_many_streams", text, retryable=True)
        task = asyncio.current_task()
        self._streams[name] += 1
        if task is not None:
            self._listeners.add(task)
        try:
            yield
        finally:
            self._streams[name] -= 1
            if task is not None:
                self._listeners.discard(task)

    async def _end(self, session: Session) -> int:
        self._sessions.remove(session)
        return await session.far.end()

    async def _end_sessions(self) -> None:
        async with asyncio.TaskGroup() as ending:
            for session in self._sessions:
                ending.create_task(self._end(session))

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.settings.session_idle.total_seconds() / SWEEPS_PER_IDLE)
            try:
                await self.end_idle(_now())
            except Exception:
                log.exception("ending idle sessions failed")

    async def end_idle(self, now: float) -> int:
        """End the sessions that nobody has used for long. Returns how many."""
        idle = self._sessions.idle(self.settings.session_idle.total_seconds(), now=now)
        for session in idle:
            await self._end(session)
        return len(idle)


def _upstream(name: str, settings: UpstreamSettings, gateway: GatewaySettings) -> Upstream:
    if settings.command:
        return StdioUpstream(name, settings, gateway)
    return HttpUpstream(name, settings)


def _unknown(message: Message) -> web.Response:
    """Answer a message that is not of this era: a way round the policy must not pass."""
    if message.kind is not Kind.REQUEST:
        log.debug("a notification that the era does not know was dropped")
        return web.Response(status=202, headers=entry.NAMED)
    text = f'the method "{message.method}" does not pass here'
    body = protocol.error_body(message.id, METHOD_NOT_FOUND, text)
    return plain(body, protocol.http_status(METHOD_NOT_FOUND, modern=message.modern))


def _no_method() -> BadMessage:
    return entry.refusal(405, "method", "this endpoint takes POST, and GET and DELETE in a session")


def _now() -> float:
    return asyncio.get_running_loop().time()
