"""Files become the records of a scan, the same each time; what cannot be published is named before anything is sent."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ops.scan_files import plan, write_folder
from ops.simulator.room_scan import RoomScan, timed
from processors.scans import codec
from schemas.errors import Misconfigured
from schemas.scan_frames import EndFrame, PartFrame, PointsFrame, decode_scan_frame, frame_type

START_MS = 1_795_377_600_000
SMALL = RoomScan(frames=4, shrink=16)


def cloud(path: Path, count: int = 3) -> Path:
    header = f"ply\nformat ascii 1.0\nelement vertex {count}\nproperty float x\nproperty float y\nproperty float z\n"
    path.write_text(header + "end_header\n" + "".join(f"1 2 {1 + n % 1000}\n" for n in range(count)))
    os.utime(path, (START_MS / 1000, START_MS / 1000))
    return path


def recorded(folder: Path) -> Path:
    write_folder(folder, "scan_7", (value for _, value in timed(SMALL, START_MS)))
    return folder


def test_a_cloud_becomes_parts_and_an_end(tmp_path: Path) -> None:
    path = cloud(tmp_path / "room.PLY")
    planned = plan(path)
    part, end = map(decode_scan_frame, planned.values())

    assert planned.records == 2
    assert isinstance(part, PartFrame)
    assert (part.data, part.name, part.seq) == (path.read_bytes(), "room.PLY", 0)
    assert end == EndFrame(seq=1, frames=1)
    assert [frame_type(decode_scan_frame(value)) for value in plan(path, end=False).values()] == ["part"]


def test_a_cloud_becomes_frames_of_points_if_wanted(tmp_path: Path) -> None:
    planned = plan(cloud(tmp_path / "room.ply", 60_000), as_points=True)
    *frames, end = map(decode_scan_frame, planned.values())

    assert planned.records == 3  # 50 000, 10 000, the end
    assert all(isinstance(frame, PointsFrame) for frame in frames)
    points = np.concatenate([codec.points_m(frame) for frame in frames if isinstance(frame, PointsFrame)])
    assert len(points) == 60_000
    assert points[:2].tolist() == [[1, 2, 1], [1, 2, 2]]
    assert (frames[0].captured_at, end.seq) == (START_MS, 2)
    assert list(planned.values()) == list(planned.values())


def test_a_recorded_scan_is_published_as_it_was(tmp_path: Path) -> None:
    planned = plan(recorded(tmp_path / "scan"))

    assert (planned.records, planned.scan_id) == (6, "scan_7")  # a place, four images, the end
    assert list(planned.values()) == [value for _, value in timed(SMALL, START_MS)]


def test_more_may_follow_what_was_recorded_whole(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "scan")
    cloud(folder / "room.ply")
    frames = [decode_scan_frame(value) for value in plan(folder, end=False).values()]

    assert [frame_type(frame) for frame in frames] == ["location", *["depth"] * 4, "part"]
    assert plan(folder, end=False).records == 6


def test_files_beside_recorded_frames_follow_them(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "scan")
    (folder / "000005.msgpack").unlink()
    cloud(folder / "room.ply")
    (folder / "room.json").write_text('{"walls": []}')
    frames = [decode_scan_frame(value) for value in plan(folder).values()]

    assert [frame_type(frame) for frame in frames] == ["location", *["depth"] * 4, "part", "part", "end"]
    assert [frame.seq for frame in frames] == list(range(8))
    assert [frame.name for frame in frames if isinstance(frame, PartFrame)] == ["room.json", "room.ply"]


def a_hole(folder: Path) -> Path:
    (recorded(folder) / "000002.msgpack").unlink()
    return folder


def a_damaged_record(folder: Path) -> Path:
    (recorded(folder) / "000002.msgpack").write_bytes(b"\xc1")
    return folder


def an_end_and_a_file(folder: Path) -> Path:
    cloud(recorded(folder) / "room.ply")
    return folder


def a_wrong_manifest(folder: Path) -> Path:
    (recorded(folder) / "manifest.json").write_text("[]")
    return folder


def an_empty_folder(folder: Path) -> Path:
    folder.mkdir()
    return folder


def written(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        folder.mkdir()
        (folder / name).write_bytes(content)
        return folder / name

    return write


PLY = b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n1 2 3\n"
UNUSABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda folder: folder / "none.ply", "cannot be read: No such file"),
    "an empty folder": (an_empty_folder, "has no .msgpack, PLY, PCD or RoomPlan file"),
    "a hole": (a_hole, "000003.msgpack has the seq 3; expected 2"),
    "a damaged record": (a_damaged_record, r"000002.msgpack cannot be used \(undecodable\)"),
    "an end and a file": (an_end_and_a_file, "000005.msgpack ends the scan, but room.ply is to follow"),
    "a wrong manifest": (a_wrong_manifest, "names no scan"),
    "another kind of file": (written("room.stl", b"solid"), "is none of PLY, PCD, RoomPlan JSON"),
    "a cloud that is none": (written("room.ply", b"solid"), r"cannot be used \(unsupported_format\)"),
    "JSON that is none": (written("room.json", b"{"), "is not JSON"),
    "JSON of something else": (written("room.json", b'{"areas": []}'), "a list named walls is expected"),
    "several rooms": (written("room.json", b'{"rooms": []}'), "one scan each"),
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_what_cannot_be_published_is_named(what: str, tmp_path: Path) -> None:
    make, complaint = UNUSABLE[what]
    path = make(tmp_path / "scan")

    with pytest.raises(Misconfigured, match=complaint):
        plan(path)


def test_a_cloud_that_ends_early_makes_no_points(tmp_path: Path) -> None:
    path = written("room.ply", PLY)(tmp_path / "scan")

    with pytest.raises(Misconfigured, match="the file ends after 1 of 2 points"):
        plan(path, as_points=True)
    with pytest.raises(Misconfigured, match="--as points takes PLY and PCD"):
        plan(written("room.json", b"{}")(tmp_path / "other"), as_points=True)
    with pytest.raises(Misconfigured, match="leave out --as points"):
        plan(recorded(tmp_path / "third"), as_points=True)


def test_a_scan_is_recorded_in_a_folder_of_its_own(tmp_path: Path) -> None:
    folder = recorded(tmp_path / "scan")

    assert json.loads((folder / "manifest.json").read_text()) == {"scan_id": "scan_7"}
    with pytest.raises(Misconfigured, match="is not empty"):
        recorded(folder)
