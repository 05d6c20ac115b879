"""A row for each voxel, found by a table and without sorting.

The table has a place for each brick of 2 x 2 x 2 voxels in the box around all that was seen; a brick in which something is has
eight rows. Memory grows with the surfaces seen, and little with the space between them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

ROWS_A_BRICK: Final = 8
# Of the box: 128 MiB, of which only what is looked at is ever touched.
_MOST_BRICKS: Final = 1 << 25
# Where the box grows it grows by so many bricks more, as there is probably more to come.
_MARGIN: Final = 32
_SAMPLE: Final = 1_024
_MOST: Final = (0.02, 0.98)


class VoxelRows:
    """Rows of voxels; the first eight are nobody's.

    Attributes:
        count: how many there are.
    """

    def __init__(self) -> None:
        self.count = ROWS_A_BRICK
        self._low = np.zeros((3, 1), dtype=np.int32)
        self._size = (0, 0, 0)
        self._brick_at = np.zeros(0, dtype=np.int32)
        # Of each brick, in the order of their numbers from 1.
        self._places: list[NDArray[np.int32]] = []

    def make_room(self, cell: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Make the box hold these voxels, shape (3, n), or most of them; which of them it holds."""
        if not self._grow(cell.min(axis=1)[:, None] >> 1, cell.max(axis=1)[:, None] >> 1):
            some = cell[:, :: -(-cell.shape[1] // _SAMPLE)]
            low, high = np.floor(np.quantile(some, _MOST, axis=1)).astype(np.int32)[..., None] >> 1
            self._grow(low, high)
        brick = (cell >> 1) - self._low
        return np.asarray(((brick >= 0) & (brick < np.array(self._size)[:, None])).all(axis=0))

    def of(self, cell: NDArray[np.int32]) -> NDArray[np.intp] | None:
        """The row of each of these voxels, shape (3, n); None if there is no room for them."""
        brick = (cell >> 1) - self._low
        # What is below the box wraps around to more than any size.
        if not all(far < size for far, size in zip(brick.view(np.uint32).max(axis=1), self._size, strict=True)):
            return None
        place = self._place(brick)
        number = self._brick_at.take(place)
        if not number.min():
            self._add(place[number == 0])
            number = self._brick_at.take(place)
        for odd in cell & np.int32(1):
            number <<= 1
            number |= odd
        return number.astype(np.intp)

    def cells(self, row: NDArray[np.intp]) -> NDArray[np.int32]:
        """The voxels of rows; shape (3, n)."""
        corner = self._bricks().take(row // ROWS_A_BRICK - 1, axis=1)
        odd = np.stack([row >> 2, row >> 1, row]).astype(np.int32) & 1
        cells: NDArray[np.int32] = 2 * corner + odd
        return cells

    def _place(self, brick: NDArray[np.int32]) -> NDArray[np.int32]:
        """Of bricks counted from the corner of the box; shape (3, n)."""
        _, along, up = self._size
        place: NDArray[np.int32] = brick[0] * np.int32(along)
        place += brick[1]
        place *= np.int32(up)
        place += brick[2]
        return place

    def _bricks(self) -> NDArray[np.int32]:
        """All of them, in order; shape (3, n)."""
        _, along, up = self._size
        place = np.concatenate([np.empty(0, dtype=np.int32), *self._places])
        post = place // np.int32(max(up, 1))
        across = post // np.int32(max(along, 1))
        return np.stack([across, post - across * along, place - post * up]) + self._low

    def _grow(self, low: NDArray[np.int32], high: NDArray[np.int32]) -> bool:
        """Whether the box can be made to hold bricks from corner to corner."""
        known = self._bricks()
        if known.size:
            end = self._low + np.array(self._size, dtype=np.int32)[:, None] - 1
            low = np.where(low < self._low, low - _MARGIN, self._low)
            high = np.where(high > end, high + _MARGIN, end)
        across, along, up = (high - low + 1)[:, 0].tolist()
        if across * along * up > _MOST_BRICKS:
            return False
        self._low, self._size = low, (across, along, up)
        self._brick_at = np.zeros(across * along * up, dtype=np.int32)
        self._places = [self._place(known - low)]
        self._brick_at[self._places[0]] = np.arange(1, known.shape[1] + 1)
        return True

    def _add(self, place: NDArray[np.int32]) -> None:
        """Bricks at places, of which several may be the same."""
        mark = np.arange(len(place), dtype=np.int32)
        self._brick_at[place] = mark
        place = place[self._brick_at[place] == mark]
        self._places.append(place)
        first = self.count // ROWS_A_BRICK
        self._brick_at[place] = np.arange(first, first + len(place), dtype=np.int32)
        self.count += ROWS_A_BRICK * len(place)
