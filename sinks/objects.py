"""Where payloads of scans are kept: a directory, an S3-compatible service, or memory; one port for all three.

Border: keys and bytes. Which objects there should be is written in the database, never read from here. A put is atomic: a
reader finds the whole object or none, also after a crash of whoever wrote it; and durable: once it returns, a power failure
does not undo it. What is put again under its key replaces what was there, so keys that are derived from the content may be
written any number of times.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import obstore
from obstore import exceptions, store

from core.settings import Settings
from schemas.errors import Misconfigured, Transient, WeirError
from sinks.durable_files import Draft, DurableFiles

_CHUNK_BYTES: Final = 1024 * 1024
_LIST_PAGE: Final = 1_000
# Puts at once: enough to hide a service's or a disk's latency.
_PUTS_AT_ONCE: Final = 16
_RETRY_FOR: Final = timedelta(seconds=10)


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

    async def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects by key, several at once.

        Raises:
            Transient: one could not be written, for whatever reason; others may have been.
        """
        await _each_of(objects, self.put)

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

    async def remove_unfinished(self, before: datetime) -> int:
        """Remove what puts left that broke off before then; a service does so by rules of its own."""
        return 0

    async def probe(self) -> None:
        """Write an object, read it and remove it again.

        Raises:
            WeirError: something of this does not work; the text says what, and the remedy.
        """
        key, data = f"probe/{secrets.token_hex(8)}", secrets.token_bytes(64)
        await self.put(key, data)
        found = await self.get(key)
        await self.delete(key)
        if found != data:
            msg = "the object store gave back other bytes than were written; check its disk, or what stands before it"
            raise Misconfigured(msg)


class DirectoryStore(ObjectStore):
    """Objects as files below a folder."""

    def __init__(self, folder: Path, files: DurableFiles | None = None) -> None:
        super().__init__(store.LocalStore(folder))
        self.folder = folder
        self._files = files or DurableFiles(folder)

    async def put(self, key: str, data: bytes | AsyncIterator[bytes]) -> None:
        """As inherited."""
        try:
            draft = await self._draft(key, data)
            try:
                await asyncio.to_thread(self._files.finish, [draft])
            finally:
                self._files.discard(draft)
        except OSError as exc:
            raise _not_written(exc, key) from exc

    async def put_all(self, objects: Mapping[str, bytes]) -> None:
        """As inherited; their folders are flushed once."""
        drafts: list[Draft] = []

        async def write(key: str, data: bytes) -> None:
            try:
                drafts.append(await asyncio.to_thread(self._files.write, key, data))
            except OSError as exc:
                raise _not_written(exc, key) from exc

        try:
            await _each_of(objects, write)
            await asyncio.to_thread(self._files.finish, drafts)
        except OSError as exc:
            raise _not_written(exc, "a batch") from exc
        finally:
            for draft in drafts:
                self._files.discard(draft)

    async def remove_unfinished(self, before: datetime) -> int:
        """As inherited."""
        return await asyncio.to_thread(self._files.remove_unfinished, before)

    async def _draft(self, key: str, data: bytes | AsyncIterator[bytes]) -> Draft:
        if isinstance(data, bytes):
            return await asyncio.to_thread(self._files.write, key, data)
        draft = await asyncio.to_thread(self._files.begin, key)
        try:
            async for chunk in data:
                await asyncio.to_thread(draft.file.write, chunk)
            await asyncio.to_thread(self._files.close, draft)
        except BaseException:
            self._files.discard(draft)
            raise
        return draft


async def _each_of(objects: Mapping[str, bytes], put: Callable[[str, bytes], Awaitable[None]]) -> None:
    free = asyncio.Semaphore(_PUTS_AT_ONCE)

    async def one(key: str, data: bytes) -> None:
        async with free:
            await put(key, data)

    ends = await asyncio.gather(*(one(key, data) for key, data in objects.items()), return_exceptions=True)
    failed = [end for end in ends if end is not None]
    for error in failed:
        if not isinstance(error, WeirError):
            raise error
    if failed:
        msg = f"{len(failed)} of {len(objects)} objects were not stored: {failed[0]}"
        raise Transient(msg)


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


def open_directory(folder: Path) -> DirectoryStore:
    """Objects as files below a folder, which is made if need be.

    Raises:
        Misconfigured: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        msg = f"the folder {folder} for objects cannot be made ({exc.strerror}); correct WEIR_OBJECTS_URL"
        raise Misconfigured(msg) from exc
    return DirectoryStore(folder.resolve())


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
    client: Any = {"allow_http": settings.objects_endpoint.startswith("http://")}
    # Whoever asked tries again, and hears meanwhile that the service is away.
    retries: Any = {"max_retries": 3, "retry_timeout": _RETRY_FOR}
    return store.S3Store(bucket, prefix=prefix or None, client_options=client, retry_config=retries, **given)


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


def _not_written(error: OSError, key: str) -> WeirError:
    """As `_explained`, of a file: it is its folder that is missing then."""
    if isinstance(error, PermissionError):
        return _explained(error, key)
    return Transient(f"{key} was not written ({error.strerror}); check the disk that WEIR_OBJECTS_URL names")
