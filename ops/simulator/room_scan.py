"""A scan of a synthetic room as a phone would send it: records of SCAN_FRAMES, in real time or at once, in order or not.

`frames` is pure and seeded; `publish` sends what it gives through the device library.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from weir_device import LEVEL, BufferFull, Intrinsics, Pose, ScanPublisher, scan_records
from weir_device.scan_records import Moment

from core.clock import monotonic_s
from ops.simulator.rooms.camera import DepthFrame, Imperfection, walk
from ops.simulator.rooms.shapes import Room, Shape, make_room
from schemas.errors import Transient

SCENARIO: Final = "room-scan"
SUMMARY: Final = "a room is scanned with a phone: 120 depth frames of a seeded room, in real time or --fast"
FRAMES: Final = 120
# A record that is held back comes this many places later at most, so the last ones may come after the end.
_HELD_BACK: Final = 20
_VIENNA: Final = (48.2, 16.37)


@dataclass(frozen=True, slots=True)
class RoomScan:
    """Which room, and how it is recorded.

    Attributes:
        seed: of the room, the walk and the disorder.
        shape: of the floor.
        frames: depth images.
        disorder: share of records that come twice, and share of records that come late, after up to 20 others.
        imperfection: noise, drift, wrong poses.
        shrink: divides the images' sides, for quick tests.
    """

    seed: int = 1
    shape: Shape = Shape.BOX
    frames: int = FRAMES
    disorder: float = 0.0
    imperfection: Imperfection | None = None
    shrink: int = 1

    @property
    def room(self) -> Room:
        """The truth."""
        return make_room(self.shape, self.seed)


class TimedRecord(NamedTuple):
    """A record's value, and how long after the scan's start it is sent."""

    after_ms: int
    value: bytes


def frames(seed: int, start_ms: int, *, shape: Shape = Shape.BOX, count: int = FRAMES) -> Iterator[bytes]:
    """All records of a scan in order, the end last; `start_ms` is when its first frame was captured."""
    return (value for _, value in timed(RoomScan(seed, shape, count), start_ms))


def timed(scan: RoomScan, start_ms: int) -> Iterator[TimedRecord]:
    """The records of a scan, in the order in which they are sent."""
    records = _in_order(scan, start_ms)
    return _disordered(records, scan) if scan.disorder else records


def longest_ms(scan: RoomScan) -> int:
    """What a walk takes at most: half a second a frame, five seconds to each of six places."""
    return 500 * scan.frames + 5_000 * 6


def publish(
    publisher: ScanPublisher, scan_id: str, records: Iterable[TimedRecord], stop: threading.Event, *, fast: bool = False
) -> int:
    """Send a scan's records when they are due (or at once), until `stop` is set; how many were sent.

    Raises:
        Transient: the broker takes nothing for 30 s.
    """
    began, sent = monotonic_s(), 0
    for after_ms, value in records:
        if stop.wait(0 if fast else max(0.0, began + after_ms / 1000 - monotonic_s())):
            break
        _accept(publisher, scan_id, value)
        sent += 1
    while publisher.stats.buffered:
        _wait_for_progress(publisher)
    return sent


def _accept(publisher: ScanPublisher, scan_id: str, value: bytes) -> None:
    while True:
        try:
            return publisher.publish(scan_id, value)
        except BufferFull:
            _wait_for_progress(publisher)


def _wait_for_progress(publisher: ScanPublisher) -> None:
    before = publisher.stats.delivered
    report = publisher.flush(timeout_s=30)
    if report.buffered and report.delivered == before:
        msg = f"Kafka took no frame for 30 s ({publisher.stats.last_error or 'no broker answered'}); start it"
        raise Transient(msg)


def _in_order(scan: RoomScan, start_ms: int) -> Iterator[TimedRecord]:
    yield TimedRecord(0, scan_records.location_record(0, Moment(start_ms), *_VIENNA, accuracy_m=8.0))
    first_ms, after_ms, seq = None, 0, 1
    for seq, frame in enumerate(walk(scan.room, scan.seed, scan.frames, scan.imperfection, scan.shrink), start=1):
        first_ms = frame.captured_at_ms if first_ms is None else first_ms
        after_ms = frame.captured_at_ms - first_ms
        yield TimedRecord(after_ms, _record(seq, start_ms + after_ms, frame))
    yield TimedRecord(after_ms, scan_records.end_record(seq + 1))


def _record(seq: int, captured_at: int, frame: DepthFrame) -> bytes:
    camera = frame.camera
    view = Intrinsics(
        camera.width, camera.height, camera.focal_px, camera.focal_px, (camera.width - 1) / 2, (camera.height - 1) / 2
    )
    x, y, z, qx, qy, qz, qw = frame.pose.tolist()
    sure = np.where(frame.depth_mm > 0, np.uint8(2), np.uint8(0))
    moment = Moment(captured_at, "normal", LEVEL)
    return scan_records.depth_record(
        seq, moment, frame.depth_mm, view, Pose((x, y, z), (qx, qy, qz, qw)), confidence=sure
    )


def _disordered(records: Iterable[TimedRecord], scan: RoomScan) -> Iterator[TimedRecord]:
    random = np.random.default_rng([scan.seed, 3])
    held: list[tuple[float, int, TimedRecord]] = []
    place, last_ms = 0, 0
    for place, record in enumerate(records):
        last_ms = record.after_ms
        comes_late, comes_twice = random.random(2) < scan.disorder
        delays = [float(random.uniform(1, _HELD_BACK)) if comes_late else 0.0]
        delays += [float(random.uniform(0, _HELD_BACK))] if comes_twice else []
        for copy, delay in enumerate(delays):
            heapq.heappush(held, (place + delay, 2 * place + copy, record))
        yield from (each._replace(after_ms=last_ms) for each in _due(held, place))
    yield from (each._replace(after_ms=last_ms) for each in _due(held, math.inf))


def _due(held: list[tuple[float, int, TimedRecord]], place: float) -> Iterator[TimedRecord]:
    while held and held[0][0] <= place:
        yield heapq.heappop(held)[2]
