"""Small files that hold secrets, most of them JSON: mode 0600 from the first byte, replaced atomically and durably."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from schemas.errors import Misconfigured


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace `path` by a JSON object."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace `path`; a reader sees the old content or the new one, never a part of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def read(path: Path) -> dict[str, Any] | None:
    """The content, or None if there is no such file.

    Raises:
        Misconfigured: the file is there but is not a JSON object.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _damaged(path) from error
    if not isinstance(content, dict):
        raise _damaged(path)
    return content


def _damaged(path: Path) -> Misconfigured:
    return Misconfigured(f"{path} is damaged (not JSON); restore it or move {path.parent} away to start afresh")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
