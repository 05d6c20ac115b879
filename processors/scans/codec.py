"""Payloads of scan frames to arrays: the depth, confidence and points encodings of SCAN_FRAMES.

Border: one frame's bytes. The frame itself has passed `schemas.scan_frames.decode_scan_frame`. Nothing is unpacked further than
what the frame declares, so a payload cannot take more memory than an honest one of its size.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import Reason, Rejected
from schemas.scan_frames import MAX_POINTS, POINT_BYTES, DepthFrame, PointsFrame

MAX_RANGE_M: Final = 1_000.0
"""Points with a coordinate beyond this are no returns of any scanner; they are dropped and counted."""
HIGHEST_CONFIDENCE: Final = 2
# What encoders use up to level 19 for payloads of this size; a frame that asks for more wants memory, not speed.
_MAX_WINDOW_BYTES: Final = 1 << 23
_PNG_HEADER: Final = struct.Struct(">8sI4sIIBBBBB")
_GREY_16: Final = (16, 0)
_MILLIMETRE: Final = 0.001


@dataclass(frozen=True, slots=True)
class PointsRead:
    """The usable points of a frame, and what was left out.

    Attributes:
        points: shape (n, 3), metres, in the sensor's frame.
        non_finite: rows with NaN or infinity.
        out_of_reach: rows with a coordinate beyond `MAX_RANGE_M`.
        no_return: rows that are (0, 0, 0), which scanners write where nothing came back.
    """

    points: NDArray[np.float64]
    non_finite: int
    out_of_reach: int
    no_return: int


def depth_mm(frame: DepthFrame) -> NDArray[np.uint16]:
    """The depth image, shape (height, width), millimetres, 0 = no return.

    Raises:
        Rejected: wrong_length, corrupt_payload, decompression_bomb, invalid_size (a PNG of another size), or
            no_valid_depth if no pixel has a return.
    """
    match frame.depth_encoding:
        case "raw16":
            depth = _image(frame.depth, frame)
        case "png16":
            depth = _png16(frame.depth, frame)
        case "delta16-zstd":
            depth = _undelta(unzstd(frame.depth, 2 * frame.width * frame.height, "depth"), frame)
    if not depth.any():
        raise Rejected(Reason.NO_VALID_DEPTH, "no pixel has a return; all are 0")
    return depth


def confidence(frame: DepthFrame) -> NDArray[np.uint8] | None:
    """Confidence of each pixel, shape (height, width), 0 low, 1 medium, 2 high; None if the frame has none.

    Raises:
        Rejected: wrong_length, corrupt_payload, decompression_bomb, or invalid_confidence for another value.
    """
    if frame.confidence is None:
        return None
    pixels, data = frame.width * frame.height, frame.confidence
    if frame.confidence_encoding == "zstd":
        data = unzstd(data, pixels, "confidence")
    levels = np.frombuffer(_of_length(data, pixels, "confidence"), dtype=np.uint8)
    if levels.max() > HIGHEST_CONFIDENCE:
        detail = f"confidence has a value of {levels.max()}; expected 0 low, 1 medium, 2 high"
        raise Rejected(Reason.INVALID_CONFIDENCE, detail)
    return levels.reshape(frame.height, frame.width)


def points_m(frame: PointsFrame) -> NDArray[np.float64]:
    """The usable points of a frame; see `read_points`."""
    return read_points(frame).points


def read_points(frame: PointsFrame) -> PointsRead:
    """The points of a frame, without those that cannot be any.

    Raises:
        Rejected: wrong_length, corrupt_payload, decompression_bomb; non_finite_points or points_out_of_reach if more than
            half are; no_valid_points if none is left.
    """
    data, size = frame.points, POINT_BYTES[frame.points_encoding]
    if frame.points_encoding.endswith("+zstd"):
        data = unzstd(data, MAX_POINTS * size, "points", exactly=False)
    if len(data) % size:
        raise Rejected(Reason.WRONG_LENGTH, f"points have {len(data)} bytes, which is not a multiple of {size}")
    is_float = frame.points_encoding.startswith("f32")
    rows = np.frombuffer(data, dtype="<f4" if is_float else "<i2").reshape(-1, 3)
    # 0.001 is not a double, so that a division is closer to what was meant than a product.
    return _usable(rows.astype(np.float64) if is_float else rows / 1000.0)


def unzstd(data: bytes, size: int, what: str, *, exactly: bool = True) -> bytes:
    """One zstd frame unpacked to `size` bytes (or to at most so many), never to more.

    Raises:
        Rejected: corrupt_payload, decompression_bomb if there is more, wrong_length if there is less.
    """
    try:
        declared = zstandard.get_frame_parameters(data).content_size
        if declared != zstandard.CONTENTSIZE_UNKNOWN and declared > size:
            raise _bomb(what, size)
        if declared == 0:  # the library takes this for unknown
            unpacked = b""
        else:
            unpacker = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
            unpacked = unpacker.decompress(data, max_output_size=size + 1, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _unpacking_failed(data, what, size) from error
    if len(unpacked) > size:
        raise _bomb(what, size)
    return _of_length(unpacked, size, what) if exactly else unpacked


def _unpacking_failed(data: bytes, what: str, size: int) -> Rejected:
    """A frame that does not declare its size fails alike if it holds too much and if it is cut off: tell them apart."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES).stream_reader(data) as reader:
            if len(reader.read(size + 1)) > size:
                return _bomb(what, size)
    except zstandard.ZstdError:
        pass
    return Rejected(Reason.CORRUPT_PAYLOAD, f"{what} is not one whole zstd frame")


