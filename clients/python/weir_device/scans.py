"""`ScanPublisher` and `Scan`: a room scan's frames, published in order as the camera moves.

Border: numbers the records, decides which frames are worth sending, cuts files into parts. What a record looks like is
`scan_records`' affair; buffering, signing and delivery are `DevicePublisher`'s.
"""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self

from weir_device import scan_records
from weir_device.errors import BufferFull, PublisherClosed
from weir_device.publisher import MIB, DevicePublisher, FlushReport, PublisherStats, system_now_ms
from weir_device.scan_poses import Intrinsics, KeyframeRule, Pose, Vector
from weir_device.scan_records import DEPTH_BUDGET_BYTES, PART_BYTES, Moment, Part, Tracking
from weir_device.sender import Link
from weir_device.wire import epoch_ms

if TYPE_CHECKING:
    from weir_device.scan_records import Array

_HASH_BYTES = 1024 * 1024
_ID_DIGITS = 32


class ScanPublisher:
    """Publishes one device's scans: signed, in order, at least once, buffered while the broker is away.

    Args: as `DevicePublisher`; the buffer directory must be another one than that of the device's readings.
    """

    def __init__(
        self,
        *,
        device_id: str,
        secret: str,
        bootstrap_servers: str | Sequence[str],
        topic: str = "scan-frames",
        buffer_dir: Path | None = None,
        buffer_max_bytes: int = 64 * MIB,
        kafka_options: Mapping[str, object] | None = None,
        now_ms: Callable[[], int] = system_now_ms,
        link: Link | None = None,
    ) -> None:
        self._now_ms = now_ms
        self._publisher = DevicePublisher(
            device_id=device_id,
            secret=secret,
            bootstrap_servers=bootstrap_servers,
            topic=topic,
            buffer_dir=buffer_dir,
            max_batch_readings=1,  # a frame waits for no other
            linger_ms=0,
            buffer_max_bytes=buffer_max_bytes,
            kafka_options=kafka_options,
            now_ms=now_ms,
            link=link,
        )

    def scan(
        self,
        scan_id: str | None = None,
        *,
        next_seq: int = 0,
        keyframes: KeyframeRule | None = None,
        every_frame: bool = False,
        gravity: Vector | None = None,
    ) -> Scan:
        """A scan to capture.

        Args:
            scan_id: from `POST /v1/scans`; None makes one, and the scan exists from its first frame.
            next_seq: the number of its next record, to go on with a scan after a restart.
            keyframes: which depth images and points are sent; by default those after 10 cm, 10 degrees or a second.
            every_frame: send all of them.
            gravity: of all frames that tell nothing else; `LEVEL` for ARKit and ARCore.
        """
        rule = None if every_frame else keyframes or KeyframeRule()
        return Scan(self, scan_id or f"scan_{uuid.uuid4().hex}", next_seq=next_seq, keyframes=rule, gravity=gravity)

    def publish(self, scan_id: str, value: bytes) -> None:
        """Accept one record that was made elsewhere; see `DevicePublisher.publish_scan_record`."""
        self._publisher.publish_scan_record(scan_id, value)

    def now_ms(self) -> int:
        """Epoch milliseconds of this publisher's clock."""
        return self._now_ms()

    def flush(self, timeout_s: float = 30.0) -> FlushReport:
        """Wait until what was captured before this call is delivered; the report counts records."""
        return self._publisher.flush(timeout_s)

    def close(self, timeout_s: float = 30.0) -> FlushReport:
        """Flush and end; what is not delivered stays in the buffer directory for the next publisher."""
        return self._publisher.close(timeout_s)

    @property
    def stats(self) -> PublisherStats:
        """Counts of this moment, of records."""
        return self._publisher.stats

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class Scan:
    """One scan under way; made by `ScanPublisher.scan`. Safe to use from several threads.

    Every method raises `BufferFull` if nothing was accepted (call it again later), `PublisherClosed` after the end, and
    `ValueError` for what Weir would refuse.

    Attributes:
        scan_id: the records' key.
        next_seq: how many records there are.
        skipped: depth images and points that were not worth sending.
    """

    def __init__(
        self,
        publisher: ScanPublisher,
        scan_id: str,
        *,
        next_seq: int,
        keyframes: KeyframeRule | None,
        gravity: Vector | None,
    ) -> None:
        self.scan_id = scan_id
        self.next_seq = next_seq
        self.skipped = 0
        self._publisher = publisher
        self._keyframes = keyframes
        self._gravity = gravity
        self._ended = False
        self._lock = threading.RLock()

    def depth(
        self,
        depth: bytes | Array,
        intrinsics: Intrinsics,
        pose: Pose,
        *,
        confidence: bytes | Array | None = None,
        at: datetime | int | None = None,
        tracking: Tracking = "normal",
        gravity: Vector | None = None,
        budget_bytes: int | None = DEPTH_BUDGET_BYTES,
    ) -> bool:
        """A depth image (see `scan_records.depth_record`); whether it was worth sending.

        One whose tracking is lost is not: nothing can be made of it.
        """
        moment = self._moment(at, tracking, gravity)

        def record(seq: int) -> bytes:
            return scan_records.depth_record(
                seq, moment, depth, intrinsics, pose, confidence=confidence, budget_bytes=budget_bytes
            )

        return self._send_keyframe(record, moment, pose)

    def points(
        self,
        points: bytes | Array,
        pose: Pose,
        *,
        at: datetime | int | None = None,
        tracking: Tracking = "normal",
        gravity: Vector | None = None,
    ) -> bool:
        """Points of a scanner, in its own frame; whether they were worth sending."""
        moment = self._moment(at, tracking, gravity)
        return self._send_keyframe(lambda seq: scan_records.points_record(seq, moment, points, pose), moment, pose)

    def rgb(
        self,
        jpeg: bytes,
        intrinsics: Intrinsics | None = None,
        pose: Pose | None = None,
        *,
        at: datetime | int | None = None,
    ) -> None:
        """A colour image; a large one travels as a file."""
        moment = self._moment(at, None, None)
        is_large = len(jpeg) > PART_BYTES
        image = self._send_file(lambda: BytesIO(jpeg), "rgb.jpg", patience_s=0.0) if is_large else jpeg
        self._send(lambda seq: scan_records.rgb_record(seq, moment, image, intrinsics, pose))

    def motion(self, samples: Sequence[Sequence[float]], *, at: datetime | int | None = None) -> None:
        """Samples of an inertial unit: epoch ms, acceleration (m/s²), rotation (rad/s)."""
        moment = self._moment(at, None, None)
        self._send(lambda seq: scan_records.motion_record(seq, moment, samples))

    def location(self, latitude: float, longitude: float, *, at: datetime | int | None = None, **more: float) -> None:
        """Where on Earth, in degrees."""
        moment = self._moment(at, None, None)
        self._send(lambda seq: scan_records.location_record(seq, moment, latitude, longitude, **more))

    def audio(self, data: bytes, *, encoding: str, sample_rate_hz: int, at: datetime | int | None = None) -> None:
        """Sonar echoes."""
        moment = self._moment(at, None, None)
        self._send(
            lambda seq: scan_records.audio_record(seq, moment, data, encoding=encoding, sample_rate_hz=sample_rate_hz)
        )

    def file(self, path: Path, *, name: str | None = None, patience_s: float = 60.0) -> str:
        """A file (PLY, PCD, RoomPlan's JSON, …) in parts; its id, which is the same whenever the same file is sent.

        Args:
            path: what to send; read twice, a part at a time.
            name: what it is called there; default: as here.
            patience_s: how long the broker may take nothing while the buffer is full.
        """
        return self._send_file(lambda: path.open("rb"), name or path.name, patience_s)

    def end(self) -> int:
        """The scan is complete; how many records it has before this last one."""
        with self._lock:
            self._send(scan_records.end_record)
            self._ended = True
            return self.next_seq - 1

    def _moment(self, at: datetime | int | None, tracking: Tracking | None, gravity: Vector | None) -> Moment:
        captured_at = self._publisher.now_ms() if at is None else epoch_ms(at)
        return Moment(captured_at, tracking, gravity or self._gravity)

    def _send_keyframe(self, record: Callable[[int], bytes], moment: Moment, pose: Pose) -> bool:
        with self._lock:
            unwanted = self._keyframes is not None and not self._keyframes.wants(pose, moment.captured_at)
            if unwanted or moment.tracking == "lost":
                self.skipped += 1
                return False
            self._send(record)
            if self._keyframes is not None:
                self._keyframes.sent(pose, moment.captured_at)
            return True

    def _send(self, record: Callable[[int], bytes]) -> None:
        """Number a record and have it accepted; a refused one leaves no hole."""
        with self._lock:
            if self._ended:
                msg = f"scan {self.scan_id} has ended; make another one"
                raise PublisherClosed(msg)
            self._publisher.publish(self.scan_id, record(self.next_seq))
            self.next_seq += 1

    def _send_file(self, opened: Callable[[], BinaryIO], name: str, patience_s: float) -> str:
        file_id = ""
        for part in file_parts(opened, name):
            file_id = part.file_id
            self._send_patiently(part, patience_s)
        return file_id

    def _send_patiently(self, part: Part, patience_s: float) -> None:
        while True:
            try:
                self._send(lambda seq: scan_records.part_record(seq, part))
            except BufferFull:
                before = self._publisher.stats.delivered
                if self._publisher.flush(patience_s).delivered == before:
                    raise
            else:
                return


def file_parts(opened: Callable[[], BinaryIO], name: str) -> Iterator[Part]:
    """A file's parts in order; its id follows from its content, so that sending it again is recognised.

    Args:
        opened: opens the file, twice.
        name: what it is called at the other end.

    Raises:
        ValueError: it is empty.
    """
    with opened() as file:
        size, sha256 = _measured(file)
    if not size:
        msg = f"{name} is empty; there is nothing to send"
        raise ValueError(msg)
    with opened() as file:
        for index in range(total := -(-size // PART_BYTES)):
            yield Part(sha256[:_ID_DIGITS], index, total, sha256, file.read(PART_BYTES), name)


def _measured(file: BinaryIO) -> tuple[int, str]:
    """Its length and SHA-256."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_HASH_BYTES):
        digest.update(piece)
        size += len(piece)
    return size, digest.hexdigest()
