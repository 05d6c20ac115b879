"""Sums over the points of each voxel, in whole numbers, and so the same in whatever order points come.

Points are added to the rows of their voxels block by block, while what is computed of them is in the processor's cache. What
lies too far off for the rows' table is sorted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from processors.scans.voxel_rows import VoxelRows

AXIS_BITS: Final = 21
AXIS_MASK: Final = (1 << AXIS_BITS) - 1
AXIS_OFFSET: Final = 1 << (AXIS_BITS - 1)
SHIFTS: Final = (2 * AXIS_BITS, AXIS_BITS, 0)
# Of 40 bytes each: with fewer nobody begins, with more they are given up for new ones.
_LEAST_ROWS: Final = 1 << 18
_MOST_ROWS: Final = 1 << 22
# Half a number of 64 bits, and what sums may have grown to before the next block without leaving it.
_HALF: Final = 32
_MOST_PACKED: Final = (1 << 31) - (1 << 25)
# Sums of far points that may wait for more: half a hundred bytes each.
_MOST_WAITING: Final = 1 << 19

Sums = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Keys of voxels in order, each once, and a row for each: weight, weight · x, weight · y, weight · z within it, count."""

Weights = NDArray[np.int32] | NDArray[np.int64]
NO_SUMS: Final[Sums] = (np.empty(0, dtype=np.int64), np.empty((0, 5), dtype=np.int64))


class UnitPoints(NamedTuple):
    """Points in tenths of millimetres.

    Attributes:
        base: corner of a voxel that `units` are counted from, in voxels.
        units: shape (3, n).
        weight: shape (n,), of a type that holds its products with the side of a voxel; 0 in rows that are no points; None if
            all weigh 1.
    """

    base: tuple[int, int, int]
    units: NDArray[np.int32]
    weight: Weights | None


class VoxelSums:
    """The sums of all points that were added.

    Args:
        side: of a voxel, in tenths of millimetres.
        start: what there is already.
    """

    def __init__(self, side: int, start: Sums = NO_SUMS) -> None:
        self._side = np.int32(side)
        self._rows, self._columns = VoxelRows(), np.zeros((5, 0), dtype=np.int64)
        # Of points that weigh 1: x and y, z and count in a number each, for so many points.
        self._packed, self._packed_points = np.zeros((2, 0), dtype=np.int64), 0
        self._settled = start
        self._waiting: list[Sums] = []
        self._known: Sums | None = start

    def add(self, points: UnitPoints) -> None:
        """Add a block of points: so many that what is computed of them stays in the cache."""
        self._known = None
        cell = points.units // self._side
        within = cell * -self._side
        within += points.units
        if any(points.base):
            cell += np.array(points.base, dtype=np.int32)[:, None]
        row = self._rows.of(cell)
        if row is None:
            self._make_room(cell, within, points.weight)
        else:
            self._add(row, within, points.weight)

    def _make_room(self, cell: NDArray[np.int32], within: NDArray[np.int32], weight: Weights | None) -> None:
        """For what lies outside of the tables; what is too far off waits."""
        weight = np.ones(cell.shape[1], dtype=np.int32) if weight is None else weight
        inside = self._rows.make_room(cell)
        far = ~inside
        if far.any():
            self._wait(_sorted(_keys(cell[:, far]), np.stack([*_terms(within[:, far], weight[far])], axis=1)))
        if inside.any() and (row := self._rows.of(cell[:, inside])) is not None:
            self._add(row, within[:, inside], weight[inside])

    def _add(self, row: NDArray[np.intp], within: NDArray[np.int32], weight: Weights | None) -> None:
        if weight is None:
            self._packed = self._with_room(self._packed)
            x, y, z = within.astype(np.int64)
            np.add.at(self._packed[0], row, x + (y << _HALF))
            np.add.at(self._packed[1], row, z + (1 << _HALF))
            self._packed_points += len(row)
        else:
            self._columns = self._with_room(self._columns)
            for column, term in zip(self._columns, _terms(within, weight), strict=True):
                np.add.at(column, row, term)
        if self._packed_points > _MOST_PACKED // self._side:
            self._unpack()
        if self._rows.count > _MOST_ROWS:
            self._wait(self._in_tables())
            self._rows, self._columns = VoxelRows(), np.zeros((5, 0), dtype=np.int64)

    def _unpack(self) -> None:
        if self._packed_points:
            self._columns, low = self._with_room(self._columns), (1 << _HALF) - 1
            xy, z_count = self._packed[:, : self._rows.count]
            count = z_count >> _HALF
            for number, more in enumerate((count, xy & low, xy >> _HALF, z_count & low, count)):
                self._columns[number, : len(count)] += more
        self._packed, self._packed_points = np.zeros((2, 0), dtype=np.int64), 0

    def sums(self) -> Sums:
        """Of everything added so far; what was given is never changed."""
        if self._known is None:
            self._settle()
            self._known = united([self._settled, self._in_tables()])
        return self._known

    def _with_room(self, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same with a number for each row."""
        size, there = columns.shape
        if self._rows.count <= there:
            return columns
        larger = np.zeros((size, max(2 * self._rows.count, _LEAST_ROWS)), dtype=np.int64)
        larger[:, :there] = columns
        return larger

    def _in_tables(self) -> Sums:
        """Without the voxels of rows that are no points."""
        self._unpack()
        row = np.flatnonzero(self._columns[4])
        keys = _keys(self._rows.cells(row))
        order = np.argsort(keys)
        return keys[order], self._columns.take(row[order], axis=1).T

    def _wait(self, sums: Sums) -> None:
        self._waiting.append(sums)
        # What was settled is gone through again only with as much besides.
        if sum(len(keys) for keys, _ in self._waiting) > max(_MOST_WAITING, len(self._settled[0])):
            self._settle()

    def _settle(self) -> None:
        self._settled, self._waiting = united([self._settled, *self._waiting]), []


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


def numbered(cells: NDArray[np.int32], size: int) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """The distinct ones of numbers below `size`, in order, and the place of each among them."""
    is_there = np.zeros(size, dtype=bool)
    is_there[cells] = True
    there = np.flatnonzero(is_there)
    place = np.empty(size, dtype=np.int32)
    place[there] = np.arange(len(there), dtype=np.int32)
    return there.astype(np.int32), place.take(cells).astype(np.intp)


def _terms(within: NDArray[np.int32], weight: Weights) -> Iterator[NDArray[np.int64]]:
    """What each point adds to the columns of its voxel, one after the other."""
    yield weight.astype(np.int64, copy=False)
    for axis in within:
        yield (axis * weight).astype(np.int64, copy=False)
    yield (weight > 0).astype(np.int64)


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
