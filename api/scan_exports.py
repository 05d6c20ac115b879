"""`GET /v1/scans/{id}/export`: what processing made of a scan, streamed from the object store as it is there.

As JSON a scan is told whole, with what came of it since it was measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import quote

import msgspec
from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from accounts.billing.plans import Feature
from api.errors import Problem
from api.scan_models import EXPORT_KEPT, downloaded
from api.scan_uploads import stored
from api.scans import Reader, ScanId, require_scan
from api.sensors import ServicesOfApp
from api.services import Services
from core.postgres import tenant_transaction
from sinks.objects import ObjectMissing, ObjectStore
from sinks.timescale import scans as store
from sinks.timescale.scans import Document, Export

router = APIRouter(prefix="/v1/scans", tags=["scans"])

PREVIEW: Final = "preview.ply"
MEDIA_TYPES: Final = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "ply": "model/ply",
    "obj": "model/obj",
    "glb": "model/gltf-binary",
    "pdf": "application/pdf",
    "points.ply": "model/ply",
    PREVIEW: "model/ply",
}
Format = Annotated[str, Query(description=f"one of {', '.join(MEDIA_TYPES)}", examples=["glb"])]
IfNoneMatch = Annotated[str | None, Header(max_length=1_024, description="`ETag`s that the client has")]
_FOUND: Final = downloaded("The file.", *dict.fromkeys(MEDIA_TYPES.values())) | EXPORT_KEPT


@dataclass(frozen=True, slots=True)
class Opened:
    """An object whose first bytes are there."""

    first: bytes
    rest: AsyncIterator[bytes]

    async def all(self) -> AsyncIterator[bytes]:
        """Every byte of it."""
        yield self.first
        async for data in self.rest:
            yield data


@router.get("/{scan_id}/export", summary="Export a scan", responses=_FOUND, response_class=Response)
async def export_scan(
    services: ServicesOfApp,
    principal: Reader,
    scan_id: ScanId,
    format: Format = "json",
    if_none_match: IfNoneMatch = None,
) -> Response:
    """A file of the scan: measurements, mesh, cleaned cloud or report. `preview.ply`, a thinned cloud, is there while it runs."""
    if format not in MEDIA_TYPES:
        raise Problem.invalid(parameter="format", detail=f"format is none of {', '.join(MEDIA_TYPES)}")
    scan, export = await _find(services, principal.tenant_id, scan_id, format)
    if format != PREVIEW:
        await services.entitled.require(services, principal.tenant_id, Feature.EXPORTS)
    if export is None:
        raise _not_there(scan, format)
    if format == "json":
        return _document(scan, if_none_match)
    if if_none_match is not None and _etag(export) in if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": _etag(export)})
    export, opened = await _opened(services, principal.tenant_id, scan_id, format, export)
    headers = {"ETag": _etag(export), "Content-Length": str(export.size), **attachment(_file_name(scan, format))}
    return StreamingResponse(opened.all(), headers=headers, media_type=MEDIA_TYPES[format])


def _document(scan: Document, if_none_match: str | None) -> Response:
    """The scan as `GET /v1/scans/{id}` tells it, as a file."""
    content = msgspec.json.format(msgspec.json.encode(scan), indent=1)
    etag = f'"{hashlib.sha256(content).hexdigest()}"'
    if if_none_match is not None and etag in if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
    return Response(
        content, headers={"ETag": etag, **attachment(_file_name(scan, "json"))}, media_type="application/json"
    )


async def open_object(objects: ObjectStore, key: str) -> Opened:
    """An object, once its first bytes came: what fails before them can still be told.

    Raises:
        ObjectMissing: there is none.
        Problem: 503, the object store does not answer.
    """
    with stored():
        rest = objects.stream(key)
        return Opened(await anext(rest, b""), rest)


def attachment(name: str) -> dict[str, str]:
    """The header that gives a download its name; of a path the last part."""
    name = name.replace("\\", "/").rpartition("/")[2] or "file"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in name)
    return {"Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"}


async def _opened(
    services: Services, tenant_id: str, scan_id: str, wanted: str, export: Export
) -> tuple[Export, Opened]:
    """The export's bytes; those of a newer one, if that replaced it since it was looked up."""
    try:
        return export, await open_object(services.objects(), export.object_key)
    except ObjectMissing:
        _, newer = await _find(services, tenant_id, scan_id, wanted)
    try:
        if newer is not None:
            return newer, await open_object(services.objects(), newer.object_key)
    except ObjectMissing:
        pass
    raise missing_bytes()


def missing_bytes() -> Problem:
    """A row names an object that is gone."""
    detail = "the file's bytes are not in the object store; its operator has to restore them"
    return Problem.unavailable(code="object_missing", detail=detail, retry_after_s=60)


async def _find(services: Services, tenant_id: str, scan_id: str, wanted: str) -> tuple[Document, Export | None]:
    async with tenant_transaction(services.pool, tenant_id) as connection:
        scan = await require_scan(connection, scan_id)
        return scan, await store.find_export(connection, scan_id, wanted)


def _not_there(scan: Document, wanted: str) -> Problem:
    if scan["status"] in ("completed", "incomplete"):
        detail = f"the scan gave no {wanted}: too little was seen for it; its document says what is missing"
    else:
        detail = f"the scan is {scan['status']}; there is a {wanted} once it is completed"
    return Problem(HTTPStatus.CONFLICT, "not_exported", detail)


def _etag(export: Export) -> str:
    return f'"{export.sha256.hex()}"'


def _file_name(scan: Document, wanted: str) -> str:
    stem = str(scan["name"] or scan["scan_id"]).replace("/", "_")
    kind, _, ending = wanted.rpartition(".")
    return f"{stem}-{kind}.{ending}" if kind else f"{stem}.{ending}"
