"""A real room from a laser scanner: one station, lamps, furniture, mirrors, and however the cloud lies it has the same size."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from processors.scans.clouds import read_blocks
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.poses import rotation
from processors.scans.result import ScanResult, Verdict
from schemas.scan_frames import PointsFrame, ScanFrame

RECORDING = Path(__file__).parents[3] / "shared" / "data" / "room_scan1.pcd"
pytestmark = pytest.mark.skipif(not RECORDING.exists(), reason="no recordings beside the repository")
LENGTHS = ("length", "width", "height")


@cache
def points() -> NDArray[np.float64]:
    with RECORDING.open("rb") as file:
        return np.concatenate(list(read_blocks(file))).astype(np.float64)


def no_frames(seq: int) -> ScanFrame:
    raise KeyError(seq)


def measured(cloud: NDArray[np.float64], blocks: int = 1) -> ScanResult:
    scan_map = ScanMap()
    scan_map.add_cloud(np.array_split(cloud, blocks))
    return measure_scan(scan_map, no_frames)


def turned(axis: tuple[float, float, float], degrees: float) -> NDArray[np.float64]:
    half = math.radians(degrees) / 2
    unit = np.array(axis) / np.linalg.norm(axis)
    return points() @ rotation(np.array([*(unit * math.sin(half)), math.cos(half)])).T


@cache
def plain() -> ScanResult:
    return measured(points())


def test_the_room_is_closed_and_of_its_known_size() -> None:
    result = plain()
    dimensions = result.room_dimensions
    assert result.verdict is not Verdict.INCOMPLETE
    assert dimensions.length == pytest.approx(10.67, abs=0.05)
    assert dimensions.width == pytest.approx(4.61, abs=0.03)
    assert dimensions.height == pytest.approx(2.92, abs=0.03)
    assert len(result.walls) == 4
    assert result.points == 112_586


@pytest.mark.parametrize(
    "how",
    [
        "turned by 33 degrees",
        "tilted by 5 degrees",
        "moved by 100 m",
        "shuffled in blocks",
        "every point three times",
        "spoilt",
    ],
)
def test_it_does_not_matter_how_the_cloud_lies_or_comes(how: str) -> None:
    random = np.random.default_rng(1)
    other = {
        "turned by 33 degrees": lambda: measured(turned((0, 0, 1), 33.0)),
        "tilted by 5 degrees": lambda: measured(turned((1, 0.5, 0), 5.0)),
        "moved by 100 m": lambda: measured(points() + np.array([100.0, -60.0, 3.0])),
        "shuffled in blocks": lambda: measured(random.permutation(points()), blocks=7),
        "every point three times": lambda: measured(np.repeat(points(), 3, axis=0)),
        # The first row no number, a point at 1e9, and one in ten without a return.
        "spoilt": lambda: measured(np.vstack([[[np.nan] * 3, [1e9, 0, 0]], points(), np.zeros((11_000, 3))])),
    }[how]()
    for name in LENGTHS:
        expected = getattr(plain().room_dimensions, name)
        assert getattr(other.room_dimensions, name) == pytest.approx(expected, abs=0.005), name


@pytest.mark.parametrize("scale", [1.01, 0.99, 0.9])
def test_lengths_grow_with_the_cloud(scale: float) -> None:
    grown = measured(points() * scale)
    for name in LENGTHS:
        expected = getattr(plain().room_dimensions, name) * scale
        assert getattr(grown.room_dimensions, name) == pytest.approx(expected, abs=0.005), name


def test_sent_as_sweeps_of_the_scanner_it_is_the_same_room() -> None:
    own = points()
    frames = [
        PointsFrame(
            seq=seq,
            captured_at=1_760_000_000_000 + 100 * seq,
            pose=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
            points=part.astype("<f4").tobytes(),
            points_encoding="f32",
        )
        for seq, part in enumerate(np.array_split(own, 4))
    ]
    scan_map = ScanMap()
    for frame in frames:
        scan_map.add(frame.seq, frame)
    result = measure_scan(scan_map, frames.__getitem__)
    for name in LENGTHS:
        assert getattr(result.room_dimensions, name) == pytest.approx(
            getattr(plain().room_dimensions, name), abs=0.03
        ), name
