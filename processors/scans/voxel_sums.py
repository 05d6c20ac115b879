"""Sums over the points of each voxel, exact to the last bit, and so the same in whatever order points come.

Every term is a whole number that a double holds exactly, and so is every sum of them, or else whole numbers of 64 bits are
summed. Points are summed block by block, while they are in the processor's cache, and sums of blocks in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

AXIS_BITS: Final = 21
AXIS_MASK: Final = (1 << AXIS_BITS) - 1
AXIS_OFFSET: Final = 1 << (AXIS_BITS - 1)
SHIFTS: Final = (2 * AXIS_BITS, AXIS_BITS, 0)
# Rows that wait to be summed together, and of sums that may wait for more; half a hundred bytes each.
_MOST_ROWS: Final = 1 << 21
_MOST_SUMS: Final = 1 << 21
# A block of points in a box of more cells than this for each waits as it is.
_CELLS_PER_ROW: Final = 16
# Of larger boxes, the posts that voxels stand in are numbered first, then the voxels.
_DIRECT_CELLS: Final = 1 << 22
# Beyond this, numbering takes more memory than sorting.
_DENSE_CELLS: Final = 1 << 25
# Whole numbers of a double below this are exact.
_EXACT: Final = 2.0**53

Sums = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Keys of voxels in order, each once, and a row for each: weight, weight · x, weight · y, weight · z within it, count."""

NO_SUMS: Final[Sums] = (np.empty(0, dtype=np.int64), np.empty((0, 5), dtype=np.int64))


class UnitPoints(NamedTuple):
    """Points in tenths of millimetres.

    Attributes:
        base: corner of a voxel that `units` are counted from, in voxels.
        units: shape (3, n).
        weight: shape (n,), whole numbers; 0 in rows that are no points.
        heaviest: no weight is greater.
    """

    base: tuple[int, int, int]
    units: NDArray[np.int32]
    weight: NDArray[np.float64]
    heaviest: float


class _Rows(NamedTuple):
    """To be summed: indices of voxels, shape (3, n), and columns as those of `Sums`, shape (n, 5)."""

    cell: NDArray[np.int32]
    terms: NDArray[np.float64]


class VoxelSums:
    """The sums of all points that were added.

    Args:
        side: of a voxel, in tenths of millimetres.
        start: what there is already.
    """

    def __init__(self, side: int, start: Sums = NO_SUMS) -> None:
        self._side = side
        self._settled = start
        self._waiting: list[_Rows] = []
        self._waiting_rows, self._join_at = 0, _MOST_ROWS
        self._waiting_points = 0
        self._heaviest = 0.0

    def add(self, points: UnitPoints) -> None:
        """Add a block of points: so many that what is computed of them stays in the cache."""
        rows, count = _with_terms(points, self._side), len(points.weight)
        if not self._is_exact(count, points.heaviest):
            self._settle()
        if not self._is_exact(count, points.heaviest):
            self._settled = united([self._settled, _sorted(rows)])
            return
        self._heaviest = max(self._heaviest, points.heaviest)
        self._waiting_points += count
        self._wait(_numbered_through(rows, _CELLS_PER_ROW * count) or rows)
        if self._waiting_rows > self._join_at:
            self._join()

    def sums(self) -> Sums:
        """Of everything added so far; what was given is never changed."""
        self._settle()
        return self._settled

    def _is_exact(self, more: int, heaviest: float) -> bool:
        """Whether no sum can become too large for a double."""
        return max(heaviest, self._heaviest) * self._side * (self._waiting_points + more) < _EXACT

    def _wait(self, rows: _Rows) -> None:
        self._waiting.append(rows)
        self._waiting_rows += len(rows.terms)

    def _join(self) -> None:
        """Make one of all that wait; what takes too much memory to wait is settled."""
        index = np.concatenate([rows.cell for rows in self._waiting], axis=1)
        everything = _Rows(index, np.concatenate([rows.terms for rows in self._waiting]))
        joined = _numbered_through(everything, _DENSE_CELLS)
        self._waiting, self._waiting_rows = [], 0
        # What was joined is joined again only with as much besides.
        self._join_at = _MOST_ROWS if joined is None else max(_MOST_ROWS, 2 * len(joined.terms))
        if joined is None or len(joined.terms) > _MOST_SUMS:
            self._settled = united([self._settled, _sorted(everything) if joined is None else _as_sums(joined)])
            self._waiting_points, self._heaviest = 0, 0.0
        else:
            self._wait(joined)

    def _settle(self) -> None:
        if self._waiting:
            self._join()
        for rows in self._waiting:
            self._settled = united([self._settled, _as_sums(rows)])
        self._waiting, self._waiting_rows, self._join_at = [], 0, _MOST_ROWS
        self._waiting_points, self._heaviest = 0, 0.0


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


