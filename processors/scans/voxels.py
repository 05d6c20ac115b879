"""Sparse voxel map: points of any number of frames fused into weighted centroids.

Sums are integers (tenths of millimetres, weights in whole cm²), so they do not depend on the order in which frames come:
doubled deliveries left aside, the same frames give the same bytes. A point's weight is its squared distance, the size of its
pixel's footprint, which makes near and far walls count alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final, NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from processors.scans.voxel_sums import (
    AXIS_BITS,
    AXIS_MASK,
    AXIS_OFFSET,
    SHIFTS,
    UnitPoints,
    VoxelSums,
    numbered,
    united,
)

VOXEL_M: Final = 0.04
UNITS_PER_M: Final = 10_000
_VOXEL_UNITS: Final = 400
# Clouds are kept finer: they are measured in a grid along their own walls.
CLOUD_UNITS: Final = 200
_BLOCK_POINTS: Final = 1 << 16
# Of a box of more cells than this voxels are sorted, of a smaller one numbered through.
_DENSE_CELLS: Final = 1 << 24
# Haze, of a cloud in which a tenth of the voxels have so many points: what holds less than this share of the most beside it.
_DENSE_POINTS: Final = 10
_DENSE_SHARE: Final = 0.9
_HAZE_SHARE: Final = 0.2
# Beside: in the same block of four voxels or a block that touches it.
_BLOCK_SHIFT: Final = 2
# Of the second spread against the largest: below it the first cannot be told from the second.
_CLEAR: Final = 1e-6
# Points farther than this from the origin have no voxel: 2^20 voxels of 4 cm to each side.
REACH_M: Final = AXIS_OFFSET * VOXEL_M


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
    index = np.rint(points * UNITS_PER_M).astype(np.int64) // _VOXEL_UNITS + AXIS_OFFSET
    return (index[:, 0] << 2 * AXIS_BITS) | (index[:, 1] << AXIS_BITS) | index[:, 2]


class VoxelMap:
    """Accumulates points; `voxels()` gives what there is so far.

    Args:
        voxel_units: side of a voxel in tenths of millimetres.
    """

    def __init__(self, voxel_units: int = _VOXEL_UNITS) -> None:
        self.side = voxel_units
        self._sums = VoxelSums(voxel_units)

    def add(self, points: NDArray[np.floating], distance_m: NDArray[np.floating] | None = None) -> None:
        """Add points in world coordinates.

        Args:
            points: shape (n, 3), metres, finite and within `REACH_M` of the origin.
            distance_m: shape (n,), distance from the sensor (depth along the axis will do); without it all weigh alike.
        """
        for start in range(0, len(points), _BLOCK_POINTS):
            part = slice(start, start + _BLOCK_POINTS)
            units = _units(points[part])
            weight = None if distance_m is None else weight_of(np.asarray(distance_m[part], dtype=np.float64))
            self.add_units(UnitPoints((0, 0, 0), units, weight))

    def add_units(self, points: UnitPoints) -> None:
        """Add a block of points that were placed already."""
        self._sums.add(points)

    def voxels(self) -> Voxels:
        """Everything added so far."""
        keys, sums = self._sums.sums()
        weight = sums[:, 0].astype(np.float64)
        center = np.empty((len(keys), 3))
        for axis, shift in enumerate(SHIFTS):
            corner = ((keys >> shift & AXIS_MASK) - AXIS_OFFSET) * self.side
            np.divide(corner + sums[:, axis + 1] / weight, UNITS_PER_M, out=center[:, axis])
        return Voxels(keys, center, weight, sums[:, 4])

    def without(self, other: VoxelMap) -> Voxels:
        """Everything but what `other` holds, all of which must have been added here as well."""
        keys, sums = other._sums.sums()
        left_keys, left = united([self._sums.sums(), (keys, -sums)])
        rest, is_left = VoxelMap(self.side), left[:, 4] > 0
        rest._sums = VoxelSums(self.side, (left_keys[is_left], left[is_left]))
        return rest.voxels()

    def to_bytes(self) -> bytes:
        """All sums, compressed; maps that hold the same give the same bytes."""
        keys, sums = self._sums.sums()
        columns = np.empty((6, len(keys)), dtype="<i8")
        columns[0], columns[1:] = np.diff(keys, prepend=0), sums.T
        return zstandard.compress(columns.data, 1)

    @classmethod
    def from_bytes(cls, data: bytes, voxel_units: int = _VOXEL_UNITS) -> VoxelMap:
        """What `to_bytes` gave of a map with voxels of that size."""
        columns = np.frombuffer(zstandard.decompress(data), dtype="<i8").reshape(6, -1)
        voxel_map = cls(voxel_units)
        voxel_map._sums = VoxelSums(voxel_units, (np.cumsum(columns[0]), np.ascontiguousarray(columns[1:].T)))
        return voxel_map


def weight_of(distance_m: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of points so far from the sensor, in whole cm²."""
    return np.maximum(np.rint(distance_m * 100).astype(np.int64), 1) ** 2


