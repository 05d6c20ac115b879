"""From what was seen to the result document: the one way in which previews and final results are measured.

`ScanMap` takes frames as they come; `measure_scan` may be called at any time, with the same code for a preview and for the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress
from typing import Final, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from processors.scans import mistakes
from processors.scans.agreement import astray
from processors.scans.measure import DEPTH_CAMERA, SCANNER, RoomMeasurement, Sensor, clean, measure_room
from processors.scans.mirrors import Folding, rays_of
from processors.scans.motion import consistent_walk, every_place
from processors.scans.objects import find_objects
from processors.scans.openings import Opening, OpeningSearch
from processors.scans.poses import rotation
from processors.scans.report import document
from processors.scans.result import Mistake, ScanResult, Verdict
from processors.scans.scan_map import (
    FrameNote,
    FrameReader,
    FrameVerdict,
    Refusal,
    ScanMap,
    add_frame,
    depth_of,
    intrinsics_of,
)
from processors.scans.voxels import VoxelMap, Voxels
from schemas.scan_frames import DepthFrame, PointsFrame

__all__ = ["FrameReader", "FrameVerdict", "ScanMap", "measure_scan"]

_Judge: TypeAlias = Callable[[NDArray[np.int64], NDArray[np.float64]], NDArray[np.bool_]]

# A preview looks for openings in so many frames at most, evenly spread, and at every second pixel of every second row of
# them: what shows a door shows it in many.
_PREVIEW_FRAMES = 12
_PREVIEW_STEP = 2
# Who looked at one part of the room far more often than at the rest has a median above all of the rest.
_CUTS: Final = (1.0, 0.5)
_FEW_JUMP: Final = 10
_UP = np.array([0.0, 0.0, 1.0])
_Y_UP = np.array([0.0, 1.0, 0.0])


def measure_scan(scan_map: ScanMap, read: FrameReader, *, ended: bool = True) -> ScanResult:
    """Measure what is there.

    Args:
        scan_map: with all frames and clouds added.
        read: gives a frame again by its seq: rays for openings, and frames to take out again.
        ended: False for a preview, which looks for openings in fewer frames.
    """
    rejected = {note.seq: note.reason for note in scan_map.notes if note.reason is not None}
    kind = scan_map.measured_kind()
    notes = [note for note in scan_map.notes if note.kind == kind and note.reason is None]
    found = mistakes.of_frames(scan_map.notes)
    if kind == "cloud":
        centers = scan_map.map_of(kind).voxels().center
        found += mistakes.of_cloud(np.median(centers, axis=0), centers) if len(centers) else []
    if mistakes.FATAL & set(found) or not (notes or scan_map.cloud_points):
        nothing = RoomMeasurement(missing_parts=("everything",))
        return document(nothing, rejected=rejected, accepted=len(notes), warnings=found)
    result = _measured(kind, scan_map.map_of(kind), notes, read, rejected, ended=ended)
    return msgspec.structs.replace(result, warnings=(*found, *result.warnings))


def _walk(notes: list[FrameNote], judge: _Judge = consistent_walk) -> tuple[list[FrameNote], list[FrameNote]]:
    if not notes:
        return [], []
    times = np.array([note.captured_at for note in notes])
    kept = judge(times, np.array([note.pose for note in notes]))
    return list(compress(notes, kept)), list(compress(notes, ~kept))


def _without(everything: VoxelMap, notes: list[FrameNote], read: FrameReader) -> Voxels:
    if not notes:
        return everything.voxels()
    unwanted = VoxelMap(everything.side)
    for note in notes:
        add_frame(unwanted, _seen(read, note))
    return everything.without(unwanted)


def _seen(read: FrameReader, note: FrameNote) -> DepthFrame | PointsFrame:
    frame = read(note.seq)
    if not isinstance(frame, DepthFrame | PointsFrame):
        detail = f"frame {note.seq} is read as {type(frame).__name__}, was added as {note.kind}"
        raise TypeError(detail)
    return frame


def _measured(
    kind: str, everything: VoxelMap, notes: list[FrameNote], read: FrameReader, rejected: dict[int, str], *, ended: bool
) -> ScanResult:
    sensor = DEPTH_CAMERA if kind == "depth" else SCANNER
    kept, jumped = _walk(notes)
    voxels = _without(everything, jumped, read)
    # A preview of poses that jump about can wait for its end: what they smear takes long to look through.
    few_jump = len(jumped) * _FEW_JUMP <= len(notes)
    cuts = _CUTS if not sensor.is_sparse and (ended or few_jump) else _CUTS[:1]
    room, sensor = _room(voxels, kept, sensor, cuts)
    if ended and not few_jump and room.verdict is Verdict.INCOMPLETE:
        # Not a walk with wrong poses, perhaps, but a tripod that stood at two or three places.
        placed, left = _walk(notes, every_place)
        apart = _without(everything, left, read)
        other, light = _room(apart, placed, sensor, cuts)
        if other.verdict is not Verdict.INCOMPLETE:
            room, sensor, kept, jumped, voxels = other, light, placed, left, apart
    wrong = astray([note.sampled() for note in kept], voxels, room.planes)
    wrong &= not sensor.is_sparse  # a scanner knows where it stands, and its voxels are too few to vote
    strays, kept = list(compress(kept, wrong)), list(compress(kept, ~wrong))
    if strays:
        voxels = _without(everything, [*jumped, *strays], read)
        room, sensor = _room(voxels, kept, sensor, cuts)
    rejected |= dict.fromkeys((note.seq for note in jumped), Refusal.POSE_JUMP.value)
    rejected |= dict.fromkeys((note.seq for note in strays), Refusal.DISAGREES.value)
    openings, mirrors, objects = [], bool(room.mirrors), []
    if room.walls:
        points = clean(voxels, sensor).center @ room.turn.T
        objects = find_objects(points, room.walls, room.floor_z, room.ceiling_at(points[:, :2]))
        chosen = kept if ended else kept[:: max(1, len(kept) // _PREVIEW_FRAMES)]
        found = _openings(room, chosen, read, 1 if ended else _PREVIEW_STEP)
        if found and not sensor.is_sparse:
            folding = _folding(room, points, kept)
            openings = [one for one in found if not folding.is_mirror(one)]
        else:
            openings = found
        mirrors |= len(openings) < len(found)
    return document(
        room,
        rejected=rejected,
        accepted=len(kept),
        points=int(voxels.count.sum()),
        openings=openings,
        objects=objects,
        warnings=[Mistake.MIRROR] if mirrors else [],
    )


def _folding(room: RoomMeasurement, points: NDArray[np.float64], notes: list[FrameNote]) -> Folding:
    cameras = np.array([note.pose[:3] for note in notes]).reshape(-1, 3) @ room.turn.T
    rays = rays_of(cameras, [note.sampled() @ room.turn.T for note in notes])
    return Folding(room.walls, points, room.floor_z, room.ceiling_at(points[:, :2]), rays)


def _room(
    voxels: Voxels, notes: list[FrameNote], sensor: Sensor, cuts: Sequence[float]
) -> tuple[RoomMeasurement, Sensor]:
    """The room by the first cut that shows all of one, else by the first; and how its voxels were cut."""
    cameras, samples = np.array([note.pose[:3] for note in notes]).reshape(-1, 3), [note.sampled() for note in notes]
    found = []
    for cut in cuts:
        trial = replace(sensor, cut=cut)
        found.append((measure_room(voxels, cameras, _up(notes), trial, samples), trial))
        if found[-1][0].verdict is not Verdict.INCOMPLETE:
            return found[-1]
    return found[0]


def _up(notes: list[FrameNote]) -> NDArray[np.float64]:
    """Against the mean of what the frames say of gravity; z where they say nothing."""
    down = [note.gravity for note in notes if note.gravity is not None]
    if not down:
        return _Y_UP if mistakes.is_y_up(notes) else _UP
    mean: NDArray[np.float64] = -np.array(down).mean(axis=0)
    length = float(np.linalg.norm(mean))
    return mean / length if length > 0.5 else _UP  # noqa: PLR2004 - frames that contradict each other say nothing


def _openings(room: RoomMeasurement, notes: list[FrameNote], read: FrameReader, step: int) -> list[Opening]:
    search = OpeningSearch(room.walls, room.floor_z, room.top_z - room.floor_z)
    for note in notes:
        pose = np.array(note.pose)
        ends, returned = _rays(_seen(read, note), step)
        turn = room.turn @ rotation(pose[3:])
        camera = room.turn @ pose[:3]
        search.add(camera, ends @ turn.T + camera, returned)
    return search.openings()


def _rays(frame: DepthFrame | PointsFrame, step: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Ends of the rays in the sensor's frame, and whether anything came back; a point at depth 1 where nothing did.

    Of an image, every so many columns and rows.
    """
    if isinstance(frame, PointsFrame):
        from processors.scans.codec import points_m  # noqa: PLC0415

        own = points_m(frame)
        return own, np.ones(len(own), dtype=bool)
    depth = depth_of(frame)[::step, ::step] / 1000
    camera = intrinsics_of(frame)
    v, u = step * np.indices(depth.shape).reshape(2, -1)
    depth = depth.reshape(-1)
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones(len(depth))], axis=1)
    return rays * np.where(depth > 0, depth, 1.0)[:, None], depth > 0
