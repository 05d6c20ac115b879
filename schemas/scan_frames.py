"""Scan frames on the wire: the MessagePack map of one record on `scan-frames`, checked without touching its payload.

Border: form and limits, from the record's bytes alone. Payloads are unpacked by `processors.scans.codec`; whose record it is,
whether it was signed and what a scan's frames say together is decided elsewhere. Nothing here reads a clock or decompresses.

`rgb`, `motion`, `location` and `audio` are stored as they came: only what names and places them is looked at.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from schemas.errors import Reason, Rejected

MAX_RECORD_BYTES: Final = 1_048_576
MAX_SEQ: Final = 999_999
MAX_SIDE_PX: Final = 8_192
MAX_PIXELS: Final = 4_194_304
"""Of a depth image: 2048 x 2048, so 8 MiB unpacked; the largest time-of-flight cameras have 1024 x 1024."""
MAX_POINTS: Final = 1_000_000
"""Of one `points` frame."""
MAX_PART_BYTES: Final = 786_432
MAX_PARTS: Final = 65_536
MAX_FILE_ID: Final = 128
MAX_POSITION_M: Final = 10_000.0
EARLIEST_MS: Final = 1_262_304_000_000
"""2010-01-01T00:00:00.000Z, as for readings."""
LATEST_MS: Final = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""
_DIGEST_BYTES: Final = 32
_HEX_DIGEST: Final = re.compile("[0-9a-fA-F]{64}")
_UNIT_TOLERANCE: Final = 0.01
_MAX_PRINCIPAL_PX: Final = 100_000.0

Time: TypeAlias = Annotated[int, msgspec.Meta(ge=EARLIEST_MS, le=LATEST_MS)]
Pose: TypeAlias = tuple[float, float, float, float, float, float, float]
"""x, y, z, qx, qy, qz, qw of the sensor in the world."""
Direction: TypeAlias = tuple[float, float, float]
Tracking: TypeAlias = Literal["normal", "limited", "lost"]
DepthEncoding: TypeAlias = Literal["raw16", "png16", "delta16-zstd"]
ConfidenceEncoding: TypeAlias = Literal["raw", "zstd"]
PointsEncoding: TypeAlias = Literal["f32", "i16mm", "f32+zstd", "i16mm+zstd"]
_Side: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE_PX)]

POINT_BYTES: Final[dict[str, int]] = {"f32": 12, "i16mm": 6, "f32+zstd": 12, "i16mm+zstd": 6}
"""Bytes of one point, unpacked."""


class _Frame(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=lambda name: name[:-5].lower()):
    """What all records have; `captured_at` is epoch milliseconds."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
    captured_at: Time | None = None
    tracking: Tracking | None = None
    gravity: Direction | None = None


class DepthFrame(_Frame, frozen=True, kw_only=True):
    """A depth image: `depth` in millimetres along the optical axis, intrinsics of this image."""

    captured_at: Time
    width: _Side
    height: _Side
    fx: float
    fy: float
    cx: float
    cy: float
    pose: Pose
    depth: bytes
    depth_encoding: DepthEncoding
    confidence: bytes | None = None
    confidence_encoding: ConfidenceEncoding | None = None


class PointsFrame(_Frame, frozen=True, kw_only=True):
    """Points in the sensor's frame."""

    captured_at: Time
    pose: Pose
    points: bytes
    points_encoding: PointsEncoding


class RgbFrame(_Frame, frozen=True, kw_only=True):
    """A colour image: JPEG in `image`, or in the file that `file_id` names; intrinsics of this image."""

    width: _Side | None = None
    height: _Side | None = None
    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    pose: Pose | None = None
    image: bytes | None = None
    file_id: Annotated[str, msgspec.Meta(max_length=MAX_FILE_ID)] | None = None


class MotionFrame(_Frame, frozen=True, kw_only=True):
    """Samples of an inertial unit."""


class LocationFrame(_Frame, frozen=True, kw_only=True):
    """Where on Earth the scan was made."""


class AudioFrame(_Frame, frozen=True, kw_only=True):
    """Sonar echoes."""


class PartFrame(_Frame, frozen=True, kw_only=True):
    """A piece of a file; `sha256` (64 hex digits, or the 32 bytes) is the whole file's."""

    file_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_FILE_ID)]
    index: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTS)]
    total: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)]
    sha256: Any  # either, which msgspec cannot tell from each other
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=MAX_PART_BYTES)]
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=255)] | None = None

    @property
    def file_digest(self) -> bytes:
        """The 32 bytes of `sha256`."""
        found: bytes = self.sha256 if isinstance(self.sha256, bytes) else bytes.fromhex(self.sha256)
        return found


