"""Length and width are those of the smallest rectangle; where two are equally small and unlike, nobody is told one of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from ops.simulator.rooms.shapes import Shape, make_room
from processors.scans.extents import sides, wall_sigma
from processors.scans.plan import Edge, Plan
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
    # A fifth of how far a wall wanders is its standard deviation, near enough.
    return Plan(tuple(Edge(a, b, line(a, b, 5 * sigma), 1.0) for a, b in zip(corners, ends, strict=True)))


def test_a_box_has_its_sides_and_each_is_as_sure_as_the_two_walls_that_bound_it() -> None:
    box = plan(BOX, 0.002)
    long, short = box.edges[1].line, box.edges[0].line
    length, width = sides(box)
    assert [length.value, width.value] == pytest.approx([5.0, 4.0])
    assert length.sigma == pytest.approx(math.sqrt(2) * long.sigma)
    surer = dataclasses.replace(box.edges[0], line=dataclasses.replace(short, wander=0.0))
    assert sides(Plan((surer, *box.edges[1:])))[0].sigma == pytest.approx(length.sigma)
    assert (sides(Plan((surer, *box.edges[1:])))[1].sigma or 1.0) < (width.sigma or 0.0)
    assert wall_sigma(box.edges, 0) == pytest.approx(length.sigma)


def test_two_rectangles_that_nobody_can_tell_apart_give_neither() -> None:
    length, width = sides(plan(PENTAGON, 0.003))
    assert length.value is None
    assert length.sigma is None
    assert width.value is None


def test_walls_that_are_sure_enough_tell_which_is_the_smaller() -> None:
    length, width = sides(plan(PENTAGON, 0.0001))
    areas = []
    for first, last in zip(PENTAGON, np.roll(PENTAGON, -1, axis=0), strict=True):
        along = (last - first) / np.linalg.norm(last - first)
        across = np.array([-along[1], along[0]])
        areas.append(float(np.ptp(PENTAGON @ along) * np.ptp(PENTAGON @ across)))
    assert (length.value or 0.0) * (width.value or 0.0) == pytest.approx(min(areas))


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
