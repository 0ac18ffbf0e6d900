"""Grants over the API: list those you may see, give one as an admin, take one back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import orjson
from aiohttp import web

from approval.core import canonical
from approval.core.canonical import JSON
from approval.core.grants import Grant, Origin
from approval.core.identity import Person
from approval.core.issued import GrantPage, Issued, read_issue, state, words
from approval.core.limits import GRANT
from approval.errors import Misconfigured, NotFound
from approval.service import Service
from approval.web.auth import Door
from approval.web.present import stamp
from approval.web.problems import Problem
from approval.web.schemas import MAX_PAGE
from approval.web.sent import integer, only_parameters, read_body

TAKES: Final = GRANT - {"name"}
"""What may be said of a grant that is issued: it gets a name of its own."""


class GrantsApi:
    """Answers scripts about grants."""

    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Answer a page of the grants that this person may see."""
        person = await self._door.bearer(request)
        only_parameters(request, {"limit", "after"})
        limit = integer(request, "limit", 50, least=1, most=MAX_PAGE)
        page = await page_of(self._service, person, request, limit)
        now = await self._service.granting.now()
        written: list[JSON] = [write(each, state(each, now)) for each in page.grants]
        return _answer({"grants": written, "next": page.next})

    async def issue(self, request: web.Request) -> web.StreamResponse:
        """Give a grant on an admin's word."""
        person = await self._door.bearer(request)
        grant = asked(await read_body(request, set(TAKES)))
        issued = await self._service.granting.issue(grant, person=person.name, via="api")
        return _answer(write(issued, state(issued, await self._service.granting.now())))

    async def revoke(self, request: web.Request) -> web.StreamResponse:
        """Take a grant back."""
        person = await self._door.bearer(request)
        issued = await self._service.granting.revoke(
            request.match_info["grant"], person=person.name, via="api"
        )
        return _answer(write(issued, state(issued, await self._service.granting.now())))


async def page_of(service: Service, person: Person, request: web.Request, limit: int) -> GrantPage:
    """Read the page of grants that a request asks for.

    Raises:
        Problem: If it reads on after a grant that there is not.
    """
    after = request.query.get("after")
    try:
        return await service.granting.page(person.name, after=after, limit=limit)
    except NotFound as error:
        raise Problem(400, "after", "after is the last page's next; begin anew.") from error


def asked(body: Mapping[str, JSON]) -> Grant:
    """Read a grant as somebody asks for it.

    Raises:
        Problem: With everything that is wrong with it.
    """
    try:
        grant = read_issue(body, source="grant")
    except Misconfigured as error:
        told = "; ".join(error.problems).replace("grant: /grant/0", "")
        raise Problem(422, "grant", f"{told}.") from error
    return replace(grant, origin=Origin.CONSOLE, path="")


def write(each: Issued, is_now: str) -> dict[str, JSON]:
    """Write a grant as the API answers it; what is not bounded is left out."""
    grant = each.grant
    return {
        "id": grant.id,
        "state": is_now,
        "origin": grant.origin.value,
        "granted_by": grant.granted_by or None,
        "issued_at": stamp(each.issued_at),
        "revoked_at": stamp(each.revoked_at),
        "revoked_by": each.revoked_by or None,
        "call": None if grant.decided is None else grant.decided.call,
        "pinned": None
        if grant.pinned is None
        else {"arguments": grant.pinned.digest, "vary": list(grant.pinned.free)},
        "allows": canonical.read(orjson.dumps(words(grant))),
    }


def _answer(value: JSON) -> web.Response:
    return web.Response(body=canonical.write(value), content_type="application/json")
