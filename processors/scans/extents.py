"""How long, wide and large a plan is, and how sure that is: standard deviations from those of its walls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.plan import Edge, Plan

# What corners share makes sums a little surer than their parts (calibrated with synthetic scans).
_AREA_SHARE: Final = 0.8
_PERIMETER_SHARE: Final = 1.4
# The least sine of the angle in which two walls are taken to cross.
_BLUNT: Final = 0.2
# Standard deviations by which another rectangle must be larger before it is out of the question.
_RULED_OUT: Final = 2.5
# Two rectangles whose sides differ by less are as good as one.
_SAME_M: Final = 0.05


@dataclass(frozen=True, slots=True)
class Quantity:
    """A measured number and its standard deviation; None without enough evidence. Metres, m² or m³."""

    value: float | None = None
    sigma: float | None = None


@dataclass(frozen=True, slots=True)
class _Rectangle:
    """Around a plan, along one of its walls."""

    length: Quantity
    width: Quantity
    area: float
    area_sigma: float

    def is_as_small_as(self, other: _Rectangle) -> bool:
        """Whether its area is not surely larger."""
        return self.area - other.area < _RULED_OUT * math.hypot(self.area_sigma, other.area_sigma)

    def is_like(self, other: _Rectangle) -> bool:
        """Whether it has the same sides, near enough."""
        return max(_apart(self.length, other.length), _apart(self.width, other.width)) < _SAME_M


def sides(plan: Plan) -> tuple[Quantity, Quantity]:
    """Sides of the smallest rectangle, each as sure as the walls that bound it.

    Which of two rectangles is the smallest may hang on a millimetre. If they are alike, a side is no surer than they agree;
    if not, nobody can tell which of them it is: neither has a value then.
    """
    found = sorted((_rectangle(plan, edge) for edge in plan.edges), key=lambda one: one.area)
    smallest = found[0]
    rivals = [one for one in found[1:] if one.is_as_small_as(smallest)]
    if not all(one.is_like(smallest) for one in rivals):
        return Quantity(), Quantity()
    return (
        _widened(smallest.length, [one.length for one in rivals]),
        _widened(smallest.width, [one.width for one in rivals]),
    )


def _rectangle(plan: Plan, edge: Edge) -> _Rectangle:
    along = (edge.last - edge.first) / edge.length
    one, other = (_extent(plan, way) for way in (along, np.array([-along[1], along[0]])))
    (long, long_sigma), (short, short_sigma) = sorted((one, other), reverse=True)
    sigma = math.hypot(long * short_sigma, short * long_sigma)
    return _Rectangle(Quantity(long, long_sigma), Quantity(short, short_sigma), long * short, sigma)


def _apart(one: Quantity, other: Quantity) -> float:
    return abs((one.value or 0.0) - (other.value or 0.0))


def _widened(side: Quantity, rivals: Sequence[Quantity]) -> Quantity:
    return replace(side, sigma=max([side.sigma or 0.0, *(_apart(side, rival) for rival in rivals)]))


def _extent(plan: Plan, direction: NDArray[np.float64]) -> tuple[float, float]:
    """How far a plan reaches along a direction, and the standard deviation: both ends are corners."""
    at = plan.corners @ direction
    ends = (int(at.argmin()), int(at.argmax()))
    sigma = math.hypot(*(_corner_sigma(plan.edges[end - 1], plan.edges[end], direction) for end in ends))
    return float(np.ptp(at)), sigma


def _corner_sigma(before: Edge, after: Edge, direction: NDArray[np.float64]) -> float:
    """Along a direction: a corner is as sure as the two lines that cross in it."""
    (a, b), (c, d) = before.line.normal, after.line.normal
    sine = float(a * d - b * c)
    sine = math.copysign(max(abs(sine), _BLUNT), sine)
    x, y = direction
    one, other = before.line.sigma_at(after.first), after.line.sigma_at(after.first)
    return math.hypot((x * d - y * c) / sine * one, (y * a - x * b) / sine * other)


def wall_sigma(walls: Sequence[Edge], number: int) -> float:
    """Standard deviation of a wall's length: it ends on the lines of its neighbours."""
    before, wall, after = walls[number - 1], walls[number], walls[(number + 1) % len(walls)]
    along = (wall.last - wall.first) / wall.length
    return math.hypot(_corner_sigma(before, wall, along), _corner_sigma(wall, after, along))


def area_sigma(edges: Sequence[Edge]) -> float:
    """A wall that moves by its sigma sweeps its length."""
    return _AREA_SHARE * math.sqrt(sum((edge.length * edge.line.sigma) ** 2 for edge in edges))


def perimeter_sigma(edges: Sequence[Edge]) -> float:
    """Of the sum of all walls' lengths."""
    turned = [edge.line.turn_sigma * edge.length / 4 for edge in edges]
    return _PERIMETER_SHARE * math.hypot(*(edge.line.sigma for edge in edges), *turned)
