"""What has been seen of a scan so far: three voxel maps (depth images, scanner sweeps, whole clouds) and a note on every frame.

Frames may come in any order and repeatedly; the same frames give the same bytes. Memory grows with the space seen and the
number of frames, never with the points: a cloud of 100 MB is a few MB here. Which frames can belong to one walk is judged when
one measures, so nothing is lost if the first frame is the wrong one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from processors.scans import codec
from processors.scans.agreement import SAMPLE_POINTS
from processors.scans.fusion import Intrinsics, backproject, in_range, points_at, unit_points
from processors.scans.poses import rotation
from processors.scans.voxels import CLOUD_UNITS, REACH_M, VoxelMap
from schemas.errors import Rejected
from schemas.scan_frames import DepthFrame, PointsFrame, ScanFrame

FrameReader: TypeAlias = Callable[[int], ScanFrame]
"""Gives a frame again by its seq; only asked for frames that were added."""
_Row = TypeVar("_Row", bound=np.generic)

_VERSION: Final = 3
_LEAST_CONFIDENCE: Final = 1
_LEAST_POINTS: Final = 50
_SAMPLED_PER_POINT: Final = 4
# Depth cameras see 20 to 120 degrees across; colour intrinsics on a small depth image give 9.
_NARROWEST: Final = 0.2
_WIDEST: Final = 2.2
_FARTHEST_CLOUD_M: Final = REACH_M / 2


class Refusal(StrEnum):
    """Why a frame takes no part, beside the reasons of its payload (`schemas.errors.Reason`)."""

    TRACKING_LOST = "tracking_lost"
    NOTHING_IN_RANGE = "nothing_in_range"
    DEPTH_NOT_MILLIMETRES = "depth_not_in_millimetres"
    IMPOSSIBLE_INTRINSICS = "impossible_intrinsics"
    POSE_JUMP = "pose_jump"
    DISAGREES = "disagrees_with_other_frames"


@dataclass(frozen=True, slots=True)
class FrameVerdict:
    """Whether a frame takes part so far, why not, and how many points it gave."""

    accepted: bool
    reason: str | None
    points: int


class FrameNote(msgspec.Struct, array_like=True, frozen=True):
    """What is kept of a depth or points frame."""

    seq: int
    kind: str
    captured_at: int
    pose: tuple[float, ...]
    points: int
    reason: str | None
    gravity: tuple[float, float, float] | None
    sample: bytes = b""

    def sampled(self) -> NDArray[np.float64]:
        """Some of its points in the world, evenly picked; shape (k, 3), metres."""
        own = np.frombuffer(self.sample, dtype="<f4").reshape(-1, 3).astype(np.float64)
        world: NDArray[np.float64] = own + np.array(self.pose[:3])
        return world


class _State(msgspec.Struct, array_like=True):
    version: int
    notes: list[FrameNote]
    maps: dict[str, bytes]
    cloud_points: int
    cloud_dropped: int


class ScanMap:
    """Takes frames and clouds; `measure_scan` measures it."""

    def __init__(self) -> None:
        self._notes: dict[int, FrameNote] = {}
        self._maps = {"depth": VoxelMap(), "points": VoxelMap(CLOUD_UNITS), "cloud": VoxelMap(CLOUD_UNITS)}
        self.cloud_points = 0
        self.cloud_dropped = 0

    @property
    def notes(self) -> list[FrameNote]:
        """Of all depth and points frames, by seq."""
        return [self._notes[seq] for seq in sorted(self._notes)]

    def map_of(self, kind: str) -> VoxelMap:
        """The voxels of `depth` frames, `points` frames or the `cloud`."""
        return self._maps[kind]

    def measured_kind(self) -> str:
        """What is measured from: depth frames if one was accepted, else a scanner's sweeps, else the cloud."""
        for kind in ("depth", "points"):
            if any(note.kind == kind and note.reason is None for note in self._notes.values()):
                return kind
        return "cloud"

    def add(self, seq: int, frame: ScanFrame) -> FrameVerdict:
        """Add a frame. One that came before changes nothing; other types than depth and points are taken and not used."""
        if not isinstance(frame, DepthFrame | PointsFrame):
            return FrameVerdict(accepted=True, reason=None, points=0)
        if seq not in self._notes:
            self._notes[seq] = self._take(seq, frame)
        note = self._notes[seq]
        return FrameVerdict(note.reason is None, note.reason, note.points)

    def add_cloud(self, blocks: Iterable[NDArray[np.floating]]) -> int:
        """Add points (n, 3) that have no pose, metres; returns how many could be used. Not idempotent: call once a file."""
        used = 0
        for block in blocks:
            points = _near(block)
            self._maps["cloud"].add(points)
            used += len(points)
            self.cloud_dropped += len(block) - len(points)
        self.cloud_points += used
        return used

    def to_bytes(self) -> bytes:
        """All of it, for another process to go on with; the same frames in any order give the same bytes."""
        maps = {kind: voxels.to_bytes() for kind, voxels in self._maps.items()}
        return msgspec.msgpack.encode(_State(_VERSION, self.notes, maps, self.cloud_points, self.cloud_dropped))

    @classmethod
    def from_bytes(cls, data: bytes) -> ScanMap:
        """What `to_bytes` gave; `ValueError` if it is of another version."""
        state = msgspec.msgpack.decode(data, type=_State)
        if state.version != _VERSION:
            detail = f"scan map has version {state.version}, expected {_VERSION}; build it again from the frames"
            raise ValueError(detail)
        scan_map = cls()
        scan_map._notes = {note.seq: note for note in state.notes}
        scan_map._maps = {
            kind: VoxelMap.from_bytes(state.maps[kind], empty.side) for kind, empty in scan_map._maps.items()
        }
        scan_map.cloud_points, scan_map.cloud_dropped = state.cloud_points, state.cloud_dropped
        return scan_map

    def _take(self, seq: int, frame: DepthFrame | PointsFrame) -> FrameNote:
        kind = "depth" if isinstance(frame, DepthFrame) else "points"
        try:
            seen = _seen(frame)
        except Rejected as rejected:
            seen = str(rejected.reason)
        if isinstance(seen, str):
            return FrameNote(seq, kind, frame.captured_at, frame.pose, 0, seen, frame.gravity)
        seen.add_to(self._maps[kind])
        return FrameNote(seq, kind, frame.captured_at, frame.pose, seen.count, None, frame.gravity, seen.sample())


