"""The console's pages: inbox, one call, history, trail, sign-in. They work without JavaScript."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from approval.core.call import Call, CallId, Choice, Status
from approval.core.identity import Person, Right
from approval.errors import Forbidden
from approval.service import Service
from approval.web import budgets, present, timeline
from approval.web.auth import Door, Visitor, safe_path
from approval.web.deciding import Conflicted, Deciding, Mistyped, ballot, word, words
from approval.web.grant_pages import GrantPages
from approval.web.pages import Pages
from approval.web.problems import Problem, SignIn, wants_problem
from approval.web.sent import after, entered, integer, money, settlement, states, wish_of_form
from approval.web.waiting import Waiting

RECENT: Final = 10
PENDING: Final = 100
PAGE: Final = 50
SCANNED_PAGES: Final = 20
"""Filters look at most at so many pages of history before they answer what they have."""

HEADLINES: Final = {
    403: "You may not do that",
    404: "There is nothing here",
    409: "It has changed meanwhile",
    421: "Wrong address",
    429: "Too many at once",
    500: "The service failed",
    503: "Try again in a moment",
}


class Views:
    """Answers browsers."""

    def __init__(
        self,
        service: Service,
        door: Door,
        waiting: Waiting,
        pages: Pages,
        now: Callable[[], Awaitable[datetime]],
    ) -> None:
        self._service = service
        self._door = door
        self._waiting = waiting
        self._pages = pages
        self._now = now
        self._deciding = Deciding(service)
        self._grants = GrantPages(service, door, self._page)

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/", self._inbox),
            web.get("/calls/{id}", self._call),
            web.get("/calls/{id}/card", self._card),
            web.post("/calls/{id}/decision", self._decide),
            web.post("/calls/{id}/run", self._run),
            web.post("/calls/{id}/cancel", self._cancel),
            web.post("/calls/{id}/settle", self._settle),
            web.get("/history", self._history),
            web.get("/budgets", self._budgets),
            *self._grants.routes(),
            web.get("/trail", self._trail),
            web.get("/login", self._login),
            web.post("/login", self._sign_in),
            web.post("/logout", self._sign_out),
        ]

    # --- reading ---

    async def _inbox(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        pending = await self._found(visitor, (Status.PENDING,), PENDING)
        doubtful = await self._found(visitor, (Status.IN_DOUBT,), RECENT)
        others = [status for status in Status if status not in {Status.PENDING, Status.IN_DOUBT}]
        return await self._page(
            "inbox.html",
            visitor,
            # Oldest first: what comes later stands below, here as in the live page.
            pending=list(reversed(pending)),
            doubtful=doubtful,
            recent=await self._found(visitor, others, RECENT),
        )

    async def _found(
        self, visitor: Visitor, wanted: Sequence[Status], limit: int
    ) -> list[present.View]:
        page = await self._service.find(visitor.person.name, states=wanted, limit=limit)
        return [await self._view(call, visitor) for call in page.calls]

    async def _view(self, call: Call, visitor: Visitor, *, reveal: bool = False) -> present.View:
        directory = self._service.rules.directory
        waits = call.status is Status.PENDING
        view = present.view(
            call,
            visitor.person.name,
            directory,
            await self._now(),
            reveal=reveal,
            budgets=await self._service.budgets.lines(call) if waits else (),
        )
        may_run = await self._service.releasing.is_open_to(visitor.person.name, call)
        return replace(view, may_run=may_run)

    async def _call(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        call = await self._deciding.see(visitor.person, request.match_info["id"])
        return await self._call_page(call, visitor, reveal="reveal" in request.query)

    async def _call_page(
        self,
        call: Call,
        visitor: Visitor,
        *,
        reveal: bool = False,
        notice: str = "",
        typed: str = "",
        status: int = 200,
    ) -> web.Response:
        entries = await self._service.trail(subject=call.id, limit=500)
        directory = self._service.rules.directory
        return await self._page(
            "call.html",
            visitor,
            status=status,
            view=await self._view(call, visitor, reveal=reveal),
            votes=[
                (present.actor(f"person:{vote.person}", directory, visitor.person.name), vote)
                for vote in call.votes
            ],
            moments=timeline.moments(entries, directory, visitor.person.name),
            result=await self._result(call),
            notice=notice,
            typed=typed,
        )

    async def _result(self, call: Call) -> str | None:
        kept = await self._service.answer(call)
        return kept.body.decode() if kept is not None else None

    async def _card(self, request: web.Request) -> web.StreamResponse:
        """Answer one card of the inbox: what the script puts in place of the old one."""
        visitor = await self._door.visitor(request)
        call = await self._deciding.see(visitor.person, request.match_info["id"])
        return await self._page("card.html", visitor, view=await self._view(call, visitor))

    async def _history(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        agent, tool = (request.query.get(name, "").strip()[:200] for name in ("agent", "tool"))
        wanted = states_of_form(request)
        found, following = await self._search(visitor.person, request, wanted, agent, tool)
        kept = [("state", str(state)) for state in wanted]
        kept += [(name, text) for name, text in (("agent", agent), ("tool", tool)) if text]
        return await self._page(
            "history.html",
            visitor,
            found=[await self._view(call, visitor) for call in found],
            state=str(wanted[0]) if wanted else "",
            agent=agent,
            tool=tool,
            older=f"?{urlencode([*kept, ('after', following)])}" if following else None,
        )

    async def _search(
        self,
        person: Person,
        request: web.Request,
        wanted: tuple[Status, ...],
        agent: str,
        tool: str,
    ) -> tuple[list[Call], str | None]:
        found: list[Call] = []
        following = after(request)
        for _ in range(SCANNED_PAGES):
            page = await self._service.find(person.name, states=wanted, after=following, limit=PAGE)
            found += [call for call in page.calls if matches(call, agent, tool)]
            following = page.next
            if following is None or len(found) >= PAGE:
                break
        return found, following

    async def _budgets(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        pots = await budgets.seen_by(self._service, visitor.person.name)
        return await self._page(
            "budgets.html", visitor, gauges=[budgets.gauge(pot) for pot in pots]
        )

    async def _trail(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        directory = self._service.rules.directory
        if not directory.has_right(visitor.person.name, Right.READ_ALL):
            raise Forbidden("The whole trail needs the right read_all; [rights] read_all gives it")
        head = await self._head()
        before = integer(request, "before", head + 1)
        start = max(0, min(before - 1, head) - PAGE)
        entries = await self._service.trail(after=start, limit=max(0, before - 1 - start))
        return await self._page(
            "trail.html",
            visitor,
            moments=list(reversed(timeline.moments(entries, directory, visitor.person.name))),
            older=f"?before={start + 1}" if start else None,
            newer=f"?before={min(before + PAGE, head + 1)}" if before <= head else None,
        )

    async def _head(self) -> int:
        """Find the last entry's number: entries are numbered without gaps, and read in order."""
        low, high = 0, 64
        while await self._service.trail(after=high, limit=1):
            low, high = high, high * 2
        while low < high:
            middle = (low + high) // 2
            if await self._service.trail(after=middle, limit=1):
                low = middle + 1
            else:
                high = middle
        return low

    # --- acting ---

    async def _decide(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        fields = await self._door.form(request, visitor)
        cast = ballot(
            visitor.person,
            fields.get("decision", ""),
            fields.get("digest") or None,
            fields.get("reason", ""),
            via="web",
        )
        if cast.choice is Choice.APPROVE:  # the other button sends what stands in the fields, too
            cast = replace(cast, amount=entered(fields), grant=wish_of_form(fields))
        try:
            call = await self._deciding.decide(request.match_info["id"], cast)
        except Conflicted as conflict:
            return await self._conflict(request, conflict, visitor)
        except Mistyped as error:
            if wants_problem(request):
                raise Problem(422, f"amount:{error.reason}", f"{error}.") from error
            return await self._call_page(
                error.call, visitor, notice=str(error), typed=fields.get("amount", ""), status=422
            )
        return see_other(back(fields, call.id))

    async def _run(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        fields = await self._door.form(request, visitor)
        said = word(visitor.person, fields.get("digest") or None, via="web")
        try:
            call = await self._deciding.run(request.match_info["id"], said)
        except Conflicted as conflict:
            return await self._conflict(request, conflict, visitor)
        return see_other(f"/calls/{call.id}")

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        fields = await self._door.form(request, visitor)
        reason = words("reason", fields.get("reason", ""))
        try:
            call = await self._deciding.cancel(visitor.person, request.match_info["id"], reason)
        except Conflicted as conflict:
            return await self._conflict(request, conflict, visitor)
        return see_other(f"/calls/{call.id}")

    async def _settle(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        fields = await self._door.form(request, visitor)
        executed, evidence = settlement(fields.get("outcome", ""), fields.get("evidence", ""))
        took = entered(fields)
        try:
            call = await self._deciding.settle(
                visitor.person,
                request.match_info["id"],
                executed=executed,
                evidence=evidence,
                actual=None if took is None else money(took),
            )
        except Conflicted as conflict:
            return await self._conflict(request, conflict, visitor)
        return see_other(f"/calls/{call.id}")

    async def _conflict(
        self, request: web.Request, conflict: Conflicted, visitor: Visitor
    ) -> web.StreamResponse:
        if wants_problem(request):
            raise conflict
        return await self._call_page(conflict.call, visitor, notice=str(conflict), status=409)

    # --- signing in and out ---

    async def _login(self, request: web.Request) -> web.StreamResponse:
        """Show a button. Scanners of mail and chat open every link; only the form spends it."""
        return self.sign_in_page(
            back=safe_path(request.query.get("next", "/")), token=request.query.get("token", "")
        )

    def sign_in_page(
        self, *, back: str, token: str = "", problem: str = "", status: int = 200
    ) -> web.Response:
        good = token if re.fullmatch(r"[A-Za-z0-9_-]{1,200}", token) else ""
        return self._pages.page(
            "login.html", None, status=status, back=back, token=good, problem=problem
        )

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        fields = await self._door.form(request, None)
        going = safe_path(fields.get("next", "/"))
        try:
            _, session = await self._door.sign_in(request, fields.get("token", "").strip())
        except Problem as problem:
            return self.sign_in_page(back=going, problem=problem.detail, status=problem.status)
        response = see_other(going)
        self._door.give_cookie(response, session)
        return response

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        await self._door.form(request, visitor)
        await self._door.sign_out(visitor)
        self._waiting.end(visitor.key)
        response = see_other("/login")
        self._door.take_cookie(response)
        return response

    # --- what went wrong ---

    async def problem_page(self, request: web.Request, problem: Problem) -> web.StreamResponse:
        """Say what went wrong, with the way on."""
        if isinstance(problem, SignIn):
            said = problem.detail if request.method == "POST" else ""
            return self.sign_in_page(back=problem.back, problem=said, status=401)
        return self._pages.page(
            "problem.html",
            None,
            status=problem.status,
            problem=problem,
            headline=HEADLINES.get(problem.status, "That did not work"),
            call_id=known_call(request),
        )

    async def _page(
        self, template: str, visitor: Visitor, *, status: int = 200, **values: object
    ) -> web.Response:
        directory = self._service.rules.directory
        return self._pages.page(
            template,
            visitor,
            status=status,
            now=await self._now(),
            reads_all=directory.has_right(visitor.person.name, Right.READ_ALL),
            **values,
        )


def matches(call: Call, agent: str, tool: str) -> bool:
    asked = call.asked
    return agent.lower() in asked.agent.lower() and tool.lower() in asked.tool.lower()


def states_of_form(request: web.Request) -> tuple[Status, ...]:
    """Read the form's choice, where an empty one means every state."""
    return () if request.query.get("state") == "" else states(request)


def see_other(path: str) -> web.Response:
    return web.Response(status=303, headers={"Location": path})


def back(fields: dict[str, str], call_id: CallId) -> str:
    """Go back to the inbox if the form stood there, else to the call."""
    return f"/#{call_id}" if fields.get("back") == "/" else f"/calls/{call_id}"


def known_call(request: web.Request) -> str | None:
    call_id = request.match_info.get("id", "")
    return call_id if re.fullmatch(r"apr_[0-9a-v]{26}", call_id) else None