class EndFrame(_Frame, frozen=True, kw_only=True):
    """The last record; `frames` is how many came before it."""

    frames: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]


ScanFrame: TypeAlias = (
    DepthFrame | PointsFrame | RgbFrame | MotionFrame | LocationFrame | AudioFrame | PartFrame | EndFrame
)

_decode: Callable[[bytes], ScanFrame] = msgspec.msgpack.Decoder(ScanFrame).decode
_encode = msgspec.msgpack.Encoder().encode
_FIELD: Final = re.compile(r"at `\$\.(\w+)")

_INTRINSICS = (Reason.INVALID_INTRINSICS, "a finite number of pixels")
_SIZE = (Reason.INVALID_SIZE, f"a whole number from 1 to {MAX_SIDE_PX}")
_REFUSALS: Final[dict[str, tuple[Reason, str]]] = {
    "type": (Reason.UNKNOWN_TYPE, "depth, points, rgb, motion, location, audio, part or end"),
    "seq": (Reason.INVALID_SEQ, f"a whole number from 0 to {MAX_SEQ}"),
    "captured_at": (Reason.INVALID_TIME, "whole epoch milliseconds, years 2010 to 9999"),
    "width": _SIZE,
    "height": _SIZE,
    "fx": _INTRINSICS,
    "fy": _INTRINSICS,
    "cx": _INTRINSICS,
    "cy": _INTRINSICS,
    "pose": (Reason.INVALID_POSE, "seven numbers: x, y, z, qx, qy, qz, qw"),
    "gravity": (Reason.INVALID_GRAVITY, "three numbers: x, y, z"),
    "depth_encoding": (Reason.UNKNOWN_ENCODING, "raw16, png16 or delta16-zstd"),
    "confidence_encoding": (Reason.UNKNOWN_ENCODING, "raw or zstd"),
    "points_encoding": (Reason.UNKNOWN_ENCODING, "f32, i16mm, f32+zstd or i16mm+zstd"),
    "file_id": (Reason.INVALID_PART, f"a printable text of up to {MAX_FILE_ID} characters"),
    "index": (Reason.INVALID_PART, f"a whole number below {MAX_PARTS}"),
    "total": (Reason.INVALID_PART, f"a whole number from 1 to {MAX_PARTS}"),
    "data": (Reason.INVALID_PART, f"1 to {MAX_PART_BYTES} bytes"),
    "name": (Reason.INVALID_PART, "a text of 1 to 255 characters"),
    "frames": (Reason.INVALID_END, f"a whole number from 0 to {MAX_SEQ}"),
}


def decode_scan_frame(value: bytes) -> ScanFrame:
    """The frame in a record's value. Unknown fields are passed over, and the last of equal keys counts.

    Raises:
        Rejected: the record as a whole; docs/scan-frames.md lists the reasons.
    """
    if len(value) > MAX_RECORD_BYTES:
        detail = f"record has {len(value)} bytes, at most {MAX_RECORD_BYTES} are allowed; send large files as parts"
        raise Rejected(Reason.TOO_LARGE, detail)
    try:
        frame = _decode(value)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.UNDECODABLE, "not valid MessagePack, or nested too deeply") from error
    _check(frame)
    return frame


def encode_scan_frame(frame: ScanFrame) -> bytes:
    """The record's value of a frame, which is not checked; fields that are None are left out."""
    fields = msgspec.structs.asdict(frame)
    return _encode({"type": frame_type(frame), **{name: value for name, value in fields.items() if value is not None}})


def frame_type(frame: ScanFrame) -> str:
    """`depth`, `points`, …: the record's `type`."""
    return str(frame.__struct_config__.tag)


def _explained(error: str) -> Rejected:
    """What was expected of the field that msgspec names; its own words quote what was found, which is the sender's."""
    found = _FIELD.search(error)
    field = found[1] if found else None
    if field in _REFUSALS:
        reason, expected = _REFUSALS[field]
        return Rejected(reason, f"{field} is not valid; expected {expected}")
    if "missing required field" in error:
        return Rejected(Reason.WRONG_SHAPE, f"frame lacks {error.rpartition('field ')[2].strip('`')}")
    where = f"field {field}" if field else "record"
    return Rejected(Reason.WRONG_SHAPE, f"{where} is not of the documented type; a frame is a map with text keys")


