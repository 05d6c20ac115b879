"""Doors, windows and passages: parts of a wall through which rays went, or from which none came back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from processors.scans.plan import Edge

_CELL_M: Final = 0.05
_HIT_M: Final = 0.05
_THROUGH_M: Final = 0.1
_NO_RETURN_RANGE_M: Final = 4.5
_MIN_LOOKS: Final = 3
_MIN_AREA_M2: Final = 0.25
_MIN_SIDE_M: Final = 0.3
_MIN_FILLED: Final = 0.6
_DOOR_SILL_M: Final = 0.2
_FLOOR_SILL_M: Final = 0.15
_DOOR_MAX_WIDTH_M: Final = 1.3
_GRAZING: Final = 0.15


class OpeningKind(StrEnum):
    """What a hole in a wall is taken for, by its size and sill."""

    DOOR = "door"
    WINDOW = "window"
    OPENING = "opening"


@dataclass(frozen=True, slots=True)
class Opening:
    """A hole in wall number `wall`, `offset` from the wall's first corner; metres."""

    kind: OpeningKind
    wall: int
    offset: float
    width: float
    height: float
    sill: float


class OpeningSearch:
    """Counts, wall by wall, where rays ended and where they went on."""

    def __init__(self, walls: Sequence[Edge], floor_z: float, height: float) -> None:
        self._walls = walls
        self._floor = floor_z
        self._height = height
        self._rows = max(int(np.ceil(height / _CELL_M)), 1)
        self._counts = [
            np.zeros((2, self._rows, max(int(np.ceil(wall.length / _CELL_M)), 1)), dtype=np.int64) for wall in walls
        ]

    def add(self, camera: NDArray[np.float64], ends: NDArray[np.float64], returned: NDArray[np.bool_]) -> None:
        """Add the rays of a frame.

        Args:
            camera: shape (3,), levelled.
            ends: shape (n, 3); where a ray ended, or a point on it at depth 1 where nothing came back.
            returned: shape (n,).
        """
        rays = ends - camera
        grazing = _GRAZING * np.sqrt(np.einsum("ij,ij->i", rays, rays))
        for wall, counts in zip(self._walls, self._counts, strict=True):
            along = (wall.last - wall.first) / wall.length
            outwards = np.array([along[1], -along[0]])
            towards = rays[:, :2] @ outwards
            distance = float(outwards @ (wall.first - camera[:2]))
            facing = np.flatnonzero(towards > grazing)
            if distance <= 0 or not len(facing):
                continue
            share = distance / towards[facing]
            at = camera + rays[facing] * share[:, None]
            beyond = (1 - share) * towards[facing]
            came_back = returned[facing]
            hit = came_back & (np.abs(beyond) < _HIT_M)
            through = np.where(came_back, beyond > _THROUGH_M, share < _NO_RETURN_RANGE_M)
            columns = np.floor((at[:, :2] - wall.first) @ along / _CELL_M).astype(np.int64)
            rows = np.floor((at[:, 2] - self._floor) / _CELL_M).astype(np.int64)
            within = (columns >= 0) & (columns < counts.shape[2]) & (rows >= 0) & (rows < self._rows)
            for number, kind in enumerate((hit, through)):
                chosen = within & kind
                cells = rows[chosen] * counts.shape[2] + columns[chosen]
                counts[number] += np.bincount(cells, minlength=counts[number].size).reshape(counts[number].shape)

    def openings(self) -> list[Opening]:
        """What was found, by wall and offset."""
        return [
            opening
            for number, counts in enumerate(self._counts)
            for opening in self._of_wall(number, counts[0], counts[1])
        ]

    def _of_wall(self, number: int, hits: NDArray[np.int64], through: NDArray[np.int64]) -> list[Opening]:
        open_cells = (through > 3 * hits) & (hits + through >= _MIN_LOOKS)
        open_cells = ndimage.binary_opening(ndimage.binary_closing(open_cells, np.ones((3, 3))), np.ones((3, 3)))
        labels, _ = ndimage.label(open_cells)
        with np.errstate(invalid="ignore"):
            share = np.where(hits + through > 0, through / (hits + through), np.nan)
        found = []
        for part, region in enumerate(ndimage.find_objects(labels), 1):
            cells = labels[region] == part
            opening = self._rectangle(number, share, region, cells)
            if opening is not None and cells.sum() * _CELL_M**2 > _MIN_AREA_M2 and cells.mean() > _MIN_FILLED:
                found.append(opening)
        return sorted(found, key=lambda opening: opening.offset)

    def _rectangle(
        self, number: int, share: NDArray[np.float64], region: tuple[slice, slice], cells: NDArray[np.bool_]
    ) -> Opening | None:
        rows, columns = region
        core_rows = slice(rows.start + 2, max(rows.stop - 2, rows.start + 3))
        core_columns = slice(columns.start + 2, max(columns.stop - 2, columns.start + 3))
        left, right = _edges(_profile(share[core_rows], 0), columns)
        low, high = _edges(_profile(share[:, core_columns], 1), rows)
        width, height = (right - left) * _CELL_M, (high - low) * _CELL_M
        sill, top = low * _CELL_M, min(high * _CELL_M, self._height)
        if width < _MIN_SIDE_M or height < _MIN_SIDE_M:
            return None
        if sill < _FLOOR_SILL_M:
            sill = 0.0
        if sill >= _DOOR_SILL_M:
            kind = OpeningKind.WINDOW
        else:
            kind = OpeningKind.DOOR if width <= _DOOR_MAX_WIDTH_M else OpeningKind.OPENING
        return Opening(kind, number, left * _CELL_M, width, top - sill, sill)


def _profile(share: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Mean share of rays that went through, per column (axis 0) or row (axis 1); 0 where nobody looked."""
    known = ~np.isnan(share)
    mean: NDArray[np.float64] = np.where(known, share, 0.0).sum(axis=axis) / np.maximum(known.sum(axis=axis), 1)
    return mean


def _edges(profile: NDArray[np.float64], region: slice) -> tuple[float, float]:
    """Where the share falls through one half on either side, in cells, between cells by what the cut ones let through."""
    low, high = region.start, region.stop
    inner = profile[low:high]
    begin = float(low)
    # A cut cell lets a part of the rays through: that part belongs to the opening.
    while low < high - 1 and inner[low - region.start] < 0.5:  # noqa: PLR2004
        low += 1
    begin = low + 1 - float(profile[low]) - (float(profile[low - 1]) if low > 0 else 0.0)
    while high > low + 1 and inner[high - 1 - region.start] < 0.5:  # noqa: PLR2004
        high -= 1
    end = high - 1 + float(profile[high - 1]) + (float(profile[high]) if high < len(profile) else 0.0)
    return begin, end
