"""Sums over the points of each voxel, in whole numbers, and so the same in whatever order points come.

Points are added to the rows of their voxels block by block, while what is computed of them is in the processor's cache. What
lies too far off for the rows' tables is sorted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processors.scans.voxel_rows import VoxelRows

AXIS_BITS: Final = 21
AXIS_MASK: Final = (1 << AXIS_BITS) - 1
AXIS_OFFSET: Final = 1 << (AXIS_BITS - 1)
SHIFTS: Final = (2 * AXIS_BITS, AXIS_BITS, 0)
# Sums of far points that may wait for more: half a hundred bytes each.
_MOST_WAITING: Final = 1 << 19

Sums = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Keys of voxels in order, each once, and a row for each: weight, weight · x, weight · y, weight · z within it, count."""

NO_SUMS: Final[Sums] = (np.empty(0, dtype=np.int64), np.empty((0, 5), dtype=np.int64))


class UnitPoints(NamedTuple):
    """Points in tenths of millimetres.

    Attributes:
        base: corner of a voxel that `units` are counted from, in voxels.
        units: shape (3, n).
        weight: shape (n,); 0 in rows that are no points.
    """

    base: tuple[int, int, int]
    units: NDArray[np.int32]
    weight: NDArray[np.int64]


class VoxelSums:
    """The sums of all points that were added.

    Args:
        side: of a voxel, in tenths of millimetres.
        start: what there is already.
    """

    def __init__(self, side: int, start: Sums = NO_SUMS) -> None:
        self._side = np.int32(side)
        self._rows = VoxelRows()
        self._columns = np.zeros((5, 1), dtype=np.int64)
        self._settled = start
        self._far: list[Sums] = []
        self._known: Sums | None = start

    def add(self, points: UnitPoints) -> None:
        """Add a block of points: so many that what is computed of them stays in the cache."""
        self._known = None
        cell = points.units // self._side
        within = points.units - cell * self._side
        cell += np.array(points.base, dtype=np.int32)[:, None]
        weight, inside = points.weight, self._rows.make_room(cell)
        if inside is not None:
            outside = ~inside
            self._put_off(cell[:, outside], within[:, outside], weight[outside])
            cell, within, weight = cell[:, inside], within[:, inside], weight[inside]
        row = self._rows.of(cell).astype(np.intp)
        if self._rows.count >= self._columns.shape[1]:
            more = np.zeros((5, 2 * self._rows.count), dtype=np.int64)
            more[:, : self._columns.shape[1]] = self._columns
            self._columns = more
        for column, term in zip(self._columns, _terms(within, weight), strict=True):
            np.add.at(column, row, term)

    def sums(self) -> Sums:
        """Of everything added so far; what was given is never changed."""
        if self._known is None:
            self._settle()
            row = slice(1, self._rows.count + 1)
            near = _in_order(_keys(self._rows.cells()), self._columns[:, row])
            self._known = united([self._settled, near])
        return self._known

    def _put_off(self, cell: NDArray[np.int32], within: NDArray[np.int32], weight: NDArray[np.int64]) -> None:
        self._far.append(_sorted(_keys(cell), np.stack(list(_terms(within, weight)), axis=1)))
        # What was settled is gone through again only with as much besides.
        if sum(len(keys) for keys, _ in self._far) > max(_MOST_WAITING, len(self._settled[0])):
            self._settle()

    def _settle(self) -> None:
        self._settled, self._far = united([self._settled, *self._far]), []


def united(parts: Sequence[Sums]) -> Sums:
    """The sums of all parts together."""
    parts = [part for part in parts if len(part[0])]
    if len(parts) <= 1:
        return parts[0] if parts else NO_SUMS
    keys = np.concatenate([keys for keys, _ in parts])
    order = np.argsort(keys, kind="stable")  # quick for a few parts that are in order each
    keys = keys[order]
    is_first = np.concatenate([[True], keys[1:] != keys[:-1]])
    rows = np.empty(len(keys), dtype=np.intp)
    rows[order] = np.cumsum(is_first) - 1
    sums = np.zeros((np.count_nonzero(is_first), 5), dtype=np.int64)
    start = 0
    for own, more in parts:
        sums[rows[start : start + len(own)]] += more  # a part has each key once
        start += len(own)
    return keys[is_first], sums


def numbered(cells: NDArray[np.int32], size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The distinct ones of numbers below `size`, in order, and the place of each among them."""
    is_there = np.zeros(size, dtype=bool)
    is_there[cells] = True
    there = np.flatnonzero(is_there)
    place = np.empty(size, dtype=np.int32)
    place[there] = np.arange(len(there), dtype=np.int32)
    return there.astype(np.int32), place[cells]


def _terms(within: NDArray[np.int32], weight: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """What each point adds to the columns of its voxel."""
    x, y, z = within
    return weight, x * weight, y * weight, z * weight, (weight > 0).astype(np.int64)


def _in_order(keys: NDArray[np.int64], columns: NDArray[np.int64]) -> Sums:
    """Without the voxels of rows that are no points."""
    order = np.argsort(keys)
    order = order[columns[4, order] > 0]
    return keys[order], np.ascontiguousarray(columns[:, order].T)


def _sorted(keys: NDArray[np.int64], terms: NDArray[np.int64]) -> Sums:
    """The sums of points wherever they lie."""
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    sums = np.add.reduceat(terms[order], starts, axis=0)
    is_seen = sums[:, 4] > 0
    return keys[starts][is_seen], sums[is_seen]


def _keys(cell: NDArray[np.int32]) -> NDArray[np.int64]:
    x, y, z = cell.astype(np.int64) + AXIS_OFFSET
    keys: NDArray[np.int64] = x << SHIFTS[0] | y << SHIFTS[1] | z
    return keys