def without_haze(voxels: Voxels) -> Voxels:
    """Without what noise leaves around surfaces, if there are many points: it thickens with them, and walls must not.

    Where points are few it cannot be told from the rings of a scanner: everything stays.
    """
    if not len(voxels) or np.quantile(voxels.count, _DENSE_SHARE) < _DENSE_POINTS:
        return voxels
    block, row = _distinct(_indices(voxels.key) >> _BLOCK_SHIFT)
    densest = np.zeros(len(block), dtype=np.int64)
    np.maximum.at(densest, row, voxels.count)
    return voxels.take(voxels.count >= _HAZE_SHARE * _most_around(block, densest)[row])


def _most_around(key: NDArray[np.int64], value: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of these sorted keys the largest value of its 27-neighbourhood."""
    most = value.copy()
    for x, y, z in product((-1, 0, 1), repeat=3):
        neighbour = key + ((x << SHIFTS[0]) + (y << SHIFTS[1]) + z)
        place = np.minimum(np.searchsorted(key, neighbour), len(key) - 1)
        np.maximum(most, np.where(key[place] == neighbour, value[place], 0), out=most)
    return most


def coarse_normals(voxels: Voxels) -> NDArray[np.float64]:
    """As `normals`, from voxels of twice the size: for scanners, whose points lie far apart."""
    coarse, row = _grouped(voxels, _indices(voxels.key) >> 1)
    return normals(coarse)[row]


def regrouped(voxels: Voxels) -> Voxels:
    """Voxels of 4 cm that hold the centroids of the given ones."""
    return _grouped(voxels, _units(voxels.center) // np.int32(_VOXEL_UNITS) + np.int32(AXIS_OFFSET))[0]


def _units(points: NDArray[np.floating]) -> NDArray[np.int32]:
    """Points (n, 3) in whole tenths of millimetres, axis after axis; shape (3, n)."""
    units: NDArray[np.float64] = np.multiply(points.T, np.float64(UNITS_PER_M), order="C")
    return np.rint(units, out=units).astype(np.int32)


def _indices(key: NDArray[np.int64]) -> NDArray[np.int32]:
    """Of voxels along each axis; shape (3, n)."""
    return np.stack([(key >> shift & AXIS_MASK).astype(np.int32) for shift in SHIFTS])


def _key(index: NDArray[np.int32]) -> NDArray[np.int64]:
    x, y, z = index.astype(np.int64)
    key: NDArray[np.int64] = (x << SHIFTS[0]) + (y << SHIFTS[1]) + z
    return key


def _grouped(voxels: Voxels, index: NDArray[np.int32]) -> tuple[Voxels, NDArray[np.intp]]:
    key, row = _distinct(index)
    weight = np.asarray(np.bincount(row, voxels.weight), dtype=np.float64)
    center = np.stack([np.bincount(row, voxels.weight * axis) / weight for axis in voxels.center.T], axis=1)
    return Voxels(key, center, weight, np.asarray(np.bincount(row, voxels.count), dtype=np.int64)), row


def _distinct(index: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The keys of voxels (3, n), in order and each once, and which of them each voxel has."""
    box = _Box.around(index)
    if box.cells > _DENSE_CELLS:
        found, row = np.unique(_key(index), return_inverse=True)
        return found, row
    there, place = numbered(box.numbers(index), box.cells)
    return _key(box.indices(there)), place


class _Box(NamedTuple):
    """The cells around some; numbered through, they are in the order of their keys."""

    low: tuple[int, int, int]
    size: tuple[int, int, int]

    @classmethod
    def around(cls, index: NDArray[np.int32], margin: int = 0) -> _Box:
        """Voxels, shape (3, n)."""
        x, y, z = (index.min(axis=1) - margin).tolist()
        across, along, up = (index.max(axis=1) + margin + 1).tolist()
        return cls((x, y, z), (across - x, along - y, up - z))

    @property
    def cells(self) -> int:
        return math.prod(self.size)

    def numbers(self, index: NDArray[np.int32]) -> NDArray[np.int32]:
        """Of voxels in a box that is not too large for it."""
        _, along, up = self.size
        numbers: NDArray[np.int32] = (index[0] - self.low[0]) * along
        numbers += index[1] - self.low[1]
        numbers *= up
        numbers += index[2] - self.low[2]
        return numbers

    def indices(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        x, y, z = self.low
        _, along, up = self.size
        post = numbers // np.int32(up)
        across = post // np.int32(along)
        return np.stack([across + x, post - across * along + y, numbers - post * up + z])


def normals(voxels: Voxels) -> NDArray[np.float64]:
    """Unit normal at each voxel (sign arbitrary) from the centroids of its 27-neighbourhood; shape (n, 3).

    Neighbours along z are neighbours in the sorted keys, so nine pairs of places and running sums give all moments.
    """
    middle = voxels.center.mean(axis=0)
    p = voxels.center - middle
    terms = np.column_stack([np.ones(len(p)), p, p[:, [0, 0, 0, 1, 1, 2]] * p[:, [0, 1, 2, 1, 2, 2]]])
    running = np.concatenate([np.zeros((1, 10)), np.cumsum(terms, axis=0)])
    total = np.zeros((len(p), 10))
    for begin, end in _posts_around(voxels.key):
        total += running.take(end, axis=0)
        total -= running.take(begin, axis=0)
    mean = total[:, 1:4] / total[:, :1]
    return _least_spread(total[:, 4:] / total[:, :1] - mean[:, [0, 0, 0, 1, 1, 2]] * mean[:, [0, 1, 2, 1, 2, 2]])


def _posts_around(key: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.signedinteger], NDArray[np.signedinteger]]]:
    """For each of the nine posts of three voxels around each voxel, which of the sorted keys are in it: from, and up to."""
    index = _indices(key)
    box = _Box.around(index, margin=1)
    if box.cells > _DENSE_CELLS:
        for step in ((dx << 2 * AXIS_BITS) + (dy << AXIS_BITS) for dx in (-1, 0, 1) for dy in (-1, 0, 1)):
            yield np.searchsorted(key, key + step - 1, "left"), np.searchsorted(key, key + step + 1, "right")
        return
    number = box.numbers(index)
    below = np.zeros(box.cells + 1, dtype=np.int32)
    below[number + 1] = 1
    np.cumsum(below, out=below)
    _, along, up = box.size
    for step in ((dx * along + dy) * up for dx in (-1, 0, 1) for dy in (-1, 0, 1)):
        yield below.take(number + (step - 1)), below.take(number + (step + 2))


