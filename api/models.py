"""What the shapes of requests and responses are made with, as OpenAPI tells them; the shapes themselves are in `api.*_models`.

Border: description only. Responses are encoded by msgspec from plain values (a page of 10 000 readings takes 15 ms that way);
the tests hold every response against its model here.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.errors import PROBLEM_JSON, status_of

Responses = dict[int | str, dict[str, Any]]


class Model(BaseModel):
    """Nothing beyond what is said here."""

    model_config = ConfigDict(extra="forbid")


class ParameterError(Model):
    """Which parameter is wrong, and why."""

    parameter: str
    detail: str


class ProblemDetails(Model):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="a stable name for programs")
    request_id: str = Field(description="under which the server's log knows the request")
    errors: list[ParameterError] | None = None


# FastAPI drops nulls from examples: none has one.
NEXT_EXAMPLE: Final = "kq1zZW5fNGY2ZTBiN2QyYy0"

_PROBLEMS: Final[dict[int, tuple[str, str]]] = {
    400: ("incomplete_request", "the request ended before its body did"),
    401: ("unauthorized", "the credential is unknown, revoked or expired"),
    402: ("unpaid", "the subscription is not paid, so history must wait; readings and alerts go on"),
    403: ("missing_permission", "this credential may not do rules:write; use one whose role or scopes allow it"),
    404: ("not_found", "there is no such sensor"),
    409: ("changed_meanwhile", "the rule was changed at the same time; read it and try again"),
    410: ("expired", "the upload ended on 2026-11-29 20:00:00 UTC, for nothing came; begin a new one"),
    412: ("unsupported_version", "uploads speak tus 1.0.0: send the header Tus-Resumable: 1.0.0"),
    413: ("too_large", "the record has more than 1048576 bytes; send several"),
    415: ("unsupported_media_type", "the bytes of an upload are sent as Content-Type: application/offset+octet-stream"),
    422: ("invalid_parameter", "start is not an RFC 3339 time with an offset, as 2026-11-22T20:00:00.000Z"),
    460: ("checksum_mismatch", "the sha256 of the bytes is another than Upload-Checksum says; send them again"),
    429: ("rate_limited", "more requests than this credential may make; wait 0.005 s"),
    503: ("database_unavailable", "the database does not answer; try again"),
}


def problem_example(status: int) -> dict[str, object]:
    """A problem as it looks."""
    code, detail = _PROBLEMS[status]
    body: dict[str, object] = {"type": "about:blank", "title": status_of(status).phrase, "status": status}
    body |= {"detail": detail, "code": code, "request_id": "5f0c1d9a7be24c38"}
    return body | ({"errors": [{"parameter": "start", "detail": detail}]} if code == "invalid_parameter" else {})


def problems(*statuses: int) -> Responses:
    """Responses of these statuses, for a route."""
    return {status: _problem_response(status) for status in statuses}


def _problem_response(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    content = {PROBLEM_JSON: {"schema": schema, "example": problem_example(status)}}
    return {"description": status_of(status).phrase, "content": content}


def answer(model: type[Model], description: str, **examples: object) -> dict[str, Any]:
    """The response of a status, with its examples by name."""
    shown = {name: {"value": value} for name, value in examples.items()}
    return {"model": model, "description": description, "content": {"application/json": {"examples": shown}}}
