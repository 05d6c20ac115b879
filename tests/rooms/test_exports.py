"""Files of a scan agree with each other to the last digit, are the same bytes every time, and load elsewhere."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
import zlib
from functools import cache

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image

from ops.simulator.rooms.shapes import Shape
from processors.scans.colours import Picture, picture, seen_colours
from processors.scans.exports import FORMATS, available, cleaned_cloud, export
from processors.scans.mesh import MAX_TRIANGLES, Mesh, build_mesh, shell
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import DIMENSIONS, ScanResult
from schemas.scan_frames import DepthFrame, RgbFrame
from tests.rooms.recordings import mapped, reader, recording

# Two thirds: so many that their surface has more triangles than a model may have.
FRAMES = [frame for frame in recording(Shape.BOX) if frame.seq % 3]


@cache
def scanned() -> tuple[ScanMap, ScanResult, Mesh, NDArray[np.float32]]:
    scan_map = mapped(FRAMES)
    result = measure_scan(scan_map, reader(FRAMES))
    return scan_map, result, build_mesh(scan_map, reader(FRAMES), result), cleaned_cloud(scan_map, result)


@cache
def coloured() -> Mesh:
    """The same scan meshed again, with a picture."""
    scan_map, result, _, _ = scanned()
    return build_mesh(scan_map, reader(FRAMES), result, [red_picture(FRAMES[0])])


def exported(form: str) -> bytes:
    _, result, mesh, cloud = scanned()
    return export(result, mesh, cloud, form)


def test_json_csv_and_pdf_print_the_same_digits() -> None:
    document = json.loads(exported("json"))
    assert document == scanned()[1].to_document()
    rows = list(csv.DictReader(io.StringIO(exported("csv").decode())))
    printed = {row["property"]: row["value"] for row in rows if row["what"] == "room"}
    unsure = {row["property"]: row["uncertainty"] for row in rows if row["what"] == "room"}
    text = text_of(exported("pdf"))
    for name in DIMENSIONS:
        digits = json.dumps(document["room_dimensions"][name])
        assert printed[name] == digits
        assert unsure[name] == json.dumps(document["uncertainty"][name])
        assert digits in text
    for number, wall in enumerate(document["walls"]):
        of_wall = next(row for row in rows if row["what"] == "wall" and row["number"] == str(number))
        assert (of_wall["value"], of_wall["uncertainty"]) == (
            json.dumps(wall["length"]),
            json.dumps(wall["uncertainty"]),
        )
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
    _, result, mesh, cloud = scanned()
    again = dataclasses.replace(coloured(), colours=None)
    for form in FORMATS:
        assert export(result, again, cloud, form) == export(result, mesh, cloud, form), form


def test_pictures_colour_the_mesh_and_the_cloud_where_they_look() -> None:
    _, result, _, cloud = scanned()
    pictures, mesh = [red_picture(FRAMES[0])], coloured()
    colours = seen_colours(cloud, cloud, pictures, result.placement)

    assert mesh.colours is not None
    world = (mesh.vertices - np.array(result.placement.translation)) @ np.array(result.placement.rotation)
    column, row, distance = pictures[0].project(world.astype(np.float64))
    height, width = pictures[0].pixels.shape[:2]
    in_view = (np.abs(column - width / 2) < width / 2) & (np.abs(row - height / 2) < height / 2) & (distance < 2)
    red = is_red(mesh.colours)
    assert 0.02 < red.mean() < 0.5  # one image of a whole room
    assert red[in_view].mean() > 0.8
    assert not red[~in_view & (np.isnan(column))].any()  # behind the camera
    assert 0.02 < is_red(colours).mean() < 0.5
    for form in ("ply", "obj"):
        loaded = trimesh.load(io.BytesIO(export(result, mesh, cloud, form)), file_type=form, force="mesh")
        assert is_red(np.asarray(loaded.visual.vertex_colors)[:, :3]).sum() >= 0.9 * red.sum(), form
    file = export(result, mesh, cloud, "points.ply", colours=colours)
    loaded = trimesh.load(io.BytesIO(file), file_type="ply")
    assert np.array_equal(np.asarray(loaded.colors)[:, :3], colours)
    assert np.array_equal(np.asarray(loaded.vertices, dtype=np.float32), cloud)


def is_red(colours: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return (colours[:, 0] > 180) & (colours[:, 1] < 90)


def red_picture(frame: DepthFrame) -> Picture:
    file = io.BytesIO()
    Image.new("RGB", (frame.width * 2, frame.height * 2), (230, 20, 20)).save(file, "JPEG")
    rgb = RgbFrame(
        seq=1000,
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
