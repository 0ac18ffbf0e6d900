import json

import pytest
from aiohttp import web

from approval.errors import (
    ApprovalError,
    Conflict,
    Forbidden,
    NotFound,
    StoreUnavailable,
    Unreadable,
)
from approval.web import problems
from approval.web.problems import Problem, SignIn


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("x"), 404, "not_found"),
        (Forbidden("x"), 403, "forbidden"),
        (Conflict("x"), 409, "conflict"),
        (Unreadable("duplicate_member", "x"), 400, "duplicate_member"),
        (StoreUnavailable("x"), 503, "store_unavailable"),
        (Problem(422, "digest", "x"), 422, "digest"),
        (SignIn("/"), 401, "sign_in"),
        (ApprovalError("secret detail"), 500, "internal"),
    ],
)
def test_every_failure_has_a_status_and_a_stable_code(
    error: ApprovalError, status: int, code: str
) -> None:
    problem = problems.of(error)
    assert (problem.status, problem.code) == (status, code)
    assert "secret detail" not in problem.detail


def test_unknown_and_unseen_are_told_in_the_same_words() -> None:
    assert problems.of(NotFound("there is none")).detail == problems.of(NotFound("no")).detail


def test_who_should_come_back_is_told_when() -> None:
    assert problems.of(StoreUnavailable("x")).headers == {"Retry-After": "5"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (web.HTTPNotFound(), 404, "not_found"),
        (web.HTTPMethodNotAllowed("PUT", {"POST", "GET"}), 405, "method_not_allowed"),
        (web.HTTPRequestEntityTooLarge(1, 2), 413, "too_large"),
        (web.HTTPBadRequest(), 400, "http"),
    ],
)
def test_the_http_librarys_refusals_are_problems_too(
    error: web.HTTPException, status: int, code: str
) -> None:
    problem = problems.of_http(error)
    assert (problem.status, problem.code) == (status, code)
    assert problem.headers == ({"Allow": "GET, POST"} if status == 405 else {})


def test_a_problem_document_is_as_rfc_9457_says() -> None:
    problem = Problem(409, "conflict", "It has changed.", members={"call": {"id": "x"}})
    response = problems.document(problem, "/v1/calls/x")
    assert response.content_type == "application/problem+json"
    assert isinstance(response.body, bytes)
    assert json.loads(response.body) == {
        "type": "/problems/conflict",
        "title": "Conflict",
        "status": 409,
        "detail": "It has changed.",
        "instance": "/v1/calls/x",
        "call": {"id": "x"},
    }
