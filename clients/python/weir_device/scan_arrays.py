"""Compact payloads of scan frames, from numpy arrays; `scan_records` does without if numpy or zstandard is missing.

Border: arrays to bytes.
"""

from __future__ import annotations

import numpy as np
import zstandard
from numpy.typing import NDArray

STEPS_MM = (1, 2, 4)
"""Depth is rounded to whole multiples of these, the first that brings a frame within its budget."""

HIGHEST_CONFIDENCE = 2

_LEVEL = 1  # higher ones take ten times as long and save two per cent of a depth image
_MAX_MM = 65_535
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


def delta16_zstd(depth: NDArray[np.uint16], budget_bytes: int | None) -> bytes:
    """The encoding `delta16-zstd`, in 1 mm steps if that fits the budget, else in 2 or 4 mm steps."""
    packed = _delta16_zstd(depth)
    for step in STEPS_MM[1:]:
        if budget_bytes is None or len(packed) <= budget_bytes:
            break
        packed = _delta16_zstd(_rounded(depth, step))
    return packed


def confidence_zstd(levels: NDArray[np.generic]) -> bytes:
    """The encoding `zstd` of confidence.

    Raises:
        ValueError: there is another level than 0, 1 and 2.
    """
    if levels.size and not 0 <= int(levels.min()) <= int(levels.max()) <= HIGHEST_CONFIDENCE:
        msg = f"confidence is 0 low, 1 medium or 2 high, got {levels.min()} to {levels.max()}"
        raise ValueError(msg)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(levels.astype(np.uint8).tobytes())


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


def _delta16_zstd(depth: NDArray[np.uint16]) -> bytes:
    delta = depth.copy()
    delta[:, 1:] -= depth[:, :-1]  # modulo 2^16
    signed = delta.view(np.int16)
    zigzag = (signed << 1 ^ signed >> 15).view(np.uint16)
    planes = np.stack([zigzag & 0xFF, zigzag >> 8]).astype(np.uint8)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(planes.tobytes())


def _rounded(depth: NDArray[np.uint16], step: int) -> NDArray[np.uint16]:
    """To the nearest multiple, halves to the even one so that walls stay where they are; what is seen never becomes 0."""
    nearest = np.minimum(np.rint(depth / step), _MAX_MM // step)
    return np.where(depth > 0, np.maximum(nearest, 1) * step, 0).astype(np.uint16)
