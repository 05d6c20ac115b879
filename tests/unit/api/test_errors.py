"""Errors as problems: which kind becomes which status, and what never gets out."""

from __future__ import annotations

import json

import psycopg
import pytest
from psycopg_pool import PoolTimeout
from starlette.requests import ClientDisconnect

from api.errors import Problem, classify
from schemas.errors import Misconfigured, Transient

SECRET = "password=hunter2 host=10.0.0.7"


def body_of(problem: Problem) -> dict[str, object]:
    body: dict[str, object] = json.loads(bytes(problem.response("req-1").body))
    return body


class TestClassify:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (psycopg.OperationalError(SECRET), "database_unavailable"),
            (PoolTimeout(SECRET), "database_unavailable"),
            (psycopg.errors.AdminShutdown(SECRET), "database_unavailable"),
            (psycopg.errors.QueryCanceled(SECRET), "database_unavailable"),
            (psycopg.errors.TooManyConnections(SECRET), "database_unavailable"),
            (ConnectionRefusedError(SECRET), "database_unavailable"),
            (Transient(SECRET), "database_unavailable"),
            (psycopg.errors.UndefinedTable(SECRET), "schema_mismatch"),
            (psycopg.errors.UndefinedFunction(SECRET), "schema_mismatch"),
            (psycopg.errors.InsufficientPrivilege(SECRET), "schema_mismatch"),
            (Misconfigured(SECRET), "misconfigured"),
        ],
    )
    def test_what_passes_or_is_mended_elsewhere_is_503_with_retry_after_and_without_its_text(
        self, error: Exception, code: str
    ) -> None:
        problem = classify(error)

        assert problem is not None
        assert (problem.status, problem.code) == (503, code)
        assert int(problem.headers["Retry-After"]) >= 1
        assert "hunter2" not in json.dumps(body_of(problem))

    def test_a_client_that_left_is_its_own_fault(self) -> None:
        problem = classify(ClientDisconnect())

        assert problem is not None
        assert problem.status == 400

    @pytest.mark.parametrize("bug", [ValueError(), KeyError("x"), psycopg.errors.SyntaxError(), psycopg.DataError()])
    def test_anything_else_is_a_bug(self, bug: Exception) -> None:
        assert classify(bug) is None


class TestProblem:
    def test_it_is_rfc_9457_with_a_code_and_the_requests_id(self) -> None:
        problem = Problem.invalid(parameter="limit", detail="limit is 0, expected 1 to 10000")

        response = problem.response("req-1")

        assert response.status_code == 422
        assert response.headers["content-type"] == "application/problem+json"
        assert body_of(problem) == {
            "type": "about:blank",
            "title": "Unprocessable Entity",
            "status": 422,
            "detail": "limit is 0, expected 1 to 10000",
            "code": "invalid_parameter",
            "request_id": "req-1",
            "errors": [{"parameter": "limit", "detail": "limit is 0, expected 1 to 10000"}],
        }

    def test_401_names_the_scheme_and_says_whether_a_credential_was_wrong(self) -> None:
        assert Problem.unauthorized("", presented=False).headers["WWW-Authenticate"] == 'Bearer realm="weir"'
        wrong = Problem.unauthorized("", presented=True).headers["WWW-Authenticate"]
        assert wrong == 'Bearer realm="weir", error="invalid_token"'
