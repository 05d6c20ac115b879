"""What was seen, turned so that the floor lies level, with the heights of floor and ceiling and the lines of the walls."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.ceilings import CeilingField, find_field
from processors.scans.levels import MIN_HEIGHT_M, Level, find_levels, floor_up, level_rotation, refine_up
from processors.scans.voxels import VOXEL_M, Voxels, coarse_normals, normals, regrouped
from processors.scans.walls import COLUMN_M, WallLine, find_lines

_BAND_TOP_M: Final = 0.03
_BAND_BOTTOM_M: Final = 0.25
# A scanner's rings lie far apart on far walls, and its ceilings are thicker.
_SPARSE_TOP_M: Final = 0.05
_SPARSE_BOTTOM_M: Final = 0.6
_OPEN_BAND_M: Final = 0.6
_UPRIGHT: Final = 0.5
_WALL: Final = 0.3
_TOP_CELL_M: Final = 0.1
_TOP_M: Final = 0.08
_OVER_DOORS_M: Final = 2.3
_STEP_M: Final = 0.06
_FOOT_M: Final = 0.3
_ON_LINE_M: Final = 0.06
_MOSTLY: Final = 0.5
_LEAST_FOOT: Final = 0.25


@dataclass(frozen=True, slots=True)
class Sensor:
    """What kind of voxels these are: dense ones of depth images, or the sparse ones of a laser scanner.

    Attributes:
        cut: voxels of less weight than so many times the median are left out as strays.
    """

    is_sparse: bool = False
    cut: float = 1.0


DEPTH_CAMERA: Final = Sensor()
SCANNER: Final = Sensor(is_sparse=True)


@dataclass(frozen=True, slots=True)
class Levelled:
    """Voxels with their normals and weights in the levelled world.

    Attributes:
        turn: rotation that levels the world.
        ceiling: None if none was seen at one height.
        top: of the walls: the ceiling, or the highest that was seen of them.
    """

    turn: NDArray[np.float64]
    points: NDArray[np.float64]
    normal: NDArray[np.float64]
    weight: NDArray[np.float64]
    floor: Level
    ceiling: Level | None
    top: float
    sensor: Sensor

    @property
    def is_top_sharp(self) -> bool:
        """Whether walls end at `top` all around, and not just where nobody looked any higher."""
        upright = self.points[np.abs(self.normal[:, 2]) < _WALL]
        upright = upright[upright[:, 2] > self.floor.z + MIN_HEIGHT_M]
        cells, cell = np.unique(np.floor(upright[:, :2] / _TOP_CELL_M).astype(np.int64), axis=0, return_inverse=True)
        tops = np.full(len(cells), self.floor.z)
        np.maximum.at(tops, cell.ravel(), upright[:, 2])
        return bool(len(tops)) and float((tops > self.top - _TOP_M).mean()) > _MOSTLY

    def lines(self) -> list[WallLine]:
        """Of the walls, in the band under the ceiling."""
        return self._lines(_band(self.points[:, 2], self.top, self.sensor, is_ceiling=self.ceiling is not None))

    def lines_under(self, field: CeilingField) -> list[WallLine]:
        """Of the walls, in a band that follows the ceiling on both sides of a step; a step's riser is none."""
        upright = self.points[np.abs(self.normal[:, 2]) < _UPRIGHT]
        around = field.around(upright[:, :2])
        rows = np.flatnonzero(np.abs(self.normal[:, 2]) < _UPRIGHT)
        below = _band(upright[:, 2, None], around, self.sensor, is_ceiling=True).any(axis=1)
        # Where it is high the band is seldom looked at, but much of the wall is above doors and furniture.
        below |= (upright[:, 2] > self.floor.z + _OVER_DOORS_M) & (
            upright[:, 2] < np.nanmax(around, axis=1) - _BAND_TOP_M
        )
        lines = self._lines(rows[below])
        lowest, highest = np.nanmin(around, axis=1), np.nanmax(around, axis=1)
        at_step, foot = (
            highest - lowest > _STEP_M,
            (upright[:, 2] > lowest - _FOOT_M) & (upright[:, 2] < lowest - _STEP_M),
        )
        return [line for line in lines if not _is_riser(line, upright[:, :2], at_step & below, foot)]

    def _lines(self, band: NDArray[np.bool_] | NDArray[np.intp]) -> list[WallLine]:
        return find_lines(self.points[band], self.normal[band], self.weight[band], is_sparse=self.sensor.is_sparse)