def _check(frame: ScanFrame) -> None:
    if frame.gravity is not None and not _is_unit(frame.gravity):
        raise Rejected(Reason.INVALID_GRAVITY, "gravity is not a unit vector; expected one that points down")
    match frame:
        case DepthFrame():
            _check_pose(frame.pose)
            _check_intrinsics(frame.fx, frame.fy, frame.cx, frame.cy)
            _check_image(frame)
        case PointsFrame():
            _check_pose(frame.pose)
            _check_points(frame)
        case RgbFrame():
            _check_colour(frame)
        case PartFrame():
            _check_part(frame)
        case EndFrame() if frame.frames != frame.seq:
            detail = f"end has seq {frame.seq} and frames {frame.frames}; both are the number of records before it"
            raise Rejected(Reason.INVALID_END, detail)


def _is_unit(vector: tuple[float, ...]) -> bool:
    return abs(math.hypot(*vector) - 1) <= _UNIT_TOLERANCE  # false for NaN and infinity


def _check_pose(pose: Pose) -> None:
    if not all(abs(coordinate) <= MAX_POSITION_M for coordinate in pose[:3]):
        detail = f"position is not finite or farther than {MAX_POSITION_M:g} m from the origin; metres are expected"
        raise Rejected(Reason.INVALID_POSE, detail)
    if not _is_unit(pose[3:]):
        raise Rejected(Reason.INVALID_POSE, "the quaternion qx, qy, qz, qw is not of unit length")


def _check_intrinsics(fx: float, fy: float, cx: float, cy: float) -> None:
    focal = all(0 < length < math.inf for length in (fx, fy))
    if not focal or not all(abs(center) <= _MAX_PRINCIPAL_PX for center in (cx, cy)):
        detail = "fx and fy must be above 0, cx and cy finite, none left out, in pixels of this image"
        raise Rejected(Reason.INVALID_INTRINSICS, detail)


def _check_image(frame: DepthFrame) -> None:
    pixels = frame.width * frame.height
    if pixels > MAX_PIXELS:
        detail = f"{frame.width} x {frame.height} are more than {MAX_PIXELS} pixels"
        raise Rejected(Reason.INVALID_SIZE, detail)
    if frame.depth_encoding == "raw16":
        _check_length("depth", len(frame.depth), 2 * pixels)
    if frame.confidence is None:
        return
    if frame.confidence_encoding is None:
        raise Rejected(Reason.UNKNOWN_ENCODING, "confidence comes without confidence_encoding; expected raw or zstd")
    if frame.confidence_encoding == "raw":
        _check_length("confidence", len(frame.confidence), pixels)


def _check_points(frame: PointsFrame) -> None:
    size = POINT_BYTES[frame.points_encoding]
    if "+zstd" not in frame.points_encoding and len(frame.points) % size:
        detail = f"points have {len(frame.points)} bytes, which is not a multiple of {size}"
        raise Rejected(Reason.WRONG_LENGTH, detail)


def _check_colour(frame: RgbFrame) -> None:
    _check_names(frame.file_id)
    if frame.pose is not None:
        _check_pose(frame.pose)
    given = (frame.fx, frame.fy, frame.cx, frame.cy)
    if any(number is not None for number in given):
        _check_intrinsics(*(math.nan if number is None else number for number in given))


def _check_part(frame: PartFrame) -> None:
    if frame.index >= frame.total:
        raise Rejected(Reason.INVALID_PART, f"index {frame.index} is not below total {frame.total}")
    if not _is_hash(frame.sha256):
        detail = "sha256 is not valid; expected 64 hexadecimal digits or 32 bytes, of the whole file"
        raise Rejected(Reason.INVALID_PART, detail)
    _check_names(frame.file_id, frame.name)


def _check_names(*names: str | None) -> None:
    """They become texts of the database, which takes no NUL: a record with one would hold up all that come after it."""
    if not all(name is None or name.isprintable() for name in names):
        raise Rejected(Reason.INVALID_PART, "file_id and name must be printable")


def _is_hash(value: object) -> bool:
    if isinstance(value, bytes):
        return len(value) == _DIGEST_BYTES
    return isinstance(value, str) and _HEX_DIGEST.fullmatch(value) is not None


def _check_length(what: str, found: int, expected: int) -> None:
    if found != expected:
        detail = f"{what} has {found} bytes; width x height takes {expected}"
        raise Rejected(Reason.WRONG_LENGTH, detail)
