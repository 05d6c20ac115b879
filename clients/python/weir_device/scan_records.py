"""Scan frames as Weir wants them on `scan-frames`: one MessagePack map a record.

Border: arguments to bytes, without Kafka, clocks or files. With numpy and zstandard installed, depth and points travel
compressed; without them, bytes travel as they are. What Weir would refuse is refused here, at the call that brought it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from weir_device.scan_poses import Intrinsics, Pose, Vector
from weir_device.wire import MAX_SCAN_RECORD_BYTES

try:
    from weir_device import scan_arrays
except ImportError:
    scan_arrays = None  # type: ignore[assignment]  # the ways around it ask

if TYPE_CHECKING:
    from typing import TypeAlias

    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.generic]

PART_BYTES: Final = 768 * 1024
"""Of a file's piece: the most that Weir takes."""
DEPTH_BUDGET_BYTES: Final = 20_000
"""Of the record of a phone's depth image, 256 x 192 pixels; one of more pixels may have as much more."""
MAX_SCAN_SEQ: Final = 999_999
EARLIEST_MS: Final = 1_262_304_000_000
_UNIT_TOLERANCE: Final = 0.01
_POINT_BYTES: Final = 12
_PHONE_PIXELS: Final = 256 * 192
_LENGTH_BYTES: Final = 4  # of MessagePack's lengths, at most

Tracking = Literal["normal", "limited", "lost"]


@dataclass(frozen=True, slots=True)
class Moment:
    """What frames of all sensors may tell.

    Attributes:
        captured_at: epoch milliseconds.
        tracking: what the phone says about its pose.
        gravity: unit vector pointing down in the world; `LEVEL` in a levelled one.

    Raises:
        ValueError: the time is before 2010 (seconds, or a clock that was never set), or gravity is no unit vector.
    """

    captured_at: int
    tracking: Tracking | None = None
    gravity: Vector | None = None

    def __post_init__(self) -> None:
        if self.captured_at < EARLIEST_MS:
            msg = f"captured_at {self.captured_at} is before 2010; epoch milliseconds are expected, and a clock that is set"
            raise ValueError(msg)
        if self.gravity is not None and not abs(math.hypot(*self.gravity) - 1) <= _UNIT_TOLERANCE:
            msg = f"gravity {self.gravity} must be of length 1; gravity_in_world makes it so"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a file; `sha256` is the whole file's, in hex."""

    file_id: str
    index: int
    total: int
    sha256: str
    data: bytes
    name: str | None = None


def depth_record(
    seq: int,
    moment: Moment,
    depth: bytes | Array,
    intrinsics: Intrinsics,
    pose: Pose,
    *,
    confidence: bytes | Array | None = None,
    budget_bytes: int | None = DEPTH_BUDGET_BYTES,
) -> bytes:
    """A depth image.

    Args:
        seq: the record's number in the scan.
        moment: when.
        depth: along the optical axis: an array of metres (floating) or millimetres (integer), shape (height, width), or the
            bytes of little-endian 16-bit millimetres. 0, NaN and negative are no return.
        intrinsics: of this image.
        pose: of the camera.
        confidence: 0 low, 1 medium, 2 high, one for each pixel: an array, or bytes.
        budget_bytes: what the record of an image of 256 x 192 pixels may have, one of more pixels as much more; beyond
            it, depth is rounded to a quarter of a phone's noise at that depth, then to more, twice the noise at most.
            None: never.

    Raises:
        ValueError: sizes do not match, or the record would be too large.
    """
    size = (intrinsics.height, intrinsics.width)
    fields = {name: getattr(intrinsics, name) for name in ("width", "height", "fx", "fy", "cx", "cy")}
    fields |= {"pose": pose.numbers(), "depth_encoding": "delta16-zstd"}
    if confidence is not None:
        fields |= _confidence(confidence, size)
    if budget_bytes is not None:
        budget_bytes = budget_bytes * max(size[0] * size[1], _PHONE_PIXELS) // _PHONE_PIXELS
        budget_bytes -= len(_record("depth", seq, moment, fields | {"depth": b""})) + _LENGTH_BYTES
    return _record("depth", seq, moment, fields | _depth(depth, size, budget_bytes))


def points_record(seq: int, moment: Moment, points: bytes | Array, pose: Pose) -> bytes:
    """Points in the sensor's frame: an array of metres, shape (n, 3), or the bytes of little-endian 32-bit floats.

    Raises:
        ValueError: another shape, or the record would be too large.
    """
    if isinstance(points, bytes):
        if len(points) % _POINT_BYTES:
            msg = f"points of 32-bit x, y, z take a multiple of {_POINT_BYTES} bytes, got {len(points)}"
            raise ValueError(msg)
        data, encoding = points, "f32"
    else:
        _require_arrays()
        data, encoding = scan_arrays.points_zstd(points)
    return _record("points", seq, moment, {"points": data, "points_encoding": encoding, "pose": pose.numbers()})


