"""The buffer on disk: an append-only journal in segments, so that what waits survives the process.

Border: one directory, one publisher at a time. Entries are kept as they came; secrets are never written.

What it promises: an entry that `append` took survives the end of the process, however it ends; after a loss of power it
is there if what `pending_sync` gives was called since, which the publisher does once a second while anything waits. An
entry goes only after `release`. A crash between delivery and release sends it again; Weir stores it once.

    lock         held (flock) while a publisher lives; the kernel lets go of it when the process dies
    buffer.json  whose buffer this is
    position     segment and offset of the oldest entry that waits
    N.journal    frames, oldest first; removed once all are released
    N-OFFSET.cut what a crash left damaged, set aside byte for byte and logged, never sent

Nothing is appended to a file that was found: each run starts a segment of its own. So a position that survived a loss
of power, while data before it did not, can never hide entries that were written later.
"""

from __future__ import annotations

import errno
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from zlib import crc32

from weir_device import frames
from weir_device.buffer import FRAME_OVERHEAD, Position, require_room
from weir_device.errors import BufferFull, BufferUnusable
from weir_device.lockfile import hold_lock
from weir_device.wire import Entry

log = logging.getLogger(__name__)

FORMAT = 1
SEGMENT_BYTES = 4 * 1024 * 1024
_SUFFIX = ".journal"
_WHERE = Struct("<QQ")  # segment, offset
_CRC = Struct("<I")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(slots=True)
class _Segment:
    number: int
    end: int


class Journal:
    """See Buffer and the module."""

    keeps_after_close = True

    def __init__(
        self, directory: Path, *, device_id: str, topic: str, max_bytes: int, segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 4))
        self.waiting_readings = 0
        self._segments: deque[_Segment] = deque()
        self._bytes = 0  # of all segments, what is released of the first one included
        self._head = 0  # offset of the oldest entry in the first segment
        self._active: int | None = None  # descriptor of the last segment, the only one that grows
        self._unsynced = False
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = hold_lock(directory / "lock")
        try:
            _check_owner(directory / "buffer.json", {"format": FORMAT, "device_id": device_id, "topic": topic})
            self._position = os.open(directory / "position", os.O_RDWR | os.O_CREAT, 0o600)
            self._next_number = self._recover()
        except BaseException:
            os.close(self._lock)
            raise

    def append(self, entry: Entry) -> None:
        """See Buffer; a full disk counts as a full buffer."""
        frame = frames.encode(entry)
        require_room(len(frame), self._bytes - self._head, self._max_bytes)
        try:
            self._write(frame)
        except OSError as exc:
            if exc.errno not in _NO_SPACE:
                raise
            msg = f"the disk that holds {self._directory} is full; the reading was not accepted. Free space on it"
            raise BufferFull(msg) from exc
        self.waiting_readings += entry.readings
        self._unsynced = True

    def oldest(self) -> Iterator[tuple[Entry, Position]]:
        """See Buffer."""
        start = self._head
        for segment in list(self._segments):
            with self._path(segment.number).open("rb") as file:
                file.seek(start)
                while start < segment.end:
                    entry = frames.read(file)
                    if entry is None:
                        path = self._path(segment.number)
                        msg = f"{path} was changed at byte {start} while in use; check the disk"
                        raise BufferUnusable(msg)
                    start += FRAME_OVERHEAD + len(entry.data)
                    yield entry, (segment.number, start)
            start = 0

    def release(self, position: Position, readings: int) -> None:
        """See Buffer."""
        number, self._head = position
        os.pwrite(self._position, _pack_position(number, self._head), 0)
        while self._segments[0].number < number:
            self._remove_first()
        self.waiting_readings -= readings
        self._remove_if_finished()

    def pending_sync(self) -> Callable[[], None] | None:
        """See Buffer."""
        if self._active is None or not self._unsynced or not self.waiting_readings:
            return None
        self._unsynced = False
        descriptor = os.dup(self._active)

        def sync() -> None:
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

        return sync

    def close(self) -> None:
        """Sync what waits and let another publisher in; a segment without anything waiting is removed."""
        self._seal()
        self._remove_if_finished()
        os.close(self._position)
        os.close(self._lock)

    def _recover(self) -> int:
        """Find what waits; the number that the next segment gets."""
        number, offset = _read_position(self._position)
        found = sorted(int(path.stem) for path in self._directory.glob(f"*{_SUFFIX}") if path.stem.isdigit())
        for segment in found:
            if segment < number:
                self._path(segment).unlink()
            else:
                self._recover_segment(segment, offset if segment == number else 0)
        return max([number, *found]) + 1

    def _recover_segment(self, number: int, start: int) -> None:
        path = self._path(number)
        with path.open("r+b") as file:
            end, readings = frames.whole_until(file, start)
            file.seek(end)
            rest = file.read()
            if rest:
                _set_aside(path.with_name(f"{path.stem}-{end}.cut"), rest)
                file.truncate(end)
        if not readings:
            path.unlink()
            return
        if not self._segments:
            self._head = start
        self._segments.append(_Segment(number, end))
        self._bytes += end
        self.waiting_readings += readings

    def _write(self, frame: bytes) -> None:
        if self._active is None or self._segments[-1].end + len(frame) > self._segment_bytes:
            self._seal()
            self._remove_if_finished()
            self._active = self._start_segment()
        segment = self._segments[-1]
        try:
            _write_whole(self._active, frame)
        except OSError:
            os.ftruncate(self._active, segment.end)
            raise
        segment.end += len(frame)
        self._bytes += len(frame)

    def _start_segment(self) -> int:
        number = self._next_number
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        descriptor = os.open(self._path(number), flags, 0o600)
        _sync_directory(self._directory)
        self._next_number += 1
        self._segments.append(_Segment(number, 0))
        return descriptor

    def _seal(self) -> None:
        """Stop appending to the last segment."""
        if self._active is None:
            return
        descriptor, self._active = self._active, None
        try:
            if self.waiting_readings:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _remove_if_finished(self) -> None:
        """Remove the first segment if all of it is released and nothing more will be appended."""
        growing = self._active is not None and len(self._segments) == 1
        if self._segments and self._head >= self._segments[0].end and not growing:
            self._remove_first()
            self._head = 0

    def _remove_first(self) -> None:
        segment = self._segments.popleft()
        self._path(segment.number).unlink()
        self._bytes -= segment.end

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:020d}{_SUFFIX}"


