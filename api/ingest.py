"""`POST /v1/readings`: the way in for devices that do not speak Kafka.

The record goes to Kafka byte for byte, signed in the device's name, and is judged there like any other. Here it is only
looked at, so that the device learns at once what will be refused. 202 means that Kafka has it, no more and no less.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from api.auth import Device, Publisher
from api.errors import Problem
from api.reading_models import INGEST_RESPONSES, RECORD_EXAMPLE, SENML_EXAMPLE
from api.sensors import JSON
from api.services import Services, services_of
from schemas.errors import Reason, Rejected, Transient
from schemas.readings import MAX_RECORD_BYTES, DecodedBatch, decode_batch
from schemas.signing import HEADER_DEVICE, HEADER_SIGNATURE, sign

router = APIRouter(prefix="/v1/readings", tags=["devices"])

ServicesOfApp = Annotated[Services, Depends(services_of)]

_TRACEPARENT_CHARS = 55
_BODY = {
    "requestBody": {
        "required": True,
        "description": "A record of readings, at most 10 000 and 1 MiB; `application/msgpack` has the fields of JSON.",
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": RECORD_EXAMPLE},
            "application/msgpack": {"schema": {"type": "string", "format": "binary"}},
            "application/senml+json": {
                "schema": {"type": "array", "items": {"type": "object"}},
                "example": SENML_EXAMPLE,
            },
        },
    }
}


@router.post(
    "",
    summary="Publish readings as a device",
    status_code=202,
    responses=INGEST_RESPONSES,
    response_class=Response,
    openapi_extra=_BODY,
)
async def publish_readings(services: ServicesOfApp, device: Publisher, request: Request) -> Response:
    """Hands a record to Kafka. Readings that are refused alone are listed; the others of the record are accepted."""
    value = await _body(request)
    content_type = request.headers.get("content-type")
    decoded = _decoded(value, content_type)
    try:
        await services.publisher.publish(device.device_id.encode(), value, _headers(device, value, request))
    except Rejected as error:
        raise _refused(error.reason, error.detail) from error
    except Transient as error:
        raise Problem.unavailable(code="broker_unavailable", detail=str(error), retry_after_s=5) from error
    services.metrics.count_published(len(decoded.index))
    refused = [{"index": each.index, "reason": each.reason, "detail": each.detail} for each in decoded.reading_refusals]
    answer: dict[str, object] = {"accepted": len(decoded.index)}
    body = msgspec.json.encode(answer | {"refused": refused} if refused else answer)
    return Response(body, HTTPStatus.ACCEPTED, media_type=JSON)


async def _body(request: Request) -> bytes:
    """The body, as long as it is not too large; the rest of one that is stays unread.

    Raises:
        Problem: 413.
    """
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_RECORD_BYTES:
            detail = f"the record has more than {MAX_RECORD_BYTES} bytes; send several"
            raise _refused(Reason.TOO_LARGE, detail)
        parts.append(part)
    return b"".join(parts)


def _decoded(value: bytes, content_type: str | None) -> DecodedBatch:
    decoded = decode_batch([value], [content_type])
    for refusal in decoded.record_refusals:
        raise _refused(refusal.reason, refusal.detail)
    return decoded


def _refused(reason: Reason, detail: str) -> Problem:
    too_large = reason is Reason.TOO_LARGE
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if too_large else HTTPStatus.UNPROCESSABLE_ENTITY
    # The client may still be sending: the connection cannot be used for another request.
    return Problem(status, reason.value, detail, headers={"Connection": "close"} if too_large else None)


def _headers(device: Device, value: bytes, request: Request) -> list[tuple[str, bytes]]:
    """What a device that speaks Kafka would have sent."""
    signature = sign(device.secret, device.device_id.encode(), value)
    headers = [(HEADER_DEVICE, device.device_id.encode()), (HEADER_SIGNATURE, signature.encode())]
    content_type, traceparent = request.headers.get("content-type"), request.headers.get("traceparent")
    if content_type is not None:
        headers.append(("content-type", content_type.encode()))
    if traceparent is not None and len(traceparent) == _TRACEPARENT_CHARS:
        headers.append(("traceparent", traceparent.encode()))
    return headers