def rgb_record(
    seq: int, moment: Moment, image: bytes | str, intrinsics: Intrinsics | None = None, pose: Pose | None = None
) -> bytes:
    """A colour image: a JPEG's bytes, or the id of the file that it was sent as."""
    fields: dict[str, object] = {"image" if isinstance(image, bytes) else "file_id": image}
    if intrinsics is not None:
        fields |= {name: getattr(intrinsics, name) for name in ("width", "height", "fx", "fy", "cx", "cy")}
    if pose is not None:
        fields["pose"] = pose.numbers()
    return _record("rgb", seq, moment, fields)


def motion_record(seq: int, moment: Moment, samples: Sequence[Sequence[float]]) -> bytes:
    """Samples of an inertial unit: epoch ms, acceleration x, y, z (m/s²), rotation x, y, z (rad/s) each."""
    return _record("motion", seq, moment, {"samples": [list(map(float, sample)) for sample in samples]})


def location_record(seq: int, moment: Moment, latitude: float, longitude: float, **more: float) -> bytes:
    """Where on Earth, in degrees; `more` for example accuracy_m and altitude_m."""
    return _record("location", seq, moment, {"latitude": latitude, "longitude": longitude, **more})


def audio_record(seq: int, moment: Moment, data: bytes, *, encoding: str, sample_rate_hz: int) -> bytes:
    """Sonar echoes."""
    return _record("audio", seq, moment, {"data": data, "encoding": encoding, "sample_rate_hz": sample_rate_hz})


def part_record(seq: int, part: Part) -> bytes:
    """A piece of a file.

    Raises:
        ValueError: it has no bytes, or more than `PART_BYTES`.
    """
    if not 1 <= len(part.data) <= PART_BYTES:
        msg = f"a part has 1 to {PART_BYTES} bytes, got {len(part.data)}"
        raise ValueError(msg)
    fields = {name: getattr(part, name) for name in ("file_id", "index", "total", "sha256", "data")}
    return _record("part", seq, None, fields | ({} if part.name is None else {"name": part.name}))


def end_record(seq: int) -> bytes:
    """The last record."""
    return _record("end", seq, None, {"frames": seq})


def _record(kind: str, seq: int, moment: Moment | None, fields: Mapping[str, object]) -> bytes:
    if not 0 <= seq <= MAX_SCAN_SEQ:
        msg = f"seq must be 0 to {MAX_SCAN_SEQ}, got {seq}"
        raise ValueError(msg)
    known: dict[str, object] = {"type": kind, "seq": seq}
    if moment is not None:
        known |= {name: getattr(moment, name) for name in ("captured_at", "tracking", "gravity")}
    value = msgspec.msgpack.encode({name: each for name, each in {**known, **fields}.items() if each is not None})
    if len(value) > MAX_SCAN_RECORD_BYTES:
        msg = f"a {kind} record has {len(value)} bytes, at most {MAX_SCAN_RECORD_BYTES} are possible; send less at once"
        raise ValueError(msg)
    return value


def _depth(depth: bytes | Array, size: tuple[int, int], budget_bytes: int | None) -> dict[str, object]:
    if isinstance(depth, bytes):
        _check_size("depth", len(depth), 2 * size[0] * size[1])
        if scan_arrays is None:
            return {"depth": depth, "depth_encoding": "raw16"}
        depth = scan_arrays.image(depth, "<u2", size)
    _check_size("depth", depth.shape, size)
    _require_arrays()
    packed = scan_arrays.delta16_zstd(scan_arrays.millimetres(depth), budget_bytes)
    return {"depth": packed, "depth_encoding": "delta16-zstd"}


def _confidence(confidence: bytes | Array, size: tuple[int, int]) -> dict[str, object]:
    if isinstance(confidence, bytes):
        _check_size("confidence", len(confidence), size[0] * size[1])
        if scan_arrays is None:
            return {"confidence": confidence, "confidence_encoding": "raw"}
        confidence = scan_arrays.image(confidence, "u1", size)
    _check_size("confidence", confidence.shape, size)
    _require_arrays()
    return {"confidence": scan_arrays.confidence_zstd(confidence), "confidence_encoding": "zstd"}


def _check_size(what: str, found: object, expected: object) -> None:
    if found != expected:
        msg = f"{what} has the size {found}, the intrinsics say {expected}"
        raise ValueError(msg)


def _require_arrays() -> None:
    if scan_arrays is None:
        msg = "arrays need numpy and zstandard: pip install weir-device[scans]"
        raise ImportError(msg)