def _with_terms(points: UnitPoints, side: int) -> _Rows:
    terms = np.empty((len(points.weight), 5))
    index = np.empty(points.units.shape, dtype=np.int32)
    terms[:, 0], terms[:, 4] = points.weight, points.weight > 0
    for axis, units in enumerate(points.units):
        own = units // side
        np.multiply(units - own * side, points.weight, out=terms[:, axis + 1])
        np.add(own, points.base[axis], out=index[axis])
    return _Rows(index, terms)


def _numbered_through(rows: _Rows, most_cells: int) -> _Rows | None:
    """One row for each voxel, in order, without sorting: the cells of the box around all are numbered through.

    None if the box has too many.
    """
    low = rows.cell.min(axis=1)
    across, along, up = (int(size) + 1 for size in rows.cell.max(axis=1) - low)
    is_direct = across * along * up <= min(_DIRECT_CELLS, most_cells)
    if across * along > most_cells:
        return None
    post = (rows.cell[0] - low[0]) * np.int32(along)
    post += rows.cell[1] - low[1]
    posts = None
    if not is_direct:
        posts, post = _numbered(post, across * along)
        if len(posts) * up > most_cells:
            return None
    post *= np.int32(up)
    post += rows.cell[2] - low[2]
    cells, place = _numbered(post, up * (across * along if posts is None else len(posts)))
    post, z = _divided(cells, up)
    x, y = _divided(post if posts is None else posts[post], along)
    return _Rows(np.stack([x + low[0], y + low[1], z + low[2]]), _added_up(place, rows.terms, len(cells)))


def _divided(numbers: NDArray[np.int32], by: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """As divmod, in less time."""
    whole = numbers // np.int32(by)
    return whole, numbers - whole * np.int32(by)


def _added_up(place: NDArray[np.int32], terms: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The sum of the terms of each place: a product with a matrix of a 1 for each row, which takes all columns at once."""
    rows = len(place)
    ones, starts = _one_each(1 << (rows - 1).bit_length())
    of_rows = sparse.csc_array((ones[:rows], place, starts[: rows + 1]), shape=(count, rows))
    sums: NDArray[np.float64] = of_rows @ terms
    return sums


@lru_cache(maxsize=4)
def _one_each(rows: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    return np.ones(rows), np.arange(rows + 1, dtype=np.int32)


def _numbered(cells: NDArray[np.int32], size: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The distinct ones of numbers below `size`, in order, and the place of each among them."""
    is_there = np.zeros(size, dtype=bool)
    is_there[cells] = True
    there = np.flatnonzero(is_there)
    place = np.empty(size, dtype=np.int32)
    place[there] = np.arange(len(there), dtype=np.int32)
    return there.astype(np.int32), place[cells]


def _sorted(rows: _Rows) -> Sums:
    """The sums of rows wherever they lie and however large they are."""
    keys = _keys(rows.cell)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return _seen(keys[starts], np.add.reduceat(rows.terms[order].astype(np.int64), starts, axis=0))


def _as_sums(rows: _Rows) -> Sums:
    return _seen(_keys(rows.cell), rows.terms.astype(np.int64))


def _seen(keys: NDArray[np.int64], sums: NDArray[np.int64]) -> Sums:
    """Without the voxels of rows that are no points."""
    is_seen = sums[:, 4] > 0
    return (keys, sums) if is_seen.all() else (keys[is_seen], sums[is_seen])


def _keys(index: NDArray[np.int32]) -> NDArray[np.int64]:
    x, y, z = index.astype(np.int64) + AXIS_OFFSET
    keys: NDArray[np.int64] = x << SHIFTS[0] | y << SHIFTS[1] | z
    return keys
