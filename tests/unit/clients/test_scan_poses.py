"""Poses of phones become Weir's: z up, cameras that look along z; and only frames that show something new are worth sending."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from weir_device import LEVEL, Intrinsics, KeyframeRule, Pose, from_arcore, from_arkit, gravity_in_world
from weir_device.scan_poses import Vector

UPRIGHT: Vector = (0.0, 0.0, 0.0)
HALF = math.sqrt(0.5)
IDENTITY = (0.0, 0.0, 0.0, 1.0)

directions = st.tuples(*[st.floats(-5, 5)] * 3)
turns = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1)


def axes(pose: Pose) -> list[list[int]]:
    """Right, down and forward of the camera in the world, where they are whole."""
    return [[round(each) for each in pose.turned(axis)] for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]


def matrix(q: tuple[float, ...]) -> list[list[float]]:
    """Columns of the rotation of a quaternion, by the textbook."""
    x, y, z, w = (each / math.hypot(*q) for each in q)
    return [
        [1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w), 0],
        [2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w), 0],
        [2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y), 0],
    ]


def test_a_phone_that_has_just_started_looks_along_x() -> None:
    # ARKit's world: x right, y up, z towards the person; its camera looks along -z. Ours: x forward, y left, z up.
    pose = from_arkit([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.5, 1.5, -2.0, 1]])

    assert pose.position == (2.0, -0.5, 1.5)  # two metres ahead, half a metre to the right, one and a half up
    assert axes(pose) == [[0, -1, 0], [0, 0, -1], [1, 0, 0]]  # right is -y, down is -z, forward is x


def test_a_phone_that_looks_down_has_the_floor_in_front() -> None:
    # A quarter turn about x, to the right: what was forward, -z, becomes -y.
    pose = from_arcore((0, 0, 0), (-HALF, 0, 0, HALF))

    assert axes(pose)[2] == [0, 0, -1]
    assert axes(pose)[0] == [0, -1, 0]


@given(directions, turns, directions)
def test_a_point_lies_where_the_conventions_say(position: Vector, turn: tuple[float, ...], point: Vector) -> None:
    """Camera point p (optical) is (x, -y, -z) for ARKit; in ARKit's world R p + t; in ours (-z, -x, y) of that."""
    columns = matrix(turn)
    phone = (point[0], -point[1], -point[2])
    x, y, z = (position[i] + sum(columns[j][i] * phone[j] for j in range(3)) for i in range(3))
    for pose in (from_arkit([*columns, [*position, 1]]), from_arcore(position, turn)):
        found = [each + turned for each, turned in zip(pose.position, pose.turned(point), strict=True)]

        assert found == pytest.approx([-z, -x, y], abs=1e-9)


def test_a_pose_is_finite_and_of_unit_length() -> None:
    assert Pose(UPRIGHT, (0, 0, 0, 2)).numbers() == [0, 0, 0, 0, 0, 0, 1]
    for quaternion in ((0.0, 0.0, 0.0, 0.0), (math.nan, 0.0, 0.0, 1.0), (math.inf, 0.0, 0.0, 1.0)):
        with pytest.raises(ValueError, match="finite"):
            Pose(UPRIGHT, quaternion)
    for x in (math.nan, math.inf, -1e6):  # the last one in millimetres
        with pytest.raises(ValueError, match="finite, within 10 km"):
            Pose((x, 0.0, 0.0), IDENTITY)


def test_gravity_is_turned_into_the_world() -> None:
    upright = from_arkit([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])

    assert gravity_in_world((0, 9.81, 0), upright) == pytest.approx(
        LEVEL
    )  # down is y of an optical camera held upright
    with pytest.raises(ValueError, match="not zero"):
        gravity_in_world((0, 0, 0), upright)


def test_arkit_s_intrinsics_are_scaled_about_the_image_s_edge() -> None:
    colour = Intrinsics(1920, 1440, 1590.0, 1590.0, 959.5, 719.5)
    depth = colour.scaled_to(256, 192)

    assert (depth.width, depth.height) == (256, 192)
    assert (depth.fx, depth.fy) == (212.0, 212.0)  # 1590 / 7.5
    assert (depth.cx, depth.cy) == pytest.approx((127.5, 95.5))  # the middle stays the middle
    assert Intrinsics(1920, 1440, 1590, 1590, 944.5, 704.5).scaled_to(256, 192).cx == pytest.approx(
        125.5
    )  # 945/7.5 - 0.5


@pytest.mark.parametrize("changes", [{"width": 0}, {"height": 60_000}, {"fx": 0.0}, {"fy": math.nan}, {"cx": math.inf}])
def test_intrinsics_that_cannot_be_are_refused(changes: dict[str, float]) -> None:
    fields = {"width": 4, "height": 3, "fx": 2.0, "fy": 2.0, "cx": 1.5, "cy": 1.0, **changes}

    with pytest.raises(ValueError, match="Intrinsics"):
        Intrinsics(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("position", "turned_deg", "after_ms", "wanted"),
    [
        ((0, 0, 0), 0, 0, False),
        ((0.09, 0, 0), 9.9, 999, False),
        ((0.06, 0.06, 0.06), 0, 10, True),  # 0.104 m
        ((0, 0, 0), 10.1, 10, True),
        ((0, 0, 0), 0, 1000, True),
    ],
)
def test_a_frame_is_worth_sending_after_movement_turning_or_time(
    position: Vector, turned_deg: float, after_ms: int, *, wanted: bool
) -> None:
    rule = KeyframeRule()
    first = Pose(UPRIGHT, (0, 0, 1, 0))
    assert rule.wants(first, 1000)
    rule.sent(first, 1000)
    half = math.radians(turned_deg) / 2
    turned = Pose(position, (math.sin(half), 0, -math.cos(half), 0))  # the other sign of a quaternion is the same turn

    assert rule.wants(turned, 1000 + after_ms) is wanted
