"""Files that came in pieces on `scan-frames`: joined in the object store once every piece is there, checked by their hash.

Border: the pieces' index rows and objects in, rows of weir.scan_file and objects out. What it makes is a function of the
pieces, so it may run twice; it never holds more than a few pieces. Jobs of one scan run one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from core.postgres import Connection, Pool
from schemas.errors import Rejected
from schemas.scan_frames import PartFrame, decode_scan_frame
from sinks.objects import ObjectStore, scan_prefix

WRONG_HASH: Final = "wrong_hash"
PARTS_MISSING: Final = "parts_missing"
PARTS_DISAGREE: Final = "parts_disagree"

_FILES: Final = """
SELECT s.scan_no, s.tenant_id, p.file_id, p.pieces, p.total, p.sha256, p.agree, s.status <> 'receiving'
FROM weir.scan s CROSS JOIN LATERAL (
    SELECT f.file_id, count(DISTINCT f.part_index) AS pieces, max(f.part_total) AS total,
           decode(max(encode(f.file_sha256, 'hex')), 'hex') AS sha256, count(DISTINCT (f.part_total, f.file_sha256)) = 1 AS agree
    FROM weir.scan_frame f WHERE f.scan_no = s.scan_no AND f.type = 'part' AND NOT f.refused GROUP BY f.file_id) p
LEFT JOIN weir.scan_file d ON d.scan_no = s.scan_no AND d.file_id = p.file_id
WHERE s.scan_id = %s AND NOT (p.agree AND d.complete IS TRUE AND d.sha256 = p.sha256)
"""
_PIECES: Final = """
SELECT DISTINCT ON (part_index) object_key FROM weir.scan_frame
WHERE scan_no = %s AND file_id = %s AND type = 'part' AND NOT refused ORDER BY part_index, seq
"""
_KEEP: Final = """
INSERT INTO weir.scan_file AS f (scan_no, tenant_id, file_id, name, kind, bytes, received, sha256, object_key, complete, error)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (scan_no, file_id) DO UPDATE SET (name, kind, bytes, received, sha256, object_key, complete, error, updated_at) =
    (EXCLUDED.name, EXCLUDED.kind, EXCLUDED.bytes, EXCLUDED.received, EXCLUDED.sha256, EXCLUDED.object_key, EXCLUDED.complete,
     EXCLUDED.error, now())
"""
_MAGIC: Final = ((b"ply", "ply"), (b"# .PCD", "pcd"), (b"VERSION", "pcd"), (b"\xff\xd8\xff", "jpeg"), (b"{", "json"))


@dataclass(slots=True)
class _Joined:
    """What is known of a file while it is read: its size, its beginning and the name that a piece gives it."""

    size: int = 0
    start: bytes = b""
    name: str = ""

    @property
    def kind(self) -> str:
        """By its first bytes."""
        return next((kind for magic, kind in _MAGIC if self.start.startswith(magic)), "other")


class _WrongHash(Exception):
    """The pieces are not the file that they say they are."""


@dataclass(frozen=True, slots=True)
class _File:
    scan_no: int
    tenant_id: str
    file_id: str
    pieces: int
    total: int
    sha256: bytes
    agree: bool
    is_over: bool


async def join_parts(pool: Pool, objects: ObjectStore, scan_id: str) -> None:
    """Make files of a scan's pieces where all are there; say of the others what is wrong with them.

    Args:
        pool: under the writer role.
        objects: has the pieces and gets the files.
        scan_id: whose pieces.

    Raises:
        ObjectMissing: a piece's object is gone.
        Transient: the object store does not answer.
    """
    async with pool.connection() as connection:
        files = [_File(*row) for row in await (await connection.execute(_FILES, (scan_id,))).fetchall()]
    for file in files:
        await _join(pool, objects, scan_id, file)


async def _join(pool: Pool, objects: ObjectStore, scan_id: str, file: _File) -> None:
    joined, key, error = _Joined(), None, None
    if not file.agree:
        error = PARTS_DISAGREE
    elif file.pieces < file.total:
        error = PARTS_MISSING if file.is_over else None
    else:
        key = f"{scan_prefix(file.tenant_id, scan_id)}/files/{file.sha256.hex()}"
        async with pool.connection() as connection:
            pieces = [
                row[0] for row in await (await connection.execute(_PIECES, (file.scan_no, file.file_id))).fetchall()
            ]
        try:
            await objects.put(key, _read(objects, pieces, file.sha256, joined))
        except _WrongHash:
            key, error = None, WRONG_HASH
    async with pool.connection() as connection:
        await _keep(connection, file, joined, key, error)


async def _read(objects: ObjectStore, keys: list[str], sha256: bytes, joined: _Joined) -> AsyncIterator[bytes]:
    """The pieces' bytes in order; raises at the end if they are not the file, so that nothing of it is stored."""
    digest = hashlib.sha256()
    for key in keys:
        try:
            piece = decode_scan_frame(await objects.get(key))
        except Rejected as exc:
            raise _WrongHash from exc
        if not isinstance(piece, PartFrame):
            raise _WrongHash
        digest.update(piece.data)
        joined.size += len(piece.data)
        joined.start = joined.start or piece.data[:16]
        joined.name = joined.name or piece.name or ""
        yield piece.data
    if digest.digest() != sha256:
        raise _WrongHash


async def _keep(connection: Connection, file: _File, joined: _Joined, key: str | None, error: str | None) -> None:
    is_complete = key is not None
    size = joined.size if is_complete else None
    place = (file.scan_no, file.tenant_id, file.file_id)
    state = (joined.name, joined.kind, size, size or 0, file.sha256 if is_complete else None, key, is_complete, error)
    await connection.execute(_KEEP, (*place, *state))
