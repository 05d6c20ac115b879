"""A room from a device's frames to files, through `weir up`: published, watched live, downloaded, looked at in Chromium."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import trimesh
from playwright.sync_api import expect

from ops.embedded.lifeline import ON_LINUX
from ops.scan_files import write_folder
from ops.simulator.room_scan import RoomScan, timed
from processors.scans.model_files import cloud_ply
from schemas.scan_frames import EndFrame, decode_scan_frame
from tests.acceptance.browsing import CHROMIUM, NARROW, NEEDS_CHROMIUM, WIDE, Visit, until
from tests.acceptance.running import Running, environment
from tests.integration.live_scene import LiveClient, items, live_client

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not ON_LINUX, reason="watches the process tree through /proc"),
]

START_MS = 1_795_377_600_000
SCAN = RoomScan(frames=60, shrink=2)
SCAN_ID = "scan_of_a_box"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frames of a synthetic room, without their end and with it."""
    folder = tmp_path_factory.mktemp("recorded")
    values = [value for _, value in timed(SCAN, START_MS)]
    assert isinstance(decode_scan_frame(values[-1]), EndFrame)
    write_folder(folder / "without end", SCAN_ID, iter(values[:-1]))
    write_folder(folder / "whole", SCAN_ID, iter(values))
    return folder


@dataclass(frozen=True)
class Watched:
    """Every live event of the scan, and the cloud that was there before its end."""

    events: list[dict[str, Any]]
    preview: bytes


@pytest.fixture(scope="module")
def watched(system: Running, recorded: Path) -> Watched:
    """Publish the room as the demo device, first without its end, and watch until the result is there."""
    connection, seen = system.connection, list[dict[str, Any]]()
    with live_client(connection["api_url"], connection["api_key"]) as viewer:
        assert items(viewer.subscribe("scans")) == []
        publish(connection, recorded / "without end", "--no-end")
        preview = b""
        while (
            vertices(preview) <= 500
        ):  # the first preview may be of the first few frames, of which no point is sure yet
            seen += heard(viewer)
            if "preview.ply" in seen[-1]["model"]["formats"]:
                preview = export(system, "preview.ply")
        # All of it once more, with the end: what is there already has no effect.
        publish(connection, recorded / "whole")
        while seen[-1]["status"] != "completed":
            seen += heard(viewer)
    return Watched(seen, preview)


@pytest.fixture(scope="module")
def events(watched: Watched) -> list[dict[str, Any]]:
    return watched.events


def vertices(ply: bytes) -> int:
    found = re.search(rb"element vertex (\d+)", ply)
    return int(found[1]) if found else 0


def publish(connection: dict[str, Any], folder: Path, *options: str) -> None:
    words = ["scan", "publish", str(folder), *options, "--device", connection["device_id"]]
    words += ["--bootstrap", connection["kafka_bootstrap"]]
    settings = environment() | {"WEIR_DEVICE_SECRET": connection["device_secret"]}
    done = subprocess.run(
        [sys.executable, "-m", "ops.cli", *words],
        env=settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def heard(viewer: LiveClient) -> list[dict[str, Any]]:
    """What the next event tells of the scan."""
    # A machine that takes long over it says in between that it is still there.
    told: list[dict[str, Any]] = viewer.hear_until("event")[-1]["items"]
    for item in told:
        assert item["scan_id"] == SCAN_ID
        assert item["status"] not in {"failed", "cancelled", "incomplete"}, item["error"]
    return told


def export(system: Running, form: str) -> bytes:
    url = f"{system.connection['api_url']}/v1/scans/{SCAN_ID}/export?format={form}"
    response = httpx2.get(url, headers={"Authorization": f"Bearer {system.connection['api_key']}"}, timeout=60)
    assert response.status_code == 200, response.text
    return response.content


def test_the_scan_is_watched_from_its_frames_to_its_result(events: list[dict[str, Any]], system: Running) -> None:
    statuses = [event["status"] for event in events]

    assert statuses[0] == "receiving"
    assert "processing" in statuses
    assert statuses[-1] == "completed"
    received = [event["frames"]["received"] for event in events]
    assert received == sorted(received)
    assert system.get(f"/v1/scans/{SCAN_ID}")[1] == events[-1]


def test_numbers_and_a_cloud_are_there_before_the_end(watched: Watched) -> None:
    before = next(event for event in watched.events if "preview.ply" in event["model"]["formats"])

    assert (before["status"], before["provisional"], before["frames"]["expected"]) == ("receiving", True, None)
    assert before["verdict"] is not None
    cloud = trimesh.load(io.BytesIO(watched.preview), file_type="ply")
    assert 500 < len(cloud.vertices) <= 20_000


def test_the_numbers_are_the_rooms(events: list[dict[str, Any]]) -> None:
    document, truth = events[-1], SCAN.room

    assert document["verdict"] == "good"
    assert document["frames"]["received"] == document["frames"]["expected"] > SCAN.frames
    assert document["frames"]["missing"] == []
    corners = np.asarray(truth.corners)
    sides = np.sort(np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1))
    dimensions, sigma = document["room_dimensions"], document["uncertainty"]
    for name, value in (("length", sides[-1]), ("width", sides[0]), ("height", truth.height)):
        assert abs(dimensions[name] - value) < 0.03, (name, dimensions[name], value)
        assert sigma[name] is not None


