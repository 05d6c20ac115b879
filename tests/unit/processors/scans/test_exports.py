"""Files of a scan agree with each other to the last digit, are the same bytes every time, and load elsewhere."""

from __future__ import annotations

import csv
import io
import json
import re
import zlib
from functools import cache

import msgspec
import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image

from ops.simulator.rooms.shapes import Shape
from processors.scans.colours import Picture, picture
from processors.scans.exports import FORMATS, available, cleaned_cloud, export
from processors.scans.mesh import MAX_TRIANGLES, Mesh, build_mesh, shell
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import DIMENSIONS, ScanResult
from schemas.scan_frames import DepthFrame, RgbFrame
from tests.unit.processors.scans.recordings import mapped, reader, recording

FRAMES = recording(Shape.BOX)


@cache
def scanned() -> tuple[ScanMap, ScanResult, Mesh, NDArray[np.float32]]:
    scan_map = mapped(FRAMES)
    result = measure_scan(scan_map, reader(FRAMES))
    return scan_map, result, build_mesh(scan_map, reader(FRAMES), result), cleaned_cloud(scan_map, result)


def exported(form: str) -> bytes:
    _, result, mesh, cloud = scanned()
    return export(result, mesh, cloud, form)


def test_json_csv_and_pdf_print_the_same_digits() -> None:
    document = json.loads(exported("json"))
    assert document == scanned()[1].to_document()
    rows = list(csv.DictReader(io.StringIO(exported("csv").decode())))
    printed = {row["property"]: row["value"] for row in rows if row["what"] == "room"}
    text = text_of(exported("pdf"))
    for name in DIMENSIONS:
        digits = json.dumps(document["room_dimensions"][name])
        assert printed[name] == digits
        assert digits in text
    for number, wall in enumerate(document["walls"]):
        of_wall = next(row for row in rows if row["what"] == "wall" and row["number"] == str(number))
        assert of_wall["value"] == json.dumps(wall["length"])
        assert f"{wall['length']} m" in text


def text_of(pdf: bytes) -> str:
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    return "".join(zlib.decompress(stream).decode("latin-1") for stream in streams if stream[:1] == b"x")


@pytest.mark.parametrize("form", ["ply", "obj", "glb"])
def test_models_load_and_have_the_size_of_the_room(form: str) -> None:
    _, result, mesh, _ = scanned()
    loaded = trimesh.load(io.BytesIO(exported(form)), file_type=form, force="mesh")
    assert len(loaded.faces) == len(mesh) <= MAX_TRIANGLES
    up = 1 if form == "glb" else 2
    assert loaded.extents[up] == pytest.approx(result.room_dimensions.height, abs=0.1)
    assert loaded.bounds[0][up] == pytest.approx(0.0, abs=0.06)
    # Inside of a closed room, triangles look at whoever scanned it: more than nine tenths of a ray's hits are from in front.
    middle = loaded.bounds.mean(axis=0)
    towards = ((middle - loaded.triangles_center) * loaded.face_normals).sum(axis=1)
    assert (towards * loaded.area_faces > 0).mean() > 0.8


def test_the_cleaned_cloud_lies_in_the_room() -> None:
    _, result, _, cloud = scanned()
    loaded = trimesh.load(io.BytesIO(exported("points.ply")), file_type="ply")
    assert np.array_equal(np.asarray(loaded.vertices, dtype=np.float32), cloud)
    assert np.quantile(cloud[:, 2], 0.02) == pytest.approx(0.0, abs=0.03)
    assert len(cleaned_cloud(scanned()[0], result, most=1000)) <= 1000


def test_the_same_scan_gives_the_same_bytes() -> None:
    scan_map, result, mesh, cloud = scanned()
    again = build_mesh(scan_map, reader(FRAMES), result)
    for form in FORMATS:
        assert export(result, again, cloud, form) == export(result, mesh, cloud, form), form


def test_pictures_colour_the_mesh() -> None:
    scan_map, result, _, _ = scanned()
    mesh = build_mesh(scan_map, reader(FRAMES), result, [red_picture(FRAMES[0])])
    assert mesh.colours is not None
    reddish = (mesh.colours[:, 0] > 180) & (mesh.colours[:, 1] < 90)
    assert reddish.any()
    assert trimesh.load(io.BytesIO(export(result, mesh, np.empty((0, 3)), "glb")), file_type="glb", force="mesh").visual


def red_picture(frame: DepthFrame) -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (frame.width * 2, frame.height * 2), (230, 20, 20)).save(file, "JPEG")
    rgb = RgbFrame(
        seq=1000,
        captured_at=frame.captured_at,
        width=frame.width * 2,
        height=frame.height * 2,
        fx=frame.fx * 2,
        fy=frame.fy * 2,
        cx=frame.cx * 2 + 0.5,
        cy=frame.cy * 2 + 0.5,
        pose=frame.pose,
        image=file.getvalue(),
    )
    found = picture(rgb)
    assert found is not None
    assert picture(msgspec.structs.replace(rgb, image=b"no image")) is None
    return found


def test_without_depth_images_the_model_is_the_room_as_measured() -> None:
    result = scanned()[1]
    walls = shell(result)
    loaded = trimesh.Trimesh(walls.vertices, walls.triangles)
    assert loaded.is_watertight
    dimensions = result.room_dimensions
    assert abs(loaded.volume) == pytest.approx(dimensions.volume, rel=0.001)
    assert loaded.volume < 0  # seen from within


def test_what_was_not_measured_has_no_model_but_a_report() -> None:
    nothing = ScanResult(missing_parts=("everything",))
    mesh = shell(nothing)
    assert available(mesh) == ("json", "csv", "points.ply", "pdf")
    assert "not measured" in text_of(export(nothing, mesh, np.empty((0, 3)), "pdf"))
    assert b"room,,length,,m," in export(nothing, mesh, np.empty((0, 3)), "csv")
