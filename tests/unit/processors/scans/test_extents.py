"""Length and width are those of the smallest rectangle; where two are equally small and unlike, nobody is told one of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from ops.simulator.rooms.shapes import Shape, make_room
from processors.scans.extents import PlanErrors, Quantity
from processors.scans.extents import sides as sides_of
from processors.scans.plan import Edge, Plan
from processors.scans.refine import refined
from processors.scans.squares import squared
from processors.scans.walls import COLUMN_M, WallLine

# The smallest rectangle around it is 0.08 % smaller than one that is 23 cm shorter.
PENTAGON = make_room(Shape.PENTAGON, 0).corners
BOX = np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 4.0], [0.0, 4.0]])


def line(first: np.ndarray, last: np.ndarray, wander: float, turned_deg: float = 0.0) -> WallLine:
    """A wall seen from end to end, its direction off by so much about its middle."""
    angle = math.atan2(*(last - first)[::-1]) + math.radians(turned_deg)
    along = np.array([math.cos(angle), math.sin(angle)])
    normal = np.array([along[1], -along[0]])
    middle, half = (first + last) / 2, float(np.linalg.norm(last - first)) / 2
    at = float(np.array([-normal[1], normal[0]]) @ middle)
    columns = np.arange(math.floor((at - half) / COLUMN_M), math.floor((at + half) / COLUMN_M))
    return WallLine(normal, float(normal @ middle), 0.0, columns, wander)


def plan(corners: np.ndarray, sigma: float) -> Plan:
    ends = np.roll(corners, -1, axis=0)
    # Of how far a wall wanders a quarter is its standard deviation.
    return Plan(tuple(Edge(a, b, line(a, b, sigma / 0.25), 1.0) for a, b in zip(corners, ends, strict=True)))


def sides(of: Plan) -> tuple[Quantity, Quantity]:
    return sides_of(PlanErrors(of.edges))


def test_a_box_has_its_sides_and_each_is_as_sure_as_the_two_walls_that_bound_it() -> None:
    box = plan(BOX, 0.002)
    long, short = box.edges[1].line, box.edges[0].line
    length, width = sides(box)
    assert [length.value, width.value] == pytest.approx([5.0, 4.0])
    assert length.sigma == pytest.approx(math.sqrt(2) * long.sigma)
    surer = dataclasses.replace(box.edges[0], line=dataclasses.replace(short, wander=0.0))
    assert sides(Plan((surer, *box.edges[1:])))[0].sigma == pytest.approx(length.sigma)
    assert (sides(Plan((surer, *box.edges[1:])))[1].sigma or 1.0) < (width.sigma or 0.0)
    assert PlanErrors(box.edges).wall(0) == pytest.approx(length.sigma)


def test_two_rectangles_that_nobody_can_tell_apart_give_neither() -> None:
    length, width = sides(plan(PENTAGON, 0.02))
    assert length.value is None
    assert length.sigma is None
    assert width.value is None


def test_walls_that_are_sure_enough_tell_which_is_the_smaller() -> None:
    length, width = sides(plan(PENTAGON, 0.002))
    areas = []
    for first, last in zip(PENTAGON, np.roll(PENTAGON, -1, axis=0), strict=True):
        along = (last - first) / np.linalg.norm(last - first)
        across = np.array([-along[1], along[0]])
        areas.append(float(np.ptp(PENTAGON @ along) * np.ptp(PENTAGON @ across)))
    assert (length.value or 0.0) * (width.value or 0.0) == pytest.approx(min(areas))


def test_every_number_is_as_unsure_as_the_errors_of_walls_make_it() -> None:
    seen = plan(PENTAGON, 0.001)
    edges = [
        dataclasses.replace(edge, line=dataclasses.replace(edge.line, turn_sigma=1e-4 * number, spread=0.01 * number))
        for number, edge in enumerate(seen.edges, 1)
    ]
    moved = np.array([numbers(edges)] + [numbers(moved_by(edges, n, what)) for n in range(5) for what in range(2)])
    # Noise shifts all walls alike: by 0.9 m for a square metre of spread, 0.09 mm to 2.3 mm.
    out = [moved_by([edge], 0, 0, 0.9 * edge.line.spread**2 / edge.line.sigma)[0] for edge in edges]
    moved = np.vstack([moved, numbers(out)])
    perimeter, area, *walls = np.linalg.norm(moved[1:] - moved[0], axis=0)
    errors = PlanErrors(edges)
    assert errors.perimeter() == pytest.approx(perimeter, rel=0.01)
    assert errors.area() == pytest.approx(area, rel=0.01)
    assert [errors.wall(number) for number in range(5)] == pytest.approx(walls, rel=0.01)


def moved_by(edges: list[Edge], number: int, what: int, share: float = 1.0) -> list[Edge]:
    """With one wall moved (0) or turned about its middle (1) by its standard deviation."""
    wall = edges[number].line
    angle = math.atan2(wall.normal[1], wall.normal[0]) + what * wall.turn_sigma
    normal = np.array([math.cos(angle), math.sin(angle)])
    rho = float(normal @ wall.middle) + (1 - what) * share * wall.sigma
    line_there = dataclasses.replace(wall, normal=normal, rho=rho)
    return [*edges[:number], dataclasses.replace(edges[number], line=line_there), *edges[number + 1 :]]


def numbers(edges: list[Edge]) -> list[float]:
    """Perimeter, area and the walls' lengths of what lies between lines."""
    corners = corners_of([edge.line for edge in edges])
    ends = np.roll(corners, -1, axis=0)
    walls = np.linalg.norm(ends - corners, axis=1)
    area = float(np.sum(corners[:, 0] * ends[:, 1] - ends[:, 0] * corners[:, 1])) / 2
    return [float(walls.sum()), area, *walls]


