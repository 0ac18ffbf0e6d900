"""The console's page of grants: list them, give one as an admin, take one back."""

import secrets
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlencode

from aiohttp import web

from approval.core.identity import Right
from approval.core.issued import GrantPage, Issued, state
from approval.errors import Conflict, Forbidden, NotFound
from approval.service import Service
from approval.web.auth import Door, Visitor
from approval.web.grant_cards import cards
from approval.web.grant_form import FIELDS, WHOLE, Form, Mistaken, read_grant
from approval.web.problems import wants_problem

PAGE: Final = 20


class Draw(Protocol):
    """Draws a template for a visitor, with what every page of theirs has."""

    async def __call__(
        self, template: str, visitor: Visitor, *, status: int = 200, **values: object
    ) -> web.Response: ...


class GrantPages:
    """Answers browsers about grants; what they may is what the API lets them."""

    def __init__(self, service: Service, door: Door, draw: Draw) -> None:
        self._service = service
        self._granting = service.granting
        self._door = door
        self._draw = draw

    def routes(self) -> list[web.AbstractRouteDef]:
        return [
            web.get("/grants", self._list),
            web.post("/grants", self._issue),
            web.post("/grants/{grant}/revoke", self._revoke),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        return await self._page(
            visitor,
            after=request.query.get("after"),
            done=await self._done(visitor, request.query.get("done", "")),
        )

    async def _issue(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        fields = await self._door.form(request, visitor)
        self._granting.check(visitor.person.name)
        typed = {name: fields.get(name, "") for name in FIELDS}
        try:
            grant = read_grant(typed, await self._granting.now())
            # A form that is sent twice, by a double click or to be sure, gives one grant.
            issued = await self._granting.issue(
                grant, person=visitor.person.name, via="web", once=fields.get("once") or None
            )
        except Mistaken as mistaken:
            return await self._page(visitor, form=Form(typed=typed, wrong=mistaken.wrong))
        except Conflict as twice:
            notice = f"{twice}; to give another, fill in a new form"
            return await self._page(visitor, notice=notice)
        except (Forbidden, NotFound) as refusal:
            form = Form(typed=typed, wrong={WHOLE: (str(refusal),)})
            return await self._page(visitor, form=form)
        return _see(done=issued.grant.id)

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        visitor = await self._door.visitor(request)
        fields = await self._door.form(request, visitor)
        grant_id, after = request.match_info["grant"], fields.get("after") or None
        try:
            await self._granting.revoke(grant_id, person=visitor.person.name, via="web")
        except Conflict as conflict:
            if wants_problem(request):
                raise
            return await self._page(visitor, after=after, notice=str(conflict))
        return _see(after=after, done=grant_id)

    async def _done(self, visitor: Visitor, grant_id: str) -> str:
        """Say what was just done. The address only names a grant: it is the store that tells."""
        try:
            issued = await self._granting.see(grant_id, person=visitor.person.name)
        except NotFound:
            return ""
        return _told(issued, state(issued, await self._granting.now()))

    async def _page(
        self,
        visitor: Visitor,
        *,
        after: str | None = None,
        done: str = "",
        notice: str = "",
        form: Form | None = None,
    ) -> web.Response:
        person = visitor.person.name
        page, begun = await self._read(person, after)
        directory = self._service.rules.directory
        agents = directory.agents.values()
        return await self._draw(
            "grants.html",
            visitor,
            status=422 if form else 409 if notice else 200,
            cards=await cards(self._service, person, page.grants),
            after=begun or "",
            following=f"?{urlencode({'after': page.next})}" if page.next else None,
            done=done,
            notice=notice,
            issues=directory.has_right(person, Right.ADMIN),
            agents=sorted(each.name for each in agents if each.owner != person),
            upstreams=sorted(self._service.rules.policies),
            form=form or Form(),
            once=secrets.token_urlsafe(),
        )

    async def _read(self, person: str, after: str | None) -> tuple[GrantPage, str | None]:
        """Read a page; the first where the grant to read on after is there no longer."""
        try:
            return await self._granting.page(person, after=after, limit=PAGE), after
        except NotFound:
            return await self._granting.page(person, limit=PAGE), None


def _told(issued: Issued, is_now: str) -> str:
    told: Mapping[str, str] = {
        "in force": "is in force.",
        "not yet": "is given, and not in force yet.",
        "revoked": "is revoked. Nothing more passes under it.",
    }
    return f"{issued.grant.id} {told[is_now]}" if is_now in told else ""


def _see(**shown: str | None) -> web.Response:
    query = urlencode({name: value for name, value in shown.items() if value})
    return web.Response(status=303, headers={"Location": f"/grants?{query}"})
