"""Where payloads of scans are kept: a directory, an S3-compatible service, or memory; one port for all three.

Border: keys and bytes. Which objects there should be is written in the database, never read from here. A put is atomic: a
reader finds the whole object or none, also after a crash of whoever wrote it. What is put again under its key replaces what
was there, so keys that are derived from the content may be written any number of times.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import obstore
from obstore import exceptions, store

from core.settings import Settings
from schemas.errors import Misconfigured, Transient, WeirError

_CHUNK_BYTES: Final = 1024 * 1024
_LIST_PAGE: Final = 1_000


class ObjectMissing(WeirError):
    """No object has this key."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a listing tells of an object."""

    key: str
    size: int
    changed_at: datetime


class ObjectStore:
    """Objects by key; keys are `/`-separated parts of `A-Z a-z 0-9 . _ -`.

    Every method raises `Transient` when the store cannot be reached or is full.
    """

    def __init__(self, backend: Any) -> None:  # noqa: ANN401 - any of obstore's stores
        self._backend = backend

    async def put(self, key: str, data: bytes | AsyncIterator[bytes]) -> None:
        """Write an object whole, or leave what was there; an iterator is written as it comes, never held whole."""
        try:
            await obstore.put_async(self._backend, key, data, use_multipart=None if isinstance(data, bytes) else True)
        except (exceptions.BaseError, OSError) as exc:
            raise _explained(exc, key) from exc

    async def get(self, key: str) -> bytes:
        """A small object whole.

        Raises:
            ObjectMissing: there is none.
        """
        try:
            found = await obstore.get_async(self._backend, key)
            return bytes(await found.bytes_async())
        except (exceptions.BaseError, OSError) as exc:
            raise _explained(exc, key) from exc

    async def stream(self, key: str, chunk_bytes: int = _CHUNK_BYTES) -> AsyncIterator[bytes]:
        """An object in pieces of at most this size.

        Raises:
            ObjectMissing: there is none.
        """
        try:
            found = await obstore.get_async(self._backend, key)
            async for chunk in found.stream(min_chunk_size=chunk_bytes):
                piece = bytes(chunk)
                for start in range(0, len(piece), chunk_bytes):
                    yield piece[start : start + chunk_bytes]
        except (exceptions.BaseError, OSError) as exc:
            raise _explained(exc, key) from exc

    async def head(self, key: str) -> Found | None:
        """Size and time of an object; None: there is none."""
        try:
            return _found(await obstore.head_async(self._backend, key))
        except (FileNotFoundError, exceptions.NotFoundError):
            return None
        except (exceptions.BaseError, OSError) as exc:
            raise _explained(exc, key) from exc

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        return await self.head(key) is not None

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there already was."""
        try:
            await obstore.delete_async(self._backend, key)
        except (FileNotFoundError, exceptions.NotFoundError):
            return
        except (exceptions.BaseError, OSError) as exc:
            raise _explained(exc, key) from exc

    async def list(self, prefix: str = "") -> AsyncIterator[Found]:
        """Every object below a prefix of whole parts, in no order."""
        try:
            async for page in obstore.list(self._backend, prefix or None, chunk_size=_LIST_PAGE):
                for one in page:
                    yield _found(one)
        except (exceptions.BaseError, OSError) as exc:
            raise _explained(exc, prefix) from exc


def open_object_store(settings: Settings) -> ObjectStore:
    """The store that the settings name; nothing is asked of it yet.

    Raises:
        Misconfigured: the URL is none that is understood, or its folder cannot be made.
    """
    url = settings.objects_url
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return ObjectStore(store.MemoryStore())
    if parts.scheme == "s3" and parts.netloc:
        return ObjectStore(_s3(settings, parts.netloc, parts.path.strip("/")))
    if parts.scheme in ("", "file") and parts.netloc == "" and parts.path:
        return open_directory(Path(parts.path))
    msg = f"WEIR_OBJECTS_URL is {url!r}; expected a folder, file:///folder or s3://bucket/prefix"
    raise Misconfigured(msg)


def open_directory(folder: Path) -> ObjectStore:
    """Objects as files below a folder, which is made if need be.

    Raises:
        Misconfigured: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        msg = f"the folder {folder} for objects cannot be made ({exc.strerror}); correct WEIR_OBJECTS_URL"
        raise Misconfigured(msg) from exc
    return ObjectStore(store.LocalStore(folder.resolve()))


def content_key(prefix: str, data: bytes) -> str:
    """A key that only these bytes have."""
    return f"{prefix}/{hashlib.sha256(data).hexdigest()}"


def scan_prefix(tenant_id: str, scan_id: str) -> str:
    """Where the objects of a scan lie. Scan ids may hold what keys may not, so the key has their hash."""
    return f"scans/{tenant_id}/{hashlib.sha256(scan_id.encode()).hexdigest()[:32]}"


def _s3(settings: Settings, bucket: str, prefix: str) -> Any:  # noqa: ANN401 - obstore's own type
    options: dict[str, Any] = {
        "endpoint": settings.objects_endpoint,
        "region": settings.objects_region,
        "access_key_id": settings.objects_access_key,
        "secret_access_key": settings.objects_secret_key.get_secret_value(),
    }
    given = {name: value for name, value in options.items() if value}
    client: Any = {"allow_http": True} if settings.objects_endpoint.startswith("http://") else None
    return store.S3Store(bucket, prefix=prefix or None, client_options=client, **given)


def _found(meta: Any) -> Found:  # noqa: ANN401 - a typed dict of obstore's stubs
    return Found(meta["path"], meta["size"], meta["last_modified"])


def _explained(error: BaseException, key: str) -> WeirError:
    """What to do about it: the object is missing, the settings are wrong, or the store must come back."""
    if isinstance(error, (FileNotFoundError, exceptions.NotFoundError)):
        return ObjectMissing(f"there is no object {key}")
    kind = type(error).__name__
    if isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, PermissionError)):
        return Misconfigured(f"the object store refused {key} ({kind}); correct WEIR_OBJECTS_URL or its access key")
    return Transient(f"the object store failed at {key} ({kind}); check its disk or WEIR_OBJECTS_ENDPOINT")