def _pack_position(number: int, offset: int) -> bytes:
    where = _WHERE.pack(number, offset)
    return where + _CRC.pack(crc32(where))


def _read_position(descriptor: int) -> tuple[int, int]:
    """The stored head; (0, 0), which is before everything, if there is none or it is damaged."""
    packed = os.pread(descriptor, _WHERE.size + _CRC.size, 0)
    if len(packed) < _WHERE.size + _CRC.size:
        return 0, 0
    number, offset = _WHERE.unpack_from(packed)
    return (number, offset) if packed == _pack_position(number, offset) else (0, 0)


def _check_owner(path: Path, owner: dict[str, object]) -> None:
    """Claim the directory, or see that it is this device's.

    Raises:
        BufferUnusable: its entries would be sent as another device's, to another topic, or are of another format.
    """
    if not path.exists():
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(owner))
        partial.replace(path)
        return
    try:
        found = json.loads(path.read_text())
    except ValueError:
        found = None
    if found != owner:
        msg = f"buffer directory {path.parent} belongs to {found}, not {owner}; give each device a directory of its own"
        raise BufferUnusable(msg)


def _write_whole(descriptor: int, frame: bytes) -> None:
    """A regular file takes less than all only when its disk has no more room."""
    if os.write(descriptor, frame) < len(frame):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _set_aside(path: Path, rest: bytes) -> None:
    path.write_bytes(rest)
    log.warning("%d damaged bytes, left by a crash, were set aside in %s", len(rest), path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
