"""The API's table of addresses, and the OpenAPI 3.1 document written from it.

`api` takes its routes from the same table, so a route that is not described cannot exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from approval.core.call import Choice, Listener, Status
from approval.core.canonical import JSON
from approval.web.deciding import MAX_REASON

MAX_PAGE: Final = 200
MAX_WAIT_SECONDS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One address with one method. `answers` and `takes` name schemas."""

    id: str
    method: str
    path: str
    summary: str
    answers: str
    takes: str | None = None
    parameters: tuple[str, ...] = ()
    refusals: tuple[int, ...] = ()
    open: bool = False


OPERATIONS: Final = (
    Operation(
        id="list_calls",
        method="GET",
        path="/v1/calls",
        summary="Read a page of the calls you may see, newest first.",
        answers="Calls",
        parameters=("state", "limit", "after"),
        refusals=(400,),
    ),
    Operation(
        id="get_call",
        method="GET",
        path="/v1/calls/{id}",
        summary="Read one call; with `wait`, once it has changed.",
        answers="Call",
        parameters=("id", "wait", "version"),
        refusals=(400, 404, 429),
    ),
    Operation(
        id="decide_call",
        method="POST",
        path="/v1/calls/{id}/decision",
        summary="Approve or reject a call. Repeating your own decision answers 200.",
        answers="Call",
        takes="Decision",
        parameters=("id",),
        refusals=(400, 404, 409, 415, 422),
    ),
    Operation(
        id="run_call",
        method="POST",
        path="/v1/calls/{id}/run",
        summary="Run an approved call now whose agent has gone: for those who may decide it.",
        answers="Call",
        takes="Run",
        parameters=("id",),
        refusals=(400, 404, 409, 415, 422),
    ),
    Operation(
        id="cancel_call",
        method="POST",
        path="/v1/calls/{id}/cancel",
        summary="Withdraw a call that has not begun to run: the agent's owner, or an admin.",
        answers="Call",
        takes="Cancellation",
        parameters=("id",),
        refusals=(400, 404, 409, 415, 422),
    ),
    Operation(
        id="settle_call",
        method="POST",
        path="/v1/calls/{id}/settle",
        summary="Say what became of a call in doubt. Needs the right `settle`.",
        answers="Call",
        takes="Settlement",
        parameters=("id",),
        refusals=(400, 404, 409, 415, 422),
    ),
    Operation(
        id="correct_call",
        method="POST",
        path="/v1/calls/{id}/correct",
        summary="Correct what was booked for a call that ended. Needs the right `settle`.",
        answers="Call",
        takes="Correction",
        parameters=("id",),
        refusals=(400, 404, 409, 415, 422),
    ),
    Operation(
        id="list_budgets",
        method="GET",
        path="/v1/budgets",
        summary="Read the budgets you may see: what is spent, held and left, and until when.",
        answers="Budgets",
        refusals=(400,),
    ),
    Operation(
        id="list_audit",
        method="GET",
        path="/v1/audit",
        summary="Read the trail in order. Needs the right `read_all`, or a call you may see.",
        answers="Audit",
        parameters=("after_seq", "limit", "subject"),
        refusals=(400, 404),
    ),
    Operation(
        id="list_grants",
        method="GET",
        path="/v1/grants",
        summary="Read a page of the grants you may see: those you gave, your agents', or all.",
        answers="Grants",
        parameters=("limit", "after_grant"),
        refusals=(400,),
    ),
    Operation(
        id="issue_grant",
        method="POST",
        path="/v1/grants",
        summary="Let an agent pass a gate without asking, within bounds. For admins.",
        answers="Grant",
        takes="Allowance",
        refusals=(400, 404, 415, 422),
    ),
    Operation(
        id="revoke_grant",
        method="DELETE",
        path="/v1/grants/{grant}",
        summary="Take a grant back. Nothing is admitted under it once this is answered.",
        answers="Grant",
        parameters=("grant",),
        refusals=(404, 409),
    ),
    Operation(
        id="get_openapi",
        method="GET",
        path="/v1/openapi.json",
        summary="Read this document.",
        answers="OpenApi",
        open=True,
    ),
)

