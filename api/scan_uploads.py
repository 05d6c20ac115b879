"""The bytes of an upload on their way from a request into the object store: a piece at a time, never the file in memory.

A piece is an object before a row names it, and the row's offset moves by compare-and-set: what a killed process has told the
database is there, and of two requests for the same bytes one wins. With a checksum, pieces count only when all of the
request's bytes came to it. The last piece joins all into one object. Border: HTTP is `api.scan_files`', rows the store's.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Final

from psycopg.errors import CheckViolation
from starlette.requests import ClientDisconnect

from api import tus
from api.errors import Problem
from api.tus import Checksum
from core.postgres import Pool, tenant_transaction
from schemas.errors import Transient
from sinks.objects import ObjectMissing, ObjectStore, scan_prefix
from sinks.timescale import scan_uploads
from sinks.timescale.scan_uploads import Piece, ScanFile

PATIENCE: Final = timedelta(days=7)
"""How long an upload waits for its next byte."""

_PIECE_BYTES: Final = 8 * 1024 * 1024
# The constraint that lets an upload have so many pieces and no more; another one broken is a fault of ours.
_MOST_PIECES: Final = "scan_upload_pieces_check"

Body = AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Receiver:
    """Takes bytes for the uploads of one tenant.

    Attributes:
        pool: under the reader role.
        objects: where bytes go.
        piece_bytes: most bytes of one request in memory.
    """

    pool: Pool
    objects: ObjectStore
    tenant_id: str
    actor: str
    piece_bytes: int = _PIECE_BYTES

    async def take(self, upload: ScanFile, offset: int, body: Body, checksum: Checksum | None) -> int:
        """Add a request's bytes; the offset after them. What came before the client left counts, unless with a checksum.

        Raises:
            Problem: 409, 413 or 460.
            ClientDisconnect: the client left.
        """
        if offset != upload.received:
            raise wrong_offset(upload.received)
        room = (upload.size or 0) - offset
        if checksum is not None:
            return await self._take_checked(upload, offset, _bounded(body, room), checksum)
        async for data in _pieces(_bounded(body, room), self.piece_bytes):
            offset = await self._add(upload, offset, [await self._put(upload, data)])
        return offset

    async def _take_checked(self, upload: ScanFile, offset: int, body: Body, checksum: Checksum) -> int:
        digest, pieces = checksum.begin(), list[Piece]()
        try:
            async for data in _pieces(body, self.piece_bytes, torn=False):
                digest.update(data)
                pieces.append(await self._put(upload, data))
            checksum.require(digest.digest())
        except BaseException:
            await self._remove(pieces)
            raise
        return await self._add(upload, offset, pieces) if pieces else offset

    async def _put(self, upload: ScanFile, data: bytes) -> Piece:
        key = f"{scan_prefix(self.tenant_id, upload.scan_id)}/uploads/{upload.file_id}/{secrets.token_hex(12)}"
        with stored():
            await self.objects.put(key, data)
        return Piece(key, len(data))

    async def _add(self, upload: ScanFile, offset: int, pieces: list[Piece]) -> int:
        try:
            async with tenant_transaction(self.pool, self.tenant_id, self.actor) as connection:
                is_added = await scan_uploads.append(connection, upload.file_id, offset, pieces, PATIENCE)
        except CheckViolation as exc:
            await self._remove(pieces)
            if exc.diag.constraint_name != _MOST_PIECES:
                raise
            raise _too_many_pieces() from None
        if not is_added:
            await self._remove(pieces)
            raise wrong_offset(None)
        return offset + sum(piece.size for piece in pieces)

    async def finish(self, upload: ScanFile) -> bool:
        """Join what is all there into the scan's file; False if another request was faster."""
        async with tenant_transaction(self.pool, self.tenant_id) as connection:
            pieces = await scan_uploads.pieces_of(connection, upload.file_id)
        key, digest = f"{scan_prefix(self.tenant_id, upload.scan_id)}/files/{upload.file_id}", hashlib.sha256()
        try:
            with stored():
                await self.objects.put(key, self._joined(pieces, digest))
        except ObjectMissing:  # joined by a faster request, which removed the pieces
            return False
        async with tenant_transaction(self.pool, self.tenant_id, self.actor) as connection:
            is_first = await scan_uploads.finish(connection, upload.file_id, digest.digest(), key)
        if is_first:
            await self._remove(pieces)
        return is_first

    async def _joined(self, pieces: list[Piece], digest: hashlib._Hash) -> AsyncIterator[bytes]:
        for piece in pieces:
            async for data in self.objects.stream(piece.object_key):
                await asyncio.to_thread(digest.update, data)
                yield data

    async def discard(self, upload: ScanFile) -> bool:
        """Forget an upload and its bytes; False if there is none any more."""
        async with tenant_transaction(self.pool, self.tenant_id, self.actor) as connection:
            pieces = await scan_uploads.pieces_of(connection, upload.file_id)
            is_gone = await scan_uploads.forget(connection, upload.file_id)
        if is_gone:
            await self._remove(pieces)
        return is_gone

    async def _remove(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            # What stays is removed with the scan; no row names it.
            with suppress(Transient):
                await self.objects.delete(piece.object_key)


@contextmanager
def stored() -> Iterator[None]:
    """What the object store cannot do now is told as a problem.

    Raises:
        Problem: 503.
    """
    try:
        yield
    except Transient as error:
        raise Problem.unavailable(code="objects_unavailable", detail=str(error)) from error


def wrong_offset(received: int | None) -> Problem:
    """The bytes do not follow what is there."""
    where = "another request was faster" if received is None else f"{received} bytes are there"
    detail = f"Upload-Offset: {where}; ask by HEAD and go on from the offset that it tells"
    headers = {"Tus-Resumable": tus.VERSION} | ({} if received is None else {"Upload-Offset": str(received)})
    return Problem(HTTPStatus.CONFLICT, "wrong_offset", detail, headers=headers)


def _too_many_pieces() -> Problem:
    """The database takes so many of one upload: each is an object."""
    detail = "the upload came in 20 000 pieces and takes no more; end it and send the file in larger ones"
    return Problem(HTTPStatus.CONFLICT, "too_many_pieces", detail)


async def _bounded(body: Body, most: int) -> AsyncIterator[bytes]:
    """The body, refused where it has more bytes than the file has left."""
    size = 0
    async for data in body:
        size += len(data)
        if size > most:
            raise beyond_the_end(most)
        yield data


def beyond_the_end(most: int) -> Problem:
    """More bytes come than the file has left."""
    detail = f"the body has more than the {most} bytes that the file has left; send only those"
    return Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail)


async def _pieces(body: Body, size: int, *, torn: bool = True) -> AsyncIterator[bytes]:
    """The body in pieces of a size, the last one shorter; of one that breaks off (`torn`) what came, then the break."""
    held = bytearray()
    broken: ClientDisconnect | None = None
    try:
        async for data in body:
            held += data
            while len(held) >= size:
                yield bytes(held[:size])
                del held[:size]
    except ClientDisconnect as error:
        if not torn:
            raise
        broken = error
    if held:
        yield bytes(held)
    if broken is not None:
        raise broken
