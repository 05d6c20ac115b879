"""What a device encodes, Weir decodes to the same; a phone's frame takes 20 kB at most; nothing needs numpy that says so."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import weir_device
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from weir_device import Intrinsics, Pose, scan_records
from weir_device.scan_records import Moment, Part

from ops.simulator.rooms.camera import FOCAL_PX, HEIGHT, WIDTH, Imperfection, walk
from ops.simulator.rooms.shapes import Shape, make_room
from processors.scans import codec
from schemas.scan_frames import DepthFrame, EndFrame, PartFrame, PointsFrame, RgbFrame, decode_scan_frame, frame_type

MOMENT = Moment(1_795_377_600_000, "normal", (0.0, 0.0, -1.0))
POSE = Pose((1.0, 2.0, 1.5), (0.0, 0.0, 0.6, 0.8))
PHONE = Intrinsics(WIDTH, HEIGHT, FOCAL_PX, FOCAL_PX, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)


def intrinsics(image: NDArray[Any]) -> Intrinsics:
    return Intrinsics(image.shape[1], image.shape[0], 200.0, 201.0, 1.5, 2.5)


def decoded(value: bytes) -> Any:
    return decode_scan_frame(value)


images = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(0, 2**32 - 1)).map(
    lambda size: np.maximum(np.random.default_rng(size[2]).integers(0, 65_536, size[:2]), 1).astype(np.uint16)
)


@given(images)
def test_a_depth_image_arrives_as_it_was(image: NDArray[np.uint16]) -> None:
    levels = (image % 3).astype(np.uint8)
    value = scan_records.depth_record(3, MOMENT, image, intrinsics(image), POSE, confidence=levels, budget_bytes=None)
    frame = decoded(value)

    assert isinstance(frame, DepthFrame)
    assert np.array_equal(codec.depth_mm(frame), image)
    assert np.array_equal(codec.confidence(frame), levels)  # type: ignore[arg-type]
    assert (frame.seq, frame.captured_at, frame.tracking, frame.gravity) == (3, 1_795_377_600_000, "normal", (0, 0, -1))
    assert (frame.fx, frame.fy, frame.cx, frame.cy) == (200, 201, 1.5, 2.5)
    assert frame.pose == (1, 2, 1.5, 0, 0, 0.6, 0.8)


def test_metres_become_millimetres_and_what_is_none_becomes_zero() -> None:
    metres = np.array([[1.2344, 1.2346, math.nan, -1.0], [math.inf, 0.0, 65.535, 70.0]], dtype=np.float32)
    value = scan_records.depth_record(0, MOMENT, metres, intrinsics(metres), POSE)

    assert codec.depth_mm(decoded(value)).tolist() == [[1234, 1235, 0, 0], [0, 0, 65_535, 0]]


def test_bytes_of_millimetres_do_as_well() -> None:
    image = np.array([[1000, 0, 2000]], dtype="<u2")
    value = scan_records.depth_record(0, MOMENT, image.tobytes(), intrinsics(image), POSE, confidence=bytes([2, 0, 1]))

    assert codec.depth_mm(decoded(value)).tolist() == [[1000, 0, 2000]]
    assert codec.confidence(decoded(value)).tolist() == [[2, 0, 1]]  # type: ignore[union-attr]


def phone_like(seed: int) -> list[NDArray[np.uint16]]:
    """Frames with the noise of a phone."""
    imperfection = Imperfection(blur_px=2.0)
    return [one.depth_mm for one in walk(make_room(Shape.BOX, seed), seed, frames=6, imperfection=imperfection)]


def noise_mm(depth: NDArray[np.uint16]) -> NDArray[np.float64]:
    """One standard deviation, as the camera of `phone_like` has it."""
    noise: NDArray[np.float64] = 4 + 1.5 * (np.minimum(depth, 5_000) / 1000) ** 2
    return noise


@pytest.mark.parametrize(("blur_px", "share"), [(2.0, 1.0), (0.0, 2.0)], ids=["of a phone", "of each pixel alone"])
def test_every_frame_s_record_takes_twenty_kilobytes(blur_px: float, share: float) -> None:
    """Rounding is all that it costs: by half a step, which is no longer than such a share of the noise at that depth."""
    room = make_room(Shape.BOX, 3)
    frames = [one.depth_mm for one in walk(room, 3, frames=24, imperfection=Imperfection(blur_px=blur_px))]
    for image in filter(np.any, frames):
        value = scan_records.depth_record(0, MOMENT, image, PHONE, POSE, confidence=np.where(image > 0, 2, 0))
        found = codec.depth_mm(decoded(value)).astype(int)

        assert len(value) <= 20_000
        assert (np.abs(found - image) <= share * noise_mm(image) / 2).all()
        assert np.array_equal(found == 0, image == 0)


def test_what_confidence_takes_depth_has_to_spare() -> None:
    image = phone_like(seed=3)[0]
    ragged = np.random.default_rng(1).integers(1, 3, image.shape).astype(np.uint8)  # a bit a pixel: 6 kB
    value = scan_records.depth_record(0, MOMENT, image, PHONE, POSE, confidence=ragged)

    assert len(value) <= 20_000
    assert np.array_equal(codec.confidence(decoded(value)), ragged)  # type: ignore[arg-type]


def test_a_larger_image_may_take_as_much_more() -> None:
    one, two, three, four, *_ = phone_like(seed=3)
    image = np.block([[one, two], [three, four]])
    camera = Intrinsics(2 * WIDTH, 2 * HEIGHT, 2 * FOCAL_PX, 2 * FOCAL_PX, WIDTH - 0.5, HEIGHT - 0.5)

    assert 40_000 < len(scan_records.depth_record(0, MOMENT, image, camera, POSE)) <= 80_000


def test_a_frame_is_rounded_only_if_it_has_to_be() -> None:
    image = next(walk(make_room(Shape.BOX, 7), 7, frames=2)).depth_mm  # every pixel errs by itself: a phone's does not
    exact, loose, tight = (
        scan_records.depth_record(0, MOMENT, image, PHONE, POSE, budget_bytes=budget)
        for budget in (None, 99_000, 9_000)
    )

    assert exact == loose
    assert np.array_equal(codec.depth_mm(decoded(exact)), image)
    assert len(tight) < 0.75 * len(exact)


def test_rounding_invents_no_hole_and_stays_within_sixteen_bits() -> None:
    image = np.random.default_rng(1).integers(1, 65_536, (256, 256)).astype(np.uint16)
    image[0, :3] = [1, 65_535, 2]
    value = scan_records.depth_record(0, MOMENT, image, intrinsics(image), POSE, budget_bytes=1)
    error = codec.depth_mm(decoded(value)).astype(int) - image

    assert error[0, :3].tolist() == [7, -63, 6]  # 8 and 8, steps of twice 4 mm at most; 65 472, a whole number of 64 mm
    assert (np.abs(error[1:]) <= noise_mm(image[1:])).mean() > 0.999  # but for those beyond 65 472 and below 4


@pytest.mark.parametrize("metres", [1, 2, 3, 4, 5])
def test_rounding_moves_no_wall(metres: int) -> None:
    """By the coarsest steps, 65 536 pixels of a wall between two steps: the noise of their mean is 0.02 to 0.16 mm."""
    wall = 1000 * metres + 2.4
    noise = 4 + 1.5 * metres**2
    image = np.rint(np.random.default_rng(metres).normal(wall, noise, (256, 256))).astype(np.uint16)
    found = codec.depth_mm(
        decoded(scan_records.depth_record(0, MOMENT, image, intrinsics(image), POSE, budget_bytes=1))
    )

    assert len(np.unique(found)) < 20
    assert abs(found.mean() - image.mean()) < 0.25


@given(st.lists(st.tuples(*[st.integers(-32_767, 32_767)] * 3).filter(any), min_size=1, max_size=50))
def test_points_near_the_scanner_arrive_to_the_millimetre(rows: list[tuple[int, int, int]]) -> None:
    metres = np.array(rows) / 1000
    frame = decoded(scan_records.points_record(0, MOMENT, metres, POSE))

    assert isinstance(frame, PointsFrame)
    assert frame.points_encoding == "i16mm+zstd"
    assert np.array_equal(codec.points_m(frame), metres)


def test_points_far_away_travel_as_floats_and_nan_stays_at_home() -> None:
    frame = decoded(scan_records.points_record(0, MOMENT, np.array([[40.5, 0, 0], [math.nan, 0, 0]]), POSE))

    assert frame.points_encoding == "f32+zstd"
    assert codec.points_m(frame).tolist() == [[40.5, 0, 0]]


def test_the_other_sensors_arrive() -> None:
    records = [
        scan_records.rgb_record(0, MOMENT, b"\xff\xd8", PHONE, POSE),
        scan_records.motion_record(1, MOMENT, [[1_795_377_600_000, 0, 0, 9.81, 0, 0, 0]]),
        scan_records.location_record(2, MOMENT, 48.2, 16.4, accuracy_m=5.0),
        scan_records.audio_record(3, MOMENT, b"\0\0", encoding="pcm16", sample_rate_hz=44_100),
        scan_records.part_record(4, Part("f1", 0, 1, "0" * 64, b"x", "a.ply")),
        scan_records.end_record(5),
    ]
    frames = [decoded(record) for record in records]

    assert [frame_type(frame) for frame in frames] == ["rgb", "motion", "location", "audio", "part", "end"]
    assert [frame.seq for frame in frames] == [0, 1, 2, 3, 4, 5]
    rgb, *_, part, end = frames
    assert isinstance(rgb, RgbFrame)
    assert (rgb.image, rgb.width, rgb.pose) == (b"\xff\xd8", 256, (1, 2, 1.5, 0, 0, 0.6, 0.8))
    assert part == PartFrame(seq=4, file_id="f1", index=0, total=1, sha256="0" * 64, data=b"x", name="a.ply")
    assert end == EndFrame(seq=5, frames=5)


ONE = np.ones((3, 4))
REFUSED: dict[str, tuple[Any, str]] = {
    "another size": (lambda: scan_records.depth_record(0, MOMENT, ONE, PHONE, POSE), "size"),
    "bytes of another size": (lambda: scan_records.depth_record(0, MOMENT, b"ab", PHONE, POSE), "size"),
    "confidence of 3": (
        lambda: scan_records.depth_record(0, MOMENT, ONE, intrinsics(ONE), POSE, confidence=3 * ONE),
        "0 low, 1 medium or 2 high",
    ),
    "points in rows of four": (lambda: scan_records.points_record(0, MOMENT, ONE, POSE), "shape"),
    "half a point": (lambda: scan_records.points_record(0, MOMENT, bytes(11), POSE), "multiple of 12"),
    "too many points": (lambda: scan_records.points_record(0, MOMENT, bytes(1_200_000), POSE), "send less at once"),
    "seconds": (lambda: Moment(1_795_377_600), "before 2010; epoch milliseconds"),
    "gravity in m/s²": (lambda: Moment(MOMENT.captured_at, None, (0.0, 0.0, -9.81)), "must be of length 1"),
    "an empty part": (lambda: scan_records.part_record(0, Part("f", 0, 1, "0" * 64, b"")), "1 to 786432 bytes"),
    "a negative seq": (lambda: scan_records.end_record(-1), "seq must be"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_weir_would_refuse_is_refused_at_the_call(what: str) -> None:
    call, complaint = REFUSED[what]

    with pytest.raises(ValueError, match=complaint):
        call()


WITHOUT_NUMPY = """
import sys
sys.modules["numpy"] = sys.modules["zstandard"] = None  # an import of either fails
from weir_device import Intrinsics, Pose, scan_records
from weir_device.scan_records import Moment
moment, view, pose = Moment(1795377600000), Intrinsics(2, 1, 1.0, 1.0, 0.5, 0.0), Pose((0, 0, 0), (0, 0, 0, 1))
value = scan_records.depth_record(0, moment, bytes([232, 3, 0, 0]), view, pose, confidence=bytes([2, 0]))
sys.stdout.buffer.write(value)
try:
    scan_records.points_record(0, moment, [[1, 2, 3]], pose)
except ImportError as error:
    sys.stderr.write(str(error))
"""


def test_without_numpy_bytes_travel_as_they_are() -> None:
    assert weir_device.__file__ is not None
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY],
        env={**os.environ, "PYTHONPATH": str(Path(weir_device.__file__).parents[1])},
        capture_output=True,
        timeout=60,
        check=True,
    )
    frame = decoded(run.stdout)

    assert (frame.depth_encoding, frame.confidence_encoding) == ("raw16", "raw")
    assert codec.depth_mm(frame).tolist() == [[1000, 0]]
    assert run.stderr == b"arrays need numpy and zstandard: pip install weir-device[scans]"
