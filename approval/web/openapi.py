"""The API's table of addresses, and the OpenAPI 3.1 document written from it.

`api` takes its routes from the same table, so a route that is not described cannot exist.
"""

from dataclasses import dataclass
from typing import Final

from approval.core.canonical import JSON
from approval.web.schemas import PARAMETERS, SCHEMAS, ref


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

_PROBLEM: Final[JSON] = {"application/problem+json": {"schema": ref("Problem")}}


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
    return {"application/json": {"schema": ref(schema)}}
