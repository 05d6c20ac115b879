"""From depth images to points in the world."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.poses import rotation

# What a phone's depth sensor measures well.
NEAR_M: Final = 0.2
FAR_M: Final = 5.0


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
    seen = np.flatnonzero((flat > NEAR_M * 1000) & (flat < FAR_M * 1000))
    depth = flat[seen] / 1000.0
    across, down = _rays(depth_mm.shape, intrinsics)
    points = np.stack([across[seen] * depth, down[seen] * depth, depth], axis=1)
    return points @ rotation(pose[3:]).T + pose[:3], depth


@lru_cache(maxsize=4)
def _rays(shape: tuple[int, int], intrinsics: Intrinsics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of each pixel, row by row: x and y of its ray at depth 1; a camera's are the same in all its frames."""
    v, u = np.indices(shape, dtype=np.float64).reshape(2, -1)
    return (u - intrinsics.cx) / intrinsics.fx, (v - intrinsics.cy) / intrinsics.fy