class Surfaces:
    """Voxels and the normals of what they lie on, to be levelled one way or another.

    Args:
        kept: the voxels.
        up: the device's idea of up, unit vector.
        sensor: what saw them.
    """

    def __init__(self, kept: Voxels, up: NDArray[np.float64], sensor: Sensor = DEPTH_CAMERA) -> None:
        self._kept = kept
        self._up = up
        self._normal = coarse_normals(kept) if sensor.is_sparse else normals(kept)
        self._sensor = sensor

    def levelled(self) -> Levelled | None:
        """By what floor and ceiling share; None without a floor."""
        return _levelled(self._kept, self._normal, refine_up(self._up, self._normal, self._kept.weight), self._sensor)

    def lean(self, up: NDArray[np.float64]) -> float:
        """Degrees between this up and that of the walls, which tell theirs within half a degree."""
        upright = self._normal[np.abs(self._normal @ up) < _WALL]
        if not len(upright):
            return 0.0
        own = np.linalg.eigh(upright.T @ upright)[1][:, 0]
        return math.degrees(math.acos(min(1.0, abs(float(own @ up)))))

    def levelled_by_floor(self) -> tuple[Levelled, CeilingField] | None:
        """By the floor alone, with the planes of a ceiling that is not level; None if it is, or if either was hardly seen."""
        up = floor_up(self._kept.center, self._up, self._normal, self._kept.weight)
        seen = _levelled(self._kept, self._normal, up, self._sensor)
        field = seen and find_field(seen.points, seen.normal, seen.weight, seen.floor.z)
        return (seen, field) if seen and field and not field.is_level else None


def _levelled(kept: Voxels, normal: NDArray[np.float64], up: NDArray[np.float64], sensor: Sensor) -> Levelled | None:
    turn = level_rotation(up)
    points, normal = kept.center @ turn.T, normal @ turn.T
    floor, ceiling = find_levels(points[:, 2], np.abs(normal[:, 2]), kept.weight)
    if floor is None:
        return None
    top = ceiling.z if ceiling is not None else _wall_top(points, normal)
    return Levelled(turn, points, normal, kept.weight, floor, ceiling, top, sensor)


class OwnGrid:
    """Fine voxels grouped anew in a grid along the longest wall and the floor, so that it does not matter how the world lies.

    Args:
        voxels: of a scanner.
        up: unit vector.

    Attributes:
        turn: rotation from the world to the grid's.
    """

    def __init__(self, voxels: Voxels, up: NDArray[np.float64]) -> None:
        self._voxels = voxels
        self._middle = np.floor(voxels.center.mean(axis=0) / VOXEL_M) * VOXEL_M
        from_middle = voxels.center - self._middle
        self._coarse = regrouped(replace(voxels, center=from_middle))
        seen = Surfaces(self._coarse, up, SCANNER).levelled()
        lines = seen.lines() if seen is not None else []
        found = _along(lines, seen) if seen is not None and lines else None
        self.turn: NDArray[np.float64] = found[0] if found else np.eye(3)
        self._corner = found[1] if found else None
        self._turned = from_middle @ self.turn.T

    def phases(self, phases: Sequence[float]) -> Iterator[Voxels]:
        """The voxels, once for each place of the planes in their voxels; once in the world's own grid if there is no wall."""
        if self._corner is None:
            yield replace(self._coarse, center=self._coarse.center + self._middle)
            return
        for phase in phases:
            corner = self._corner - VOXEL_M * phase
            moved = regrouped(replace(self._voxels, center=self._turned - corner))
            yield replace(moved, center=moved.center + corner + self.turn @ self._middle)


def _along(lines: Sequence[WallLine], seen: Levelled) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rotation to the first of the walls, and the corner that it makes with the floor and a wall across."""
    x, y = lines[0].along
    about_z = np.array([[x, y, 0.0], [-y, x, 0.0], [0.0, 0.0, 1.0]])
    across = next((line for line in lines if abs(line.along @ lines[0].along) < 0.1), None)  # noqa: PLR2004
    corner = about_z @ np.array([*(lines[0].rho * lines[0].normal), seen.floor.z])
    if across is not None:
        corner[0] = across.rho * float(np.sign(across.normal @ lines[0].along))
    return about_z @ seen.turn, corner


def _is_riser(line: WallLine, plan: NDArray[np.float64], at_step: NDArray[np.bool_], foot: NDArray[np.bool_]) -> bool:
    """Whether a line runs where two levels meet and nothing of it reaches below the lower one."""
    near = np.abs(plan @ line.normal - line.rho) < _ON_LINE_M
    step, below = (_share(line, plan[near & rows]) for rows in (at_step, foot))
    return step > _MOSTLY and below < _LEAST_FOOT


def _share(line: WallLine, plan: NDArray[np.float64]) -> float:
    """Of the line's columns, those in which one of these voxels lies."""
    columns = np.unique(np.floor(plan @ line.along / COLUMN_M).astype(np.int64))
    return float(np.isin(line.columns, columns).mean())


def _wall_top(points: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    upright = np.abs(normal[:, 2]) < _WALL
    return float(np.quantile(points[upright, 2], 0.995)) if upright.any() else float(points[:, 2].max())


def _band(
    z: NDArray[np.float64], top: NDArray[np.float64] | float, sensor: Sensor, *, is_ceiling: bool
) -> NDArray[np.bool_]:
    if sensor.is_sparse:
        return np.asarray((z > top - _SPARSE_BOTTOM_M) & (z < top - _SPARSE_TOP_M))
    if is_ceiling:
        return np.asarray((z > top - _BAND_BOTTOM_M) & (z < top - _BAND_TOP_M))
    return np.asarray((z > top - _OPEN_BAND_M) & (z < top))
