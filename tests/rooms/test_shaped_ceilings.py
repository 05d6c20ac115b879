"""A ceiling that slopes or steps is a field of heights: its highest point is the height, what lies under all of it the volume."""

from __future__ import annotations

import csv
import io
import json
import math
from functools import cache

import numpy as np
import pytest
import shapely
import trimesh

from bench.scans import truth_of
from ops.simulator.rooms.ceilings import CeilingKind
from ops.simulator.rooms.shapes import Room, Shape, make_room
from processors.scans.exports import export
from processors.scans.mesh import shell
from processors.scans.plan_report import report_pdf
from processors.scans.poses import rotation
from processors.scans.result import ScanResult, Verdict
from schemas.scan_frames import DepthFrame
from tests.rooms.recordings import SEED, measured, record, turned_world

SHAPED = [CeilingKind.PITCHED, CeilingKind.GABLE, CeilingKind.STEPPED]


@cache
def scan(kind: CeilingKind) -> tuple[Room, list[DepthFrame], ScanResult]:
    room = make_room(Shape.BOX, SEED, ceiling=kind)
    frames = record(room)
    return room, frames, measured(frames, ended=False)


@pytest.mark.parametrize("kind", SHAPED)
def test_height_is_the_highest_and_the_volume_lies_under_all_of_it(kind: CeilingKind) -> None:
    room, _, result = scan(kind)
    truth = truth_of(room)
    assert result.verdict is not Verdict.INCOMPLETE
    for name in ("length", "width", "height"):
        assert getattr(result.room_dimensions, name) == pytest.approx(truth[name], abs=0.01), name
    assert result.room_dimensions.area == pytest.approx(truth["area"], rel=0.005)
    assert result.room_dimensions.volume == pytest.approx(truth["volume"], rel=0.005)
    lowest, highest = room.ceiling.extremes(room.corners)
    assert result.ceiling.lowest == pytest.approx(lowest, abs=0.015)
    assert result.ceiling.highest == pytest.approx(highest, abs=0.01)
    assert result.ceiling.mean == pytest.approx(room.volume / room.area, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "name", "parts"), [(SHAPED[0], "sloped", 1), (SHAPED[1], "sloped", 2), (SHAPED[2], "stepped", 2)]
)
def test_the_parts_of_the_ceiling_cover_the_floor_and_lie_as_they_do(kind: CeilingKind, name: str, parts: int) -> None:
    room, _, result = scan(kind)
    assert result.ceiling.kind == name
    assert len(result.ceiling.parts) == parts
    assert sum(part.area for part in result.ceiling.parts) == pytest.approx(result.room_dimensions.area, abs=0.05)
    slopes = sorted(math.hypot(plane.a, plane.b) for plane in room.ceiling.planes)
    assert sorted(part.slope for part in result.ceiling.parts) == pytest.approx(slopes, abs=0.005)
    for part in result.ceiling.parts:
        assert part.lowest == min(z for _, _, z in part.corners)
        assert part.highest == max(z for _, _, z in part.corners)
        assert shapely.Polygon([(x, y) for x, y, _ in part.corners]).area == pytest.approx(part.area, abs=0.02)


def test_a_tilted_world_does_not_matter_though_floor_and_ceiling_are_not_parallel() -> None:
    _, frames, plain = scan(CeilingKind.PITCHED)
    tilt = rotation(np.array([math.sin(math.radians(2.5)), 0.0, 0.0, math.cos(math.radians(2.5))]))
    tilted = measured(turned_world(frames, tilt), ended=False)
    for name in ("length", "width", "height"):
        expected = getattr(plain.room_dimensions, name)
        assert getattr(tilted.room_dimensions, name) == pytest.approx(expected, abs=0.005), name
    assert tilted.room_dimensions.volume == pytest.approx(plain.room_dimensions.volume, rel=0.003)


def test_a_slope_of_which_little_was_seen_gives_no_height_rather_than_a_wrong_one() -> None:
    room, frames, _ = scan(CeilingKind.GABLE)
    downwards = [frame for frame in frames if rotation(np.array(frame.pose[3:]))[2, 2] < -0.2]
    result = measured(downwards, ended=False)
    assert result.verdict is Verdict.INCOMPLETE
    assert result.missing_parts
    assert result.room_dimensions.volume is None
    height = result.room_dimensions.height
    assert height is None or height == pytest.approx(room.height, abs=0.05)


def test_files_print_the_ceiling_s_digits_and_the_model_holds_the_volume() -> None:
    _, _, result = scan(CeilingKind.STEPPED)
    mesh = shell(result)
    loaded = trimesh.Trimesh(mesh.vertices, mesh.triangles)
    assert abs(loaded.volume) == pytest.approx(result.room_dimensions.volume, rel=0.005)
    rows = list(csv.DictReader(io.StringIO(export(result, mesh, np.empty((0, 3)), "csv").decode())))
    of_ceiling = {(row["number"], row["property"]): row["value"] for row in rows if row["what"] == "ceiling"}
    ceiling = json.loads(export(result, mesh, np.empty((0, 3)), "json"))["ceiling"]
    assert of_ceiling["", "kind"] == ceiling["kind"] == "stepped"
    assert all(of_ceiling["", name] == json.dumps(ceiling[name]) for name in ("lowest", "highest", "mean"))
    for number, part in enumerate(ceiling["parts"]):
        assert of_ceiling[str(number), "area"] == json.dumps(part["area"])
    assert report_pdf(result, "Attic") == report_pdf(result, "Attic")
