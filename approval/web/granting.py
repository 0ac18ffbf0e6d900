"""Grants over the API: list those you may see, give one as an admin, take one back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import orjson
from aiohttp import web

from approval.core import canonical
from approval.core.canonical import JSON
from approval.core.grants import Grant, Origin
from approval.core.issued import Issued, read_issue, state, words
from approval.core.limits import GRANT
from approval.errors import Misconfigured
from approval.service import Service
from approval.web.auth import Door
from approval.web.present import stamp
from approval.web.problems import Problem
from approval.web.sent import only_parameters, read_body

TAKES: Final = GRANT - {"name"}
"""What may be said of a grant that is issued: it gets a name of its own."""


class GrantsApi:
    """Answers scripts about grants."""

    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door = door

    async def list(self, request: web.Request) -> web.StreamResponse:
        """Answer the grants that this person may see."""
        person = await self._door.bearer(request)
        only_parameters(request, set())
        granting = self._service.granting
        own = [
            Issued(grant=grant, issued_at=None)
            for grant in self._service.rules.grants
            if granting.may_see(person.name, grant)
        ]
        now = await granting.now()
        found = [*own, *await granting.listed(person.name)]
        return _answer({"grants": [write(each, state(each, now)) for each in found]})

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
