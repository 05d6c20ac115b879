"""What is computed of a scan: from scratch and from what a preview kept, from records and files, from next to nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jobs.scans import computation
from schemas.errors import Transient
from schemas.scan_frames import ScanFrame, encode_scan_frame, frame_type
from sinks.objects import open_directory
from tests.integration.scan_job_scene import room

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


def test_a_cloud_file_is_measured_and_a_torn_one_leaves_nothing_behind(tmp_path: Path) -> None:
    whole, torn = put(tmp_path, "files/whole", ply(60_000)), put(tmp_path, "files/torn", ply(60_000, kept=50_000))
    files = [("whole", "ply", whole, 9), ("torn", "ply", torn, 9), ("notes", "other", "files/none", 9)]

    both = computation.process(request(tmp_path, [], files=files), silent)
    alone = computation.process(request(tmp_path, [], files=files[:1]), silent)

    assert both["file_points"] == {"whole": 60_000, "torn": 0}
    assert list(both["file_errors"]) == ["torn"]
    assert both["document"] == alone["document"]
    assert both["document"]["room_dimensions"]["length"] == pytest.approx(4.0, abs=0.05)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_next_to_nothing_gives_a_result_that_says_what_is_missing(tmp_path: Path, count: int) -> None:
    done = computation.process(request(tmp_path, room()[:count]), silent)

    assert done["document"]["verdict"] == "incomplete"
    assert done["document"]["missing_parts"] != []
    assert {"json", "csv", "pdf", "points.ply"} <= {export["format"] for export in done["exports"]}
    assert len(done["verdicts"]) == count
    assert preview(request(tmp_path, room()[:count]))["document"]["verdict"] == "incomplete"


def test_progress_goes_up_to_the_end(tmp_path: Path) -> None:
    told: list[float] = []

    computation.process(request(tmp_path, room()[:40]), told.append)

    assert told == sorted(told)
    assert 0 < told[0] < 0.5 < told[-1] < 1


def test_an_object_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    asked = request(tmp_path, room()[:1])
    (tmp_path / asked["records"][0][2]).unlink()

    with pytest.raises(Transient, match="there is no object frames/"):
        preview(asked)
