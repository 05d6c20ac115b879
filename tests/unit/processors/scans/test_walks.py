"""What poses and frames' notes tell: who jumped, which way is up, and which mistakes are likely."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from processors.scans import mistakes, pipeline
from processors.scans.motion import consistent_walk
from processors.scans.poses import quaternion, rotation
from processors.scans.result import Mistake
from processors.scans.scan_map import FrameNote, depth_of
from schemas.scan_frames import decode_scan_frame
from tests.unit.processors.scans.scan_records import depth, record

TIMES = np.arange(0, 6_000, 100)


def walk() -> NDArray[np.float64]:
    """A metre a second along x, ten frames a second."""
    poses = np.zeros((60, 7))
    poses[:, 0], poses[:, 6] = TIMES / 1000, 1.0
    return poses


def about_y(angle: float) -> tuple[float, ...]:
    return (0.0, math.sin(angle / 2), 0.0, math.cos(angle / 2))


def note(seq: int, quaternion: tuple[float, ...] = (0.0, 0.0, 0.0, 1.0), **changes: object) -> FrameNote:
    fields = {"captured_at": 100 * seq, "points": 9, "reason": None, "gravity": None} | changes
    return FrameNote(seq=seq, kind="depth", pose=(0.0, 0.0, 0.0, *quaternion), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [0, 30, 59])
def test_a_step_to_the_side_or_a_turn_that_nobody_makes_is_left_out(wrong: int) -> None:
    moved, turned = walk(), walk()
    moved[wrong, 1] = 1.0  # a metre in a tenth of a second
    turned[wrong, 3:] = about_y(math.pi / 2)  # a quarter turn in the same time
    for poses in (moved, turned):
        assert np.flatnonzero(~consistent_walk(TIMES, poses)).tolist() == [wrong]


def test_what_people_do_is_one_walk_and_a_quaternion_s_sign_means_nothing() -> None:
    poses = walk()
    poses[30:, 1] = 0.25  # within slack and pace
    poses[::2, 3:] *= -1

    assert consistent_walk(TIMES, poses).all()


@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0, math.pi, 4.0, 6.0])
def test_a_quaternion_and_its_matrix_say_the_same_whatever_its_length_and_sign(angle: float) -> None:
    axis = np.array([0.48, -0.6, 0.64])
    turn = np.array([*(math.sin(angle / 2) * axis), math.cos(angle / 2)])
    found = quaternion(rotation(-3 * turn))

    assert rotation(found) == pytest.approx(rotation(turn))
    assert found[3] >= 0
    # Rodrigues' formula, spelt out.
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    assert rotation(turn) == pytest.approx(np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross)


@pytest.mark.parametrize(("wrong", "found"), [(6, []), (7, [Mistake.COLOUR_INTRINSICS])])
def test_more_than_half_of_the_frames_must_be_wrong_for_a_mistake(wrong: int, found: list[Mistake]) -> None:
    notes = [note(seq, reason="impossible_intrinsics" if seq < wrong else None) for seq in range(12)]

    assert mistakes.of_frames(notes) == found


def test_up_is_against_gravity_where_frames_tell_it_and_guessed_only_where_they_do_not() -> None:
    upright_in_y = [about_y(n * math.pi / 4) for n in range(8)]
    silent = [note(n, turn) for n, turn in enumerate(upright_in_y)]
    telling = [note(n, turn, gravity=(0.6, 0.0, -0.8)) for n, turn in enumerate(upright_in_y)]
    contrary = [note(n, gravity=(0.0, 0.0, float((-1) ** n))) for n in range(8)]

    assert (mistakes.of_frames(silent), mistakes.of_frames(telling)) == ([Mistake.Y_UP_WORLD], [])
    assert pipeline._up(silent).tolist() == [0.0, 1.0, 0.0]
    assert pipeline._up(telling) == pytest.approx([-0.6, 0.0, 0.8])
    assert pipeline._up(contrary).tolist() == [0.0, 0.0, 1.0]


def test_pixels_of_medium_confidence_count_and_those_of_low_do_not() -> None:
    fields = depth([[1_000, 1_100], [1_200, 0]], confidence=bytes([0, 1, 2, 2]), confidence_encoding="raw")

    assert depth_of(decode_scan_frame(record(fields))).tolist() == [[0, 1_100], [1_200, 0]]  # type: ignore[arg-type]
