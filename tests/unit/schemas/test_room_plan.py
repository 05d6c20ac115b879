"""RoomPlan's JSON is read as Apple writes it, of either iOS; what is not a room of it is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ops.simulator.rooms.shapes import Shape, make_room
from schemas.errors import Reason, Rejected
from schemas.room_plan import MAX_BYTES, decode_room_plan
from tests.unit.processors.scans.room_plans import captured, room_plan

ROOM = make_room(Shape.L, 3)
IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]


def wall(**changes: Any) -> dict[str, Any]:
    return {"dimensions": [4.0, 2.5, 0.0], "transform": IDENTITY, "category": {"wall": {}}} | changes


@pytest.mark.parametrize(("ios", "version", "floors"), [(16, None, 0), (17, 2, 1)])
def test_a_room_of_either_ios_is_read(ios: int, version: int | None, floors: int) -> None:
    room = captured(room_plan(ROOM, ios=ios))

    assert (room.version, len(room.floors), len(room.walls)) == (version, floors, 6)
    assert [one.label for one in room.objects] == ["sofa", "washerDryer", "table"][: len(ROOM.furniture)]
    assert {one.certainty for one in room.walls} == {"high"}
    assert {one.label for one in (*room.doors, *room.windows)} <= {"door", "window"}


@pytest.mark.parametrize("confidence", [{"medium": {}}, "medium", {"confidence": "medium"}])
def test_an_enum_is_read_however_it_is_wrapped(confidence: object) -> None:
    room = decode_room_plan(json.dumps({"walls": [wall(confidence=confidence, newMember=[1])]}).encode())

    assert room.walls[0].certainty == "medium"
    assert room.walls[0].label == "wall"


def sheared() -> list[float]:
    return [1, 0.5, 0, 0, *IDENTITY[4:]]


def mirrored() -> list[float]:
    return [-1, *IDENTITY[1:]]


WRONG: dict[str, tuple[bytes, Reason, str]] = {
    "no JSON": (b"ply\n", Reason.UNDECODABLE, "not JSON"),
    "cut off": (json.dumps({"walls": [wall()]}).encode()[:-3], Reason.UNDECODABLE, "not JSON"),
    "NaN": (b'{"walls": [{"dimensions": [NaN, 1, 1]}]}', Reason.UNDECODABLE, "not finite are none"),
    "beyond all floats": (
        json.dumps({"walls": [wall()]}).replace("4.0", "1e999").encode(), Reason.INVALID_VALUE, "too large to be finite",
    ),
    "a list": (b"[]", Reason.WRONG_SHAPE, "a list named walls is expected"),
    "something else": (b'{"type": "FeatureCollection"}', Reason.WRONG_SHAPE, "a list named walls is expected"),
    "walls without a place": (b'{"walls": [{"dimensions": [1, 1, 1]}]}', Reason.WRONG_SHAPE, "walls[0]"),
    "a size too few": (json.dumps({"walls": [wall(dimensions=[1, 2])]}).encode(), Reason.WRONG_SHAPE, "dimensions"),
    "a text for a number": (
        json.dumps({"walls": [], "objects": [wall(dimensions=["a", 1, 1])]}).encode(), Reason.WRONG_SHAPE, "objects[0]",
    ),
    "too many walls": (json.dumps({"walls": [wall()] * 2_001}).encode(), Reason.WRONG_SHAPE, "2 000"),
    "another version": (
        json.dumps({"walls": [wall()], "version": 9}).encode(), Reason.UNSUPPORTED_FORMAT, "version is 9; expected 1 or 2",
    ),
    "several rooms": (b'{"version": 1, "rooms": [{}]}', Reason.UNSUPPORTED_FORMAT, "one scan each"),
    "millimetres": (json.dumps({"walls": [wall(dimensions=[4_000, 2_500, 0])]}).encode(), Reason.INVALID_VALUE, "200"),
    "a negative size": (json.dumps({"walls": [wall(dimensions=[-4, 2, 0])]}).encode(), Reason.INVALID_VALUE, "walls[0]"),
    "a shear": (json.dumps({"walls": [wall(transform=sheared())]}).encode(), Reason.INVALID_VALUE, "a rotation"),
    "a mirror": (json.dumps({"walls": [wall(transform=mirrored())]}).encode(), Reason.INVALID_VALUE, "a rotation"),
    "another continent": (
        json.dumps({"walls": [wall(transform=[*IDENTITY[:12], 1e6, 0, 0, 1])]}).encode(), Reason.INVALID_VALUE, "10000 m",
    ),
    "a name with a NUL": (json.dumps({"walls": [wall(category={"a\0b": {}})]}).encode(), Reason.INVALID_VALUE, "category"),
    "a name of a thousand": (json.dumps({"walls": [wall(category="a" * 1000)]}).encode(), Reason.INVALID_VALUE, "category"),
    "too large": (b" " * (MAX_BYTES + 1), Reason.TOO_LARGE, "at most"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_room_is_refused_by_name(what: str) -> None:
    data, reason, words = WRONG[what]

    with pytest.raises(Rejected) as refused:
        decode_room_plan(data)

    assert refused.value.reason is reason
    assert words in refused.value.detail
