"""From depth images to points in the world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.poses import rotation
from processors.scans.voxel_sums import UnitPoints
from processors.scans.voxels import UNITS_PER_M, weight_of

# What a phone's depth sensor measures well.
NEAR_M: Final = 0.2
FAR_M: Final = 5.0
_NEAR_MM: Final = round(NEAR_M * 1000)
_FAR_MM: Final = round(FAR_M * 1000)
# Sides of all voxels divide it, so that what is counted from its corners is counted from theirs.
_CORNER_UNITS: Final = 400
_BLOCK_PIXELS: Final = 1 << 14
_UNITS_PER_MM: Final = np.float32(UNITS_PER_M / 1000)


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Of the depth image, in pixels; pixel centres at integers."""

    fx: float
    fy: float
    cx: float
    cy: float


def backproject(
    depth_mm: NDArray[np.uint16], intrinsics: Intrinsics, pose: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points of a depth image in the world.

    Args:
        depth_mm: shape (height, width), millimetres along the optical axis, 0 = no return.
        intrinsics: of the camera.
        pose: x, y, z, qx, qy, qz, qw of the camera in the world.

    Returns:
        Points, shape (n, 3), and their depths, shape (n,), both in metres; only what lies between `NEAR_M` and `FAR_M`.
    """
    flat = depth_mm.reshape(-1)
    seen = np.flatnonzero(in_range(flat))
    return points_at(seen, depth_mm, intrinsics, pose), flat[seen] / 1000.0


def points_at(
    pixels: NDArray[np.intp], depth_mm: NDArray[np.uint16], intrinsics: Intrinsics, pose: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The points of some pixels, which are numbered row by row; shape (n, 3), metres, in the world."""
    depth = depth_mm.reshape(-1)[pixels] / 1000.0
    across, down = _axes(depth_mm.shape, intrinsics)
    v, u = np.divmod(pixels, depth_mm.shape[1])
    points = np.stack([across[u] * depth, down[v] * depth, depth], axis=1)
    world: NDArray[np.float64] = points @ rotation(pose[3:]).T + pose[:3]
    return world


def in_range(depth_mm: NDArray[np.uint16]) -> NDArray[np.bool_]:
    """Which depths lie between `NEAR_M` and `FAR_M`."""
    # Less than the nearest wraps around to more than the farthest.
    return depth_mm - np.uint16(_NEAR_MM + 1) < np.uint16(_FAR_MM - _NEAR_MM - 1)


def unit_points(
    depth_mm: NDArray[np.uint16], intrinsics: Intrinsics, pose: NDArray[np.float64], side: int
) -> Iterator[UnitPoints]:
    """The points of a depth image as `VoxelMap` takes them: `backproject` in single precision, several times as fast.

    Pixels without a point in range stay in as rows that count for nothing, which costs less than to take them out. Numbers are
    counted from a corner so near to the camera that single precision is good for a hundredth of a unit.

    Args:
        depth_mm: shape (height, width).
        intrinsics: of the camera.
        pose: of the camera.
        side: of a voxel, in units.
    """
    across, down = (axis.astype(np.float32) for axis in _axes(depth_mm.shape, intrinsics))
    reach = FAR_M * float(np.sqrt(1 + np.abs(across).max() ** 2 + np.abs(down).max() ** 2))
    corner = np.floor((pose[:3] - reach) * UNITS_PER_M / _CORNER_UNITS) * _CORNER_UNITS
    # Half a unit more makes rounding of cutting off: all numbers are positive.
    start = (pose[:3] * UNITS_PER_M - corner + 0.5).astype(np.float32)
    turn = rotation(pose[3:]).astype(np.float32) * _UNITS_PER_MM
    base = (int(corner[0]) // side, int(corner[1]) // side, int(corner[2]) // side)
    rows = max(1, _BLOCK_PIXELS // depth_mm.shape[1])
    for first in range(0, len(depth_mm), rows):
        part = depth_mm[first : first + rows]
        depth = part * in_range(part)
        units = _units(depth.astype(np.float32), across, down[first : first + rows], turn, start)
        yield UnitPoints(base, units, _weights().take(depth.reshape(-1)))


def _units(
    depth: NDArray[np.float32],
    across: NDArray[np.float32],
    down: NDArray[np.float32],
    turn: NDArray[np.float32],
    start: NDArray[np.float32],
) -> NDArray[np.int32]:
    units = np.empty((3, depth.size), dtype=np.int32)
    for axis, (right, under, ahead) in enumerate(turn):
        ray = across * right + (down * under + ahead)[:, None]
        ray *= depth
        ray += start[axis]
        units[axis] = ray.reshape(-1)
    return units


@cache
def _weights() -> NDArray[np.int32]:
    """By depth in millimetres; nothing for a depth of 0."""
    weights = weight_of(np.arange(_FAR_MM) / 1000.0).astype(np.int32)
    weights[0] = 0
    return weights


@lru_cache(maxsize=4)
def _axes(shape: tuple[int, int], intrinsics: Intrinsics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At depth 1: x of each column and y of each row; a camera's are the same in all its frames."""
    height, width = (np.arange(pixels, dtype=np.float64) for pixels in shape)
    return (width - intrinsics.cx) / intrinsics.fx, (height - intrinsics.cy) / intrinsics.fy
