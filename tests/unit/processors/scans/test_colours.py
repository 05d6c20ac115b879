"""Colours come from the images that see a place, never from those that look at something in front of it."""

from __future__ import annotations

import io
import struct

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from processors.scans.colours import UNSEEN, Picture, picture, seen_colours
from processors.scans.result import Placement
from schemas.scan_frames import RgbFrame

RED, BLUE = (230, 20, 20), (20, 20, 230)
HERE = Placement()
# A camera at the origin that looks along x, its image's right along -y: optical axes in a z-up world.
ALONG_X = (0.0, 0.0, 0.0, 0.5, -0.5, 0.5, -0.5)


def shot(colour: tuple[int, int, int], pose: tuple[float, ...] = ALONG_X, side: int = 100) -> Picture:
    """A view of 53 degrees in one colour."""
    pixels = np.full((side, side, 3), colour, dtype=np.uint8)
    return Picture(pixels, (float(side), float(side), side / 2 - 0.5, side / 2 - 0.5), pose)


def wall(x: float, half: float = 1.0) -> NDArray[np.float64]:
    """Points 2 cm apart on a square across the axis."""
    steps = np.arange(-half, half, 0.02)
    y, z = np.meshgrid(steps, steps)
    return np.column_stack([np.full(y.size, x), y.ravel(), z.ravel()])


def test_a_place_has_the_colour_that_an_image_shows_there() -> None:
    places = np.array([(2.0, 0.0, 0.0), (2.0, 0.9, 0.0), (-2.0, 0.0, 0.0), (2.0, 5.0, 0.0)])

    colours = seen_colours(places, places, [shot(RED)], HERE)

    # Ahead, at the edge, behind, beside.
    assert colours.tolist() == [list(RED), list(RED), [UNSEEN] * 3, [UNSEEN] * 3]


def test_left_is_left_and_up_is_up() -> None:
    pixels = np.zeros((100, 100, 3), dtype=np.uint8)
    pixels[:50, :50] = RED  # above and left: +z and +y
    one = Picture(pixels, (100.0, 100.0, 49.5, 49.5), ALONG_X)
    places = np.array([(2.0, y, z) for y in (0.5, -0.5) for z in (0.5, -0.5)])

    assert (seen_colours(places, places, [one], HERE)[:, 0] > 200).tolist() == [True, False, False, False]


def test_what_stands_in_front_keeps_its_colour_to_itself() -> None:
    screen, behind = wall(1.0, 0.3), wall(3.0, 1.3)
    places = np.concatenate([screen, behind])

    colours = seen_colours(places, places, [shot(RED)], HERE)

    assert (colours[: len(screen), 0] == RED[0]).all()
    hidden = np.abs(behind[:, 1:]).max(axis=1) < 0.7  # the screen's shadow is 0.9 wide
    assert (colours[len(screen) :][hidden] == UNSEEN).all()
    assert (colours[len(screen) :][np.abs(behind[:, 1:]).max(axis=1) > 1.1][:, 0] == RED[0]).all()


def test_the_nearer_image_counts_more() -> None:
    nearer = (1.0, *ALONG_X[1:])
    places = np.array([(3.0, 0.0, 0.0)])

    (colour,) = seen_colours(places, places, [shot(RED), shot(BLUE, nearer)], HERE)

    # 3 m and 2 m away: weights 1/9 and 1/4, so blue has 9/13.
    assert colour.tolist() == [round((230 * 4 + 20 * 9) / 13), 20, round((20 * 4 + 230 * 9) / 13)]


def test_places_are_the_room_s_and_poses_the_world_s() -> None:
    turned = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    placement = Placement(rotation=turned, translation=(10.0, 20.0, 30.0))
    # (2, 0, 0) of the world: rotated (0, -2, 0), shifted.
    places = np.array([(10.0, 18.0, 30.0), (12.0, 20.0, 30.0)])

    assert (seen_colours(places, places, [shot(RED)], placement)[:, 0] == RED[0]).tolist() == [True, False]


def jpeg(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, RED).save(file, "JPEG")
    return file.getvalue()


FRAME = RgbFrame(seq=3, width=1920, height=1440, fx=1590.0, fy=1590.0, cx=959.5, cy=719.5, pose=ALONG_X, image=b"")


@pytest.mark.parametrize("size", [(1920, 1440), (960, 720), (3840, 2880)])
def test_a_large_picture_is_kept_small_and_its_intrinsics_with_it(size: tuple[int, int]) -> None:
    found = picture(msgspec.structs.replace(FRAME, image=jpeg(size)))

    assert found is not None
    height, width = found.pixels.shape[:2]
    assert (width, height) == ((960, 720) if size[0] == 960 else (1024, 768))
    # The middle of the image stays its middle, and the angle of view what it was.
    assert found.intrinsics[2:] == pytest.approx((width / 2 - 0.5, height / 2 - 0.5))
    assert found.intrinsics[0] / width == pytest.approx(1590 / 1920)


def test_what_cannot_be_used_is_none() -> None:
    good = msgspec.structs.replace(FRAME, image=jpeg((64, 48)))
    for missing in ("pose", "fx", "cy", "image"):
        assert picture(msgspec.structs.replace(good, **{missing: None})) is None, missing
    assert picture(msgspec.structs.replace(good, image=jpeg((64, 48))[:200])) is None
    whole = jpeg((64, 48))
    at = whole.index(b"\xff\xc0") + 5  # height and width
    bomb = whole[:at] + struct.pack(">HH", 60_000, 60_000) + whole[at + 4 :]
    assert picture(msgspec.structs.replace(good, image=bomb)) is None
    assert picture(msgspec.structs.replace(good, image=None), jpeg((64, 48))) is not None
