"""A measured scan as files: numbers (JSON, CSV), models (PLY, OBJ, GLB), the cleaned cloud, and a report with a plan (PDF).

Every file of numbers prints the digits of the result document; the same scan gives the same bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.measure import DEPTH_CAMERA, SCANNER, clean
from processors.scans.mesh import Mesh
from processors.scans.model_files import cloud_ply, mesh_glb, mesh_obj, mesh_ply
from processors.scans.plan_report import report_pdf
from processors.scans.result import DIMENSIONS, ScanResult
from processors.scans.scan_map import ScanMap

MODEL_FORMATS: Final = ("ply", "obj", "glb")
FORMATS: Final = ("json", "csv", *MODEL_FORMATS, "points.ply", "pdf")
MEDIA_TYPES: Final = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "ply": "model/vnd.ply",
    "obj": "model/obj",
    "glb": "model/gltf-binary",
    "points.ply": "model/vnd.ply",
    "pdf": "application/pdf",
}
_UNITS: Final = {"area": "m2", "volume": "m3"}


def available(mesh: Mesh) -> tuple[str, ...]:
    """The formats that there is something to write in."""
    return FORMATS if len(mesh) else tuple(one for one in FORMATS if one not in MODEL_FORMATS)


def export(
    result: ScanResult,
    mesh: Mesh,
    cloud: NDArray[np.floating],
    form: str,
    title: str = "Room scan",
    colours: NDArray[np.uint8] | None = None,
) -> bytes:
    """One file.

    Args:
        result: the measurement.
        mesh: of `build_mesh`.
        cloud: of `cleaned_cloud`.
        form: one of `FORMATS`; `KeyError` for another.
        title: of the PDF report.
        colours: of the cloud's points, shape (n, 3), if there are any.
    """
    writers: dict[str, Callable[[], bytes]] = {
        "json": lambda: json.dumps(result.to_document(), ensure_ascii=False, indent=1).encode(),
        "csv": lambda: _csv(result),
        "ply": lambda: mesh_ply(mesh),
        "obj": lambda: mesh_obj(mesh),
        "glb": lambda: mesh_glb(mesh),
        "points.ply": lambda: cloud_ply(cloud, colours),
        "pdf": lambda: report_pdf(result, title),
    }
    return writers[form]()


def cleaned_cloud(scan_map: ScanMap, result: ScanResult, most: int | None = None) -> NDArray[np.float32]:
    """Centroids of the voxels that were measured from, in the room's coordinates, shape (n, 3), evenly thinned to `most`."""
    kind = scan_map.measured_kind()
    voxels = clean(scan_map.map_of(kind).voxels(), DEPTH_CAMERA if kind == "depth" else SCANNER)
    step = 1 if most is None else max(1, -(-len(voxels) // most))
    placed = voxels.center[::step] @ np.array(result.placement.rotation).T + np.array(result.placement.translation)
    thinned: NDArray[np.float32] = placed.astype(np.float32)
    return thinned


def _csv(result: ScanResult) -> bytes:
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(("what", "number", "property", "value", "unit", "uncertainty"))
    for name in DIMENSIONS:
        value, sigma = getattr(result.room_dimensions, name), getattr(result.uncertainty, name)
        write(("room", "", name, _digits(value), _UNITS.get(name, "m"), _digits(sigma)))
    for name in ("lowest", "highest", "mean"):
        write(("ceiling", "", name, _digits(getattr(result.ceiling, name)), "m", ""))
    for number, part in enumerate(result.ceiling.parts):
        for name, unit in (("lowest", "m"), ("highest", "m"), ("slope", ""), ("area", "m2")):
            write(("ceiling", number, name, _digits(getattr(part, name)), unit, ""))
    for number, wall in enumerate(result.walls):
        write(("wall", number, "length", _digits(wall.length), "m", _digits(wall.uncertainty)))
    for number, opening in enumerate(result.openings):
        write((opening.kind, number, "wall", opening.wall, "", ""))
        for name in ("offset", "width", "height", "sill"):
            write((opening.kind, number, name, _digits(getattr(opening, name)), "m", ""))
    for number, one in enumerate(result.objects):
        for name, size in zip(("length", "width", "height"), one.size, strict=True):
            write((one.label or "object", number, name, _digits(size), "m", ""))
    write(("ceiling", "", "kind", result.ceiling.kind, "", ""))
    write(("room", "", "verdict", result.verdict.value, "", ""))
    return text.getvalue().encode()


def _digits(number: float | None) -> str:
    """As JSON prints it; empty without a number."""
    return "" if number is None else json.dumps(number)
