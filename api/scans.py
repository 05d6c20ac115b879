"""`/v1/scans`: scans of rooms, begun and ended here or by their frames, and what came of each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from starlette.responses import Response

from accounts import scans
from accounts.billing.plans import Feature
from accounts.billing.quotas import admit_scan, admit_scan_again
from api import fields
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.entitled import refused
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit, continued
from api.place_bodies import answer
from api.scan_models import (
    COMPLETE_SCHEMA,
    MAX_PRIORITY,
    SCAN_CHANGED,
    SCAN_CREATED,
    SCAN_ERASED,
    SCAN_FOUND,
    SCAN_PATCH_SCHEMA,
    SCAN_RETRIED,
    SCAN_SCHEMA,
    SCANS_FOUND,
    STATUSES,
)
from api.sensors import ServicesOfApp
from api.times import parse_instant
from core.postgres import Connection, tenant_transaction
from sinks.timescale import scan_uploads
from sinks.timescale import scans as store
from sinks.timescale.scans import Document, ScanFilter

router = APIRouter(prefix="/v1/scans", tags=["scans"])

Reader = Annotated[Principal, Depends(Require("scans:read"))]
Writer = Annotated[Principal, Depends(Require("scans:write"))]
# What cannot be taken back is an owner's to do, and a key's with the scope admin.
Owner = Annotated[Principal, Depends(Require("organization:write"))]
ScanId = Annotated[
    str,
    Path(
        max_length=128, description="as `/v1/scans` lists it, or as its frames are keyed", examples=["scan_5b1f0c2e9d"]
    ),
]
Status = Annotated[
    list[str] | None,
    Query(max_length=20, description=f"one of {', '.join(STATUSES)}; may be repeated", examples=["completed"]),
]
OfDevice = Annotated[str | None, Query(max_length=200, description="of this device", examples=["dev_91c3f0a7b2"])]
_TIME_EXAMPLE: Final = "2026-11-22T20:00:00.000Z"
Start = Annotated[
    str | None, Query(max_length=64, description="RFC 3339: begun then or later", examples=[_TIME_EXAMPLE])
]
End = Annotated[str | None, Query(max_length=64, description="RFC 3339: begun before it", examples=[_TIME_EXAMPLE])]

_MAX_FRAMES: Final = 1_000_000
_IN_WORK: Final = ("queued", "processing")
_CREATED_BODY: Final = described(
    SCAN_SCHEMA,
    {"name": "Kitchen, ground floor", "device_id": "dev_91c3f0a7b2", "priority": 0},
    "The scan; frames of another device than the one named are refused.",
    required=False,
)
_CHANGED_BODY: Final = described(
    SCAN_PATCH_SCHEMA, {"name": "Kitchen, first floor", "priority": 10}, "What changes; what is left out stays."
)
_COMPLETE_BODY: Final = described(
    COMPLETE_SCHEMA, {"frames": 120}, "How many records it has; left out: those that came.", required=False
)


class BeforeScan(msgspec.Struct, array_like=True):
    """Which scans are listed and where a page begins: before this time and number."""

    query: list[Any]
    created_us: int
    scan_no: int


@router.post(
    "",
    summary="Create a scan",
    status_code=201,
    responses=SCAN_CREATED,
    response_class=Response,
    openapi_extra=_CREATED_BODY,
)
async def create_scan(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Makes a scan, whose id keys its frames. Frames of a scan that nobody made make it too."""
    require_known(body, "name", "device_id", "priority")
    name = fields.optional_text(body, "name", max_chars=fields.MAX_NAME) or ""
    device_id = fields.optional_text(body, "device_id", max_chars=fields.MAX_NAME)
    priority = _whole(body, "priority", -MAX_PRIORITY, MAX_PRIORITY) or 0
    await services.entitled.require(services, principal.tenant_id, Feature.SCANS)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        refusal = await admit_scan(connection, principal.tenant_id, _moment(services.clock.now_ms() * 1_000))
        if refusal is not None:
            raise refused(refusal, Feature.SCANS)
        made = await scans.create_scan(connection, name, device_id, priority)
        if made is None:
            raise Problem.not_found(what="device")
    return answer(made, HTTPStatus.CREATED)


