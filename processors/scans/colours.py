"""Colour images of a scan: which colour each pixel of a depth image has."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from processors.scans.poses import rotation
from schemas.scan_frames import DepthFrame, RgbFrame

_UNSEEN: Final = 160
# More than any camera has, far less than a bomb.
_MAX_PIXELS: Final = 40_000_000


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
    captured_at: int

    def seen_by(self, frame: DepthFrame, depth_mm: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Colours of a depth image's pixels, shape (height, width, 3); grey where the picture does not show them."""
        v, u = np.indices(depth_mm.shape)
        depth = depth_mm / 1000.0
        own = np.stack([(u - frame.cx) / frame.fx * depth, (v - frame.cy) / frame.fy * depth, depth], axis=-1)
        pose, mine = np.array(frame.pose), np.array(self.pose)
        world = own @ rotation(pose[3:]).T + pose[:3]
        x, y, z = np.moveaxis((world - mine[:3]) @ rotation(mine[3:]), -1, 0)
        fx, fy, cx, cy = self.intrinsics
        safe = np.where(z > 0, z, 1.0)
        column, row = np.rint(x / safe * fx + cx), np.rint(y / safe * fy + cy)
        height, width = self.pixels.shape[:2]
        shown = (z > 0) & (depth_mm > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        colours = np.full((*depth_mm.shape, 3), _UNSEEN, dtype=np.uint8)
        colours[shown] = self.pixels[row[shown].astype(np.intp), column[shown].astype(np.intp)]
        return colours


def picture(frame: RgbFrame, image: bytes | None = None) -> Picture | None:
    """The picture of an `rgb` frame; None if it has no image, pose or intrinsics, or cannot be read.

    Args:
        frame: the frame.
        image: the file that it names, if the image is not in the frame itself.
    """
    data, camera = frame.image or image, (frame.fx, frame.fy, frame.cx, frame.cy)
    if data is None or frame.pose is None or frame.captured_at is None:
        return None
    fx, fy, cx, cy = camera
    if fx is None or fy is None or cx is None or cy is None:
        return None
    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG")) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                return None
            pixels = np.asarray(opened.convert("RGB"))
    except (OSError, ValueError, SyntaxError):  # what Pillow raises for damaged files
        return None
    return Picture(pixels, (fx, fy, cx, cy), frame.pose, frame.captured_at)