def _bomb(what: str, size: int) -> Rejected:
    return Rejected(Reason.DECOMPRESSION_BOMB, f"{what} unpacks to more than the {size} bytes that the frame can hold")


def _of_length(data: bytes, size: int, what: str) -> bytes:
    if len(data) != size:
        raise Rejected(Reason.WRONG_LENGTH, f"{what} has {len(data)} bytes; expected {size}")
    return data


def _image(data: bytes, frame: DepthFrame) -> NDArray[np.uint16]:
    _of_length(data, 2 * frame.width * frame.height, "depth")
    # A copy on machines of the other byte order only.
    return np.frombuffer(data, dtype="<u2").astype(np.uint16, copy=False).reshape(frame.height, frame.width)


def _undelta(planes: bytes, frame: DepthFrame) -> NDArray[np.uint16]:
    low, high = np.frombuffer(planes, dtype=np.uint8).reshape(2, frame.height, frame.width)
    zigzag = high.astype(np.uint16) << 8 | low
    delta = zigzag >> 1 ^ -(zigzag & 1)  # all modulo 2^16
    return np.cumsum(delta, axis=1, dtype=np.uint16)


def _png16(data: bytes, frame: DepthFrame) -> NDArray[np.uint16]:
    """The header is judged before the library sees the image, since it would allocate what the header claims."""
    if len(data) < _PNG_HEADER.size:
        raise _no_png()
    signature, _, kind, width, height, depth, colour, *_ = _PNG_HEADER.unpack_from(data)
    if (signature, kind) != (b"\x89PNG\r\n\x1a\n", b"IHDR"):
        raise _no_png()
    if (width, height) != (frame.width, frame.height):
        detail = f"the PNG claims {width} x {height} pixels, the frame {frame.width} x {frame.height}"
        raise Rejected(Reason.INVALID_SIZE, detail)
    if (depth, colour) != _GREY_16:
        raise Rejected(Reason.UNKNOWN_ENCODING, "the PNG is not of 16-bit grey; png16 is")
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            return np.asarray(image).astype(np.uint16)
    except (
        OSError,
        ValueError,
        SyntaxError,
        zlib.error,
        struct.error,
    ) as error:  # what Pillow raises for damaged files
        raise _no_png() from error


def _no_png() -> Rejected:
    return Rejected(Reason.CORRUPT_PAYLOAD, "depth is not a whole PNG")


def _usable(rows: NDArray[np.float64]) -> PointsRead:
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(rows).all(axis=1)
        near = (np.abs(rows) <= MAX_RANGE_M).all(axis=1)
    returned = rows.any(axis=1)
    non_finite, out_of_reach = (int(np.count_nonzero(bad)) for bad in (~finite, finite & ~near))
    for reason, count in ((Reason.NON_FINITE_POINTS, non_finite), (Reason.POINTS_OUT_OF_REACH, out_of_reach)):
        if 2 * count > len(rows):
            raise Rejected(reason, f"{count} of {len(rows)} points; metres in the sensor's frame are expected")
    points = rows[near & returned]
    if not len(points):
        raise Rejected(Reason.NO_VALID_POINTS, f"none of {len(rows)} points is a return; (0, 0, 0) is none")
    return PointsRead(points, non_finite, out_of_reach, int(np.count_nonzero(~returned)))