def test_the_exports_load_and_agree(events: list[dict[str, Any]], system: Running) -> None:
    document = events[-1]
    formats = document["model"]["formats"]
    assert formats == sorted(["csv", "glb", "json", "obj", "pdf", "ply", "points.ply"])
    files = {form: export(system, form) for form in formats}

    assert json.loads(files["json"])["room_dimensions"] == document["room_dimensions"]
    assert str(document["room_dimensions"]["length"]).encode() in files["csv"]
    assert files["pdf"].startswith(b"%PDF-")
    meshes = {
        form: trimesh.load(io.BytesIO(files[form]), file_type=form, force="mesh") for form in ("ply", "obj", "glb")
    }
    for form, mesh in meshes.items():
        assert len(mesh.faces) == document["model"]["triangles"], form
        up = 1 if form == "glb" else 2
        assert abs(mesh.extents[up] - document["room_dimensions"]["height"]) < 0.15
    cloud = trimesh.load(io.BytesIO(files["points.ply"]), file_type="ply")
    assert len(cloud.vertices) > 10_000


def test_the_command_fetches_what_the_api_serves(events: list[dict[str, Any]], system: Running, tmp_path: Path) -> None:
    settings = environment() | {"WEIR_ENV_FILE": str(system.data_dir / "weir.env")}
    words = [sys.executable, "-m", "ops.cli", "scan", "export", SCAN_ID, "csv", "--to", str(tmp_path / "room.csv")]
    done = subprocess.run(words, env=settings, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "room.csv").read_bytes() == export(system, "csv")


@pytest.mark.skipif(CHROMIUM is None, reason=NEEDS_CHROMIUM)
class TestDashboard:
    def test_the_page_shows_the_plan_the_numbers_and_the_mesh(
        self, events: list[dict[str, Any]], system: Running, visit: Callable[..., Visit]
    ) -> None:
        opened = visit(reduced_motion="reduce").sign_in()
        page = opened.page
        opened.go("#/scans", "Scans")
        row = page.locator(f"tr[data-scan={SCAN_ID}]")
        expect(row).to_contain_text("Completed")
        row.get_by_role("link").click()

        length = events[-1]["room_dimensions"]["length"]
        expect(page.locator(".tile", has_text="Length")).to_contain_text(f"{length:.3f} m")
        expect(page.get_by_role("img", name="Plan of")).to_have_attribute("aria-label", re.compile("4 walls"))
        triangles = events[-1]["model"]["triangles"]
        opened.eventually("n => Number(document.querySelector('canvas.scene')?.dataset.drawn) === n", triangles)
        page.get_by_role("button", name="Cloud", exact=True).click()
        opened.eventually("n => Number(document.querySelector('canvas.scene').dataset.drawn) !== n", triangles)
        self.turns_while_numbers_change(opened, system)
        with page.expect_download() as download:
            page.get_by_role("button", name="Mesh, GLB").click()
        assert Path(download.value.path()).read_bytes()[:4] == b"glTF"
        for size in (NARROW, WIDE):
            page.set_viewport_size(size)
            assert until(opened, lambda: opened.barriers() == []), opened.barriers()

    def turns_while_numbers_change(self, opened: Visit, system: Running) -> None:
        """What is drawn anew does not take the model from under the pointer."""
        canvas, heading = opened.page.locator("canvas.scene"), opened.page.get_by_role("heading", level=1)
        canvas.evaluate("each => each.addEventListener('lostpointercapture', () => { each.dataset.lost = 'yes'; })")
        canvas.hover()
        opened.page.mouse.down()
        opened.page.mouse.move(400, 400)
        assert system.patch(f"/v1/scans/{SCAN_ID}", {"name": "Turned"})[0] == 200
        expect(heading).to_have_text("Turned")
        opened.page.mouse.move(420, 400)
        assert canvas.get_attribute("data-lost") is None
        opened.page.mouse.up()
        opened.eventually("() => document.querySelector('canvas.scene').dataset.lost === 'yes'")

    def test_a_cloud_is_uploaded_and_measured_while_somebody_looks(
        self, system: Running, visit: Callable[..., Visit], tmp_path: Path
    ) -> None:
        (tmp_path / "cloud.ply").write_bytes(cloud_ply(box_cloud(4.0, 3.0, 2.5)))
        opened = visit().sign_in()
        page = opened.page
        opened.go("#/scans", "Scans")
        page.get_by_label("Name of the new scan").fill("From a <b>file</b>")
        page.get_by_label("File", exact=True).set_input_files(tmp_path / "cloud.ply")
        page.get_by_role("button", name="Create scan").click()

        expect(page.get_by_role("heading", level=1, name="From a <b>file</b>")).to_be_visible()
        expect(page.locator("main .badge", has_text="Completed")).to_be_visible()
        expect(page.get_by_role("row", name="cloud.ply")).to_contain_text("all")
        [scan] = [each for each in system.get("/v1/scans")[1]["items"] if each["name"].startswith("From")]
        assert abs(scan["room_dimensions"]["length"] - 4.0) < 0.02


def box_cloud(length: float, width: float, height: float, step: float = 0.02) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Points on the six sides of a box, as a scanner in the middle of it sees them."""
    sides = []
    size = np.array([length, width, height])
    for axis in range(3):
        u, v = (a for a in range(3) if a != axis)
        a, b = np.meshgrid(np.arange(0, size[u], step), np.arange(0, size[v], step))
        for at in (0.0, size[axis]):
            points = np.empty((a.size, 3), np.float32)
            points[:, axis], points[:, u], points[:, v] = at, a.ravel(), b.ravel()
            sides.append(points)
    return np.concatenate(sides) - np.array([length / 2, width / 2, height / 2], np.float32)
