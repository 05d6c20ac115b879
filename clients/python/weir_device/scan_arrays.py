"""Compact payloads of scan frames, from numpy arrays; `scan_records` does without if numpy or zstandard is missing.

Border: arrays to bytes.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import zstandard
from numpy.typing import NDArray

SHARES_OF_NOISE = (0.25, 0.5, 1.0, 2.0)
"""Depth is rounded to steps of this share of its noise at most, the first that brings a frame within its budget."""

HIGHEST_CONFIDENCE = 2

_LEVEL = 1
_LAST_LEVEL = (
    16  # takes forty times as long and saves a tenth of a depth image: for the few that nothing else brings down
)
_CONFIDENCE_LEVEL = 6  # runs in two dimensions: a fifth less than level 1 makes of them
_ROWS_A_BLOCK = 32
_BITS_SAVED = 1  # a pixel, by steps of twice the length; seldom more
_MAX_MM = 65_535
_FARTHEST_MM = 5_000  # what phones see; the noise beyond is taken for no more
_INT16_M = 32.767


def millimetres(depth: NDArray[np.generic]) -> NDArray[np.uint16]:
    """Depth as whole millimetres, 0 = no return. Floating types are metres, integers are millimetres already."""
    if depth.ndim != 2:  # noqa: PLR2004 - rows and columns
        msg = f"a depth image has two dimensions, got the shape {depth.shape}"
        raise ValueError(msg)
    if depth.dtype.kind == "f":
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = np.rint(depth.astype(np.float64) * 1000)
    else:
        scaled = depth.astype(np.int64)
    return np.where((scaled > 0) & (scaled <= _MAX_MM), scaled, 0).astype(np.uint16)


def image(data: bytes, code: str, size: tuple[int, int]) -> NDArray[np.generic]:
    """An image of (height, width) from its bytes; `code` is numpy's, such as `<u2`."""
    return np.frombuffer(data, dtype=code).reshape(size)


def noise_mm(depth: NDArray[np.generic]) -> NDArray[np.float64]:
    """One standard deviation of a phone's depth: 4 mm + 1.5 mm for the square of every metre."""
    metres = np.minimum(depth.astype(np.float64), _FARTHEST_MM) / 1000
    return 4 + 1.5 * metres * metres


def delta16_zstd(depth: NDArray[np.uint16], budget_bytes: int | None) -> bytes:
    """The encoding `delta16-zstd`, as it is if that fits the budget, else rounded as coarsely as it takes.

    Steps are powers of two, no longer than a share of the noise at their depth: neighbouring pixels err in different
    directions by more than that, so planes stay where they are, and far from a camera there is most to be saved.
    """
    packed, rounding = _delta16_zstd(depth), 0
    while budget_bytes is not None and len(packed) > budget_bytes and rounding < len(SHARES_OF_NOISE):
        too_much_bits = 8 * (len(packed) - budget_bytes)
        rounding += max(1, too_much_bits // (_BITS_SAVED * depth.size))
        rounded = _roundings(SHARES_OF_NOISE[min(rounding, len(SHARES_OF_NOISE)) - 1])[depth]
        packed = _delta16_zstd(rounded)
    if budget_bytes is None or len(packed) <= budget_bytes:
        return packed
    return zstandard.ZstdCompressor(level=_LAST_LEVEL).compress(_planes(rounded).tobytes())


def confidence_zstd(levels: NDArray[np.generic]) -> bytes:
    """The encoding `zstd` of confidence.

    Raises:
        ValueError: there is another level than 0, 1 and 2.
    """
    if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) <= HIGHEST_CONFIDENCE:
        msg = f"confidence is 0 low, 1 medium or 2 high, got {levels.min()} to {levels.max()}"
        raise ValueError(msg)
    return zstandard.ZstdCompressor(level=_CONFIDENCE_LEVEL).compress(levels.astype(np.uint8).tobytes())


def points_zstd(points: NDArray[np.generic]) -> tuple[bytes, str]:
    """Points in metres, shape (n, 3), and the name of their encoding: whole millimetres where they reach far enough."""
    if points.ndim != 2 or points.shape[1] != 3:  # noqa: PLR2004 - x, y, z
        msg = f"points have the shape (n, 3), got {points.shape}"
        raise ValueError(msg)
    metres = points.astype(np.float64)
    finite = metres[np.isfinite(metres).all(axis=1)]
    if len(finite) and np.abs(finite).max() > _INT16_M:
        data, encoding = finite.astype("<f4").tobytes(), "f32+zstd"
    else:
        data, encoding = np.rint(finite * 1000.0).astype("<i2").tobytes(), "i16mm+zstd"
    return zstandard.ZstdCompressor(level=_LEVEL).compress(data), encoding


def _planes(depth: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Low bytes, then high bytes, of the zigzag differences to the left neighbour; shape (2, height, width)."""
    delta = depth.copy()
    delta[:, 1:] -= depth[:, :-1]  # modulo 2^16
    signed = delta.view(np.int16)
    zigzag = (signed << 1 ^ signed >> 15).view(np.uint16)
    return np.stack([zigzag & 0xFF, zigzag >> 8]).astype(np.uint8)


def _delta16_zstd(depth: NDArray[np.uint16]) -> bytes:
    compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=2 * depth.size)
    parts = []
    # A block has codes of its own: rows that see far are noisier than others.
    for plane in _planes(depth):
        for start in range(0, len(plane), _ROWS_A_BLOCK):
            parts.append(compressor.compress(plane[start : start + _ROWS_A_BLOCK].tobytes()))
            parts.append(compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join([*parts, compressor.flush()])


@lru_cache(maxsize=len(SHARES_OF_NOISE))
def _roundings(share: float) -> NDArray[np.uint16]:
    """What each number of millimetres is rounded to: halves to the even step, and what is seen never becomes 0."""
    exact = np.arange(_MAX_MM + 1)
    step = np.exp2(np.floor(np.log2(np.maximum(share * noise_mm(exact), 1)))).astype(np.int64)
    nearest = np.minimum(np.rint(exact / step), _MAX_MM // step)
    return np.where(exact > 0, np.maximum(nearest, 1) * step, 0).astype(np.uint16)