_TIME: Final[JSON] = {"type": "string", "format": "date-time", "pattern": "Z$"}
_TIME_OR_NULL: Final[JSON] = {"type": ["string", "null"], "format": "date-time", "pattern": "Z$"}
_TEXT: Final[JSON] = {"type": "string"}
_TEXT_OR_NULL: Final[JSON] = {"type": ["string", "null"]}
_COUNT: Final[JSON] = {"type": "integer", "minimum": 0}
_FLAG: Final[JSON] = {"type": "boolean"}
_ID: Final[JSON] = {"type": "string", "pattern": "^apr_[0-9a-v]{26}$"}
_DIGEST: Final[JSON] = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_MONEY: Final[JSON] = {"type": "string", "examples": ["20.00 USD"]}
_MONEY_OR_NULL: Final[dict[str, JSON]] = {
    "oneOf": [{"$ref": "#/components/schemas/Money"}, {"type": "null"}]
}
_WHOLE_OR_NULL: Final[JSON] = {"type": ["integer", "null"]}
_POSITIVE: Final[JSON] = {"type": "integer", "minimum": 1}
_SPAN: Final[JSON] = {"type": "string", "pattern": "^[0-9]+[smhd]$", "examples": ["24h"]}
_TEXTS: Final[JSON] = {"type": "array", "items": _TEXT}


def _object(
    members: Mapping[str, JSON], *, optional: tuple[str, ...] = (), closed: bool = True
) -> JSON:
    return {
        "type": "object",
        "properties": dict(members),
        "required": [name for name in members if name not in optional],
        "additionalProperties": not closed,
    }


def _ref(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}


def _one_of(values: type[Status] | type[Choice] | type[Listener]) -> JSON:
    return {"type": "string", "enum": [str(value) for value in values]}


_EVIDENCE: Final[JSON] = {"type": "string", "minLength": 1, "maxLength": MAX_REASON}
_AMOUNT: Final[JSON] = {"description": "What it took.", "oneOf": [_MONEY, _ref("Money")]}

