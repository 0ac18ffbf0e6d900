"""What the API's bodies and parameters look like: the schemas of its OpenAPI document."""

from collections.abc import Mapping
from typing import Final

from approval.core.call import Choice, Listener, Status
from approval.core.canonical import JSON
from approval.web.deciding import MAX_REASON

MAX_PAGE: Final = 200
MAX_WAIT_SECONDS: Final = 60

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


def ref(name: str) -> JSON:
    """Refer to a schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def _one_of(values: type[Status] | type[Choice] | type[Listener]) -> JSON:
    return {"type": "string", "enum": [str(value) for value in values]}


_EVIDENCE: Final[JSON] = {"type": "string", "minLength": 1, "maxLength": MAX_REASON}
_AMOUNT: Final[JSON] = {"description": "What it took.", "oneOf": [_MONEY, ref("Money")]}

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
            "votes": {"type": "array", "items": ref("Vote")},
            "may_decide": _FLAG,
            "listener": _one_of(Listener),
            "requirement": ref("Requirement"),
            "policy": ref("Policy"),
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
            "grant": {"anyOf": [ref("Wish"), {"type": "null"}]},
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
    "Calls": _object({"calls": {"type": "array", "items": ref("Call")}, "next": _TEXT_OR_NULL}),
    "Decision": _object(
        {
            "decision": _one_of(Choice),
            "digest": ref("Digest"),
            "reason": {"type": "string", "maxLength": MAX_REASON},
            "amount": {
                "description": "What it costs, where the call says `up_to`: then it is required.",
                "oneOf": [_MONEY, ref("Money")],
            },
            "grant": ref("Wish"),
        },
        optional=("digest", "reason", "amount", "grant"),
    ),
    "Run": _object({"digest": ref("Digest")}),
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
            "limit": ref("Money"),
            "spent": ref("Money"),
            "held": ref("Money"),
            "left": ref("Money"),
            "until": _TIME_OR_NULL,
            "days": {
                "type": "array",
                "items": _object(
                    {"day": {"type": "string", "format": "date"}, "spent": ref("Money")}
                ),
            },
        }
    ),
    "Budgets": _object({"budgets": {"type": "array", "items": ref("Budget")}}),
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
        {"entries": {"type": "array", "items": ref("AuditEntry")}, "next": _WHOLE_OR_NULL}
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
            "allows": ref("Allowance"),
        }
    ),
    "Grants": _object({"grants": {"type": "array", "items": ref("Grant")}, "next": _TEXT_OR_NULL}),
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
            "call": ref("Call"),
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
