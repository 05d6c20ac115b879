"""Poses: a position and a unit quaternion (x, y, z, w) that take sensor coordinates into the world.

World frames are z-up (REP-103); camera frames are optical (x right, y down, z forward), as SCAN_FRAMES says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """The 3 x 3 rotation matrix of a quaternion (x, y, z, w); its length does not matter."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The unit quaternion (x, y, z, w), w >= 0, of a rotation matrix."""
    m = matrix
    # The symmetric matrix whose eigenvector of eigenvalue 1 is the quaternion (Bar-Itzhack 2000); has no singular case.
    k = np.array(
        [
            [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
            [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
            [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
        ]
    )
    found: NDArray[np.float64] = np.linalg.eigh(k)[1][:, 3]
    return found if found[3] >= 0 else -found
