"""Every failure as an RFC 9457 problem: which status, which code, what a client can do about it.

Border: turns errors into responses. A problem never carries a stack trace, a secret, or another tenant's bytes; what an
unexpected error says goes to the log under the request's id, not to the client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Final

import msgspec
import psycopg
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import compile_path

from core.postgres import is_transient
from schemas.errors import Misconfigured

PROBLEM_JSON: Final = "application/problem+json"
RETRY_AFTER_S: Final = 2

# The schema is not the one this program was written for; /readyz says which of the two is older.
_FOREIGN_SCHEMA = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
)


class ExtraStatus(IntEnum):
    """Statuses that a protocol above HTTP adds to its."""

    CHECKSUM_MISMATCH = 460
    """Of tus: the bytes are others than their checksum says."""

    @property
    def phrase(self) -> str:
        """Its name in words."""
        return self.name.replace("_", " ").title()


Status = HTTPStatus | ExtraStatus


def status_of(number: int) -> Status:
    """The status of a number."""
    return ExtraStatus(number) if number in set(ExtraStatus) else HTTPStatus(number)


class Problem(Exception):  # named after what RFC 9457 calls it
    """A failure that a client is told about.

    Args:
        status: the HTTP status.
        code: a stable name for programs, such as `rate_limited`.
        detail: what, which, expected, remedy, for people.
        headers: of the response, such as `Retry-After`.
        errors: of a 422, which parameter or reading is wrong and why.
    """

    def __init__(
        self,
        status: Status,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, object]] = (),
    ) -> None:
        super().__init__(f"{status.value} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors)

    @classmethod
    def invalid(cls, parameter: str, detail: str) -> Problem:
        """A parameter is wrong."""
        errors = [{"parameter": parameter, "detail": detail}]
        return cls(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_parameter", detail, errors=errors)

    @classmethod
    def unauthorized(cls, detail: str, *, presented: bool) -> Problem:
        """No credential, or (`presented`) one that does not hold."""
        challenge = 'Bearer realm="weir"' + (', error="invalid_token"' if presented else "")
        headers = {"WWW-Authenticate": challenge}
        return cls(HTTPStatus.UNAUTHORIZED, "unauthorized", detail, headers=headers)

    @classmethod
    def not_found(cls, what: str) -> Problem:
        """It is not there, or it is another tenant's: nobody can tell which."""
        return cls(HTTPStatus.NOT_FOUND, "not_found", f"there is no such {what}")

    @classmethod
    def unavailable(cls, code: str, detail: str, retry_after_s: int = RETRY_AFTER_S) -> Problem:
        """Something that Weir needs does not answer now."""
        headers = {"Retry-After": str(retry_after_s)}
        return cls(HTTPStatus.SERVICE_UNAVAILABLE, code, detail, headers=headers)

    def response(self, request_id: str) -> Response:
        """The problem as a response."""
        body: dict[str, Any] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            "code": self.code,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = self.errors
        return Response(msgspec.json.encode(body), self.status.value, self.headers, PROBLEM_JSON)


def classify(error: Exception) -> Problem | None:
    """What a client is told about an error that no endpoint expected; None for a bug."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ClientDisconnect):
        return Problem(HTTPStatus.BAD_REQUEST, "incomplete_request", "the request ended before its body did")
    if isinstance(error, _FOREIGN_SCHEMA):
        detail = "the database's schema is not the one that this program needs; /readyz says what to do"
        return Problem.unavailable("schema_mismatch", detail)
    if is_transient(error):
        return Problem.unavailable("database_unavailable", "the database does not answer; try again")
    if isinstance(error, Misconfigured):
        return Problem.unavailable(
            "misconfigured", "a setting of this server is wrong; its operator finds it in the log"
        )
    return None


def request_id_of(request: Request) -> str:
    """The id under which the log knows this request."""
    return str(request.scope.get("weir.request_id", ""))


def install_handlers(app: FastAPI) -> None:
    """Answer the framework's own errors as problems too."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - registered for this class
    return error.response(request_id_of(request))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    status = HTTPStatus(error.status_code)
    details = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {request.url.path[:200]}; /docs lists what there is",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not allowed here; the Allow header lists what is",
    }
    code = status.phrase.lower().replace(" ", "_").replace("-", "_")
    headers = {"Allow": _allowed(request)} if status == HTTPStatus.METHOD_NOT_ALLOWED else error.headers
    problem = Problem(status, code, details.get(status, status.description or status.phrase), headers=headers)
    return problem.response(request_id_of(request))


def _allowed(request: Request) -> str:
    """The methods of all routes of this path; the framework names those of the first."""
    there = (
        route.methods or set()
        for route in iter_route_contexts(request.app.routes)
        if compile_path(route.path or "")[0].match(request.scope["path"])
    )
    return ", ".join(sorted(set().union(*there)))


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    errors = [
        {
            "parameter": ".".join(str(part) for part in each["loc"][1:]) or str(each["loc"][0]),
            "detail": str(each["msg"]),
        }
        for each in error.errors()
    ]
    detail = "; ".join(f"{each['parameter']}: {each['detail']}" for each in errors)
    problem = Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_parameter", detail, errors=errors)
    return problem.response(request_id_of(request))