SCHEMAS: Final[Mapping[str, JSON]] = {
    "Call": _object(
        {
            "id": _ID,
            "state": _one_of(Status),
            "version": _COUNT,
            "agent": _TEXT,
            "upstream": _TEXT,
            "tool": _TEXT,
            "title": _TEXT_OR_NULL,
            "arguments": {"description": "Exactly what will run."},
            "arguments_digest": _DIGEST,
            "digest": {"$ref": "#/components/schemas/Digest"},
            "amount": _MONEY_OR_NULL,
            "up_to": _MONEY_OR_NULL
            | {"description": "The most that whoever approves may type as `amount`, if asked."},
            "created_at": _TIME,
            "decide_before": _TIME,
            "run_before": _TIME_OR_NULL,
            "decided_at": _TIME_OR_NULL,
            "ended_at": _TIME_OR_NULL,
            "delivered_at": _TIME_OR_NULL,
            "decided_by": _TEXT_OR_NULL,
            "ended_by": _TEXT_OR_NULL,
            "released_by": _TEXT_OR_NULL,
            "reason": _TEXT,
            "votes": {"type": "array", "items": _ref("Vote")},
            "may_decide": _FLAG,
            "listener": _one_of(Listener),
            "requirement": _ref("Requirement"),
            "policy": _ref("Policy"),
            "result": {
                "description": "The upstream's `result` or `error` while kept; absent in lists."
            },
        },
        optional=("result",),
    ),
    "Money": _object(
        {"amount": {"type": "string", "pattern": "^[0-9]+([.][0-9]+)?$"}, "currency": _TEXT}
    ),
    "Digest": {
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "Everything an approval depends on; new whenever that changes.",
    },
    "Vote": _object(
        {
            "person": _TEXT,
            "decision": _one_of(Choice),
            "digest": _DIGEST,
            "at": _TIME,
            "via": _TEXT,
            "reason": _TEXT,
            "amount": _MONEY_OR_NULL,
            "grant": {"anyOf": [_ref("Wish"), {"type": "null"}]},
        }
    ),
    "Wish": _object(
        {"uses": _POSITIVE, "within": _SPAN, "total": _MONEY},
        optional=("total",),
    ),
    "Requirement": _object(
        {
            "factors": {
                "type": "array",
                "items": _object({"approvals": _COUNT, "approvers": _TEXTS}),
            },
            "timeout_seconds": _COUNT,
            "run_within_seconds": _COUNT,
            "distinct": _FLAG,
            "not_owner": _FLAG,
            "run": _TEXT,
            "on_disconnect": _TEXT,
            "notify": _TEXTS,
            "grantable": _object(
                {"uses": _POSITIVE, "within": _SPAN, "total": _MONEY, "vary": _TEXTS},
                optional=("total",),
            ),
        },
        optional=("grantable",),
    ),
    "Policy": _object(
        {
            "digest": _TEXT,
            "reasons": {
                "type": "array",
                "items": _object({"code": _TEXT, "path": _TEXT, "text": _TEXT}),
            },
        }
    ),
    "Calls": _object({"calls": {"type": "array", "items": _ref("Call")}, "next": _TEXT_OR_NULL}),
    "Decision": _object(
        {
            "decision": _one_of(Choice),
            "digest": _ref("Digest"),
            "reason": {"type": "string", "maxLength": MAX_REASON},
            "amount": {
                "description": "What it costs, where the call says `up_to`: then it is required.",
                "oneOf": [_MONEY, _ref("Money")],
            },
            "grant": _ref("Wish"),
        },
        optional=("digest", "reason", "amount", "grant"),
    ),
    "Run": _object({"digest": _ref("Digest")}),
    "Cancellation": _object(
        {"reason": {"type": "string", "maxLength": MAX_REASON}}, optional=("reason",)
    ),
    "Settlement": _object(
        {
            "outcome": {"type": "string", "enum": ["executed", "failed"]},
            "evidence": _EVIDENCE,
            "amount": _AMOUNT,
        },
        optional=("amount",),
    ),
    "Correction": _object({"amount": _AMOUNT, "evidence": _EVIDENCE}),
    "Budget": _object(
        {
            "meter": _TEXT,
            "origin": _TEXT,
            "scope": {"type": "object", "additionalProperties": _TEXT_OR_NULL},
            "window": _TEXT,
            "window_seconds": _WHOLE_OR_NULL,
            "zone": _TEXT,
            "limit": _ref("Money"),
            "spent": _ref("Money"),
            "held": _ref("Money"),
            "left": _ref("Money"),
            "until": _TIME_OR_NULL,
            "days": {
                "type": "array",
                "items": _object(
                    {"day": {"type": "string", "format": "date"}, "spent": _ref("Money")}
                ),
            },
        }
    ),
    "Budgets": _object({"budgets": {"type": "array", "items": _ref("Budget")}}),
    "AuditEntry": _object(
        {
            "seq": _COUNT,
            "at": _TEXT,
            "tag": _TEXT,
            "actor": _TEXT,
            "subject": _TEXT,
            "facts": {"type": "object"},
            "hash": _DIGEST,
        }
    ),
    "Audit": _object(
        {"entries": {"type": "array", "items": _ref("AuditEntry")}, "next": _WHOLE_OR_NULL}
    ),
    "Grant": _object(
        {
            "id": _TEXT,
            "state": {"type": "string", "enum": ["in force", "not yet", "ended", "revoked"]},
            "origin": _TEXT,
            "granted_by": _TEXT_OR_NULL,
            "issued_at": _TIME_OR_NULL,
            "revoked_at": _TIME_OR_NULL,
            "revoked_by": _TEXT_OR_NULL,
            "call": {"description": "Out of whose decision it came.", "type": ["string", "null"]},
            "pinned": {
                "description": "The arguments that calls must have; those in `vary` may differ.",
                "anyOf": [_object({"arguments": _DIGEST, "vary": _TEXTS}), {"type": "null"}],
            },
            "allows": _ref("Allowance"),
        }
    ),
    "Grants": _object({"grants": {"type": "array", "items": _ref("Grant")}, "next": _TEXT_OR_NULL}),
    "Allowance": _object(
        {
            "agent": _TEXT,
            "tools": {"anyOf": [_TEXT, _TEXTS]},
            "upstream": _TEXT,
            "conditions": {"type": "array", "items": {"type": "object"}},
            "max_per_call": _MONEY,
            "total": _MONEY,
            "uses": {"type": "integer", "minimum": 1},
            "not_before": {"type": "string", "format": "date-time"},
            "expires": {"type": "string", "format": "date-time"},
            "reason": _TEXT,
        },
        optional=(
            *("upstream", "conditions", "max_per_call", "total", "uses", "not_before"),
            *("expires", "reason"),
        ),
    ),
    "OpenApi": {"type": "object"},
    "Problem": _object(
        {
            "type": {"type": "string", "format": "uri-reference"},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "instance": {"type": "string", "format": "uri-reference"},
            "call": _ref("Call"),
        },
        optional=("call",),
        closed=False,
    ),
}

