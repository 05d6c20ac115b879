"""`/v1/scans/{id}/files`: clouds and pictures of a scan, listed and downloaded, and uploaded by tus 1.0.

Border: HTTP; `api.tus` reads the headers, `api.scan_uploads` moves the bytes.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from accounts.billing.plans import Feature
from api import tus
from api.auth import Principal
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.place_bodies import Paging, answer, instant
from api.scan_exports import attachment, missing_bytes, open_object
from api.scan_models import FILES_FOUND, UPLOAD_APPENDED, UPLOAD_BEGUN, UPLOAD_ENDED, UPLOAD_STATE, downloaded
from api.scan_uploads import PATIENCE, Receiver, beyond_the_end
from api.scans import Reader, ScanId, Writer, require_scan
from api.sensors import ServicesOfApp
from api.services import Services
from core.postgres import tenant_transaction
from sinks.objects import ObjectMissing
from sinks.timescale import scan_uploads
from sinks.timescale.scan_uploads import ScanFile

router = APIRouter(prefix="/v1/scans/{scan_id}/files", tags=["scans"])

FileId = Annotated[str, Path(max_length=200, description="as the scan's files list it", examples=["fil_77d0a1c3e4"])]
_TEXT: Final = {"max_length": 8_192}
Resumable = Annotated[str | None, Header(**_TEXT, alias="Tus-Resumable", description=f"`{tus.VERSION}`")]
Length = Annotated[str | None, Header(**_TEXT, alias="Upload-Length", description="bytes of the whole file")]
Offset = Annotated[str | None, Header(**_TEXT, alias="Upload-Offset", description="where the body's bytes begin")]
Metadata = Annotated[
    str | None,
    Header(**_TEXT, alias="Upload-Metadata", description="`filename` and the name in base64"),
]
Checksum = Annotated[
    str | None,
    Header(**_TEXT, alias="Upload-Checksum", description="`sha256` or `sha1`, and the body's digest in base64"),
]

_KINDS: Final = {"ply": "ply", "pcd": "pcd", "jpg": "jpeg", "jpeg": "jpeg", "json": "json"}
_MAX_NAME: Final = 200
_MAX_OPEN: Final = 20
_BYTES: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "description": "Bytes of the file, as many as there are or as one likes to send at once.",
        "content": {tus.BODY_TYPE: {"schema": {"type": "string", "format": "binary"}, "example": "…bytes…"}},
    }
}


@router.get("", summary="List a scan's files", responses=FILES_FOUND, response_class=Response)
async def list_scan_files(
    services: ServicesOfApp, principal: Reader, scan_id: ScanId, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Response:
    """Its files in the order of their ids: whole ones, and uploads that are under way."""
    page = Paging.begin(Cursors(services.vault, "scan files"), principal.tenant_id, [scan_id], cursor, limit)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        await require_scan(connection, scan_id)
        rows = await scan_uploads.list_files(connection, scan_id, page.after, limit + 1)
    following = page.following([row.file_id for row in rows])
    return answer({"items": [shown(row) for row in rows[:limit]], "next": following})


@router.options("", include_in_schema=False)
@router.options("/{file_id}", include_in_schema=False)
async def tell_capabilities() -> Response:
    """What a tus client may do here; asked without a credential."""
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=tus.capabilities())


@router.post(
    "",
    summary="Begin an upload",
    status_code=201,
    responses=UPLOAD_BEGUN,
    response_class=Response,
    openapi_extra=_BYTES,
)
async def begin_upload(
    services: ServicesOfApp,
    principal: Writer,
    request: Request,
    scan_id: ScanId,
    tus_resumable: Resumable = None,
    upload_length: Length = None,
    upload_metadata: Metadata = None,
    upload_checksum: Checksum = None,
) -> Response:
    """A new file of a scan that is being received, by tus 1.0; its first bytes may come along."""
    with tus.spoken():
        upload = await _begun(services, principal, request, scan_id)
        if _has_body(request):
            await _take(services, principal, request, upload, 0)
            upload = await _require_upload(services, principal, scan_id, upload.file_id)
    told = tus.state(upload.received, upload.size or 0, upload.expires_at)
    location = f"{request.url.path}/{upload.file_id}"
    return answer_with(shown(upload), HTTPStatus.CREATED, {**told, "Location": location})


@router.head("/{file_id}", summary="Ask how far an upload is", status_code=204, responses=UPLOAD_STATE)
async def read_upload(
    services: ServicesOfApp,
    principal: Writer,
    request: Request,
    scan_id: ScanId,
    file_id: FileId,
    tus_resumable: Resumable = None,
) -> Response:
    """Where to go on. An upload that is all there and was cut before it became a file does now."""
    with tus.spoken():
        tus.require_version(request.headers, needed=False)
        upload = await _require_upload(services, principal, scan_id, file_id)
        await _finish(services, principal, upload, upload.received)
    return _state(upload, upload.received)


@router.patch("/{file_id}", summary="Add bytes", status_code=204, responses=UPLOAD_APPENDED, openapi_extra=_BYTES)
async def append_upload(
    services: ServicesOfApp,
    principal: Writer,
    request: Request,
    scan_id: ScanId,
    file_id: FileId,
    tus_resumable: Resumable = None,
    upload_offset: Offset = None,
    upload_checksum: Checksum = None,
) -> Response:
    """Bytes from an offset on. Whatever of them arrived stays, even when the connection breaks, unless a checksum came along."""
    with tus.spoken():
        upload = await _require_upload(services, principal, scan_id, file_id)
        tus.require_version(request.headers)
        tus.require_body_type(request.headers)
        offset = await _take(services, principal, request, upload, tus.upload_offset(request.headers))
    return _state(upload, offset)


@router.delete("/{file_id}", summary="End an upload", status_code=204, responses=UPLOAD_ENDED)
async def end_upload(
    services: ServicesOfApp,
    principal: Writer,
    request: Request,
    scan_id: ScanId,
    file_id: FileId,
    tus_resumable: Resumable = None,
) -> Response:
    """Forgets an upload that is under way. A whole file belongs to its scan."""
    with tus.spoken():
        tus.require_version(request.headers, needed=False)
        upload = await _require_upload(services, principal, scan_id, file_id)
        if not upload.is_upload:
            raise Problem(HTTPStatus.CONFLICT, "complete", "the file is complete and belongs to its scan")
        await _receiver(services, principal).discard(upload)
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Tus-Resumable": tus.VERSION})


@router.post("/{file_id}", include_in_schema=False)
async def override_method(
    services: ServicesOfApp, principal: Writer, request: Request, scan_id: ScanId, file_id: FileId
) -> Response:
    """As tus has it for clients that can send GET and POST only."""
    meant = {"PATCH": append_upload, "DELETE": end_upload, "HEAD": read_upload}
    act = meant.get(request.headers.get("x-http-method-override", "").upper())
    if act is None:
        raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED)
    return await act(services, principal, request, scan_id, file_id)


@router.get(
    "/{file_id}",
    summary="Download a file",
    responses=downloaded("The file as it came.", "application/octet-stream"),
    response_class=Response,
)
async def download_scan_file(services: ServicesOfApp, principal: Reader, scan_id: ScanId, file_id: FileId) -> Response:
    """A whole file of the scan."""
    file = await _require_upload(services, principal, scan_id, file_id)
    if not file.is_complete or file.object_key is None:
        there = f"{file.received} of {'an unknown number of' if file.size is None else file.size} bytes are there"
        raise Problem(HTTPStatus.CONFLICT, "not_complete", f"the file is not complete: {there}; finish its upload")
    try:
        opened = await open_object(services.objects(), file.object_key)
    except ObjectMissing:
        raise missing_bytes() from None
    headers = {"Content-Length": str(file.size), **attachment(file.name or file.file_id)}
    return StreamingResponse(opened.all(), headers=headers, media_type="application/octet-stream")


async def _begun(services: Services, principal: Principal, request: Request, scan_id: str) -> ScanFile:
    """A new upload, if the headers and the scan allow one."""
    await services.entitled.require(services, principal.tenant_id, Feature.SCANS)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        scan = await require_scan(connection, scan_id)
        tus.require_version(request.headers)
        if _has_body(request):
            tus.require_body_type(request.headers)
        length, name = tus.upload_length(request.headers), _name(tus.metadata(request.headers))
        if await scan_uploads.count_open(connection, scan_id) >= _MAX_OPEN:
            detail = f"{_MAX_OPEN} uploads to the scan are under way; finish or end one"
            raise Problem(HTTPStatus.CONFLICT, "too_many_uploads", detail)
        kind = _KINDS.get(name.rpartition(".")[2].lower(), "other")
        file_id = await scan_uploads.begin(connection, scan_id, name, kind, length, PATIENCE)
        if file_id is None:
            detail = f"the scan is {scan['status']}; files are taken while it is being received"
            raise Problem(HTTPStatus.CONFLICT, "not_receiving", detail)
        upload = await scan_uploads.find(connection, scan_id, file_id)
    assert upload is not None  # noqa: S101 - made in this transaction
    return upload


def _has_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or bool(tus.content_length(request.headers))


def _name(metadata: dict[str, str]) -> str:
    name = metadata.get("filename") or metadata.get("name") or "file"
    if len(name) > _MAX_NAME or "\0" in name:
        raise Problem.invalid(
            parameter="Upload-Metadata", detail=f"filename: expected 1 to {_MAX_NAME} characters, no NUL"
        )
    return name.replace("\\", "/").rpartition("/")[2] or "file"


async def _take(services: Services, principal: Principal, request: Request, upload: ScanFile, offset: int) -> int:
    """Add the request's bytes; the offset after them."""
    length, room, after = tus.content_length(request.headers), (upload.size or 0) - offset, upload.received
    try:
        if length is not None and offset == upload.received and length > room:
            raise beyond_the_end(room)
        checksum = tus.checksum(request.headers)
        with suppress(ClientDisconnect):  # nobody is there to be answered; what came is kept
            after = await _receiver(services, principal).take(upload, offset, request.stream(), checksum)
            await _finish(services, principal, upload, after)
    except Problem as problem:
        # The client may still be sending: the connection cannot be used for another request.
        problem.headers["Connection"] = "close"
        raise
    return after