@router.get("", summary="List scans", responses=SCANS_FOUND, response_class=Response)
async def list_scans(
    services: ServicesOfApp,
    principal: Reader,
    status: Status = None,
    device_id: OfDevice = None,
    start: Start = None,
    end: End = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Scans, the newest first; without a filter all of them."""
    query: list[Any] = [status, device_id, start, end]
    cursors, after = Cursors(services.vault, "scans"), None
    if cursor is not None:
        place = cursors.decode(principal.tenant_id, cursor, BeforeScan)
        query, after = continued(place.query, query), (_moment(place.created_us), place.scan_no)
    wanted = _filter(*query)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await store.list_scans(connection, wanted, after, limit + 1)
    following = None
    if len(rows) > limit:
        created_at, scan_no, _ = rows[limit - 1]
        following = cursors.encode(principal.tenant_id, BeforeScan(query, _microseconds(created_at), scan_no))
    return answer({"items": [document for _, _, document in rows[:limit]], "next": following})


@router.get("/{scan_id}", summary="Read a scan", responses=SCAN_FOUND, response_class=Response)
async def read_scan(services: ServicesOfApp, principal: Reader, scan_id: ScanId) -> Response:
    """One scan: how it stands, and what is measured of it so far, each number with its standard deviation."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        document = await require_scan(connection, scan_id)
        place = await scans.queue_position(connection, scan_id) if document["status"] in _IN_WORK else None
    told = {} if place is None else {"queue_position": place.position, "estimated_seconds": place.estimated_s}
    return answer({**document, **told})


@router.patch(
    "/{scan_id}",
    summary="Change a scan",
    responses=SCAN_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_scan(services: ServicesOfApp, principal: Writer, scan_id: ScanId, body: Body) -> Response:
    """Another name, or another place among the tenant's own scans that wait. Files made already keep the name they have."""
    require_known(body, "name", "priority")
    name = fields.optional_text(body, "name", max_chars=fields.MAX_NAME)
    priority = _whole(body, "priority", -MAX_PRIORITY, MAX_PRIORITY)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        await require_scan(connection, scan_id)
        document = await scans.change_scan(connection, scan_id, name, priority)
    if document is None:
        raise Problem.not_found(what="scan")
    return answer(document)


@router.delete("/{scan_id}", summary="Erase a scan", status_code=204, responses=SCAN_ERASED, response_class=Response)
async def erase_scan(services: ServicesOfApp, principal: Owner, scan_id: ScanId) -> Response:
    """Forgets it for good, whatever it is at: frames, files, results and their bytes. What was metered of it stays."""
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        if "\0" in scan_id or not await scans.erase_scan(connection, scan_id):
            raise Problem.not_found(what="scan")
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.post(
    "/{scan_id}/complete",
    summary="Complete a scan",
    responses=SCAN_CHANGED,
    response_class=Response,
    openapi_extra=_COMPLETE_BODY,
)
async def complete_scan(services: ServicesOfApp, principal: Writer, scan_id: ScanId, body: Body) -> Response:
    """Ends a scan as an `end` record does; it is processed once its records are all there. An ended one stays as it is."""
    require_known(body, "frames")
    frames = _whole(body, "frames", 0, _MAX_FRAMES)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        known = await require_scan(connection, scan_id)
        if await scan_uploads.count_open(connection, scan_id):
            detail = (
                "a file of the scan is still coming; finish its upload, or end it by DELETE, and complete the scan then"
            )
            raise Problem(HTTPStatus.CONFLICT, "upload_under_way", detail)
        document = await scans.complete_scan(connection, scan_id, frames)
    if document is None or known["status"] in ("failed", "cancelled"):
        raise Problem(HTTPStatus.CONFLICT, "ended", f"the scan is {known['status']}; begin another one")
    return answer(document)


@router.post("/{scan_id}/cancel", summary="Cancel a scan", responses=SCAN_CHANGED, response_class=Response)
async def cancel_scan(services: ServicesOfApp, principal: Writer, scan_id: ScanId) -> Response:
    """Stops it, whatever it is at; its records and files stay. One that is cancelled stays so."""
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        await require_scan(connection, scan_id)
        document = await scans.cancel_scan(connection, scan_id)
    if document is None or document["status"] != "cancelled":
        raise Problem(HTTPStatus.CONFLICT, "finished", "the scan has its result already; there is nothing to cancel")
    return answer(document)


@router.post("/{scan_id}/retry", summary="Process a failed scan again", responses=SCAN_RETRIED, response_class=Response)
async def retry_scan(services: ServicesOfApp, principal: Writer, scan_id: ScanId) -> Response:
    """Another try for a scan that failed, with all that has come of it; it takes its place in the month's quota again."""
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        known = await require_scan(connection, scan_id)
        now = _moment(services.clock.now_ms() * 1_000)
        refusal = await admit_scan_again(connection, principal.tenant_id, scan_id, now)
        if refusal is not None:
            raise refused(refusal, Feature.SCANS)
        document = await scans.retry_scan(connection, scan_id)
    if document is None or known["status"] != "failed":
        raise Problem(
            HTTPStatus.CONFLICT, "not_failed", f"the scan is {known['status']}; only a failed one is tried again"
        )
    return answer(document)


async def require_scan(connection: Connection, scan_id: str) -> Document:
    """The document of a scan of the tenant's.

    Raises:
        Problem: 404.
    """
    document = None if "\0" in scan_id else await store.scan_document(connection, scan_id)
    if document is None:
        raise Problem.not_found(what="scan")
    return document


def _whole(body: Mapping[str, Any], name: str, least: int, most: int) -> int | None:
    """A whole number that may be left out or null.

    Raises:
        Problem: 422.
    """
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Problem.invalid(parameter=name, detail=f"{name}: expected a whole number from {least} to {most}")
    return value


def _filter(statuses: list[str] | None, device_id: str | None, start: str | None, end: str | None) -> ScanFilter:
    unknown = sorted(set(statuses or ()) - set(STATUSES))
    if unknown:
        raise Problem.invalid(parameter="status", detail=f"status is none of {', '.join(STATUSES)}")
    if device_id is not None and "\0" in device_id:
        raise Problem.invalid(parameter="device_id", detail="device_id has a NUL character, which no id has")
    return ScanFilter(statuses or None, device_id, _instant(start, "start"), _instant(end, "end"))


def _instant(text: str | None, parameter: str) -> datetime | None:
    return None if text is None else datetime.fromtimestamp(parse_instant(text, parameter) / 1000, UTC)


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _moment(microseconds: int) -> datetime:
    return datetime.fromtimestamp(microseconds / 1_000_000, UTC)
