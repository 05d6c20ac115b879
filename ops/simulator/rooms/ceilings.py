"""Ceilings that are not level, as numbers: one slope, two that meet in a ridge, two levels with a riser between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray

_FAR_M: Final = 100.0
_NEAREST: Final = 1e-6
_HIGHEST_M: Final = 4.2

Scalars: TypeAlias = "NDArray[np.float64] | float"


class CeilingKind(StrEnum):
    """Ceilings that the generator knows; any of them goes with any floor plan."""

    LEVEL = "level"
    PITCHED = "pitched"
    GABLE = "gable"
    STEPPED = "stepped"


class Plane(NamedTuple):
    """z = a · x + b · y + c."""

    a: float
    b: float
    c: float

    def at(self, x: Scalars, y: Scalars) -> Scalars:
        """Height over a place."""
        return self.a * x + self.b * y + self.c


class Line(NamedTuple):
    """x · p_x + y · p_y = rho; x and y of unit length."""

    x: float
    y: float
    rho: float


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Over a place of the plan the lowest of `planes`; with a `step` the first plane beyond that line, the second before it."""

    planes: tuple[Plane, ...]
    step: Line | None = None

    def height_at(self, x: Scalars, y: Scalars) -> NDArray[np.float64]:
        """Height over places."""
        heights = [np.asarray(plane.at(x, y), dtype=np.float64) for plane in self.planes]
        if self.step is None:
            lowest: NDArray[np.float64] = np.min(np.broadcast_arrays(*heights), axis=0)
            return lowest
        return np.where(self.step.x * x + self.step.y * y > self.step.rho, heights[0], heights[1])

    def parts(self, corners: NDArray[np.float64]) -> list[tuple[shapely.Geometry, Plane]]:
        """The floor plan, cut where one plane ends, and the plane over each part."""
        plan = shapely.Polygon(corners)
        if len(self.planes) == 1:
            return [(plan, self.planes[0])]
        first, last = self.planes
        if self.step is not None:
            cut = self.step
        else:  # the first plane is over the side on which it is the lower one
            along = math.hypot(last.a - first.a, last.b - first.b)
            cut = Line((last.a - first.a) / along, (last.b - first.b) / along, (first.c - last.c) / along)
        return [(plan.intersection(_beyond(cut)), first), (plan.difference(_beyond(cut)), last)]

    def volume(self, corners: NDArray[np.float64]) -> float:
        """Under it, exactly: a plane's mean over any shape is its height over the shape's middle."""
        return math.fsum(
            part.area * float(plane.at(part.centroid.x, part.centroid.y)) for part, plane in self.parts(corners)
        )

    def extremes(self, corners: NDArray[np.float64]) -> tuple[float, float]:
        """Lowest and highest point."""
        heights = [
            np.asarray(plane.at(*shapely.get_coordinates(part).T)) for part, plane in self.parts(corners) if part.area
        ]
        return float(min(each.min() for each in heights)), float(max(each.max() for each in heights))

    def distances(self, origin: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
        """Along rays (n, 3) from an origin (3) or origins (n, 3) below, to where they meet it; inf where they do not."""
        x, y, z = np.moveaxis(origin, -1, 0)
        nearest = np.full(len(rays), np.inf)
        for number, plane in enumerate(self.planes):
            way = rays[:, 2] - plane.a * rays[:, 0] - plane.b * rays[:, 1]
            distance = (plane.at(x, y) - z) / way
            if self.step is not None:
                beyond = self._beyond_step(x + distance * rays[:, 0], y + distance * rays[:, 1])
                distance = np.where(beyond == (number == 0), distance, np.inf)
            nearest = np.fmin(nearest, np.where(distance > _NEAREST, distance, np.inf))
        return nearest if self.step is None else np.fmin(nearest, self._riser(self.step, origin, rays))

    def _beyond_step(self, x: Scalars, y: Scalars) -> NDArray[np.bool_]:
        step = self.step or Line(0.0, 0.0, 0.0)
        return np.asarray(step.x * x + step.y * y > step.rho)

    def _riser(self, step: Line, origin: NDArray[np.float64], rays: NDArray[np.float64]) -> NDArray[np.float64]:
        x, y, z = np.moveaxis(origin, -1, 0)
        distance = (step.rho - step.x * x - step.y * y) / (rays[:, :2] @ np.array(step[:2]))
        at = x + distance * rays[:, 0], y + distance * rays[:, 1], z + distance * rays[:, 2]
        one, other = (plane.at(at[0], at[1]) for plane in self.planes)
        meets = (distance > _NEAREST) & (at[2] > np.minimum(one, other)) & (at[2] < np.maximum(one, other))
        return np.where(meets, distance, np.inf)


def _beyond(line: Line) -> shapely.Polygon:
    """The side of a line to which its normal points."""
    normal = np.array(line[:2])
    along = np.array([-line.y, line.x]) * _FAR_M
    foot = normal * line.rho
    return shapely.Polygon([foot - along, foot + along, foot + along + normal * _FAR_M, foot - along + normal * _FAR_M])


def make_ceiling(kind: CeilingKind, corners: NDArray[np.float64], yaw: float, seed: int) -> Ceiling | None:
    """A plausible one over that floor plan, along or across its axes; None if level.

    At least 2.3 m high everywhere and at most 4.2 m; slopes of 5 to 30 degrees, steps of 0.15 to 0.5 m.
    """
    if kind is CeilingKind.LEVEL:
        return None
    random = np.random.default_rng([seed, 5])
    turn = yaw + float(random.integers(4)) * math.pi / 2
    way = np.array([math.cos(turn), math.sin(turn)])
    places = corners @ way
    low, high = float(places.min()), float(places.max())
    lowest = float(random.uniform(2.3, 2.6))
    middle = low + (high - low) * float(random.uniform(0.4, 0.6))
    if kind is CeilingKind.STEPPED:
        step = float(random.uniform(0.15, 0.5))
        return Ceiling(
            (Plane(0.0, 0.0, lowest + step), Plane(0.0, 0.0, lowest)), Line(float(way[0]), float(way[1]), middle)
        )
    run = high - low if kind is CeilingKind.PITCHED else max(high - middle, middle - low)
    slope = min(math.tan(math.radians(float(random.uniform(5, 30)))), (_HIGHEST_M - lowest) / run)
    if kind is CeilingKind.PITCHED:
        return Ceiling((_rising(way * slope, low, lowest, slope),))
    ridge = lowest + slope * run
    up, down = (_rising(way * slope * side, middle, ridge, slope * side) for side in (1.0, -1.0))
    return Ceiling((up, down))


def _rising(gradient: NDArray[np.float64], start: float, height: float, slope: float) -> Plane:
    """So high at the start, and so much higher a metre on."""
    return Plane(float(gradient[0]), float(gradient[1]), height - slope * start)
