"""What frames say against each other: some stand elsewhere than their poses claim, and walls wander between visits.

Both are judged from a small sample of points that is kept of each frame, so that no frame has to be read again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.voxels import VOXEL_M, Voxels, keys_of

SAMPLE_POINTS: Final = 512
# A voxel that several frames agree on weighs more than twice the median. Right frames have 36 % of their points and more in such
# voxels, frames half a metre off have 13 % (median of 20 scans).
_AGREED: Final = 2.0
_LEAST_SHARE: Final = 0.3
_LEAST_EXPLAINED: Final = 0.6
# Near furniture a frame sees little of the room, but what others see as well: of 9 right ones 47 % and more, of 80 wrong ones
# 28 % at most.
_LEAST_SHARED: Final = 0.38
_SHARED_M: Final = 0.1
_ON_PLANE_M: Final = 0.08
_LEAST_ON_PLANE: Final = 12
_LEAST_FRAMES: Final = 4
# So far planes seem to wander between frames whose poses are exact: what stands before them is taken for them here and there.
_STEADY_M: Final = 0.003
# Of normal numbers, the standard deviation by the median of what they are apart from their median.
_OF_MEDIAN: Final = 1.4826


def astray(
    samples: Sequence[NDArray[np.float64]], voxels: Voxels, planes: Sequence[tuple[NDArray[np.float64], float]]
) -> NDArray[np.bool_]:
    """Which frames see neither what the others see nor the planes of the room; shape (frames,).

    A frame that alone saw a part of the room lies on its floor, its ceiling or the lines of its walls at least; one that stood
    before a wardrobe shows what other frames show of it, lightly as that weighs.

    Args:
        samples: world points of each frame, shape (k, 3).
        voxels: of all frames together.
        planes: of the room, normal (3) and rho with normal · p = rho.
    """
    if not samples:
        return np.zeros(0, dtype=bool)
    agreed = voxels.key[voxels.weight >= _AGREED * np.median(voxels.weight)] if len(voxels) else voxels.key
    shares = np.array([_share_within(keys_of(points), agreed) if len(points) else 0.0 for points in samples])
    explained = np.array([_explained(points, planes) for points in samples])
    alone = (shares < _LEAST_SHARE) & (explained < _LEAST_EXPLAINED * float(np.median(explained)))
    return alone & ~_shown_by_others(samples, alone)


def _shown_by_others(samples: Sequence[NDArray[np.float64]], alone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which frames show things where the frames that are not alone show some too; shape (frames,)."""
    if not alone.any() or alone.all():
        return np.zeros(len(alone), dtype=bool)
    cells = [keys_of(points / _SHARED_M * VOXEL_M) for points in samples]
    shown = np.unique(np.concatenate([keys for keys, is_alone in zip(cells, alone, strict=True) if not is_alone]))
    return np.array([len(keys) > 0 and _share_within(keys, shown) >= _LEAST_SHARED for keys in cells])


def _share_within(keys: NDArray[np.int64], among: NDArray[np.int64]) -> float:
    """How many of the keys are among others, which are sorted: looking them up costs far less than joining both."""
    if not len(among):
        return 0.0
    places = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return float((among[places] == keys).mean())


def _explained(points: NDArray[np.float64], planes: Sequence[tuple[NDArray[np.float64], float]]) -> float:
    near = np.zeros(len(points), dtype=bool)
    for normal, rho in planes:
        near |= np.abs(points @ normal - rho) < _ON_PLANE_M
    return float(near.mean()) if len(near) else 0.0


def wander(samples: Sequence[NDArray[np.float64]], normal: NDArray[np.float64], rho: float) -> float:
    """How far a plane wanders from frame to frame: standard deviation of the frames' own ideas of it, less their noise; metres.

    By the median: some frames see of a wall little but the back of a wardrobe that stands before it.

    Args:
        samples: points of each frame, shape (k, 3), in the plane's coordinates.
        normal: unit vector, shape (3,).
        rho: the plane is normal · p = rho.
    """
    means, noise = [], []
    for points in samples:
        off = points @ normal - rho
        near = off[np.abs(off) < _ON_PLANE_M]
        if len(near) >= _LEAST_ON_PLANE:
            means.append(float(near.mean()))
            noise.append(float(near.var()) / len(near))
    if len(means) < _LEAST_FRAMES:
        return 0.0
    spread = _OF_MEDIAN * float(np.median(np.abs(np.subtract(means, np.median(means)))))
    return math.sqrt(max(spread**2 - float(np.median(noise)) - _STEADY_M**2, 0.0))
