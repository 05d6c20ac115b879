"""What `weir doctor` tries on the object store: whether it takes, gives and removes an object, and how much room there is."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from core.settings import Settings
from ops import findings
from ops.findings import Finding, bad, good
from schemas.errors import WeirError
from sinks.objects import open_object_store

_PATIENCE_S: Final = 20.0


async def examine_objects(settings: Settings) -> Finding:
    """A finding; the one object that is written is removed again."""
    parts = urlsplit(settings.objects_url)
    folder = Path(parts.path) if parts.scheme in ("", "file") and parts.path else None
    if folder is not None and not folder.exists():
        return _to_be_made(folder)
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await open_object_store(settings).probe()
    except WeirError as error:
        return bad("objects", str(error))
    except TimeoutError:
        return bad("objects", findings.objects_silent(settings.objects_url, _PATIENCE_S))
    free = shutil.disk_usage(folder).free if folder is not None else None
    return findings.judge_objects(settings.objects_url, free)


def _to_be_made(folder: Path) -> Finding:
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if os.access(above, os.W_OK | os.X_OK):
        return good("objects", f"the folder {folder} is not there yet; the first scan makes it")
    return bad("objects", f"the folder {folder} cannot be made in {above}; make it, or correct WEIR_OBJECTS_URL")
