"""Sparse voxel map: points of any number of frames fused into weighted centroids.

Sums are integers (tenths of millimetres, weights in whole cm²), so they do not depend on the order in which frames come:
doubled deliveries left aside, the same frames give the same bytes. A point's weight is its squared distance, the size of its
pixel's footprint, which makes near and far walls count alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import zstandard
from numpy.typing import NDArray

VOXEL_M: Final = 0.04
_UNITS_PER_M: Final = 10_000
_VOXEL_UNITS: Final = 400
# Clouds are kept finer: they are measured in a grid along their own walls.
CLOUD_UNITS: Final = 200
_AXIS_BITS: Final = 21
_AXIS_MASK: Final = (1 << _AXIS_BITS) - 1
_SHIFTS: Final = (2 * _AXIS_BITS, _AXIS_BITS, 0)
_AXIS_OFFSET: Final = 1 << (_AXIS_BITS - 1)
# Points farther than this from the origin have no voxel: 2^20 voxels of 4 cm to each side.
REACH_M: Final = _AXIS_OFFSET * VOXEL_M
# Points are summed in groups: what a group costs besides its points, the box around it and the map, is worth it then.
_GROUP_POINTS: Final = 1 << 19
# What is computed at a time stays in the processor's cache.
_SLICE_POINTS: Final = 1 << 15
# Beyond this, numbering cells through takes more memory than sorting points.
_DENSE_CELLS: Final = 1 << 25
# Whole numbers of a double below this are exact.
_EXACT: Final = 2.0**53


@dataclass(frozen=True, slots=True)
class Voxels:
    """What a map holds, sorted by key; columns of length n.

    Attributes:
        key: packed voxel indices, 21 bits an axis (x highest).
        center: weighted centroid in metres, shape (n, 3).
        weight: summed weights in cm².
        count: points.
    """

    key: NDArray[np.int64]
    center: NDArray[np.float64]
    weight: NDArray[np.float64]
    count: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Voxels:
        """The rows asked for, in their order."""
        return Voxels(self.key[rows], self.center[rows], self.weight[rows], self.count[rows])


def keys_of(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """The keys of the voxels that points (n, 3), in metres, lie in."""
    index = np.rint(points * _UNITS_PER_M).astype(np.int64) // _VOXEL_UNITS + _AXIS_OFFSET
    return (index[:, 0] << 2 * _AXIS_BITS) | (index[:, 1] << _AXIS_BITS) | index[:, 2]


class VoxelMap:
    """Accumulates points; `voxels()` gives what there is so far.

    Args:
        voxel_units: side of a voxel in tenths of millimetres.
    """

    def __init__(self, voxel_units: int = _VOXEL_UNITS) -> None:
        self.side = voxel_units
        self._keys = np.empty(0, dtype=np.int64)
        # Columns: weight, weight · x, weight · y, weight · z within the voxel, count.
        self._sums = np.empty((0, 5), dtype=np.int64)
        # Of points: keys, and columns weight, weight · x, weight · y, weight · z, whole numbers all of them.
        self._waiting: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
        self._waiting_points = 0

    def add(self, points: NDArray[np.floating], distance_m: NDArray[np.floating]) -> None:
        """Add points in world coordinates.

        Args:
            points: shape (n, 3), metres, finite and within `REACH_M` of the origin.
            distance_m: shape (n,), distance from the sensor (depth along the axis will do).
        """
        for start in range(0, len(points), _SLICE_POINTS):
            part = slice(start, start + _SLICE_POINTS)
            self._add(np.asarray(points[part], dtype=np.float64), np.asarray(distance_m[part], dtype=np.float64))
            if self._waiting_points >= _GROUP_POINTS:
                self._merge()

    def _add(self, points: NDArray[np.float64], distance_m: NDArray[np.float64]) -> None:
        units = np.rint(np.ascontiguousarray(points.T) * _UNITS_PER_M)
        index = np.floor(units / self.side)
        columns = np.empty((4, len(points)))
        columns[0] = np.maximum(np.rint(distance_m * 100), 1) ** 2
        np.multiply(units - index * self.side, columns[0], out=columns[1:])
        x, y, z = index.astype(np.int64) + _AXIS_OFFSET
        self._waiting.append((x << 2 * _AXIS_BITS | y << _AXIS_BITS | z, columns))
        self._waiting_points += len(points)

    def voxels(self) -> Voxels:
        """Everything added so far."""
        self._merge()
        index = np.stack([self._keys >> shift & _AXIS_MASK for shift in _SHIFTS], axis=1)
        weight = self._sums[:, 0].astype(np.float64)
        center = ((index - _AXIS_OFFSET) * self.side + self._sums[:, 1:4] / weight[:, None]) / _UNITS_PER_M
        return Voxels(self._keys, center, weight, self._sums[:, 4].copy())  # sums go on growing in place

    def without(self, other: VoxelMap) -> Voxels:
        """Everything but what `other` holds, all of which must have been added here as well."""
        self._merge()
        other._merge()
        rest = VoxelMap(self.side)
        rest._unite(self._keys, self._sums)
        rest._unite(other._keys, -other._sums)
        left = rest._sums[:, 4] > 0
        rest._keys, rest._sums = rest._keys[left], rest._sums[left]
        return rest.voxels()

    def to_bytes(self) -> bytes:
        """All sums, compressed; maps that hold the same give the same bytes."""
        self._merge()
        columns = np.concatenate([np.diff(self._keys, prepend=0)[:, None], self._sums], axis=1)
        return zstandard.compress(np.ascontiguousarray(columns.T, dtype="<i8").tobytes(), 1)

    @classmethod
    def from_bytes(cls, data: bytes, voxel_units: int = _VOXEL_UNITS) -> VoxelMap:
        """What `to_bytes` gave of a map with voxels of that size."""
        columns = np.frombuffer(zstandard.decompress(data), dtype="<i8").astype(np.int64).reshape(6, -1)
        voxel_map = cls(voxel_units)
        voxel_map._keys, voxel_map._sums = np.cumsum(columns[0]), np.ascontiguousarray(columns[1:].T)
        return voxel_map

    def _merge(self) -> None:
        if not self._waiting:
            return
        keys = np.concatenate([keys for keys, _ in self._waiting])
        columns = np.concatenate([columns for _, columns in self._waiting], axis=1)
        self._waiting, self._waiting_points = [], 0
        self._unite(*(_summed_densely(keys, columns, self.side) or _summed(keys, _with_count(columns))))

    def _unite(self, keys: NDArray[np.int64], sums: NDArray[np.int64]) -> None:
        """Add sums of other voxels, each of which is there once."""
        place = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), dtype=bool)
        inside = place < len(self._keys)
        known[inside] = self._keys[place[inside]] == keys[inside]
        self._sums[place[known]] += sums[known]
        if not known.all():
            new = ~known
            self._keys = np.insert(self._keys, place[new], keys[new])
            self._sums = np.insert(self._sums, place[new], sums[new], axis=0)


def _with_count(columns: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.concatenate([columns.T.astype(np.int64), np.ones((columns.shape[1], 1), dtype=np.int64)], axis=1)


def _summed(keys: NDArray[np.int64], sums: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct keys in order, and the sums of each."""
    if not len(keys):
        return keys, sums
    order = np.argsort(keys, kind="stable")  # quick for what is in order already
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[starts], np.add.reduceat(sums[order], starts, axis=0)


