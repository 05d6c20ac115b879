"""Files that come in pieces over HTTP: how far each has come, and which objects hold its bytes so far.

All run as weir_reader in a transaction of one tenant. Bytes are in the object store before a row names them, so whatever a
row says is there. Border: rows; the protocol and the bytes are `api.scan_uploads`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from core.postgres import Connection


class Piece(NamedTuple):
    """Neighbouring bytes of an upload, in an object of their own."""

    object_key: str
    size: int


@dataclass(frozen=True, slots=True)
class ScanFile:
    """A file of a scan, on its way or there.

    Attributes:
        size: bytes that it has or will have; None: of a file in frames whose size is not known yet.
        is_upload: it comes over HTTP and is not whole yet.
        expires_at: when an upload is forgotten if no more comes.
        object_key: where its bytes are, once it is complete.
    """

    file_id: str
    scan_id: str
    name: str
    kind: str
    size: int | None
    received: int
    is_upload: bool
    is_complete: bool
    created_at: datetime
    expires_at: datetime | None
    sha256: bytes | None
    object_key: str | None
    error: str | None


_FILES: Final = """
SELECT u.file_id, s.scan_id, u.name, u.kind, u.bytes, u.received, true, false, u.created_at, u.expires_at, NULL::bytea,
    NULL, NULL
FROM weir.scan_upload u JOIN weir.scan s USING (scan_no)
WHERE s.scan_id = %(scan_id)s AND u.expires_at > now() AND u.file_id {0}
UNION ALL
SELECT f.file_id, s.scan_id, f.name, f.kind, f.bytes, f.received, false, f.complete, f.created_at, NULL, f.sha256,
    f.object_key, f.error
FROM weir.scan_file f JOIN weir.scan s USING (scan_no)
WHERE s.scan_id = %(scan_id)s AND f.file_id {0}
"""


async def begin(
    connection: Connection, scan_id: str, name: str, kind: str, size: int, patience: timedelta
) -> str | None:
    """A new upload to a scan of the tenant's; its file's id, None if the scan takes no more files."""
    cursor = await connection.execute(
        "SELECT weir_tenant.begin_scan_upload(%s, %s, %s, %s, %s)", (scan_id, name, kind, size, patience)
    )
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else str(row[0])


async def find(connection: Connection, scan_id: str, file_id: str) -> ScanFile | None:
    """A file of a scan; None if there is none, or its upload has expired."""
    cursor = await connection.execute(_FILES.format("= %(file_id)s").encode(), {"scan_id": scan_id, "file_id": file_id})
    row = await cursor.fetchone()
    return None if row is None else ScanFile(*row)


async def list_files(connection: Connection, scan_id: str, after: str, limit: int) -> list[ScanFile]:
    """Files of a scan in the order of their ids."""
    cursor = await connection.execute(
        f"{_FILES.format('> %(after)s')} ORDER BY file_id LIMIT %(limit)s".encode(),
        {"scan_id": scan_id, "after": after, "limit": limit},
    )
    return [ScanFile(*row) for row in await cursor.fetchall()]


async def count_open(connection: Connection, scan_id: str) -> int:
    """How many uploads to a scan are under way."""
    cursor = await connection.execute(
        "SELECT count(*) FROM weir.scan_upload u JOIN weir.scan s USING (scan_no)"
        " WHERE s.scan_id = %s AND u.expires_at > now()",
        (scan_id,),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def append(
    connection: Connection, file_id: str, offset: int, pieces: Sequence[Piece], patience: timedelta
) -> bool:
    """Note pieces that follow one another from an offset; False if the upload is somewhere else by now, or gone."""
    cursor = await connection.execute(
        "SELECT weir_tenant.append_scan_upload(%s, %s, %s, %s, %s)",
        (file_id, offset, [piece.size for piece in pieces], [piece.object_key for piece in pieces], patience),
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def pieces_of(connection: Connection, file_id: str) -> list[Piece]:
    """The pieces of an upload in the order of the file."""
    cursor = await connection.execute(
        "SELECT object_key, bytes FROM weir.scan_upload_piece WHERE file_id = %s ORDER BY at_byte", (file_id,)
    )
    return [Piece(*row) for row in await cursor.fetchall()]


async def finish(connection: Connection, file_id: str, sha256: bytes, object_key: str) -> bool:
    """The upload has become a file of its scan; False if another request was faster."""
    cursor = await connection.execute(
        "SELECT weir_tenant.finish_scan_upload(%s, %s, %s)", (file_id, sha256, object_key)
    )
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def forget(connection: Connection, file_id: str) -> bool:
    """Remove an upload that is under way, its pieces' rows with it."""
    cursor = await connection.execute("DELETE FROM weir.scan_upload WHERE file_id = %s", (file_id,))
    return cursor.rowcount == 1