@dataclass(frozen=True, slots=True)
class _Image:
    """What a depth frame shows; `count` is how many pixels are in range."""

    depth: NDArray[np.uint16]
    camera: Intrinsics
    pose: NDArray[np.float64]
    count: int

    def points(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return backproject(self.depth, self.camera, self.pose)

    def add_to(self, voxels: VoxelMap) -> None:
        for points in unit_points(self.depth, self.camera, self.pose, voxels.side):
            voxels.add_units(points)

    def sample(self) -> bytes:
        # Of so many pixels, evenly spread, those in range: looking at all of them takes longer than adding them.
        step = max(1, self.depth.size // (_SAMPLED_PER_POINT * SAMPLE_POINTS))
        pixels = np.flatnonzero(in_range(self.depth.reshape(-1)[::step])) * step
        picked = points_at(_some(pixels), self.depth, self.camera, self.pose)
        return (picked - self.pose[:3]).astype("<f4").tobytes()


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What a points frame shows: points in the scanner's frame."""

    own: NDArray[np.float64]
    pose: NDArray[np.float64]

    @property
    def count(self) -> int:
        return len(self.own)

    def points(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return self.own @ rotation(self.pose[3:]).T + self.pose[:3], np.linalg.norm(self.own, axis=1)

    def add_to(self, voxels: VoxelMap) -> None:
        voxels.add(*self.points())

    def sample(self) -> bytes:
        return (_some(self.own) @ rotation(self.pose[3:]).T).astype("<f4").tobytes()


def _near(points: NDArray[np.floating]) -> NDArray[np.floating]:
    """Those that are points, have a voxel and are not (0, 0, 0); comparisons with NaN are false."""
    if points.min() >= -_FARTHEST_CLOUD_M and points.max() <= _FARTHEST_CLOUD_M and points[:, 0].all():
        return points
    kept: NDArray[np.bool_] = (np.abs(points) <= _FARTHEST_CLOUD_M).all(axis=1) & points.any(axis=1)
    return points[kept]


def _some(rows: NDArray[_Row]) -> NDArray[_Row]:
    """At most `SAMPLE_POINTS` of the rows, evenly picked."""
    return rows[:: -(-len(rows) // SAMPLE_POINTS) or 1]


def frame_points(frame: DepthFrame | PointsFrame) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """World points (n, 3) of a frame that was accepted, and their distances (n,) from the sensor."""
    return _accepted(frame).points()


def add_frame(voxels: VoxelMap, frame: DepthFrame | PointsFrame) -> None:
    """Add to a map what `ScanMap.add` adds of a frame that was accepted, to the last bit."""
    _accepted(frame).add_to(voxels)


def intrinsics_of(frame: DepthFrame) -> Intrinsics:
    """Of its depth image."""
    return Intrinsics(frame.fx, frame.fy, frame.cx, frame.cy)


def _accepted(frame: DepthFrame | PointsFrame) -> _Image | _Sweep:
    seen = _seen(frame)
    if isinstance(seen, str):
        detail = f"frame {frame.seq} takes no part: {seen}"
        raise TypeError(detail)
    return seen


def _seen(frame: DepthFrame | PointsFrame) -> _Image | _Sweep | str:
    """What a frame shows, or why it takes no part.

    Raises:
        Rejected: its payload is no good.
    """
    if frame.tracking == "lost":
        return Refusal.TRACKING_LOST.value
    pose = np.array(frame.pose)
    if isinstance(frame, PointsFrame):
        return _Sweep(codec.points_m(frame), pose)
    if not _plausible(frame):
        return Refusal.IMPOSSIBLE_INTRINSICS.value
    depth = depth_of(frame)
    count = int(np.count_nonzero(in_range(depth)))
    if count >= _LEAST_POINTS:
        return _Image(depth, intrinsics_of(frame), pose, count)
    in_metres = 0 < int(depth.max()) < 100  # noqa: PLR2004 - whole metres in a field of millimetres
    return (Refusal.DEPTH_NOT_MILLIMETRES if in_metres else Refusal.NOTHING_IN_RANGE).value


def depth_of(frame: DepthFrame) -> NDArray[np.uint16]:
    """Its depth image without pixels of low confidence."""
    depth, confidence = codec.depth_mm(frame), codec.confidence(frame)
    return depth if confidence is None else depth * (confidence >= _LEAST_CONFIDENCE)


def _plausible(frame: DepthFrame) -> bool:
    """Whether the intrinsics can be of this image: the axis goes through it, and it is neither a needle nor a fish eye."""
    across = max(frame.width / frame.fx, frame.height / frame.fy)
    centred = 0 <= frame.cx <= frame.width - 1 and 0 <= frame.cy <= frame.height - 1
    return centred and _NARROWEST <= 2 * np.arctan(across / 2) <= _WIDEST
