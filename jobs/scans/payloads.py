"""The object store as the computation of a scan uses it: one call after another, in a process that does nothing else."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from core.settings import Settings
from schemas.errors import Transient
from schemas.scan_frames import ScanFrame, decode_scan_frame
from sinks.objects import ObjectMissing, ObjectStore, content_key, open_object_store

_T = TypeVar("_T")
_AT_ONCE: Final = 16
# Records of a room scanned by phone are a few MB; what does not fit is fetched again.
_KEPT_BYTES: Final = 64 * 1024 * 1024

STORE_SETTINGS: Final = (
    "objects_url",
    "objects_endpoint",
    "objects_region",
    "objects_access_key",
    "objects_secret_key",
)


def store_settings(settings: Settings) -> dict[str, str]:
    """What a child needs to know of the settings to reach the objects, as plain values."""
    values = {name: getattr(settings, name) for name in STORE_SETTINGS}
    return {name: value if isinstance(value, str) else value.get_secret_value() for name, value in values.items()}


class Payloads:
    """Payloads of one scan; a context manager.

    Args:
        store: as `store_settings` gives it.
        keys: object keys of the scan's records by seq.
    """

    def __init__(self, store: Mapping[str, str], keys: Mapping[int, str]) -> None:
        self._store = _opened(tuple(sorted(store.items())))
        self._keys = keys
        self._runner = asyncio.Runner()
        self._kept: dict[int, bytes] = {}
        self._kept_bytes = 0

    def __enter__(self) -> Self:
        """Use it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the event loop."""
        self._runner.close()

    def frame(self, seq: int) -> ScanFrame:
        """A record of the scan, decoded."""
        return decode_scan_frame(self._kept[seq] if seq in self._kept else self._run(self._get(self._keys[seq])))

    def fetch(self, seqs: Sequence[int]) -> None:
        """Have records at hand before they are asked for, several at once."""
        for start in range(0, len(seqs), _AT_ONCE):
            wanted = [seq for seq in seqs[start : start + _AT_ONCE] if seq not in self._kept]
            for seq, value in zip(wanted, self._run(self._get_all(wanted)), strict=True):
                if self._kept_bytes + len(value) <= _KEPT_BYTES:
                    self._kept[seq] = value
                    self._kept_bytes += len(value)

    def open(self, key: str) -> ObjectReader:
        """An object to be read from front to back, never whole in memory."""
        return ObjectReader(self._store.stream(key), self._runner)

    def whole(self, key: str) -> bytes:
        """A small object."""
        return self._run(self._get(key))

    def put(self, prefix: str, data: bytes) -> tuple[str, bytes]:
        """Write an object under a key made of its content; the key and its SHA-256."""
        key = content_key(prefix, data)
        self._run(self._store.put(key, data))
        return key, hashlib.sha256(data).digest()

    async def _get_all(self, seqs: Sequence[int]) -> list[bytes]:
        return list(await asyncio.gather(*(self._get(self._keys[seq]) for seq in seqs)))

    async def _get(self, key: str) -> bytes:
        try:
            return await self._store.get(key)
        except ObjectMissing as exc:
            # The row names it, so it was there: the store is incomplete, which people or a replica may mend.
            raise Transient(str(exc)) from exc

    def _run(self, call: Coroutine[Any, Any, _T]) -> _T:
        return self._runner.run(call)


@lru_cache(maxsize=2)
def _opened(settings: tuple[tuple[str, str], ...]) -> ObjectStore:
    """Opened once, however many computations a process does: settings take longer to read than a frame."""
    return open_object_store(Settings(**dict(settings)))  # type: ignore[arg-type]


class ObjectReader:
    """`read` of an object that comes in chunks."""

    def __init__(self, chunks: AsyncIterator[bytes], runner: asyncio.Runner) -> None:
        self._chunks, self._runner = chunks, runner
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """Up to so many bytes; fewer at the end only."""
        parts: list[memoryview] = []
        while size > 0 and (self._rest or self._next()):
            parts.append(self._rest[:size])
            self._rest = self._rest[len(parts[-1]) :]
            size -= len(parts[-1])
        return b"".join(parts)

    def _next(self) -> bool:
        self._rest = memoryview(self._runner.run(_following(self._chunks)))
        return bool(self._rest)


async def _following(chunks: AsyncIterator[bytes]) -> bytes:
    """The next bytes; none at the end."""
    try:
        async for chunk in chunks:
            if chunk:
                return chunk
    except ObjectMissing as exc:
        raise Transient(str(exc)) from exc
    return b""
