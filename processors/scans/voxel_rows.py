"""A row for each voxel, in the order in which voxels are first seen: found by two tables, without sorting.

The first has a place for each brick of 8 x 8 x 8 voxels in the box around all that was seen, the second one for each voxel of
the bricks in which something is. Memory grows with the surfaces seen, and hardly with the space between them.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BRICK_BITS: Final = 3
_CELL_BITS: Final = 3 * _BRICK_BITS
_WITHIN: Final = np.int32((1 << _BRICK_BITS) - 1)
# Of the box: 64 MiB, of which only what is looked at is ever touched.
_MOST_BRICKS: Final = 1 << 24
# Where the box grows it grows by so many bricks more, as there is probably more to come.
_MARGIN: Final = 4
_SAMPLE: Final = 1_024
_MOST: Final = (0.02, 0.98)


class VoxelRows:
    """Rows of voxels, counted from 1.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self.count = 0
        self._low = np.zeros((3, 1), dtype=np.int32)
        self._size = (0, 0, 0)
        self._brick_at = np.zeros(0, dtype=np.int32)
        self._bricks = 0
        self._corner = np.zeros((3, 1), dtype=np.int32)
        self._row_at = np.zeros(1 << _CELL_BITS, dtype=np.int32)
        self._number_of = np.zeros(1, dtype=np.int32)

    def make_room(self, cell: NDArray[np.int32]) -> NDArray[np.bool_] | None:
        """Make the box hold these voxels, shape (3, n), or most of them; which of them it holds, None if all."""
        low, high = (ends[:, None] >> _BRICK_BITS for ends in (cell.min(axis=1), cell.max(axis=1)))
        if self._holds(low, high) or self._grow(low, high):
            return None
        some = cell[:, :: -(-cell.shape[1] // _SAMPLE)]
        low, high = np.floor(np.quantile(some, _MOST, axis=1)).astype(np.int32)[..., None] >> _BRICK_BITS
        if not self._holds(low, high):
            self._grow(low, high)
        brick = cell >> _BRICK_BITS
        return np.asarray(((brick >= self._low) & (brick <= self._high)).all(axis=0))

    def of(self, cell: NDArray[np.int32]) -> NDArray[np.int32]:
        """The row of each of these voxels, shape (3, n), for which there is room."""
        place = self._places(cell >> _BRICK_BITS)
        brick = self._brick_at.take(place)
        if not brick.all():
            self._add_bricks(cell, place, brick == 0)
            brick = self._brick_at.take(place)
        x, y, z = cell & _WITHIN
        number: NDArray[np.int32] = ((brick << _BRICK_BITS | x) << _BRICK_BITS | y) << _BRICK_BITS | z
        row = self._row_at.take(number)
        if not row.all():
            self._add_rows(number[row == 0])
            row = self._row_at.take(number)
        return row

    def cells(self) -> NDArray[np.int32]:
        """Of all rows, in their order; shape (3, count)."""
        number = self._number_of[1 : self.count + 1]
        corner = self._corner.take(number >> _CELL_BITS, axis=1)
        within = np.stack([number >> 2 * _BRICK_BITS, number >> _BRICK_BITS, number]) & _WITHIN
        cells: NDArray[np.int32] = (corner << _BRICK_BITS) + within
        return cells

    @property
    def _high(self) -> NDArray[np.int32]:
        return self._low + np.array(self._size, dtype=np.int32)[:, None] - 1

    def _holds(self, low: NDArray[np.int32], high: NDArray[np.int32]) -> bool:
        return bool((low >= self._low).all() and (high <= self._high).all())

    def _places(self, brick: NDArray[np.int32]) -> NDArray[np.int32]:
        _, along, up = (np.int32(each) for each in self._size)
        x, y, z = brick - self._low
        places: NDArray[np.int32] = (x * along + y) * up + z
        return places

    def _grow(self, low: NDArray[np.int32], high: NDArray[np.int32]) -> bool:
        """Whether the box can be made to hold bricks from corner to corner."""
        if self._bricks:
            low = np.where(low < self._low, low - _MARGIN, self._low)
            high = np.where(high > self._high, high + _MARGIN, self._high)
        across, along, up = (int(each) for each in (high - low + 1)[:, 0])
        if math.prod((across, along, up)) > _MOST_BRICKS:
            return False
        self._low, self._size = low, (across, along, up)
        self._brick_at = np.zeros(across * along * up, dtype=np.int32)
        self._brick_at[self._places(self._corner[:, 1:])] = np.arange(1, self._bricks + 1)
        return True

    def _add_bricks(self, cell: NDArray[np.int32], place: NDArray[np.int32], is_new: NDArray[np.bool_]) -> None:
        new = np.flatnonzero(is_new)[_first_of_each(place[is_new], self._brick_at)]
        self._brick_at[place[new]] = np.arange(self._bricks + 1, self._bricks + len(new) + 1)
        self._bricks += len(new)
        self._corner = np.concatenate([self._corner, cell[:, new] >> _BRICK_BITS], axis=1)
        self._row_at = _with_room(self._row_at, (self._bricks + 1) << _CELL_BITS)

    def _add_rows(self, number: NDArray[np.int32]) -> None:
        new = number[_first_of_each(number, self._row_at)]
        last = self.count + len(new)
        self._number_of = _with_room(self._number_of, last + 1)
        self._number_of[self.count + 1 : last + 1] = new
        self._row_at[new] = np.arange(self.count + 1, last + 1)
        self.count = last


def _first_of_each(place: NDArray[np.int32], table: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Places, each once: what is written into the table there to find out must be written over."""
    mark = np.arange(len(place), dtype=np.int32)
    table[place] = mark
    return np.asarray(table[place] == mark)


def _with_room(table: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    """The same with room for so many, and as many again."""
    if len(table) >= size:
        return table
    larger = np.zeros(2 * size, dtype=np.int32)
    larger[: len(table)] = table
    return larger
