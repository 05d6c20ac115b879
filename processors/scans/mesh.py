"""The model of a room: a surface fused from depth images (TSDF at 2 cm), or walls, floor and ceiling as measured.

In the room's own coordinates, z up. Open3D is imported only while it works, so that nothing else needs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import shapely
from numpy.typing import NDArray

from processors.scans.colours import Picture, seen_colours
from processors.scans.fusion import FAR_M, NEAR_M
from processors.scans.poses import rotation
from processors.scans.result import ScanResult
from processors.scans.scan_map import FrameReader, ScanMap, depth_of, intrinsics_of
from schemas.scan_frames import DepthFrame

VOXEL_M: Final = 0.02
MAX_TRIANGLES: Final = 60_000
# Merging edges one by one takes seconds for more than this: corners of one 4 cm cell become one first.
_MANY_TRIANGLES: Final = 150_000
_COARSE_M: Final = 0.04
_BLOCK_VOXELS: Final = 16
_BLOCKS: Final = 8_000
_TRUNCATION_VOXELS: Final = 4.0
# Seen by so many frames at least: what one frame alone saw is mostly flying pixels.
_MIN_WEIGHT: Final = 3.0
_MAX_FRAMES: Final = 400
# Corners of the document are whole millimetres.
_ON_EDGE_M: Final = 0.01


@dataclass(frozen=True, slots=True)
class Mesh:
    """Triangles, in an order that depends on the surface alone.

    Attributes:
        vertices: shape (n, 3), metres.
        triangles: shape (m, 3), rows of `vertices`, counter-clockwise from outside of what is solid.
        colours: shape (n, 3), or None.
    """

    vertices: NDArray[np.float32]
    triangles: NDArray[np.int32]
    colours: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.triangles)


def build_mesh(scan_map: ScanMap, read: FrameReader, result: ScanResult, pictures: Sequence[Picture] = ()) -> Mesh:
    """The surface of all depth frames that were measured from; without any, the room as measured (maybe empty).

    Args:
        scan_map: the scan.
        read: gives its frames again.
        result: its measurement, for the frames left out and for where the room lies.
        pictures: colour images with their poses.
    """
    left_out = {one.seq for one in result.frames.rejected}
    seqs = [note.seq for note in scan_map.notes if note.kind == "depth" and note.seq not in left_out]
    if not seqs:
        return shell(result)
    thinned = seqs[:: -(-len(seqs) // _MAX_FRAMES)]
    frames = (frame for seq in thinned if isinstance(frame := read(seq), DepthFrame))
    whole = _extracted(_fused(frames, result))
    if not len(whole):  # a few frames of a small image leave no voxel that enough of them saw
        return shell(result)
    mesh = _decimated(whole)
    if not pictures:
        return mesh
    return replace(mesh, colours=seen_colours(mesh.vertices, whole.vertices, pictures, result.placement))


def shell(result: ScanResult) -> Mesh:
    """Floor, ceiling and walls of the measured polygon, seen from within."""
    corners, height = np.array(result.floor_polygon), result.room_dimensions.height
    if not len(corners) or height is None:
        return _nothing()
    if result.ceiling.parts:
        return _under_parts(corners, [np.array(part.corners) for part in result.ceiling.parts])
    count = len(corners)
    vertices = np.concatenate([np.column_stack([corners, np.full(count, z)]) for z in (0.0, height)])
    floor = _triangulated(corners)
    here = np.arange(count)
    there = (here + 1) % count
    walls = [np.column_stack([here, here + count, there]), np.column_stack([there, here + count, there + count])]
    triangles = np.concatenate([floor, floor[:, ::-1] + count, *walls])
    return Mesh(vertices.astype(np.float32), triangles.astype(np.int32))


def _under_parts(corners: NDArray[np.float64], parts: Sequence[NDArray[np.float64]]) -> Mesh:
    """Each part of the ceiling, and what stands below its edges: walls down to the floor, risers down to the next part."""
    vertices, triangles = [np.column_stack([corners, np.zeros(len(corners))])], [_triangulated(corners)]
    plan, count = shapely.Polygon(corners), len(corners)
    for number, part in enumerate(parts):
        others = [other for place, other in enumerate(parts) if place != number]
        vertices.append(part)
        triangles.append(_triangulated(part[:, :2])[:, ::-1] + count)
        count += len(part)
        for first, last in zip(part, np.roll(part, -1, axis=0), strict=True):
            foot = _foot(first, last, plan, others)
            if foot is not None:
                vertices.append(np.array([foot[0], foot[1], last, first]))
                triangles.append(np.array([[0, 3, 1], [1, 3, 2]]) + count)
                count += 4
    return Mesh(np.concatenate(vertices).astype(np.float32), np.concatenate(triangles).astype(np.int32))


def _foot(
    first: NDArray[np.float64],
    last: NDArray[np.float64],
    plan: shapely.Polygon,
    others: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Where the upright face below an edge of the ceiling ends; None if there is none."""
    middle = shapely.Point((first[:2] + last[:2]) / 2)
    if plan.exterior.distance(middle) < _ON_EDGE_M:
        return np.array([*first[:2], 0.0]), np.array([*last[:2], 0.0])
    for other in others:
        if shapely.Polygon(other[:, :2]).distance(middle) < _ON_EDGE_M:
            low = [_height_over(other, end[:2]) for end in (first, last)]
            if sum(low) < first[2] + last[2] - _ON_EDGE_M:
                return np.array([*first[:2], low[0]]), np.array([*last[:2], low[1]])
    return None