async def _finish(services: Services, principal: Principal, upload: ScanFile, received: int) -> None:
    if upload.is_upload and received == upload.size:
        await _receiver(services, principal).finish(upload)


async def _require_upload(services: Services, principal: Principal, scan_id: str, file_id: str) -> ScanFile:
    """A file of a scan of the tenant's.

    Raises:
        Problem: 404.
    """
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        await require_scan(connection, scan_id)
        found = None if "\0" in file_id else await scan_uploads.find(connection, scan_id, file_id)
    if found is None:
        raise Problem.not_found(what="file")
    return found


def _receiver(services: Services, principal: Principal) -> Receiver:
    return Receiver(services.pool, services.objects(), principal.tenant_id, principal.subject)


def _state(upload: ScanFile, offset: int) -> Response:
    headers = tus.state(offset, upload.size or 0, upload.expires_at if offset != upload.size else None)
    return Response(status_code=HTTPStatus.NO_CONTENT, headers={**headers, "Cache-Control": "no-store"})


def answer_with(content: object, status: HTTPStatus, headers: dict[str, str]) -> Response:
    """JSON with headers."""
    response = answer(content, status)
    response.headers.update(headers)
    return response


def shown(file: ScanFile) -> dict[str, object]:
    """A file as the API shows it."""
    return {
        "file_id": file.file_id,
        "scan_id": file.scan_id,
        "name": file.name,
        "kind": file.kind,
        "bytes": file.size,
        "received": file.received,
        "complete": file.is_complete,
        "sha256": None if file.sha256 is None else file.sha256.hex(),
        "created_at": instant(file.created_at),
        "expires_at": instant(file.expires_at),
        "error": file.error,
    }
