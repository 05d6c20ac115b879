"""Meshes and clouds as files: PLY (binary), OBJ, GLB. Metres; z up but for GLB, which is y up as its standard says."""

from __future__ import annotations

import json
import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.mesh import Mesh

_GLB_MAGIC: Final = 0x46546C67
_JSON_CHUNK: Final = 0x4E4F534A
_BIN_CHUNK: Final = 0x004E4942
_FLOAT: Final = 5126
_UINT32: Final = 5125
_UINT8: Final = 5121
_ARRAY: Final = 34962
_INDICES: Final = 34963


def cloud_ply(points: NDArray[np.floating], colours: NDArray[np.uint8] | None = None) -> bytes:
    """Points (n, 3) as PLY."""
    return _ply_head(len(points), has_colours=colours is not None) + b"end_header\n" + _ply_vertices(points, colours)


def mesh_ply(mesh: Mesh) -> bytes:
    """A mesh as PLY."""
    faces = np.empty(len(mesh), dtype=[("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.triangles
    head = _ply_head(len(mesh.vertices), has_colours=mesh.colours is not None)
    head += f"element face {len(mesh)}\nproperty list uchar int vertex_indices\nend_header\n".encode()
    return head + _ply_vertices(mesh.vertices, mesh.colours) + faces.tobytes()


def _ply_head(count: int, *, has_colours: bool) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0", "comment metres, z up", f"element vertex {count}"]
    lines += [f"property float {axis}" for axis in "xyz"]
    if has_colours:
        lines += [f"property uchar {name}" for name in ("red", "green", "blue")]
    return ("\n".join(lines) + "\n").encode()


def _ply_vertices(points: NDArray[np.floating], colours: NDArray[np.uint8] | None) -> bytes:
    if colours is None:
        return points.astype("<f4").tobytes()
    rows = np.empty(len(points), dtype=[("place", "<f4", 3), ("colour", "u1", 3)])
    rows["place"], rows["colour"] = points, colours
    return rows.tobytes()


def mesh_obj(mesh: Mesh) -> bytes:
    """A mesh as OBJ, millimetres printed; colours behind the coordinates, as most programs read them."""
    lines = ["# metres, z up"]
    if mesh.colours is None:
        lines += [f"v {x:.3f} {y:.3f} {z:.3f}" for x, y, z in mesh.vertices.tolist()]
    else:
        both = np.concatenate([mesh.vertices, mesh.colours / 255], axis=1).tolist()
        lines += [f"v {x:.3f} {y:.3f} {z:.3f} {r:.3f} {g:.3f} {b:.3f}" for x, y, z, r, g, b in both]
    lines += [f"f {a} {b} {c}" for a, b, c in (mesh.triangles + 1).tolist()]
    return ("\n".join(lines) + "\n").encode()


def mesh_glb(mesh: Mesh) -> bytes:
    """A mesh as binary glTF 2.0, y up."""
    x, y, z = mesh.vertices.T
    places = np.stack([x, z, -y], axis=1).astype("<f4")
    parts = [(places.tobytes(), _ARRAY), (mesh.triangles.astype("<u4").tobytes(), _INDICES)]
    accessors: list[dict[str, object]] = [
        _accessor(0, _FLOAT, len(places), "VEC3")
        | {"min": places.min(axis=0).tolist(), "max": places.max(axis=0).tolist()},
        _accessor(1, _UINT32, mesh.triangles.size, "SCALAR"),
    ]
    attributes = {"POSITION": 0}
    if mesh.colours is not None:
        opaque = np.column_stack([mesh.colours, np.full(len(places), 255, dtype=np.uint8)])
        parts.append((opaque.tobytes(), _ARRAY))
        accessors.append(_accessor(2, _UINT8, len(places), "VEC4") | {"normalized": True})
        attributes["COLOR_0"] = 2
    return _glb(parts, accessors, attributes)


def _accessor(view: int, kind: int, count: int, shape: str) -> dict[str, object]:
    return {"bufferView": view, "componentType": kind, "count": count, "type": shape}


def _glb(parts: list[tuple[bytes, int]], accessors: list[dict[str, object]], attributes: dict[str, int]) -> bytes:
    views, offset = [], 0
    for data, target in parts:  # every part is a multiple of four bytes long
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": len(data), "target": target})
        offset += len(data)
    primitive = {"attributes": attributes, "indices": 1, "material": 0}
    scene = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "room"}],
        "meshes": [{"primitives": [primitive]}],
        "materials": [{"doubleSided": True, "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), _JSON_CHUNK) + text + struct.pack("<II", offset, _BIN_CHUNK)
    body = chunks + b"".join(data for data, _ in parts)
    return struct.pack("<III", _GLB_MAGIC, 2, 12 + len(body)) + body