def _least_spread(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit eigenvectors of the smallest eigenvalues of symmetric matrices: xx, xy, xz, yy, yz, zz, shape (n, 6).

    By the roots of the cubic, in a third of the time that a general solver takes for so many small ones.
    """
    xx, xy, xz, yy, yz, zz = covariance.T
    third = (xx + yy + zz) / 3
    dx, dy, dz = xx - third, yy - third, zz - third
    size = np.sqrt((dx**2 + dy**2 + dz**2 + 2 * (xy**2 + xz**2 + yz**2)) / 6)
    half = (dx * (dy * dz - yz**2) - xy * (xy * dz - yz * xz) + xz * (xy * yz - dy * xz)) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        angle = np.arccos(np.clip(half / size**3, -1.0, 1.0)) / 3
    least = 2 * size * np.cos(angle + 2 * np.pi / 3)
    xx, yy, zz = dx - least, dy - least, dz - least
    # The adjugate of what is left is the eigenvector times itself: its longest row has the greatest number on the diagonal.
    own = np.stack([yy * zz - yz**2, xx * zz - xz**2, xx * yy - xy**2])
    a, b, c = xz * yz - xy * zz, xy * yz - xz * yy, xy * xz - xx * yz
    longest = np.argmax(np.nan_to_num(own), axis=0)
    found = np.stack([np.choose(longest, row) for row in ((own[0], a, b), (a, own[1], c), (b, c, own[2]))], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found /= np.sqrt((found**2).sum(axis=1))[:, None]
    # Across points on one line are many directions: the general solver says which.
    unclear = np.flatnonzero(~(own.max(axis=0) > _CLEAR * size**2))
    found[unclear] = np.linalg.eigh(covariance[unclear][:, [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(-1, 3, 3))[1][:, :, 0]
    return found
