"""Colour images of a scan: which colour each place of the room has, by the images that see it."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from processors.scans.poses import rotation
from processors.scans.result import Placement
from schemas.scan_frames import RgbFrame

UNSEEN: Final = 160
"""Grey of what no image shows."""
# More than any camera has, far less than a bomb.
_MAX_PIXELS: Final = 40_000_000
# Places lie centimetres apart: more pixels than this across show nothing of them, and forty images stay below 100 MB.
_MAX_SIDE_PX: Final = 1_024
# What is hidden is found on a raster of so many cells across, coarse enough that a surface of voxels has no holes in it.
_RASTER: Final = 64
_HIDDEN_M: Final = 0.15
_HIDDEN_SHARE: Final = 0.05
_MOST_HIDING: Final = 100_000
_NEAREST_M: Final = 0.1


@dataclass(frozen=True, slots=True)
class Picture:
    """A colour image with the camera it was taken by.

    Attributes:
        pixels: shape (height, width, 3).
        intrinsics: fx, fy, cx, cy of this image.
        pose: of the camera, as a frame's.
    """

    pixels: NDArray[np.uint8]
    intrinsics: tuple[float, float, float, float]
    pose: tuple[float, ...]

    def project(
        self, world: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Column, row and distance along the axis of places (n, 3); column and row are NaN behind the camera."""
        pose = np.array(self.pose)
        x, y, z = ((world - pose[:3]) @ rotation(pose[3:])).T
        fx, fy, cx, cy = self.intrinsics
        ahead = np.where(z > _NEAREST_M, z, np.nan)
        return x / ahead * fx + cx, y / ahead * fy + cy, z


def seen_colours(
    places: NDArray[np.floating], surface: NDArray[np.floating], pictures: Sequence[Picture], placement: Placement
) -> NDArray[np.uint8]:
    """Colours of places, shape (n, 3): the mean of what the images show, the nearer the more; grey where none shows one.

    Args:
        places: shape (n, 3), in the room's coordinates.
        surface: shape (m, 3), densely what hides other things from a camera.
        pictures: in any fixed order; the same order gives the same bytes.
        placement: where the room lies in the world.
    """
    total, weight = np.zeros((len(places), 3)), np.zeros(len(places))
    world = _in_world(places, placement)
    hiding = _in_world(surface[:: -(-len(surface) // _MOST_HIDING) or 1], placement)
    for picture in pictures:
        rows, pixels, distance = _visible(picture, world, hiding)
        share = 1.0 / np.square(distance)
        total[rows] += pixels * share[:, None]
        weight[rows] += share
    colours = np.full((len(places), 3), UNSEEN, dtype=np.uint8)
    seen = weight > 0
    colours[seen] = np.rint(total[seen] / weight[seen, None]).astype(np.uint8)
    return colours


def _in_world(places: NDArray[np.floating], placement: Placement) -> NDArray[np.float64]:
    moved: NDArray[np.float64] = (places.astype(np.float64) - np.array(placement.translation)) @ np.array(
        placement.rotation
    )
    return moved


def _visible(
    picture: Picture, world: NDArray[np.float64], hiding: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.uint8], NDArray[np.float64]]:
    """Which places a picture shows: their rows, colours and distances."""
    nearest = _nearest(picture, hiding)
    column, row, distance = picture.project(world)
    rows = np.flatnonzero(_within(picture, column, row))
    column, row, distance = column[rows], row[rows], distance[rows]
    limit = nearest[_cells(picture, column, row)]
    free = distance < limit * (1 + _HIDDEN_SHARE) + _HIDDEN_M
    height, width = picture.pixels.shape[:2]
    u = np.clip(np.rint(column[free]).astype(np.intp), 0, width - 1)
    v = np.clip(np.rint(row[free]).astype(np.intp), 0, height - 1)
    return rows[free], picture.pixels[v, u], distance[free]


def _nearest(picture: Picture, hiding: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each cell of the raster the distance of the nearest surface in it."""
    column, row, distance = picture.project(hiding)
    within = _within(picture, column, row)
    nearest = np.full(_RASTER * _RASTER, np.inf)
    np.minimum.at(nearest, _cells(picture, column[within], row[within]), distance[within])
    # Near surfaces have cells between their voxels that none falls into.
    filled: NDArray[np.float64] = ndimage.minimum_filter(nearest.reshape(_RASTER, _RASTER), 3, mode="nearest").reshape(
        -1
    )
    return filled


def _within(picture: Picture, column: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.bool_]:
    height, width = picture.pixels.shape[:2]
    # Pixels begin half a one before their centres. Comparisons with NaN, of what is behind the camera, are false.
    inside: NDArray[np.bool_] = (np.abs(column + 0.5 - width / 2) < width / 2) & (
        np.abs(row + 0.5 - height / 2) < height / 2
    )
    return inside


def _cells(picture: Picture, column: NDArray[np.float64], row: NDArray[np.float64]) -> NDArray[np.intp]:
    height, width = picture.pixels.shape[:2]
    across = ((column + 0.5) / width * _RASTER).astype(np.intp)
    down = ((row + 0.5) / height * _RASTER).astype(np.intp)
    cells: NDArray[np.intp] = np.minimum(down, _RASTER - 1) * _RASTER + np.minimum(across, _RASTER - 1)
    return cells


def picture(frame: RgbFrame, image: bytes | None = None) -> Picture | None:
    """The picture of an `rgb` frame; None if it has no image, pose or intrinsics, or cannot be read.

    Args:
        frame: the frame; its intrinsics are those of an image of its `width` and `height`.
        image: the file that it names, if the image is not in the frame itself.
    """
    data, (fx, fy, cx, cy) = frame.image or image, (frame.fx, frame.fy, frame.cx, frame.cy)
    if data is None or frame.pose is None or fx is None or fy is None or cx is None or cy is None:
        return None
    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                return None
            said = (frame.width or opened.width, frame.height or opened.height)
            opened.thumbnail((_MAX_SIDE_PX, _MAX_SIDE_PX))
            pixels = np.asarray(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError, zlib.error, struct.error, Image.DecompressionBombError):
        # What Pillow raises for damaged files, and for those that claim far too many pixels.
        return None
    across, down = pixels.shape[1] / said[0], pixels.shape[0] / said[1]
    # Centres of pixels are at integers, so the image begins half a pixel before the first one.
    scaled = (fx * across, fy * down, (cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5)
    return Picture(pixels, scaled, frame.pose)
