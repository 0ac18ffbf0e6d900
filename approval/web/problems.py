"""What went wrong, in words for the one who asked: a problem document (RFC 9457) or a page."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import web

from approval.core import canonical
from approval.core.canonical import JSON
from approval.errors import (
    ApprovalError,
    Conflict,
    Forbidden,
    NotFound,
    StoreUnavailable,
    Unreadable,
)

PROBLEM_JSON: Final = "application/problem+json"


class Problem(ApprovalError):
    """A request that is not carried out. `code` is stable; `detail` is a sentence with a remedy.

    `members` join the problem document: a conflict carries the call as it is now.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        members: Mapping[str, JSON] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.members = members or {}
        self.headers = headers or {}

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase


class SignIn(Problem):
    """The page is for people who are signed in. `back` is where they go from there."""

    def __init__(self, back: str) -> None:
        super().__init__(401, "sign_in", "Sign in to go on; nothing was decided meanwhile.")
        self.back = back


KINDS: Final[tuple[tuple[type[ApprovalError], int, str, str], ...]] = (
    (NotFound, 404, "not_found", "There is no such thing, or none that you may see."),
    (Forbidden, 403, "forbidden", "{error}."),
    (Conflict, 409, "conflict", "{error}."),
    (Unreadable, 400, "unreadable", "{error}."),
    (
        StoreUnavailable,
        503,
        "store_unavailable",
        "The store is away and nothing was changed: {error}. Try again in a moment.",
    ),
)


def of(error: ApprovalError) -> Problem:
    """Turn a failure of the rooms below into what HTTP says of it."""
    if isinstance(error, Problem):
        return error
    for kind, status, word, detail in KINDS:
        if isinstance(error, kind):
            code = error.reason if isinstance(error, Unreadable) else word
            later = {"Retry-After": "5"} if status == 503 else {}
            return Problem(status, code, detail.format(error=error), headers=later)
    return Problem(500, "internal", "The service failed. Its log says why.")


def of_http(error: web.HTTPException) -> Problem:
    """Turn an answer of the HTTP library (unknown path, wrong method, body too large)."""
    match error:
        case web.HTTPNotFound():
            return of(NotFound("no such path"))
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"This address takes {allowed}, not {error.method}."
            return Problem(405, "method_not_allowed", detail, headers={"Allow": allowed})
        case web.HTTPRequestEntityTooLarge():
            return Problem(413, "too_large", "The request's body is too large.")
        case _:
            return Problem(error.status, "http", error.reason)


def wants_problem(request: web.Request) -> bool:
    """Say whether the asker reads problem documents, as scripts do, and not pages."""
    return request.path.startswith("/v1/") or request.headers.get("Accept") == PROBLEM_JSON


def document(problem: Problem, instance: str) -> web.Response:
    """Write the problem for a script."""
    body: dict[str, JSON] = {
        "type": f"/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": instance,
        **problem.members,
    }
    return web.Response(
        status=problem.status,
        body=canonical.write(body),
        content_type=PROBLEM_JSON,
        headers=dict(problem.headers),
    )
