"""How long, wide and large a plan is, and how sure that is.

Walls err, and corners with them: every error that a wall may have moves corners, and every number of the plan is a function of
corners. What two walls share (a direction, a bias of the sensor) moves both, so that sums and differences are no surer than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.plan import Edge

# The least sine of the angle in which two walls are taken to cross.
_BLUNT: Final = 0.2
# Standard deviations by which another rectangle must be larger before it is out of the question.
_RULED_OUT: Final = 2.5
# Two rectangles whose sides differ by less are as good as one.
_SAME_M: Final = 0.05
# What is left of a shift of all walls by the noise of depth, however often they were seen: metres for a square metre of spread.
_BIAS: Final = 0.9
_SAME_TURN: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured number and its standard deviation; None without enough evidence. Metres, m² or m³."""

    value: float | None = None
    sigma: float | None = None


class PlanErrors:
    """What the errors of walls make of a plan's numbers.

    Args:
        edges: of the plan, counter-clockwise.
    """

    def __init__(self, edges: Sequence[Edge]) -> None:
        self.edges = edges
        self.corners = np.array([edge.first for edge in edges])
        # How far each corner moves by one standard deviation of each error; shape (corners, 2, errors).
        self.shifts = _shifts(edges)

    def area(self) -> float:
        """Standard deviation of the area."""
        ahead, behind = np.roll(self.corners, -1, axis=0), np.roll(self.corners, 1, axis=0)
        across = (ahead - behind) / 2
        return self._sigma(np.column_stack([across[:, 1], -across[:, 0]]))

    def perimeter(self) -> float:
        """Of the sum of all walls' lengths."""
        along = np.array([_along(edge) for edge in self.edges])
        return self._sigma(np.roll(along, 1, axis=0) - along)

    def wall(self, number: int) -> float:
        """Of a wall's length: it ends on the lines of its neighbours."""
        last = (number + 1) % len(self.edges)
        return float(np.linalg.norm(_along(self.edges[number]) @ (self.shifts[last] - self.shifts[number])))

    def extent(self, number: int, *, is_across: bool) -> tuple[float, NDArray[np.float64]]:
        """How far the plan reaches along a wall or across it, and what each error makes of it."""
        along = _along(self.edges[number])
        across = np.array([-along[1], along[0]])
        way, turned = (across, -along) if is_across else (along, across)
        at = self.corners @ way
        low, high = int(at.argmin()), int(at.argmax())
        last = (number + 1) % len(self.edges)
        turn = across @ (self.shifts[last] - self.shifts[number]) / self.edges[number].length
        moved = way @ (self.shifts[high] - self.shifts[low])
        return float(np.ptp(at)), moved + float(turned @ (self.corners[high] - self.corners[low])) * turn

    def _sigma(self, by_corner: NDArray[np.float64]) -> float:
        return float(np.linalg.norm(np.einsum("ka,kae->e", by_corner, self.shifts)))


def _along(edge: Edge) -> NDArray[np.float64]:
    along: NDArray[np.float64] = (edge.last - edge.first) / edge.length
    return along


def _shifts(edges: Sequence[Edge]) -> NDArray[np.float64]:
    """A corner lies where two walls cross, so it moves as they do."""
    errors = _WallErrors(edges)
    found = []
    for number, after in enumerate(edges):
        before = edges[number - 1]
        (a, b), (c, d) = before.line.normal, after.line.normal
        sine = float(a * d - b * c)
        sine = math.copysign(max(abs(sine), _BLUNT), sine)
        moved = np.stack([errors.at(before, after.first), errors.at(after, after.first)])
        found.append(np.array([[d, -b], [-c, a]]) / sine @ moved)
    return np.array(found)


class _WallErrors:
    """The errors that walls may have: each line's own of place, one of direction for those that share it, one of all."""

    def __init__(self, edges: Sequence[Edge]) -> None:
        lines = list({id(edge.line): edge.line for edge in edges}.values())
        angles = [math.atan2(line.normal[1], line.normal[0]) % (math.pi / 2) for line in lines]
        turns = [
            next(n for n, other in enumerate(angles) if abs(math.sin(2 * (angle - other))) < _SAME_TURN)
            for angle in angles
        ]
        self._place = {id(line): number for number, line in enumerate(lines)}
        self._turn = {id(line): len(lines) + turn for line, turn in zip(lines, turns, strict=True)}
        self._count = 2 * len(lines) + 1

    def at(self, edge: Edge, place: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far each moves a wall along its line's normal, where it passes a place."""
        line, way = edge.line, _along(edge)
        found = np.zeros(self._count)
        found[self._place[id(line)]] = line.sigma
        found[self._turn[id(line)]] = -line.turn_sigma * float((place - line.middle) @ line.along)
        found[-1] = math.copysign(_BIAS * line.spread**2, float(line.normal @ [way[1], -way[0]]))
        return found


@dataclass(frozen=True, slots=True)
class _Rectangle:
    """Around a plan, along one of its walls: sides, the longer first, and what each error makes of them."""

    sides: tuple[float, float]
    errors: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def area(self) -> float:
        return self.sides[0] * self.sides[1]

    def is_as_small_as(self, other: _Rectangle) -> bool:
        """Whether its area is not surely larger."""
        apart = self._area_errors() - other._area_errors()
        return self.area - other.area < _RULED_OUT * float(np.linalg.norm(apart))

    def is_like(self, other: _Rectangle) -> bool:
        """Whether it has the same sides, near enough."""
        return max(abs(a - b) for a, b in zip(self.sides, other.sides, strict=True)) < _SAME_M

    def _area_errors(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = self.sides[0] * self.errors[1] + self.sides[1] * self.errors[0]
        return found


def sides(errors: PlanErrors) -> tuple[Quantity, Quantity]:
    """Sides of the smallest rectangle, each as sure as the walls that bound it.

    Which of two rectangles is the smallest may hang on a millimetre. If they are alike, a side is no surer than they agree;
    if not, nobody can tell which of them it is: neither has a value then.
    """
    found = sorted((_rectangle(errors, number) for number in range(len(errors.edges))), key=lambda one: one.area)
    smallest = found[0]
    rivals = [one for one in found[1:] if one.is_as_small_as(smallest)]
    if not all(one.is_like(smallest) for one in rivals):
        return Quantity(), Quantity()
    return _side(smallest, rivals, 0), _side(smallest, rivals, 1)


def _rectangle(errors: PlanErrors, number: int) -> _Rectangle:
    extents = [errors.extent(number, is_across=is_across) for is_across in (False, True)]
    (long, of_long), (short, of_short) = sorted(extents, key=lambda one: -one[0])
    return _Rectangle((long, short), (of_long, of_short))


def _side(smallest: _Rectangle, rivals: Sequence[_Rectangle], which: int) -> Quantity:
    value, own = smallest.sides[which], float(np.linalg.norm(smallest.errors[which]))
    return Quantity(value, max([own, *(abs(value - rival.sides[which]) for rival in rivals)]))
