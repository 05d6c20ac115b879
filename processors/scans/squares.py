"""Walls that stand parallel or square to each other as far as anybody can tell from the scan are taken to do so.

Where poses drift, each wall's direction is off by its own tenth of a degree, and the rectangle around a room that is not quite
square is longer than the room. Walls whose directions differ by more than their errors explain keep them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from processors.scans.walls import COLUMN_M, WallLine

# Standard deviations of the difference of two directions.
_EXPLAINED: Final = 2.5
_QUARTER: Final = math.pi / 2
# A direction is known from places all along a line, whose root mean square distance from its middle is length / sqrt(12).
_LEVER: Final = math.sqrt(12)
# Drift turns all that is seen from one place alike, so that directions wander more than places do.
_WANDER_SHARE: Final = 0.3


@dataclass(slots=True)
class _Family:
    """Directions, a quarter turn apart, of which one is as good as the other."""

    angle: float
    weight: float

    def apart(self, angle: float) -> float:
        """How far an angle is from the nearest of them, signed."""
        return (angle - self.angle + _QUARTER / 2) % _QUARTER - _QUARTER / 2

    @property
    def variance(self) -> float:
        return 1 / self.weight

    def take(self, angle: float, variance: float) -> None:
        self.angle += self.apart(angle) / variance / (self.weight + 1 / variance)
        self.weight += 1 / variance


def squared(lines: Sequence[WallLine]) -> list[WallLine]:
    """The same lines in their order, turned about their middles to the mean of the directions that they may share."""
    families: list[_Family] = []
    family_of: dict[int, _Family] = {}
    for number in sorted(range(len(lines)), key=lambda n: _variance(lines[n])):
        angle, variance = _angle(lines[number]), _variance(lines[number])
        fitting = [one for one in families if one.apart(angle) ** 2 < _EXPLAINED**2 * (variance + one.variance)]
        if fitting:
            family = min(fitting, key=lambda one: abs(one.apart(angle)))
            family.take(angle, variance)
        else:
            families.append(family := _Family(angle, 1 / variance))
        family_of[number] = family
    return [_turned(line, family_of[number]) for number, line in enumerate(lines)]


def _angle(line: WallLine) -> float:
    return math.atan2(line.normal[1], line.normal[0])


def _variance(line: WallLine) -> float:
    length = max(len(line.columns), 2) * COLUMN_M
    return (_LEVER / length) ** 2 * (line.sigma**2 + (_WANDER_SHARE * line.wander) ** 2)


def _turned(line: WallLine, family: _Family) -> WallLine:
    """About the middle of what was seen of it."""
    angle, middle = _angle(line) - family.apart(_angle(line)), line.middle
    normal = np.array([math.cos(angle), math.sin(angle)])
    turned = replace(line, normal=normal, rho=float(normal @ middle), turn_sigma=math.sqrt(family.variance))
    return turned.counted_as(line, middle)