def _summed_densely(
    keys: NDArray[np.int64], columns: NDArray[np.float64], side: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """As `_summed` without sorting: what there is of x and y is numbered through, then what there is of those and z.

    None if points lie too far apart for that, or sums might not be whole numbers of a double any more.
    """
    if not len(keys) or columns[0].max() * side * len(keys) >= _EXACT:
        return None
    index = [keys >> shift & _AXIS_MASK for shift in _SHIFTS]
    low = [int(axis.min()) for axis in index]
    across, along, up = (int(axis.max()) - least + 1 for axis, least in zip(index, low, strict=True))
    if across * along > _DENSE_CELLS:
        return None
    posts, post = _numbered((index[0] - low[0]) * along + (index[1] - low[1]), across * along)
    if len(posts) * up > _DENSE_CELLS:
        return None
    cells, row = _numbered(index[2] - low[2] + post * np.int64(up), len(posts) * up)
    sums = np.empty((len(cells), 5), dtype=np.int64)
    for place, column in enumerate(columns):
        sums[:, place] = np.bincount(row, column)
    sums[:, 4] = np.bincount(row)
    post, z = np.divmod(cells, up)
    x, y = np.divmod(posts[post], along)
    return (x + low[0]) << 2 * _AXIS_BITS | (y + low[1]) << _AXIS_BITS | (z + low[2]), sums


def _numbered(cells: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The distinct ones of numbers below `size`, in order, and the place of each among them."""
    is_there = np.zeros(size, dtype=bool)
    is_there[cells] = True
    there = np.flatnonzero(is_there)
    place = np.empty(size, dtype=np.int32)
    place[there] = np.arange(len(there), dtype=np.int32)
    return there, place[cells]


def coarse_normals(voxels: Voxels) -> NDArray[np.float64]:
    """As `normals`, from voxels of twice the size: for scanners, whose points lie far apart."""
    index = np.stack([voxels.key >> shift & _AXIS_MASK for shift in _SHIFTS], axis=1) >> 1
    coarse, row = _grouped(voxels, index)
    return normals(coarse)[row]


def regrouped(voxels: Voxels) -> Voxels:
    """Voxels of 4 cm that hold the centroids of the given ones."""
    index = np.rint(voxels.center * _UNITS_PER_M).astype(np.int64) // _VOXEL_UNITS + _AXIS_OFFSET
    return _grouped(voxels, index)[0]


def _grouped(voxels: Voxels, index: NDArray[np.int64]) -> tuple[Voxels, NDArray[np.intp]]:
    key, row = np.unique(index @ (1 << np.array(_SHIFTS)), return_inverse=True)
    weight = np.asarray(np.bincount(row, voxels.weight), dtype=np.float64)
    center = np.stack([np.bincount(row, voxels.weight * axis) / weight for axis in voxels.center.T], axis=1)
    return Voxels(key, center, weight, np.asarray(np.bincount(row, voxels.count), dtype=np.int64)), row


def normals(voxels: Voxels) -> NDArray[np.float64]:
    """Unit normal at each voxel (sign arbitrary) from the centroids of its 27-neighbourhood; shape (n, 3).

    Neighbours along z are neighbours in the sorted keys, so nine pairs of searches and running sums give all moments.
    """
    middle = voxels.center.mean(axis=0)
    p = voxels.center - middle
    terms = np.column_stack([np.ones(len(p)), p, p[:, [0, 0, 0, 1, 1, 2]] * p[:, [0, 1, 2, 1, 2, 2]]])
    running = np.concatenate([np.zeros((1, 10)), np.cumsum(terms, axis=0)])
    total = np.zeros((len(p), 10))
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            around = voxels.key + (dx << 2 * _AXIS_BITS) + (dy << _AXIS_BITS)
            total += running[np.searchsorted(voxels.key, around + 1, "right")]
            total -= running[np.searchsorted(voxels.key, around - 1, "left")]
    mean = total[:, 1:4] / total[:, :1]
    second = total[:, 4:] / total[:, :1] - mean[:, [0, 0, 0, 1, 1, 2]] * mean[:, [0, 1, 2, 1, 2, 2]]
    covariance = second[:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3)
    vectors: NDArray[np.float64] = np.linalg.eigh(covariance)[1][:, :, 0]
    return vectors
