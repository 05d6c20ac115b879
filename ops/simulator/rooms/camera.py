"""What a depth camera with the noise of a phone's LiDAR sees of a room on a walk through it.

Noise: zero-mean with a standard deviation of 4 mm + 1.5 mm·z², 30 % of the pixels at depth edges fly between the two
surfaces, millimetres are whole, nothing comes back from beyond 5 m (measured parameters of the trial, docs/scans.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ops.simulator.rooms.scene import Scene
from ops.simulator.rooms.shapes import Room, distances_inside
from processors.scans.poses import quaternion

WIDTH: Final = 256
HEIGHT: Final = 192
FOCAL_PX: Final = 212.0
_RANGE_M: Final = 5.0
_EDGE_M: Final = 0.1
_NEAREST_M: Final = 0.1
_OFF_WALL_M: Final = 0.7
_FLYING_SHARE: Final = 0.3
_FRAME_MS: Final = 500
# From one place to the next.
_WALK_MS: Final = 5_000
_PITCHES_DEG: Final = (-28.0, 5.0, 32.0)


@dataclass(frozen=True, slots=True)
class Camera:
    """Size in pixels and focal length; the axis goes through the middle of the image."""

    width: int
    height: int
    focal_px: float

    def rays(self) -> NDArray[np.float64]:
        """Directions of the pixels in the camera's frame with z = 1, so that a distance is a depth; shape (n, 3)."""
        u, v = np.meshgrid(np.arange(self.width), np.arange(self.height))
        x, y = (u - (self.width - 1) / 2) / self.focal_px, (v - (self.height - 1) / 2) / self.focal_px
        return np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3)


@dataclass(frozen=True, slots=True)
class Imperfection:
    """How the recording differs from a perfect one.

    Attributes:
        noise: multiplies the depth noise.
        drift_m: how far the pose has wandered off at the end; the heading by 20 degrees per metre of it.
        wrong_poses: share of frames whose pose is off by about a metre.
        blur_px: neighbouring pixels err alike over so many, as on a phone, which interpolates few laser dots; 0: each by itself.
    """

    noise: float = 1.0
    drift_m: float = 0.0
    wrong_poses: float = 0.0
    blur_px: float = 0.0


@dataclass(frozen=True, slots=True)
class DepthFrame:
    """One frame: depth in whole millimetres along the optical axis, 0 = no return; pose x, y, z, qx, qy, qz, qw."""

    camera: Camera
    depth_mm: NDArray[np.uint16]
    pose: NDArray[np.float64]
    captured_at_ms: int


def walk(
    room: Room, seed: int, frames: int = 120, imperfection: Imperfection | None = None, shrink: int = 1
) -> Iterator[DepthFrame]:
    """The frames of somebody who turns around at a few places of the room.

    Args:
        room: where.
        seed: of the path and the noise.
        frames: how many.
        imperfection: how the recording differs from a perfect one.
        shrink: divides width, height and focal length, for quick tests.
    """
    how = imperfection or Imperfection()
    random = np.random.default_rng([seed, 2])
    scene = Scene(room)
    camera = Camera(WIDTH // shrink, HEIGHT // shrink, FOCAL_PX / shrink)
    rays = camera.rays()
    stations = _stations(room, max(2, min(6, frames // 20)))
    heading = float(random.uniform(0, 2 * math.pi))
    drift_to = random.normal(size=3)
    drift_to *= how.drift_m / max(float(np.linalg.norm(drift_to)), 1e-9)
    turn_to = math.radians(how.drift_m * 20) * float(random.choice([-1, 1]))
    per_station = -(-frames // len(stations))
    now_ms = 1_760_000_000_000
    for number in range(frames):
        step = number % per_station
        now_ms += _FRAME_MS if step else _WALK_MS
        yaw = heading + 2 * math.pi * step / per_station * len(_PITCHES_DEG) + 0.1 * (number // per_station)
        pitch = math.radians(_PITCHES_DEG[step * len(_PITCHES_DEG) // per_station] + float(random.normal(0, 2)))
        matrix = _look(yaw, pitch, math.radians(float(random.normal(0, 2))))
        origin = np.array([*stations[number // per_station], 1.45]) + random.normal(0, 0.03, 3)
        depth = scene.distances(origin, rays @ matrix.T).reshape(camera.height, camera.width)
        share = number / max(frames - 1, 1)
        wander = _about_z(turn_to * share)
        origin, matrix = wander @ origin + drift_to * share, wander @ matrix
        if random.random() < how.wrong_poses:
            origin = origin + random.normal(0, 0.6, 3)
        yield DepthFrame(camera, _measured(depth, random, how), np.array([*origin, *quaternion(matrix)]), now_ms)


def _look(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Optical axes (right, down, forward) as columns, in the world."""
    forward = np.array([math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch)])
    right = np.array([math.sin(yaw), -math.cos(yaw), 0.0])
    down = np.cross(forward, right)
    turned_right = math.cos(roll) * right + math.sin(roll) * down
    return np.stack([turned_right, np.cross(forward, turned_right), forward], axis=1)


def _about_z(angle: float) -> NDArray[np.float64]:
    return np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])


def _stations(room: Room, count: int) -> list[NDArray[np.float64]]:
    """Places at least 0.7 m from the walls and far from each other."""
    low, high = room.corners.min(axis=0), room.corners.max(axis=0)
    grid = np.stack(np.meshgrid(np.arange(low[0], high[0], 0.15), np.arange(low[1], high[1], 0.15)), -1).reshape(-1, 2)
    is_free = distances_inside(room.corners, grid) > _OFF_WALL_M
    for box in room.furniture:
        is_free &= np.linalg.norm(grid - box.center, axis=1) > math.hypot(*box.size[:2]) / 2 + 0.15
    places = grid[is_free]
    chosen = [places[int(np.argmin(np.linalg.norm(places - places.mean(axis=0), axis=1)))]]
    while len(chosen) < count:
        nearest = np.min([np.linalg.norm(places - c, axis=1) for c in chosen], axis=0)
        chosen.append(places[int(np.argmax(nearest))])
    return chosen


def _measured(depth: NDArray[np.float64], random: np.random.Generator, how: Imperfection) -> NDArray[np.uint16]:
    seen = np.where(np.isfinite(depth), depth, 0.0)
    noisy = seen + _noise(random, seen.shape, how.blur_px) * how.noise * (0.004 + 0.0015 * seen**2)
    right, below = np.roll(seen, -1, axis=1), np.roll(seen, -1, axis=0)
    other = np.where(np.abs(right - seen) > _EDGE_M, right, below)
    flies = (np.abs(other - seen) > _EDGE_M) & (other > 0) & (seen > 0) & (random.random(seen.shape) < _FLYING_SHARE)
    share = random.random(seen.shape)
    noisy = np.where(flies, share * seen + (1 - share) * other, noisy)
    returned = (seen > 0) & (seen < _RANGE_M) & (noisy > _NEAREST_M)
    millimetres: NDArray[np.uint16] = np.where(returned, np.rint(noisy * 1000), 0).astype(np.uint16)
    return millimetres


def _noise(random: np.random.Generator, shape: tuple[int, ...], blur_px: float) -> NDArray[np.float64]:
    """Of unit standard deviation."""
    noise: NDArray[np.float64] = random.normal(size=shape)
    if blur_px:
        noise = ndimage.gaussian_filter(noise, blur_px)
        noise /= noise.std()
    return noise
