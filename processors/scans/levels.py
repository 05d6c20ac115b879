"""Which way is up, and where floor and ceiling are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

_BIN_M: Final = 0.01
_PEAK_SHARE: Final = 0.15
_AROUND_M: Final = 0.06
# What the voxel grid and the histogram's flanks add, however many voxels there are (165 rooms: 1 mm for two levels).
_GRID_SIGMA_M: Final = 0.0005
MIN_HEIGHT_M: Final = 1.8
_LEVEL_M: Final = 0.12
_CELL_M: Final = 0.2
_LEAST_COVERED: Final = 0.6
# Of the cells in which anything so high was seen; the others may be wardrobes that hide the ceiling above them.
_LEAST_AT_LEVEL: Final = 0.85
# A ridge leaves the middle of a ceiling's slopes at one height and most of the rest not.
_OFF_LEVEL_M: Final = 0.03
_MOST_OFF_LEVEL: Final = 0.15
# Six centimetres over six metres.
_LEVEL_SLOPE: Final = 0.01


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal plane: its height, and the standard deviation of that height (metres)."""

    z: float
    sigma: float
    voxels: int


def refine_up(up: NDArray[np.float64], normal: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction that most near-vertical normals share, starting from the device's own idea of up (unit vectors)."""
    for degrees in (15.0, 8.0, 4.0):
        near = np.abs(normal @ up) > math.cos(math.radians(degrees))
        if near.sum() < 50:  # noqa: PLR2004 - too few to say anything
            break
        chosen = normal[near]
        spread = (chosen * weight[near, None]).T @ chosen
        best = np.linalg.eigh(spread)[1][:, 2]
        up = best if best @ up > 0 else -best
    return up


def floor_up(
    points: NDArray[np.float64], up: NDArray[np.float64], normal: NDArray[np.float64], weight: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The floor's own normal: of what lies in the lower half, as a ceiling may slope; points, normals (n, 3)."""
    heights = points @ up
    low = heights < np.quantile(heights, [0.01, 0.99]).mean()
    up = refine_up(up, normal[low], weight[low])
    turned = points[low] @ level_rotation(up).T
    flat = np.abs(normal[low] @ up)
    floor, _ = find_levels(turned[:, 2], flat, weight[low])
    if floor is None:
        return up
    near = (np.abs(turned[:, 2] - floor.z) < _AROUND_M) & (flat > 0.9)  # noqa: PLR2004 - as for levels
    tilted = np.array([*-_slope(turned[near]), 1.0])
    found: NDArray[np.float64] = level_rotation(up).T @ (tilted / np.linalg.norm(tilted))
    return found


def level_rotation(up: NDArray[np.float64]) -> NDArray[np.float64]:
    """The smallest rotation that takes `up` to +z."""
    axis = np.cross(up, [0.0, 0.0, 1.0])
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turned: NDArray[np.float64] = np.eye(3) + cross + cross @ cross / (1 + up[2])
    return turned


def find_levels(
    z: NDArray[np.float64], vertical: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[Level | None, Level | None]:
    """Floor and ceiling.

    Args:
        z: heights of voxels.
        vertical: |z| of their normals.
        weight: their weights.
    """
    flat = vertical > 0.9  # noqa: PLR2004 - within 26 degrees
    heights = z[flat]
    if not len(heights):
        return None, None
    low = float(heights.min()) - 0.1
    bins = np.bincount(((heights - low) / _BIN_M).astype(np.int64), minlength=40).astype(np.float64)
    smooth = np.convolve(bins, np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2), "same")
    is_peak = (smooth >= np.roll(smooth, 1)) & (smooth > np.roll(smooth, -1)) & (smooth > _PEAK_SHARE * smooth.max())
    peaks = low + (np.flatnonzero(is_peak) + 0.5) * _BIN_M
    floor = _fit(peaks[0], heights, weight[flat])
    top = _fit(peaks[-1], heights, weight[flat])
    return floor, top if top.z - floor.z > MIN_HEIGHT_M else None


def _fit(peak: float, heights: NDArray[np.float64], weight: NDArray[np.float64]) -> Level:
    z = peak
    for _ in range(4):
        near = np.abs(heights - z) < _AROUND_M
        z = float(np.average(heights[near], weights=weight[near]))
    spread = float(np.sqrt(np.average((heights[near] - z) ** 2, weights=weight[near])))
    sigma = math.hypot(spread / math.sqrt(max(int(near.sum()) / 20, 1)), _GRID_SIGMA_M)
    return Level(z, sigma, int(near.sum()))


def is_level(points: NDArray[np.float64], corners: NDArray[np.float64], floor_z: float, ceiling_z: float) -> bool:
    """Whether the ceiling covers the plan at one height, parallel to the floor: no step, no ridge, no slope.

    Args:
        points: shape (n, 3), levelled centres of voxels.
        corners: of the plan, shape (k, 2).
        floor_z: height of the floor.
        ceiling_z: height of the ceiling.
    """
    shape = shapely.Polygon(corners)
    inside = points[shapely.contains_xy(shape, points[:, 0], points[:, 1])]
    floor, ceiling = (inside[np.abs(inside[:, 2] - z) < _LEVEL_M] for z in (floor_z, ceiling_z))
    tilt = float(np.linalg.norm(_slope(ceiling) - _slope(floor)))
    return tilt < _LEVEL_SLOPE and _has_one_height(points, shape.buffer(-_CELL_M), floor_z, ceiling_z)


def _has_one_height(points: NDArray[np.float64], shape: shapely.Polygon, floor_z: float, ceiling_z: float) -> bool:
    """Whether the highest that was seen, cell by cell and away from walls, is the ceiling, nearly everywhere."""
    high = points[shapely.contains_xy(shape, points[:, 0], points[:, 1]) & (points[:, 2] > floor_z + MIN_HEIGHT_M)]
    cells, cell = np.unique(np.floor(high[:, :2] / _CELL_M).astype(np.int64), axis=0, return_inverse=True)
    cell = cell.ravel()
    top = np.full(len(cells), floor_z)
    np.maximum.at(top, cell, high[:, 2])
    at_level = int((np.abs(top - ceiling_z) < _LEVEL_M).sum())
    if at_level * _CELL_M**2 < _LEAST_COVERED * shape.area or at_level < _LEAST_AT_LEVEL * len(cells):
        return False
    near = np.abs(high[:, 2] - ceiling_z) < _LEVEL_M
    seen = np.bincount(cell[near], minlength=len(cells))
    off = np.bincount(cell[near], high[near, 2] - ceiling_z, len(cells))[seen > 0] / seen[seen > 0]
    return float((np.abs(off) > _OFF_LEVEL_M).mean()) <= _MOST_OFF_LEVEL


def _slope(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Metres of height per metre along x and y; shape (2,)."""
    if not len(points):
        return np.zeros(2)
    centred = points - points.mean(axis=0)
    found: NDArray[np.float64] = np.linalg.lstsq(centred[:, :2], centred[:, 2], rcond=None)[0]
    return found
