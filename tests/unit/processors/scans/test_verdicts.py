"""When a room is good, an estimate or incomplete, what is missing then, and how unsure its numbers are: figure by figure."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from processors.scans import measure
from processors.scans.agreement import wander
from processors.scans.levelled import DEPTH_CAMERA, SCANNER, Levelled, Sensor
from processors.scans.levels import Level, find_levels
from processors.scans.objects import ObjectBox
from processors.scans.openings import Opening, OpeningKind
from processors.scans.plan import Edge, Plan
from processors.scans.report import document
from processors.scans.result import Verdict, rounded, rounded_sigma
from processors.scans.walls import WallLine

BOX = np.array([[0.0, 0.0], [5.0, 0.0], [5.0, 4.0], [0.0, 4.0]])
SEEN = measure._Overhead(2.5, 0.003, 2.5)
UNSEEN = dataclasses.replace(SEEN, is_seen=False)


def edge(first: np.ndarray, last: np.ndarray, support: float) -> Edge:
    along = (last - first) / np.linalg.norm(last - first)
    normal = np.array([along[1], -along[0]])
    return Edge(first, last, WallLine(normal, float(normal @ first), 0.0, np.arange(80), wander=0.008), support)


def plan(weakest: float = 1.0, corners: np.ndarray = BOX) -> Plan:
    """A box of 5 x 4 m; so much of wall 1 was seen, and all of the others."""
    supports = (1.0, weakest, 1.0, 1.0)
    return Plan(tuple(edge(corners[n], corners[(n + 1) % 4], support) for n, support in enumerate(supports)))


@pytest.mark.parametrize(
    ("found", "overhead", "sensor", "verdict", "missing"),
    [
        (plan(0.8), SEEN, DEPTH_CAMERA, Verdict.GOOD, ()),
        (plan(0.79), SEEN, DEPTH_CAMERA, Verdict.ESTIMATE, ()),
        (plan(0.5), SEEN, DEPTH_CAMERA, Verdict.ESTIMATE, ()),
        (plan(0.49), SEEN, DEPTH_CAMERA, Verdict.INCOMPLETE, ("wall 1",)),
        (plan(0.6), SEEN, SCANNER, Verdict.ESTIMATE, ()),
        (plan(0.59), SEEN, SCANNER, Verdict.INCOMPLETE, ("wall 1",)),
        (plan(), UNSEEN, DEPTH_CAMERA, Verdict.ESTIMATE, ("ceiling",)),
        (plan(), dataclasses.replace(UNSEEN, sigma=None), DEPTH_CAMERA, Verdict.INCOMPLETE, ("ceiling",)),
        (plan(), dataclasses.replace(SEEN, top=1.7), DEPTH_CAMERA, Verdict.INCOMPLETE, ("walls",)),
        (None, SEEN, DEPTH_CAMERA, Verdict.INCOMPLETE, ("walls",)),
    ],
    ids=lambda value: value.name.lower() if isinstance(value, Verdict) else "",
)
def test_the_weakest_wall_and_the_ceiling_decide(
    found: Plan | None, overhead: measure._Overhead, sensor: Sensor, verdict: Verdict, missing: tuple[str, ...]
) -> None:
    report = measure._report(found, 0.0, overhead, sensor)

    assert (report.verdict, report.missing_parts) == (verdict, missing)
    assert (report.area.value is None) == bool(set(missing) & {"walls", "wall 1"})
    assert (report.volume.value is None) == (report.area.value is None or overhead.sigma is None)


def test_without_one_height_there_is_no_volume_and_it_is_said() -> None:
    report = measure._without_height(measure._report(plan(), 0.0, SEEN, DEPTH_CAMERA))

    assert (report.verdict, report.missing_parts) == (Verdict.INCOMPLETE, ("level ceiling",))
    assert (report.height.value, report.volume.value) == (None, None)
    assert report.area.value == pytest.approx(20.0)


def test_a_volume_is_as_unsure_as_its_area_and_its_height() -> None:
    report = measure._report(plan(), 0.0, SEEN, DEPTH_CAMERA)

    assert report.height.sigma == 0.003
    assert report.volume.value == pytest.approx(50.0)
    # 2.5 m of the area's error and 20 m² of the height's.
    assert report.volume.sigma == pytest.approx(math.hypot(2.5 * (report.area.sigma or 0.0), 20 * 0.003))


@pytest.mark.parametrize(("voxels", "off", "goes_on"), [(62, 0.2, False), (63, 0.2, True), (500, 0.11, False)])
def test_a_ceiling_outside_of_the_walls_says_that_a_part_is_missing(voxels: int, off: float, goes_on: bool) -> None:
    # A voxel covers 16 cm², and a tenth of a square metre is enough.
    outside = np.tile([5.0 + off, 2.0, 2.5], (voxels, 1))

    assert measure._goes_on(plan(), outside) is goes_on


def test_a_wall_is_as_unsure_as_its_fit_and_its_wandering() -> None:
    line = WallLine(np.array([1.0, 0.0]), 2.0, 0.01, np.arange(100))

    assert line.sigma == pytest.approx(0.19 * 0.01 / 10)  # 100 columns are 100 looks
    assert dataclasses.replace(line, spread=0.0, wander=0.02).sigma == pytest.approx(0.25 * 0.02)


def test_a_level_is_as_unsure_as_its_voxels_are_apart() -> None:
    z = np.concatenate([np.tile([-0.01, 0.01], 200), np.full(400, 2.5)])
    floor, ceiling = find_levels(z, np.ones(800), np.ones(800))

    assert floor is not None
    assert ceiling is not None
    assert [floor.z, ceiling.z] == pytest.approx([0.0, 2.5], abs=1e-9)
    # Twenty voxels are one look; the grid adds half a millimetre.
    assert floor.sigma == pytest.approx(math.hypot(0.01 / math.sqrt(20), 0.0005))
    assert ceiling.sigma == pytest.approx(0.0005)


def test_a_floor_that_wanders_between_frames_is_the_less_sure() -> None:
    up = np.array([0.0, 0.0, 1.0])
    frames = [np.column_stack([np.zeros((60, 2)), np.full(60, z)]) for z in np.linspace(-0.02, 0.02, 41)]
    none, floor = np.empty((0, 3)), Level(0.0, 0.001, 99)
    seen = Levelled(np.eye(3), none, none, np.empty(0), floor, None, 2.5, DEPTH_CAMERA)
    scan = measure._Scan(seen, np.eye(3), none, frames)

    assert wander(frames, up, 0.0) > 0.01
    assert scan.floor.sigma == pytest.approx(math.hypot(0.001, 0.2 * wander(frames, up, 0.0)))


def test_rounding_adds_its_own_error_and_leaves_no_negative_zero() -> None:
    # Evenly within a millimetre: 1 / sqrt(12) = 0.29 mm.
    assert [rounded_sigma(sigma) for sigma in (0.0, 0.0004, 0.01, None)] == [0.0003, 0.0005, 0.01, None]
    assert [str(rounded(number)) for number in (-0.0004, 1.2346, None)] == ["0.0", "1.235", "None"]


def test_the_longest_wall_comes_first_from_the_origin_and_all_else_goes_with_it() -> None:
    # Wall 1 is the longest: from (4, 0) along y.
    room = measure._report(
        plan(corners=np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 5.0], [0.0, 5.0]])), 0.0, SEEN, DEPTH_CAMERA
    )
    door, table = Opening(OpeningKind.DOOR, 2, 1.0, 0.9, 2.0, 0.0), ObjectBox((3.0, 2.0, 0.4), (1.2, 0.6, 0.8), 0.3)
    shown = document(room, rejected={}, openings=[door], objects=[table])

    assert [wall.length for wall in shown.walls] == [5.0, 4.0, 5.0, 4.0]
    assert shown.floor_polygon == ((0.0, 0.0), (5.0, 0.0), (5.0, 4.0), (0.0, 4.0))
    assert [(one.wall, one.offset) for one in shown.openings] == [(1, 1.0)]
    # 2 m along the wall and 1 m from it; a quarter turn less is, of a box, one more.
    (box,) = shown.objects
    assert (box.center, box.size, box.yaw) == ((2.0, 1.0, 0.4), (1.2, 0.6, 0.8), round(0.3 + math.pi / 2, 3))