def _height_over(part: NDArray[np.float64], place: NDArray[np.float64]) -> float:
    """Of the plane through a part's corners."""
    terms = np.column_stack([part[:, :2], np.ones(len(part))])
    return float(np.array([*place, 1.0]) @ np.linalg.lstsq(terms, part[:, 2], rcond=None)[0])


def _triangulated(corners: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counter-clockwise triangles of a simple polygon, by its corners' numbers."""
    pieces = shapely.constrained_delaunay_triangles(shapely.Polygon(corners)).geoms
    rings = [shapely.get_coordinates(shapely.geometry.polygon.orient(piece))[:3] for piece in pieces]
    return np.array([[int(np.argmin(np.linalg.norm(corners - at, axis=1))) for at in ring] for ring in rings])


def _fused(frames: Iterable[DepthFrame], result: ScanResult) -> Any:  # noqa: ANN401 - Open3D has no types
    o3d = _open3d()
    core = o3d.core
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight"),
        (core.float32, core.float32),
        ((1,), (1,)),
        VOXEL_M,
        _BLOCK_VOXELS,
        _BLOCKS,
        core.Device("CPU:0"),
    )
    for frame in frames:
        _integrate(o3d, grid, frame, result)
    return grid


def _open3d() -> Any:  # noqa: ANN401
    import open3d  # noqa: PLC0415

    return open3d


def _integrate(o3d: Any, grid: Any, frame: DepthFrame, result: ScanResult) -> None:  # noqa: ANN401
    camera, millimetres = intrinsics_of(frame), depth_of(frame)
    millimetres = np.where(millimetres > NEAR_M * 1000, millimetres, 0).astype(np.uint16)
    matrix = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]])
    intrinsic, extrinsic = o3d.core.Tensor(matrix), o3d.core.Tensor(np.linalg.inv(_room_from_camera(frame, result)))
    depth = o3d.t.geometry.Image(o3d.core.Tensor(millimetres))
    blocks = grid.compute_unique_block_coordinates(depth, intrinsic, extrinsic, 1000.0, FAR_M, _TRUNCATION_VOXELS)
    grid.integrate(blocks, depth, intrinsic, extrinsic, 1000.0, FAR_M, _TRUNCATION_VOXELS)


def _room_from_camera(frame: DepthFrame, result: ScanResult) -> NDArray[np.float64]:
    turn, pose = np.array(result.placement.rotation), np.array(frame.pose)
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ rotation(pose[3:])
    matrix[:3, 3] = turn @ pose[:3] + np.array(result.placement.translation)
    return matrix


def _extracted(grid: Any) -> Mesh:  # noqa: ANN401
    try:
        found = grid.extract_triangle_mesh(_MIN_WEIGHT)
    except RuntimeError:  # what Open3D says of a grid without a surface
        return _nothing()
    if "positions" not in found.vertex or "indices" not in found.triangle:
        return _nothing()
    return _in_order(found.vertex["positions"].numpy(), found.triangle["indices"].numpy())


def _nothing() -> Mesh:
    return Mesh(np.empty((0, 3), dtype=np.float32), np.empty((0, 3), dtype=np.int32))


def _decimated(mesh: Mesh) -> Mesh:
    if len(mesh) <= MAX_TRIANGLES:
        return mesh
    o3d = _open3d()
    whole = o3d.geometry.TriangleMesh(
        o3d.utility.Vector3dVector(mesh.vertices.astype(np.float64)), o3d.utility.Vector3iVector(mesh.triangles)
    )
    if len(mesh) > _MANY_TRIANGLES:
        contraction = o3d.geometry.SimplificationContraction.Quadric
        coarse = whole.simplify_vertex_clustering(_COARSE_M, contraction)
        return _decimated(_in_order(np.asarray(coarse.vertices), np.asarray(coarse.triangles)))
    small = whole.simplify_quadric_decimation(MAX_TRIANGLES)
    return _in_order(np.asarray(small.vertices), np.asarray(small.triangles))


def _in_order(vertices: NDArray[Any], triangles: NDArray[Any]) -> Mesh:
    """Vertices by position, triangles by vertices: threads of Open3D finish in any order."""
    places = np.ascontiguousarray(vertices, dtype=np.float32)
    order = np.lexsort(places.T)
    ordered = places[order]
    is_first = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(axis=1)])
    row = np.empty(len(order), dtype=np.int64)
    row[order] = np.cumsum(is_first) - 1
    first, corners = order[is_first], row[triangles]
    whole = (corners != np.roll(corners, 1, axis=1)).all(axis=1)
    corners = corners[whole]
    start = corners.argmin(axis=1)[:, None]
    corners = np.take_along_axis(corners, (start + np.arange(3)) % 3, axis=1)
    corners = corners[np.lexsort(corners.T)]
    return Mesh(places[first], corners.astype(np.int32))
