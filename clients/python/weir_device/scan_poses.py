"""Where a camera stood: poses as Weir wants them, made once from what phones give, and which frames are worth sending.

Weir's world is z-up (x forward, y left), its cameras are optical (x right, y down, z forward). ARKit's and ARCore's world is
y-up, their cameras look along -z with y up. Border: numbers only; plain Python, so that it works where numpy does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
"""x, y, z, w."""

LEVEL: Vector = (0.0, 0.0, -1.0)
"""Gravity in a world that the phone has levelled, as ARKit (unless told otherwise) and ARCore do."""

_FARTHEST_M = 10_000.0
_MAX_SIDE_PX = 8_192
# (x, y, z) -> (-z, -x, y), and diag(1, -1, -1), which is half a turn about x.
_Y_UP_TO_Z_UP: Quaternion = (0.5, -0.5, -0.5, 0.5)
_OPTICAL: Quaternion = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Pose:
    """Position and unit quaternion that take camera coordinates into the world: p_world = R(q) p_camera + position.

    Raises:
        ValueError: a number is not finite, the position is beyond 10 km, or the quaternion is all zeros; any other length is
            made 1.
    """

    position: Vector
    quaternion: Quaternion

    def __post_init__(self) -> None:
        length = math.hypot(*self.quaternion)
        near = all(abs(coordinate) <= _FARTHEST_M for coordinate in self.position)
        if not near or not 0 < length < math.inf:
            msg = f"pose {self.position} {self.quaternion} must be finite, within 10 km, its quaternion not zero"
            raise ValueError(msg)
        object.__setattr__(self, "quaternion", tuple(each / length for each in self.quaternion))

    def numbers(self) -> list[float]:
        """x, y, z, qx, qy, qz, qw."""
        return [float(each) for each in (*self.position, *self.quaternion)]

    def turned(self, direction: Vector) -> Vector:
        """A direction of the camera in the world."""
        x, y, z, _ = _product(_product(self.quaternion, (*direction, 0.0)), _conjugate(self.quaternion))
        return x, y, z


def from_arcore(translation: Sequence[float], rotation: Sequence[float]) -> Pose:
    """The pose of ARCore's `Camera.getPose()`: `getTranslation` and `getRotationQuaternion` (x, y, z, w)."""
    x, y, z = translation
    qx, qy, qz, qw = rotation
    return Pose((-z, -x, y), _product(_product(_Y_UP_TO_Z_UP, (qx, qy, qz, qw)), _OPTICAL))


def from_arkit(columns: Sequence[Sequence[float]]) -> Pose:
    """The pose of ARKit's `ARCamera.transform`: its four columns of four numbers."""
    return from_arcore(tuple(columns[3][:3]), _quaternion(columns))


def gravity_in_world(down: Vector, pose: Pose) -> Vector:
    """Unit vector pointing down in the world, of one in the optical camera's frame of any length.

    An accelerometer at rest measures the opposite: it shows upwards.

    Raises:
        ValueError: `down` is zero or not finite.
    """
    length = math.hypot(*down)
    if not 0 < length < math.inf:
        msg = f"down {down} must be a finite vector that is not zero"
        raise ValueError(msg)
    x, y, z = pose.turned(down)
    return x / length, y / length, z / length


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Of an image of `width` x `height` pixels; pixel centres at integers.

    Raises:
        ValueError: a size or focal length is not positive, a side has more than 8192 pixels, or a number is not finite.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    def __post_init__(self) -> None:
        sides_fit = all(1 <= side <= _MAX_SIDE_PX for side in (self.width, self.height))
        if not sides_fit or not all(0 < focal < math.inf for focal in (self.fx, self.fy)):
            msg = f"{self} must have sides of 1 to {_MAX_SIDE_PX} pixels and focal lengths above 0"
            raise ValueError(msg)
        if not (math.isfinite(self.cx) and math.isfinite(self.cy)):
            msg = f"{self} must have a finite centre"
            raise ValueError(msg)

    def scaled_to(self, width: int, height: int) -> Intrinsics:
        """Of the same view in another size, such as the depth image of a colour image.

        ARKit gives those of the colour image (1920 x 1440); its depth image has 256 x 192 pixels.
        """
        across, down = width / self.width, height / self.height
        return Intrinsics(
            width,
            height,
            self.fx * across,
            self.fy * down,
            # A pixel's centre is half a pixel from the image's edge, whatever its size.
            (self.cx + 0.5) * across - 0.5,
            (self.cy + 0.5) * down - 0.5,
        )


class KeyframeRule:
    """Which frames are worth sending: those after enough movement, turning or time.

    Args:
        moved_m: since the last frame sent.
        turned_deg: since the last frame sent.
        every_s: so long without a frame and one is sent anyway.
    """

    def __init__(self, moved_m: float = 0.1, turned_deg: float = 10.0, every_s: float = 1.0) -> None:
        self._moved_m = moved_m
        self._turned_rad = math.radians(turned_deg)
        self._every_ms = every_s * 1000
        self._last: tuple[Pose, int] | None = None

    def wants(self, pose: Pose, captured_at: int) -> bool:
        """Whether to send a frame of this pose and time (epoch milliseconds); `sent` says that it was."""
        if self._last is None:
            return True
        last, last_at = self._last
        cosine = abs(sum(one * other for one, other in zip(last.quaternion, pose.quaternion, strict=True)))
        turned = 2 * math.acos(min(cosine, 1.0))
        moved = math.dist(last.position, pose.position)
        return moved >= self._moved_m or turned >= self._turned_rad or captured_at - last_at >= self._every_ms

    def sent(self, pose: Pose, captured_at: int) -> None:
        """Measure from this frame on."""
        self._last = pose, captured_at


def _product(a: Quaternion, b: Quaternion) -> Quaternion:
    """Turn by b, then by a."""
    ax, ay, az, aw = a
    bx, by, bz, bw = b
    return (
        aw * bx + ax * bw + ay * bz - az * by,
        aw * by - ax * bz + ay * bw + az * bx,
        aw * bz + ax * by - ay * bx + az * bw,
        aw * bw - ax * bx - ay * by - az * bz,
    )


def _conjugate(q: Quaternion) -> Quaternion:
    x, y, z, w = q
    return -x, -y, -z, w


def _quaternion(columns: Sequence[Sequence[float]]) -> Quaternion:
    """Of a rotation given by its columns (Shepperd: divide by the largest component)."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (tuple(column[:3]) for column in columns[:3])
    squares = (1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz, 1 + xx + yy + zz)
    rows: tuple[Quaternion, ...] = (
        (squares[0], xy + yx, xz + zx, yz - zy),
        (xy + yx, squares[1], yz + zy, zx - xz),
        (xz + zx, yz + zy, squares[2], xy - yx),
        (yz - zy, zx - xz, xy - yx, squares[3]),
    )
    return rows[squares.index(max(squares))]
