"""`weir scan export`: a file that processing made of a scan, from the object store to a file or a pipe.

Border: whose scan it is does not matter here; operators see all. Tenants fetch exports over REST.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Final

import typer

from core.postgres import DatabaseRole, open_pool, require_connection
from core.settings import Settings, load_settings
from schemas.errors import Misconfigured, WeirError
from sinks.objects import open_object_store

FORMATS: Final = ("json", "csv", "ply", "obj", "glb", "pdf", "points.ply", "preview.ply")
_STDOUT: Final = "-"
_FOUND: Final = """
SELECT s.status, e.object_key, CASE e.format WHEN 'json' THEN scan_document(s.scan_id) END FROM scans s
LEFT JOIN scan_exports e ON e.scan_no = s.scan_no AND e.format = %s
WHERE s.scan_id = %s
"""


class NotExported(WeirError):
    """There is no such file of the scan."""


def export_command(
    scan: Annotated[str, typer.Argument(help="the scan's id")],
    form: Annotated[str, typer.Argument(metavar="FORMAT", help=f"one of {', '.join(FORMATS)}")],
    to: Annotated[
        str | None, typer.Option(help="where it goes, - for the standard output [default: SCAN.FORMAT]")
    ] = None,
) -> None:
    """Fetch an export of a scan. Exit code 1 if there is none."""
    if form not in FORMATS:
        msg = f"{form} is none of {', '.join(FORMATS)}"
        raise Misconfigured(msg)
    settings = load_settings()
    with _opened(to or f"{scan}.{form}") as target:
        size = asyncio.run(_copy(settings, scan, form, target))
    print(f"{size} bytes in {to or f'{scan}.{form}'}", file=sys.stderr)


async def _copy(settings: Settings, scan_id: str, form: str, target: BinaryIO) -> int:
    """Write an export; how many bytes it has."""
    (key, document), size = await _find(settings, scan_id, form), 0
    if document is not None:
        return await asyncio.to_thread(target.write, document)
    async for data in open_object_store(settings).stream(key):
        size += await asyncio.to_thread(target.write, data)
    return size


async def _find(settings: Settings, scan_id: str, form: str) -> tuple[str, bytes | None]:
    """The key of an export; of JSON the scan's document as well, which tells more."""
    url = settings.database_url.get_secret_value()
    await require_connection(url)
    async with open_pool(url, DatabaseRole.OPERATOR, size=1) as pool, pool.connection() as connection:
        row = await (await connection.execute(_FOUND, (form, scan_id))).fetchone()
    if row is None:
        msg = f"there is no scan {scan_id}; GET /v1/scans lists them"
        raise NotExported(msg)
    status, key, document = row
    if key is None:
        msg = f"scan {scan_id} is {status} and has no {form}; its document says which formats there are"
        raise NotExported(msg)
    return str(key), None if document is None else json.dumps(document, indent=1, ensure_ascii=False).encode()


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """The target; a file appears under its name only whole."""
    if name == _STDOUT:
        yield sys.stdout.buffer
        return
    path, part = Path(name), Path(f"{name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
