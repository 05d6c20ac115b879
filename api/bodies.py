"""Request bodies as JSON objects, bounded; what they mean is their endpoint's.

A body is read here rather than by the framework, so that a wrong one is answered with one sentence that names the part.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, Request

from api.errors import Problem

MAX_BODY_BYTES: Final = 65_536


async def json_object(request: Request) -> Mapping[str, Any]:
    """The request's body as a JSON object; without a body an empty one.

    Raises:
        Problem: 413, or 422 if it is no object.
    """
    raw = await _bounded(request)
    if not raw:
        return {}
    try:
        document = msgspec.json.decode(raw)
    except (ValueError, RecursionError) as exc:
        raise Problem.invalid(parameter="body", detail="the body is not valid JSON; send one object") from exc
    if isinstance(document, list):
        detail = f"the body is a list of {len(document)}; send one object a request"
        raise Problem.invalid(parameter="body", detail=detail)
    if not isinstance(document, dict):
        raise Problem.invalid(parameter="body", detail="the body is not a JSON object; send one")
    return document


async def _bounded(request: Request) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            detail = f"the body has more than {MAX_BODY_BYTES} bytes; send one object a request"
            # The client may still be sending: the connection cannot be used for another request.
            headers = {"Connection": "close"}
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail, headers=headers)
        parts.append(part)
    return b"".join(parts)


Body = Annotated[Mapping[str, Any], Depends(json_object)]


def require_known(body: Mapping[str, Any], *known: str) -> None:
    """Refuse fields that nothing would be done with.

    Raises:
        Problem: 422, the first unknown field.
    """
    unknown = sorted(set(body) - set(known))
    if unknown:
        name = unknown[0][:100]
        raise Problem.invalid(parameter=name, detail=f"{name}: unknown field, known are {', '.join(known)}; remove it")


def described(
    schema: Mapping[str, object], example: object, description: str, *, required: bool = True
) -> dict[str, Any]:
    """The body for an operation's OpenAPI description."""
    content = {"application/json": {"schema": dict(schema), "example": example}}
    return {"requestBody": {"required": required, "description": description, "content": content}}
