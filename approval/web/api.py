"""The `/v1` API: what scripts and other tools use, with a person's token.

Bodies and answers go through the one strict reader and exact writer, so that the arguments in an
answer are the tokens that will run.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

import orjson
from aiohttp import web

from approval.budgets import document
from approval.core import canonical
from approval.core.audit import Written
from approval.core.call import Call, Vote, requirement_facts
from approval.core.canonical import JSON
from approval.core.identity import Person, Right
from approval.core.money import Money
from approval.errors import Forbidden
from approval.service import Service
from approval.web import openapi, present
from approval.web.auth import Door
from approval.web.budgets import seen_by
from approval.web.deciding import Conflicted, Deciding, Mistyped, ballot, word, words
from approval.web.granting import GrantsApi
from approval.web.present import stamp
from approval.web.problems import Problem
from approval.web.schemas import MAX_PAGE
from approval.web.sent import (
    after,
    amount,
    integer,
    only_parameters,
    read_body,
    seconds,
    settlement,
    shown,
    states,
    text,
    typed,
    wish,
)
from approval.web.settings import WebSettings
from approval.web.waiting import Waiting

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_POLLS: Final = 100
NOT_BUILT_PATHS: Final = ("/v1/tools",)


class Api:
    """Answers scripts."""

    def __init__(
        self, service: Service, settings: WebSettings, door: Door, waiting: Waiting
    ) -> None:
        self._service = service
        self._settings = settings
        self._door = door
        self._waiting = waiting
        self._deciding = Deciding(service)
        self._grants = GrantsApi(service, door)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Give every address of the table its handler."""
        handlers: Mapping[str, Handler] = {
            "list_calls": self._list_calls,
            "get_call": self._get_call,
            "decide_call": self._decide,
            "run_call": self._run,
            "cancel_call": self._cancel,
            "settle_call": self._settle,
            "correct_call": self._correct,
            "list_budgets": self._list_budgets,
            "list_audit": self._list_audit,
            "list_grants": self._grants.list,
            "issue_grant": self._grants.issue,
            "revoke_grant": self._grants.revoke,
            "get_openapi": self._openapi,
        }
        known: list[web.AbstractRouteDef] = [
            web.route(operation.method, operation.path, handlers[operation.id])
            for operation in openapi.OPERATIONS
        ]
        return [*known, *(web.get(path, self._not_built) for path in NOT_BUILT_PATHS)]

    # --- reading ---

    async def _list_calls(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        only_parameters(request, {"state", "limit", "after"})
        page = await self._service.find(
            person.name,
            states=states(request),
            after=after(request),
            limit=integer(request, "limit", 50, least=1, most=MAX_PAGE),
        )
        calls: list[JSON] = [self._written(call, person) for call in page.calls]
        return answer({"calls": calls, "next": page.next})

    async def _get_call(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        only_parameters(request, {"wait", "version"})
        call = await self._deciding.see(person, request.match_info["id"])
        known = integer(request, "version", call.version)
        wait = seconds(request)
        if wait and known == call.version and not call.status.ended:
            async with self._waiting.held(f"api:{person.name}", wait, most=MAX_POLLS):
                call = await self._service.changed(call)
            call = await self._deciding.see(person, call.id)
        return await self._whole(call, person)

    async def _list_budgets(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        only_parameters(request, set())
        pots = await seen_by(self._service, person.name)
        return answer({"budgets": [_json(document(pot)) for pot in pots]})

    async def _list_audit(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        only_parameters(request, {"after", "limit", "subject"})
        subject = request.query.get("subject")
        if subject is not None:
            subject = (await self._deciding.see(person, subject)).id
        elif not self._service.rules.directory.has_right(person.name, Right.READ_ALL):
            raise Forbidden("The whole trail needs the right read_all; [rights] read_all gives it")
        limit = integer(request, "limit", 100, least=1, most=MAX_PAGE)
        start = integer(request, "after", 0)
        entries = await self._service.trail(after=start, limit=limit, subject=subject)
        written: list[JSON] = [audit_entry(entry) for entry in entries]
        following = entries[-1].seq if len(entries) == limit else None
        return answer({"entries": written, "next": following})

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return answer(openapi.document(self._settings.public_url))

    async def _not_built(self, request: web.Request) -> web.StreamResponse:
        await self._door.bearer(request)
        raise Problem(404, "not_built", f"{request.path} comes with a later release.")

    # --- acting ---

    async def _decide(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        body = await read_body(request, {"decision", "reason", "digest", "amount", "grant"})
        cast = ballot(
            person,
            text(body, "decision") or "",
            text(body, "digest"),
            text(body, "reason") or "",
            via="api",
        )
        cast = replace(cast, amount=typed(body), grant=wish(body))
        try:
            call = await self._deciding.decide(request.match_info["id"], cast)
        except Conflicted as conflict:
            raise self._conflict(conflict, person) from conflict
        except Mistyped as error:
            raise Problem(422, f"amount:{error.reason}", f"{error}.") from error
        return await self._whole(call, person)

    async def _run(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        body = await read_body(request, {"digest"})
        said = word(person, text(body, "digest"), via="api")
        try:
            call = await self._deciding.run(request.match_info["id"], said)
        except Conflicted as conflict:
            raise self._conflict(conflict, person) from conflict
        return await self._whole(call, person)

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        body = await read_body(request, {"reason"})
        reason = words("reason", text(body, "reason") or "")
        try:
            call = await self._deciding.cancel(person, request.match_info["id"], reason)
        except Conflicted as conflict:
            raise self._conflict(conflict, person) from conflict
        return await self._whole(call, person)

    async def _settle(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        body = await read_body(request, {"outcome", "evidence", "amount"})
        executed, evidence = settlement(text(body, "outcome") or "", text(body, "evidence") or "")
        try:
            call = await self._deciding.settle(
                person,
                request.match_info["id"],
                executed=executed,
                evidence=evidence,
                actual=amount(body),
            )
        except Conflicted as conflict:
            raise self._conflict(conflict, person) from conflict
        return await self._whole(call, person)

    async def _correct(self, request: web.Request) -> web.StreamResponse:
        person = await self._door.bearer(request)
        body = await read_body(request, {"amount", "evidence"})
        actual, evidence = amount(body), shown(text(body, "evidence") or "")
        if actual is None:
            raise Problem(422, "amount", 'Say what the call took: "amount": "1.15 USD".')
        try:
            call = await self._deciding.correct(
                person, request.match_info["id"], evidence=evidence, actual=actual
            )
        except Conflicted as conflict:
            raise self._conflict(conflict, person) from conflict
        return await self._whole(call, person)

    # --- writing ---

    def _conflict(self, conflict: Conflicted, person: Person) -> Problem:
        members = {"call": self._written(conflict.call, person)}
        return Problem(409, "conflict", f"{conflict}.", members=members)

    async def _whole(self, call: Call, person: Person) -> web.StreamResponse:
        kept = await self._service.answer(call)
        result = canonical.read(kept.body) if kept is not None else None
        return answer({**self._written(call, person), "result": result})

    def _written(self, call: Call, person: Person) -> dict[str, JSON]:
        may = present.may_decide(call, person.name, self._service.rules.directory)
        return write_call(call, may_decide=may)


# --- values as JSON ---


def write_call(call: Call, *, may_decide: bool) -> dict[str, JSON]:
    """Write a call as the API answers it."""
    asked = call.asked
    decided = call.votes[-1].person if call.decided_at is not None and call.votes else None
    return {
        "id": call.id,
        "state": str(call.status),
        "version": call.version,
        "agent": asked.agent,
        "upstream": asked.upstream,
        "tool": asked.tool,
        "title": call.title,
        "arguments": canonical.read(asked.arguments),
        "arguments_digest": asked.arguments_digest,
        "digest": call.digest,
        "amount": money(call.cost),
        "up_to": money(call.asking.up_to if call.asking else None),
        "created_at": stamp(call.created_at),
        "decide_before": stamp(call.decide_before),
        "run_before": stamp(call.run_before),
        "decided_at": stamp(call.decided_at),
        "ended_at": stamp(call.ended_at),
        "delivered_at": stamp(call.delivered_at),
        "decided_by": decided,
        "ended_by": call.ended_by or None,
        "released_by": call.released_by,
        "reason": call.note,
        "votes": [_vote(vote) for vote in call.votes],
        "may_decide": may_decide,
        "listener": str(call.listener),
        "requirement": _json(requirement_facts(call.requirement)),
        "policy": {
            "digest": call.policy_digest,
            "reasons": [
                {"code": reason.code, "path": reason.path, "text": reason.text}
                for reason in call.reasons
            ],
        },
    }


def money(amount: Money | None) -> JSON:
    """Write money as `{"amount": "1.15", "currency": "USD"}`."""
    return None if amount is None else dict(amount.plain())


def _vote(vote: Vote) -> JSON:
    return {
        "person": vote.person,
        "decision": str(vote.choice),
        "digest": vote.digest,
        "at": stamp(vote.at),
        "via": vote.via,
        "reason": vote.reason,
        "amount": money(vote.amount),
        "grant": None if vote.grant is None else _json(vote.grant.plain()),
    }


def audit_entry(entry: Written) -> JSON:
    """Write an entry of the trail with its hash; its body's members as they were hashed."""
    body = canonical.read(entry.body)
    assert isinstance(body, dict)  # noqa: S101  # for the type checker: the trail holds objects
    return {**body, "hash": entry.hash.hex()}


def _json(value: object) -> JSON:
    return canonical.read(orjson.dumps(value))


def answer(value: JSON) -> web.Response:
    return web.Response(body=canonical.write(value), content_type="application/json")