PARAMETERS: Final[Mapping[str, JSON]] = {
    "id": {"name": "id", "in": "path", "required": True, "schema": _ID},
    "grant": {"name": "grant", "in": "path", "required": True, "schema": _TEXT},
    "state": {
        "name": "state",
        "in": "query",
        "description": "May repeat; without it every state.",
        "schema": {"type": "array", "items": _one_of(Status)},
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50},
    },
    "after": {
        "name": "after",
        "in": "query",
        "description": "The last page's `next`.",
        "schema": _ID,
    },
    "after_grant": {
        "name": "after",
        "in": "query",
        "description": "The last page's `next`.",
        "schema": _TEXT,
    },
    "after_seq": {
        "name": "after",
        "in": "query",
        "description": "The last page's `next`.",
        "schema": {"type": "integer", "minimum": 0, "default": 0},
    },
    "subject": {
        "name": "subject",
        "in": "query",
        "description": "Only what concerns this call.",
        "schema": _ID,
    },
    "wait": {
        "name": "wait",
        "in": "query",
        "description": f"Wait for a change, `30s`; at most {MAX_WAIT_SECONDS} s are waited.",
        "schema": {"type": "string", "pattern": "^[0-9]{1,4}s$"},
    },
    "version": {
        "name": "version",
        "in": "query",
        "description": "With `wait`: the version you know. Another one is answered at once.",
        "schema": _COUNT,
    },
}

_PROBLEM: Final[JSON] = {"application/problem+json": {"schema": _ref("Problem")}}


def document(public_url: str) -> JSON:
    """Write the whole document."""
    paths: dict[str, JSON] = {}
    for operation in OPERATIONS:
        methods = paths.setdefault(operation.path, {})
        assert isinstance(methods, dict)  # noqa: S101  # for the type checker; set just above
        methods[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "approval", "version": "1"},
        "servers": [{"url": public_url}],
        "security": [{"person": []}],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "person": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A person's token. An agent's is refused.",
                }
            },
        },
    }


def _operation(operation: Operation) -> JSON:
    written: dict[str, JSON] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": [PARAMETERS[name] for name in operation.parameters],
        "responses": {
            "200": {"description": "As asked.", "content": _content(operation.answers)},
            **{
                str(status): {"description": "A problem.", "content": _PROBLEM}
                for status in sorted({*operation.refusals, *_always(operation)})
            },
        },
    }
    if operation.takes is not None:
        written["requestBody"] = {"required": True, "content": _content(operation.takes)}
    if operation.open:
        written["security"] = []
    return written


def _always(operation: Operation) -> tuple[int, ...]:
    return () if operation.open else (401, 403, 503)


def _content(schema: str) -> JSON:
    return {"application/json": {"schema": _ref(schema)}}
