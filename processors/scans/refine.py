"""A plan drawn anew from lines that are fitted to its own walls only, once it is known where those begin and end.

A line is found before anybody knows how long its wall is: what else lies near it, behind an open door or beyond a corner, turns
it a little.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import shapely
from numpy.typing import NDArray

from processors.scans.plan import Edge, Plan
from processors.scans.walls import WallLine, refitted

# The least sine of the angle in which two walls cross well enough to tell where.
_BLUNT: Final = 0.2
_MOST_MOVED_M: Final = 0.15
# Points weigh with the square of the depth that noise is part of, so that a wall seems too far: by 1.8 m for a square metre of
# its voxels' variance (24 rooms, 0.5 to 3.3).
_OUTWARDS: Final = 1.8


def refined(plan: Plan, settle: Callable[[Sequence[WallLine]], list[WallLine]]) -> Plan:
    """The plan between the lines fitted again; as it was if they make another plan of it.

    Args:
        plan: as it was drawn.
        settle: judges lines again: how far they wander, which of them are square.
    """
    walls: dict[int, list[Edge]] = defaultdict(list)
    for edge in plan.edges:
        walls[id(edge.line)].append(edge)
    line_of = dict(zip(walls, settle([_fitted(edges) for edges in walls.values()]), strict=True))
    own = [line_of[id(edge.line)] for edge in plan.edges]
    corners = np.array([_corner(own[n - 1], own[n], edge.first) for n, edge in enumerate(plan.edges)])
    moved = np.linalg.norm(corners - plan.corners, axis=1)
    if moved.max() > _MOST_MOVED_M or not shapely.Polygon(corners).is_valid:
        return plan
    ends = np.roll(corners, -1, axis=0)
    return Plan(tuple(Edge(a, b, line, line.support(a, b)) for a, b, line in zip(corners, ends, own, strict=True)))


def _fitted(edges: Sequence[Edge]) -> WallLine:
    """The line of these walls, fitted to them and moved back in by what noise moved it out."""
    line = edges[0].line
    spans = [sorted((float(edge.first @ line.along), float(edge.last @ line.along))) for edge in edges]
    found = refitted(line, [(low, high) for low, high in spans])
    # Plans go counter-clockwise: outside is on the right.
    facing = sum(float(found.along @ (edge.last - edge.first)) for edge in edges)
    outwards = _OUTWARDS * found.spread**2 if found is not line else 0.0
    return replace(found, rho=found.rho - math.copysign(outwards, facing))


def _corner(before: WallLine, after: WallLine, place: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where two lines cross; where they hardly do, what was there lies on the latter."""
    normals = np.array([before.normal, after.normal])
    if abs(float(np.linalg.det(normals))) < _BLUNT:
        return place - (float(after.normal @ place) - after.rho) * after.normal
    found: NDArray[np.float64] = np.linalg.solve(normals, [before.rho, after.rho])
    return found
