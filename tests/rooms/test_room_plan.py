"""RoomPlan as a second input: alone an estimate, beside frames a check whose labels are kept."""

from __future__ import annotations

import math
import random

import msgspec
import numpy as np
import pytest

from bench.scans import truth_of
from ops.simulator.rooms.shapes import Shape, make_room
from processors.scans.result import DIMENSIONS, FoundObject, FoundOpening, Mistake, ScanResult, Verdict
from processors.scans.room_plan import length_sigma, room_plan_result
from processors.scans.room_plan_check import checked
from schemas.room_plan import CapturedRoom, Element
from tests.rooms.recordings import SEED, measured, recording
from tests.unit.processors.scans.room_plans import captured, element, placed, room_plan

NO_CLOUD = np.empty((0, 3), dtype=np.float32)
TURNED = {"turn": 2.5, "shift": (3.0, -1.0, 0.4)}


def names(result: ScanResult) -> list[str | None]:
    return [one.label for one in result.objects]


@pytest.mark.parametrize("ios", [16, 17])
@pytest.mark.parametrize("shape", list(Shape))
def test_alone_it_is_an_estimate_of_the_room_that_it_saw(shape: Shape, ios: int) -> None:
    room = make_room(shape, SEED)

    result = room_plan_result(captured(room_plan(room, ios=ios, turn=2.5, shift=(3.0, -1.0, 0.4))))

    assert (result.verdict, result.missing_parts, result.frames.accepted) == (Verdict.ESTIMATE, (), 0)
    for name, true in truth_of(room).items():
        assert getattr(result.room_dimensions, name) == pytest.approx(true, abs=0.002 if name != "volume" else 0.05), (
            name
        )
    # 2 cm and 1 % of the length.
    length = result.room_dimensions.length
    assert length is not None
    assert result.uncertainty.length == pytest.approx(math.hypot(0.02, 0.01 * length), abs=0.001)
    assert len(result.walls) == len(room.corners)
    assert sorted(one.kind for one in result.openings) == sorted(one.kind.value for one in room.openings)
    for found, true_one in zip(_by_width(result), sorted(room.openings, key=lambda one: one.width), strict=True):
        assert (found.width, found.height, found.sill) == pytest.approx(
            (true_one.width, true_one.height, true_one.sill if true_one.sill >= 0.15 else 0.0), abs=0.16
        )
    assert names(result) == ["sofa", "washerDryer", "table"][: len(room.furniture)]
    assert {one.source for one in result.objects} <= {"roomplan"}
    assert result.roomplan is not None
    assert result.roomplan.is_source


def _by_width(result: ScanResult) -> list[FoundOpening]:
    return sorted(result.openings, key=lambda one: one.width)


def test_less_sure_walls_have_wider_error_bars() -> None:
    document = room_plan(make_room(Shape.BOX, SEED))
    sure = room_plan_result(captured(document))
    for wall in document["walls"]:
        wall["confidence"] = {"low": {}}
    unsure = room_plan_result(captured(document))

    assert unsure.uncertainty.height == pytest.approx(2 * (sure.uncertainty.height or 0.0), abs=0.001)
    assert unsure.confidence < sure.confidence


def test_walls_that_do_not_close_give_no_plan_but_the_floor_does() -> None:
    document = room_plan(make_room(Shape.BOX, SEED))
    del document["walls"][2:]
    by_floor = room_plan_result(captured(document))
    document["floors"] = []
    result = room_plan_result(captured(document))

    assert by_floor.room_dimensions.area == pytest.approx(truth_of(make_room(Shape.BOX, SEED))["area"], abs=0.01)
    assert by_floor.completeness < 0.7
    assert (result.verdict, result.missing_parts, result.room_dimensions.area) == (Verdict.INCOMPLETE, ("walls",), None)
    assert room_plan_result(captured({"walls": []})).missing_parts == ("everything",)


def test_walls_of_unlike_heights_give_no_height() -> None:
    document = room_plan(make_room(Shape.BOX, SEED))
    document["walls"][0]["dimensions"][1] -= 0.6
    result = room_plan_result(captured(document))

    assert result.room_dimensions.height is None
    assert result.room_dimensions.volume is None
    assert result.missing_parts == ("level ceiling",)
    assert result.room_dimensions.area is not None


SEEN = measured(recording(Shape.BOX))
ROOM = make_room(Shape.BOX, SEED)


@pytest.mark.parametrize(("how", "placement"), [({}, "shared"), (TURNED, "fitted")])
def test_a_room_plan_of_the_same_room_agrees_and_names_our_boxes(how: dict[str, object], placement: str) -> None:
    theirs = room_plan_result(captured(room_plan(ROOM, **how)))  # type: ignore[arg-type]

    result = checked(SEEN, theirs, NO_CLOUD)

    assert result.roomplan is not None
    assert (result.roomplan.placement, result.roomplan.is_source) == (placement, False)
    assert result.warnings == SEEN.warnings
    assert all(one.agrees for one in result.roomplan.differences)
    compared = [one.what for one in result.roomplan.differences]
    assert compared[: len(DIMENSIONS)] == list(DIMENSIONS)
    assert {"wall 0", "wall 1", "wall 2", "wall 3"} <= set(compared)
    assert any(what.endswith("width") for what in compared[len(DIMENSIONS) :])
    # The numbers stay those that were measured.
    assert (result.room_dimensions, result.walls, result.verdict) == (SEEN.room_dimensions, SEEN.walls, SEEN.verdict)
    mine = [one for one in result.objects if one.source == "measured"]
    assert [(one.center, one.size) for one in mine] == [(one.center, one.size) for one in SEEN.objects]
    assert sorted(name for name in names(result) if name) == sorted(
        ["sofa", "washerDryer", "table"][: len(ROOM.furniture)]
    )
    assert {one.confidence for one in mine if one.label} == {0.9}