def corners_of(lines: list[WallLine]) -> np.ndarray:
    pairs = zip([lines[-1], *lines[:-1]], lines, strict=True)
    return np.array([np.linalg.solve([a.normal, b.normal], [a.rho, b.rho]) for a, b in pairs])


def test_walls_that_drift_off_square_are_squared_and_the_room_is_no_longer_than_it_is() -> None:
    ends = np.roll(BOX, -1, axis=0)
    seen = [line(a, b, 0.02, turn) for a, b, turn in zip(BOX, ends, (0.2, -0.2, -0.2, 0.2), strict=True)]
    found = squared(seen)
    for number, one in enumerate(found):
        assert abs(one.along @ found[0].along) == pytest.approx(1.0 if number % 2 == 0 else 0.0, abs=1e-9)
        middle = (BOX[number] + ends[number]) / 2
        assert one.normal @ middle == pytest.approx(one.rho, abs=0.02)
        assert one.support(BOX[number], ends[number]) > 0.95


def test_a_wall_that_is_surely_askew_stays_askew() -> None:
    ends = np.roll(BOX, -1, axis=0)
    seen = [line(a, b, 0.005, turn) for a, b, turn in zip(BOX, ends, (0.0, 2.0, 0.0, 0.0), strict=True)]
    found = squared(seen)
    assert math.degrees(math.asin(abs(float(found[1].along @ found[0].along)))) == pytest.approx(2.0, abs=0.01)


def test_a_line_that_something_beyond_its_wall_turned_lies_on_the_wall_again() -> None:
    # Five metres of wall on y = 4, and 1.5 m of something beyond its end that stands 5 cm farther back.
    x, back = np.arange(0.02, 5.0, 0.04), np.arange(5.02, 6.5, 0.04)
    voxels = np.vstack([
        np.column_stack([x, np.full(len(x), 4.0), np.ones(len(x))]),
        np.column_stack([back, np.full(len(back), 4.05), np.ones(len(back))]),
    ])  # fmt: skip
    turned = math.radians(0.5)
    normal = np.array([-math.sin(turned), math.cos(turned)])
    middle = np.array([3.25, 4.011])
    along = np.array([-normal[1], normal[0]])
    columns = np.unique(np.floor(voxels[:, :2] @ along / COLUMN_M).astype(np.int64))
    seen = WallLine(normal, float(normal @ middle), 0.02, columns, voxels=voxels)
    others = [line(a, b, 0.0) for a, b in ((BOX[0], BOX[1]), (BOX[1], BOX[2]), (BOX[3], BOX[0]))]
    lines = [others[0], others[1], seen, others[2]]
    corners = corners_of(lines)
    ends = np.roll(corners, -1, axis=0)
    drawn = Plan(tuple(Edge(a, b, one, 1.0) for a, b, one in zip(corners, ends, lines, strict=True)))
    assert np.abs(drawn.corners - BOX).max() > 0.02
    again = refined(drawn, list)
    assert again.corners == pytest.approx(BOX, abs=1e-6)
    assert again.edges[2].support == 1.0
