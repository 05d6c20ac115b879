"""Vertical planes: the lines that walls draw on the floor plan, found in a band of voxels that furniture does not reach."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

_UPRIGHT: Final = 0.5
_RHO_BIN_M: Final = 0.03
_FIT_M: Final = 0.06
_CLAIM_M: Final = 0.08
# Voxels of a wall lie within a centimetre or so; what fills the corridor of the fit evenly has 3.5 cm.
_MAX_SPREAD_M: Final = 0.031
# Where two walls meet, a diagonal of half a metre fits to both of them, badly.
_MAX_SHORT_SPREAD_M: Final = 0.02
_SAME_M: Final = 0.08
_MIN_VOXELS: Final = 8
# Variance along the line of a piece of about 0.8 m (length squared over 12).
_LONG_VARIANCE: Final = 0.055
# How much of the two shows in a wall's place; calibrated on 160 synthetic scans, so that 1.96 sigma hold 95 %.
_FIT_SHARE: Final = 0.19
_WANDER_SHARE: Final = 0.25
_PARALLEL: Final = math.cos(math.radians(5))
COLUMN_M: Final = 0.05
# In columns: half a metre.
_SPARSE_GAP: Final = 10
_SPARSE_SPREAD_M: Final = 0.04
_SPARSE_SUPPORT_M: Final = 0.75
_SPARSE_ASKEW_M: Final = 2.0
_MISSES: Final = 12
# Corners are rounded by the voxels of both walls.
_CORNER_M: Final = 0.08
_MIN_SUPPORT_M: Final = 0.4
# Distances at a time.
_BLOCK: Final = 1 << 15
_DIRECTIONS: Final = np.stack(
    [np.cos(np.radians(np.arange(180) + 0.5)), np.sin(np.radians(np.arange(180) + 0.5))], axis=1
)


@dataclass(frozen=True, slots=True)
class WallLine:
    """A line n · p = rho on the plan, and where along it walls were seen.

    Attributes:
        normal: unit vector, shape (2,).
        spread: standard deviation of the voxels around the line, in metres.
        columns: sorted numbers of the 5 cm columns along the line that hold voxels.
        wander: how far the line moves between visits, in metres.
        turn_sigma: standard deviation of its direction, in radians, if it is of its own.
        voxels: that it was fitted to: x, y and weight, shape (n, 3).
    """

    normal: NDArray[np.float64]
    rho: float
    spread: float
    columns: NDArray[np.int64]
    wander: float = 0.0
    turn_sigma: float = 0.0
    voxels: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 3)), compare=False)

    @property
    def sigma(self) -> float:
        """Standard deviation of rho: each column is a look of its own, and so are some of the visits."""
        fit = self.spread / math.sqrt(max(len(self.columns), 1))
        return math.hypot(_FIT_SHARE * fit, _WANDER_SHARE * self.wander)

    @property
    def middle(self) -> NDArray[np.float64]:
        """Of what was seen of it: there it is surest."""
        along = (float(self.columns.mean()) + 0.5) * COLUMN_M if len(self.columns) else 0.0
        place: NDArray[np.float64] = self.rho * self.normal + along * self.along
        return place

    def counted_as(self, other: WallLine, place: NDArray[np.float64]) -> WallLine:
        """With the columns of another line, which it was before it was turned about a place, numbered along itself."""
        moved = round(float(self.along @ place - other.along @ place) / COLUMN_M)
        return replace(self, columns=self.columns + moved)

    def sigma_at(self, place: NDArray[np.float64]) -> float:
        """Standard deviation of where it passes a place on it: the farther from its middle, the less sure."""
        return math.hypot(self.sigma, self.turn_sigma * float((place - self.middle) @ self.along))

    @property
    def is_long(self) -> bool:
        """Whether at least a metre of it was seen."""
        return len(self.columns) * COLUMN_M >= 1.0

    @property
    def along(self) -> NDArray[np.float64]:
        """Direction of the line."""
        return np.array([-self.normal[1], self.normal[0]])

    def support(self, first: NDArray[np.float64], last: NDArray[np.float64]) -> float:
        """Share of the columns between two points of the line in which a wall was seen."""
        low, high = sorted((float(self.along @ first), float(self.along @ last)))
        # Corners are rounded by the voxels of both walls: their outermost columns prove nothing.
        begin, end = math.floor((low + COLUMN_M) / COLUMN_M), math.ceil((high - COLUMN_M) / COLUMN_M)
        if end <= begin:
            return 0.0
        return int(np.searchsorted(self.columns, end) - np.searchsorted(self.columns, begin)) / (end - begin)


def find_lines(
    points: NDArray[np.float64], normal: NDArray[np.float64], weight: NDArray[np.float64], *, is_sparse: bool = False
) -> list[WallLine]:
    """Lines of the walls, best supported first.

    Args:
        points: shape (n, 3), levelled, only the band in which walls are looked for.
        normal: their unit normals; only upright ones matter, their direction is too coarse to use.
        weight: their weights.
        is_sparse: of a scanner: gaps between its rings are no gaps of the wall, and what stands before walls would turn their
            lines, so that nearly parallel and nearly perpendicular ones are taken for exactly so.
    """
    upright = np.abs(normal[:, 2]) < _UPRIGHT
    finder = _Finder(points[upright, :2], weight[upright], is_sparse=is_sparse)
    while finder.find_next():
        pass
    return finder.lines


class _Votes:
    """How many free voxels lie in each strip of each direction: what is no longer free is taken off, as that is less to count.

    Args:
        rho: distance of every voxel along every direction, shape (180, n).
    """

    def __init__(self, rho: NDArray[np.float64]) -> None:
        self._rho = rho
        self._nearest, self._farthest = rho.min(axis=0), rho.max(axis=0)
        self._counted = np.zeros(rho.shape[1], dtype=bool)
        self._low, self._width = math.nan, 0
        self._votes = np.zeros((180, 0), dtype=np.int64)

    def strongest(self, free: NDArray[np.bool_]) -> tuple[int, float]:
        """Degree and rho of the line that most of these voxels lie on, which were all free the last time."""
        low = float(self._nearest[free].min()) - _RHO_BIN_M
        gone = self._counted & ~free
        if low == self._low and 2 * gone.sum() < free.sum():
            self._votes -= self._of(gone)
        else:
            self._low, self._width = low, int((self._farthest[free].max() - low) / _RHO_BIN_M) + 3
            self._votes = self._of(free)
        self._counted = free.copy()
        # Two bins, as a wall is thicker than one and may lie across their border.
        pairs = self._votes[:, :-1] + self._votes[:, 1:]
        degree, place = np.unravel_index(int(pairs.argmax()), pairs.shape)
        return int(degree), low + (float(place) + 1) * _RHO_BIN_M

    def _of(self, voxels: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Some directions at a time: so many that what is computed of them stays in the processor's cache."""
        votes = np.empty((180, self._width), dtype=np.int64)
        rows = np.flatnonzero(voxels)
        step = max(1, _BLOCK // max(1, len(rows)))
        for first in range(0, 180, step):
            bins = self._rho[first : first + step].take(rows, axis=1)
            bins -= self._low
            bins /= _RHO_BIN_M
            of_votes = bins.astype(np.int64) + np.arange(len(bins))[:, None] * self._width
            counted = np.bincount(of_votes.ravel(), minlength=len(bins) * self._width)
            votes[first : first + step] = counted.reshape(-1, self._width)
        return votes


class _Finder:
    """Finds lines one after the other; a voxel that a line explains does not speak for another."""

    def __init__(self, plan: NDArray[np.float64], weight: NDArray[np.float64], *, is_sparse: bool) -> None:
        self._gap = _SPARSE_GAP if is_sparse else 0
        self._is_sparse = is_sparse
        self._misses = 0
        self._plan = plan
        self._weight = weight
        self._free = np.ones(len(plan), dtype=bool)
        # Distance of every voxel along every direction, one row a degree: the Hough transform without its sum.
        self._rho = _DIRECTIONS @ plan.T
        self._votes = _Votes(self._rho)
        self.lines: list[WallLine] = []

    def find_next(self) -> bool:
        """Try the line that most free voxels lie on; False when no wall can be left."""
        if self._free.sum() < _MIN_VOXELS:
            return False
        degree, rho = self._votes.strongest(self._free)
        line = self._fit(_DIRECTIONS[degree], rho)
        if line is None:
            if not self._is_sparse:
                return False
            # Clutter of a scan with few voxels may win a vote that a wall further down the list would not lose.
            self._free &= np.abs(self._rho[degree] - rho) >= _RHO_BIN_M
            self._misses += 1
            return self._misses < _MISSES
        if line.spread < self._most_spread(line) and not self._is_known(line):
            self.lines.append(line)
        claimed = np.abs(self._plan @ line.normal - line.rho) < _CLAIM_M
        # What the search itself started from goes too, or a bad fit would be tried for ever.
        claimed |= np.abs(self._rho[degree] - rho) < _RHO_BIN_M
        self._free &= ~claimed
        return True

    def _least(self, normal: NDArray[np.float64]) -> float:
        """How much of a line must have been seen, in metres."""
        if not self._is_sparse:
            return _MIN_SUPPORT_M
        askew = bool(self.lines) and _squared(self.lines[0].normal, normal) is None
        return _SPARSE_ASKEW_M if askew else _SPARSE_SUPPORT_M

    def _most_spread(self, line: WallLine) -> float:
        if self._is_sparse:
            return _SPARSE_SPREAD_M
        return _MAX_SPREAD_M if line.is_long else _MAX_SHORT_SPREAD_M

    def _fit(self, direction: NDArray[np.float64], rho: float) -> WallLine | None:
        """Weighted total least squares around a first guess; None if too little of it is seen and free."""
        normal = direction
        near = np.abs(self._plan @ normal - rho) < _FIT_M
        for _ in range(6):
            is_free = near & self._free
            normal, rho = self._total_least_squares(is_free if is_free.any() else near, direction)
            before, near = near, np.abs(self._plan @ normal - rho) < _FIT_M
            if not near.any():  # strays far apart, between which a wall's direction leads past all of them
                return None
            if np.array_equal(before, near):  # and so would be all that follows
                break
        if len(_columns(self._plan[near & self._free], normal)) * COLUMN_M < self._least(normal):
            return None
        off = self._plan[near] @ normal - rho
        spread = float(np.sqrt(np.average(off**2, weights=self._weight[near])))
        columns = _without_gaps(_columns(self._plan[near], normal), self._gap)
        return WallLine(normal, rho, spread, columns, voxels=np.column_stack([self._plan[near], self._weight[near]]))

    def _total_least_squares(
        self, rows: NDArray[np.bool_], direction: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], float]:
        middle, normal, variance = _through(self._plan[rows], self._weight[rows], direction)
        if self._is_sparse:
            normal = next(
                (found for line in self.lines if (found := _squared(line.normal, normal)) is not None), normal
            )
        elif variance < _LONG_VARIANCE:
            # A short piece says little about its own direction: a long wall that is nearly parallel knows better.
            normal = next((line.normal for line in self.lines if abs(line.normal @ normal) > _PARALLEL), normal)
        return normal, float(normal @ middle)

    def _is_known(self, line: WallLine) -> bool:
        """Whether a line found before runs along this one, closer than two walls can."""
        ends = [line.rho * line.normal + line.columns[n] * COLUMN_M * line.along for n in (0, -1)]
        return any(all(abs(other.normal @ end - other.rho) < _SAME_M for end in ends) for other in self.lines)