def test_what_only_room_plan_saw_is_kept_as_such() -> None:
    document = room_plan(ROOM)
    x, y = np.array(ROOM.corners).mean(axis=0)
    lamp = element("television", (0.5, 0.4, 0.1), placed(np.array([1.0, 0.0]), np.array([x, y, ROOM.height - 0.3])))
    document["objects"].append(lamp)

    result = checked(SEEN, room_plan_result(captured(document)), NO_CLOUD)

    (alone,) = [one for one in result.objects if one.label == "television"]
    assert alone.source == "roomplan"
    assert alone.center[2] == pytest.approx(ROOM.height - 0.3, abs=0.02)
    assert len(result.objects) == len(SEEN.objects) + 1


def test_a_room_that_is_ten_percent_larger_disagrees_by_name() -> None:
    theirs = room_plan_result(captured(room_plan(ROOM, scale=1.1)))

    result = checked(SEEN, theirs, NO_CLOUD)

    assert Mistake.ROOMPLAN_DISAGREES in result.warnings
    assert result.roomplan is not None
    off = {one.what: one for one in result.roomplan.differences if not one.agrees}
    assert {"length", "width", "height", "area", "volume", "perimeter"} <= set(off)
    length = off["length"]
    assert length.difference == pytest.approx(length.measured - length.roomplan, abs=0.001)
    # A difference is too much from three times its standard deviation, 5 cm on 5 m, on.
    assert length.sigma == pytest.approx(
        math.hypot(SEEN.uncertainty.length or 0, length_sigma(length.roomplan)), abs=0.001
    )
    assert abs(length.difference) > 3 * length.sigma
    assert result.room_dimensions == SEEN.room_dimensions


def test_another_room_is_not_laid_over_ours_and_names_nothing() -> None:
    other = make_room(Shape.HEXAGON, 5)

    result = checked(SEEN, room_plan_result(captured(room_plan(other))), NO_CLOUD)

    assert result.roomplan is not None
    assert result.roomplan.placement == "none"
    assert names(result) == names(SEEN)
    assert Mistake.ROOMPLAN_DISAGREES in result.warnings


def test_a_rectangle_in_another_world_fits_two_ways_unless_what_stands_in_it_tells() -> None:
    document = room_plan(ROOM, **TURNED)  # type: ignore[arg-type]
    document["objects"] = []

    result = checked(SEEN, room_plan_result(captured(document)), NO_CLOUD)

    assert result.roomplan is not None
    assert result.roomplan.placement == "none"
    assert all(one.agrees for one in result.roomplan.differences)


def test_it_survives_being_stored() -> None:
    result = checked(SEEN, room_plan_result(captured(room_plan(ROOM, scale=1.1))), NO_CLOUD)

    assert ScanResult.from_document(result.to_document()) == result
    assert result.to_document()["objects"][0]["class"] in ("sofa", "washerDryer", "table", None)  # type: ignore[index]


def any_element(chance: random.Random) -> Element:
    """Anything that the decoder lets through: upright or lying, thin or flat, anywhere near."""
    axes = np.linalg.qr(np.array([[chance.uniform(-1, 1) for _ in range(3)] for _ in range(3)]))[0]
    axes[:, 0] *= np.sign(np.linalg.det(axes))
    columns = np.eye(4)
    columns[:3, :3] = axes if chance.random() < 0.5 else np.eye(3)
    columns[:3, 3] = [chance.choice([0.0, chance.uniform(-8, 8)]) for _ in range(3)]

    def size() -> float:
        return chance.choice([0.0, 1.0, 1e-9, chance.uniform(0, 12)])

    return Element(
        dimensions=(size(), size(), size()),
        transform=tuple(float(value) for value in columns.T.reshape(-1)),
        category={"sofa": {}},
        polygon_corners=tuple((size(), size(), size()) for _ in range(chance.choice([0, 0, 3, 5]))),
    )


@pytest.mark.parametrize("seed", range(40))
def test_any_room_gives_a_result_and_a_check(seed: int) -> None:
    chance = random.Random(seed)
    walls, doors, objects, floors = (tuple(any_element(chance) for _ in range(chance.randint(0, 5))) for _ in range(4))

    theirs = room_plan_result(CapturedRoom(walls=walls, doors=doors, objects=objects, floors=floors))
    result = checked(SEEN, theirs, NO_CLOUD)

    assert theirs.verdict is not Verdict.GOOD
    assert theirs.room_dimensions.area is None or theirs.floor_polygon
    assert result.room_dimensions == SEEN.room_dimensions
    assert all(isinstance(one, FoundObject) for one in result.objects)
    msgspec.json.encode(result)
