"""What is computed of a scan: from scratch and from what a preview kept, from records and files, from next to nothing."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from jobs.scans import computation
from ops.simulator.rooms.shapes import Shape, make_room
from processors.scans.recognizers import Recognized
from processors.scans.result import FoundObject, Mistake, ScanResult
from schemas.errors import Transient
from schemas.scan_frames import DepthFrame, RgbFrame, ScanFrame, encode_scan_frame, frame_type
from sinks.objects import open_directory
from tests.integration.scan_job_scene import room
from tests.unit.processors.scans.room_plans import room_plan

Document = dict[str, Any]


def put(folder: Path, key: str, data: bytes) -> str:
    asyncio.run(open_directory(folder).put(key, data))
    return key


def request(folder: Path, frames: Sequence[ScanFrame], **more: Any) -> Document:
    """As a job asks for it."""
    records = []
    for frame in frames:
        value = encode_scan_frame(frame)
        sha256 = hashlib.sha256(value)
        key = put(folder, f"frames/{sha256.hexdigest()}", value)
        records.append((frame.seq, frame_type(frame), key, sha256.digest()))
    store = {"objects_url": str(folder)}
    return {"store": store, "prefix": "r", "records": records, "files": [], "version": "1", "title": "room"} | more


def ply(rows: int, *, kept: int | None = None) -> bytes:
    """The shell of a 4 x 3 x 2.5 m box as text; `kept` of its rows are there."""
    points = []
    for n in range(rows):
        side, a, b = n % 6, (n * 0.618) % 1.0, (n * 0.414) % 1.0
        fixed = [(0, a, b), (1, a, b), (a, 0, b), (a, 1, b), (a, b, 0), (a, b, 1)][side]
        points.append(" ".join(f"{1 + share * size:.4f}" for share, size in zip(fixed, (4, 3, 2.5), strict=True)))
    head = f"ply\nformat ascii 1.0\nelement vertex {rows}\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    return (head + "\n".join(points[:kept]) + "\n").encode()


def silent(_share: float) -> None:
    """Nobody listens."""


def preview(asked: Document) -> Document:
    return computation.preview(asked, silent)


def test_going_on_from_a_preview_is_the_same_as_starting_over(tmp_path: Path) -> None:
    frames = room()[:30]
    kept = preview(request(tmp_path, frames[20:]))["state"]

    resumed = preview(request(tmp_path, frames, state=kept))
    fresh = preview(request(tmp_path, frames))

    assert resumed == fresh
    assert resumed["document"]["points"] > preview(request(tmp_path, frames[20:]))["document"]["points"]


def test_a_record_that_was_replaced_leaves_nothing_of_its_first_bytes(tmp_path: Path) -> None:
    first, second, third = room()[:3]
    replaced = type(third)(**{name: getattr(third, name) for name in third.__struct_fields__} | {"seq": second.seq})
    kept = preview(request(tmp_path, [first, second]))["state"]

    assert preview(request(tmp_path, [first, replaced], state=kept)) == preview(request(tmp_path, [first, replaced]))


def test_a_file_that_was_replaced_leaves_nothing_of_its_first_bytes(tmp_path: Path) -> None:
    first, second = put(tmp_path, "files/first", ply(600)), put(tmp_path, "files/second", ply(300))
    kept = preview(request(tmp_path, [], files=[("cloud", "ply", first, 9)]))["state"]
    again = request(tmp_path, [], files=[("cloud", "ply", second, 9)])

    assert preview(again | {"state": kept}) == preview(again)


def test_a_cloud_file_is_measured_and_a_torn_one_leaves_nothing_behind(tmp_path: Path) -> None:
    whole, torn = put(tmp_path, "files/whole", ply(60_000)), put(tmp_path, "files/torn", ply(60_000, kept=50_000))
    files = [("whole", "ply", whole, 9), ("torn", "ply", torn, 9), ("notes", "other", "files/none", 9)]

    both = computation.process(request(tmp_path, [], files=files), silent)
    alone = computation.process(request(tmp_path, [], files=files[:1]), silent)

    assert both["file_points"] == {"whole": 60_000, "torn": 0}
    assert list(both["file_errors"]) == ["torn"]
    assert both["document"] == alone["document"]
    assert both["document"]["room_dimensions"]["length"] == pytest.approx(4.0, abs=0.05)


def room_plan_file(folder: Path, name: str, document: object) -> tuple[str, str, str, int]:
    data = json.dumps(document).encode()
    return name, "json", put(folder, f"files/{name}", data), len(data)


PLAN = room_plan(make_room(Shape.BOX, 1))  # the room that `room` scans


def test_room_plan_alone_is_the_result_and_a_model_of_walls(tmp_path: Path) -> None:
    files = [room_plan_file(tmp_path, "plan", PLAN)]

    done = computation.process(request(tmp_path, [], files=files), silent)

    document = done["document"]
    assert (document["verdict"], document["roomplan"]["is_source"]) == ("estimate", True)
    assert document["room_dimensions"]["length"] == pytest.approx(4.56, abs=0.01)
    assert document["model"] == {"vertices": 8, "triangles": 12}
    assert (done["file_errors"], done["file_points"], done["verdicts"]) == ({}, {}, [])
    assert {"json", "csv", "pdf", "glb"} <= {export["format"] for export in done["exports"]}
    assert preview(request(tmp_path, [], files=files))["document"]["room_dimensions"] == document["room_dimensions"]


class Upholsterer:
    """Knows sofas, and nothing else."""

    def recognize(self, boxes: Sequence[FoundObject], cloud: NDArray[np.float32]) -> list[Recognized]:
        assert len(cloud) > 1000
        return [Recognized("sofa", 0.5) for _ in boxes]


class NeverMade:
    """Cannot even be made."""

    def __init__(self) -> None:
        msg = "no model file"
        raise OSError(msg)


def rgb(frame: DepthFrame, seq: int) -> RgbFrame:
    """A red image from where a depth image was taken."""
    file = io.BytesIO()
    Image.new("RGB", (frame.width, frame.height), (230, 20, 20)).save(file, "JPEG")
    view = {name: getattr(frame, name) for name in ("width", "height", "fx", "fy", "cx", "cy", "pose")}
    return RgbFrame(seq=seq, image=file.getvalue(), **view)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Document, list[float]]:
    """What frames alone give, where its files lie, and what progress it told."""
    folder, told = tmp_path_factory.mktemp("plain"), list[float]()
    return folder, computation.process(request(folder, room()), told.append), told


def test_what_comes_beside_frames_changes_no_number_of_theirs(
    tmp_path: Path, plain: tuple[Path, Document, list[float]]
) -> None:
    """RoomPlan files, one of them wrong; a recognizer; a colour image."""
    plain_folder, alone, _ = plain
    frames = room()
    first = frames[0]
    assert isinstance(first, DepthFrame)
    one, another = (room_plan_file(tmp_path, name, PLAN) for name in "ab")
    wrong = room_plan_file(tmp_path, "0", {"walls": 3})
    recognizer = f"{__name__}:Upholsterer"

    files = [another, wrong, one]
    done = computation.process(request(tmp_path, [*frames, rgb(first, 61)], files=files, recognizer=recognizer), silent)

    document = done["document"]
    for name in ("room_dimensions", "uncertainty", "verdict", "walls", "openings", "floor_polygon", "frames", "model"):
        assert document[name] == alone["document"][name], name
    assert document["roomplan"]["is_source"] is False
    assert len(document["roomplan"]["differences"]) >= 6
    assert sorted(done["file_errors"]) == ["0", "b"]
    assert done["file_errors"]["0"].startswith("wrong_shape: ")
    assert "another RoomPlan file" in done["file_errors"]["b"]
    # What RoomPlan names keeps that name, the recognizer has the rest.
    assert {one["confidence"] for one in document["objects"] if one["class"] != "sofa"} <= {0.9}
    assert {None} == {one["class"] for one in alone["document"]["objects"]}
    assert None not in {one["class"] for one in document["objects"]}
    heads = {}
    for what, folder, computed in (("coloured", tmp_path, done), ("plain", plain_folder, alone)):
        keys = {export["format"]: export["object_key"] for export in computed["exports"]}
        data = [(folder / keys[form]).read_bytes()[:400] for form in ("points.ply", "ply")]
        heads[what] = [b"property uchar red" in head for head in data]
    assert heads == {"coloured": [True, True], "plain": [False, False]}


@pytest.mark.parametrize("name", ["NeverMade", "Nobody"])
def test_a_recognizer_that_cannot_be_made_is_a_warning(name: str) -> None:
    boxes = (FoundObject(center=(1.0, 1.0, 0.5), size=(1.0, 1.0, 1.0), yaw=0.0),)
    asked = computation.Request({}, "r", [], [], "1", "room", recognizer=f"{__name__}:{name}")

    result = computation._recognized(asked, ScanResult(objects=boxes), np.zeros((1, 3), dtype=np.float32))

    assert result.objects == boxes
    assert result.warnings == (Mistake.RECOGNIZER_FAILED,)


def test_a_mesh_that_fails_leaves_the_outline_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        msg = "Open3D says no"
        raise ValueError(msg)

    monkeypatch.setattr(computation, "build_mesh", broken)

    done = computation.process(request(tmp_path, [], files=[room_plan_file(tmp_path, "plan", PLAN)]), silent)

    assert done["document"]["warnings"] == ["mesh_failed"]
    assert done["document"]["processing"]["without"] == {"mesh": "it failed (ValueError)"}
    assert done["document"]["model"]["triangles"] == 12


@pytest.mark.parametrize("count", [0, 1, 2])
def test_next_to_nothing_gives_a_result_that_says_what_is_missing(tmp_path: Path, count: int) -> None:
    done = computation.process(request(tmp_path, room()[:count]), silent)

    assert done["document"]["verdict"] == "incomplete"
    assert done["document"]["missing_parts"] != []
    assert {"json", "csv", "pdf", "points.ply"} <= {export["format"] for export in done["exports"]}
    assert len(done["verdicts"]) == count
    assert preview(request(tmp_path, room()[:count]))["document"]["verdict"] == "incomplete"


def test_progress_goes_up_to_the_end(plain: tuple[Path, Document, list[float]]) -> None:
    _, _, told = plain

    assert told == sorted(told)
    assert 0 < told[0] < 0.5 < told[-1] < 1


def test_an_object_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    asked = request(tmp_path, room()[:1])
    (tmp_path / asked["records"][0][2]).unlink()

    with pytest.raises(Transient, match="there is no object frames/"):
        preview(asked)