def refitted(line: WallLine, spans: Sequence[tuple[float, float]]) -> WallLine:
    """Fitted to the voxels of these parts of it only: what else lies near the line would turn it.

    Args:
        line: of walls that were found to be there.
        spans: from where to where along the line.
    """
    normal, rho = line.normal, line.rho
    within = _within(line.voxels[:, :2] @ line.along, spans, _CORNER_M)
    plan, weight = line.voxels[within, :2], line.voxels[within, 2]
    for _ in range(3):
        near = np.abs(plan @ normal - rho) < _FIT_M
        if len(_columns(plan[near], normal)) * COLUMN_M < _MIN_SUPPORT_M:
            return line
        middle, free, variance = _through(plan[near], weight[near], normal)
        normal = normal if variance < _LONG_VARIANCE else free
        rho = float(normal @ middle)
    off = plan[near] @ normal - rho
    spread = float(np.sqrt(np.average(off**2, weights=weight[near])))
    columns = line.columns[_within((line.columns + 0.5) * COLUMN_M, spans)]
    return replace(line, normal=normal, rho=rho, spread=spread, columns=columns).counted_as(line, middle)


def _within(along: NDArray[np.floating], spans: Sequence[tuple[float, float]], inset: float = 0.0) -> NDArray[np.bool_]:
    within: NDArray[np.bool_] = np.any([(along > low + inset) & (along < high - inset) for low, high in spans], axis=0)
    return within


def _through(
    plan: NDArray[np.float64], weight: NDArray[np.float64], direction: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The line through places (n, 2) by total least squares: their middle, its normal towards `direction`, variance along it."""
    middle = np.average(plan, axis=0, weights=weight)
    centred = plan - middle
    values, vectors = np.linalg.eigh((centred * weight[:, None]).T @ centred / weight.sum())
    normal = vectors[:, 0] * (1.0 if vectors[:, 0] @ direction > 0 else -1.0)
    return middle, normal, float(values[1])


def _columns(plan: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.unique(np.floor(plan @ np.array([-normal[1], normal[0]]) / COLUMN_M).astype(np.int64))


def _without_gaps(columns: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Sorted columns, and those of every gap of at most so many."""
    missing = np.diff(columns) - 1
    filled = [np.arange(columns[n] + 1, columns[n + 1]) for n in np.flatnonzero((missing > 0) & (missing <= longest))]
    return np.sort(np.concatenate([columns, *filled]))


def _squared(known: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The direction parallel or perpendicular to a known one, if `normal` is nearly that."""
    for exact in (known, np.array([-known[1], known[0]])):
        along = float(exact @ normal)
        if abs(along) > _PARALLEL:
            return exact if along > 0 else -exact
    return None
