"""Files of scans over tus 1.0: in pieces, cut and resumed, checked, refused; with `tus-js-client` through a `kill -9` too."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from api import scan_models
from ops.embedded.postgres import EmbeddedPostgres
from sinks.timescale.migrate import Engine
from tests.integration.api_processes import ApiProcess, start_process
from tests.integration.api_scene import Client, api_settings, client, new_tenant, serving
from tests.integration.rule_scene import send
from tests.integration.scan_scene import set_scan
from tests.integration.servers import Database, Tenant, fresh_database, wait_until

pytestmark = pytest.mark.integration

CONTENT = bytes(range(256)) * 4  # 1 024 bytes
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres, engine: Engine) -> Iterator[Database]:
    with fresh_database(postgres.superuser_url, engine) as database:
        yield database


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def url(database: Database, folder: Path) -> Iterator[str]:
    with serving(api_settings(database.reader_url, objects_url=str(folder))) as url:
        yield url


@pytest.fixture(scope="module")
def tenant(database: Database) -> Tenant:
    tenant = new_tenant(database)
    database.query("UPDATE weir.tenant SET plan = 'enterprise' WHERE tenant_id = %s", tenant.tenant_id)
    return tenant


@pytest.fixture
def api(url: str, tenant: Tenant) -> Iterator[Client]:
    with client(url, tenant.api_key) as api:
        yield api


@pytest.fixture
def files(api: Client) -> str:
    """Where the files of a new scan are."""
    return f"/v1/scans/{send(api, 'POST', '/v1/scans', {}, status=201)['scan_id']}/files"


def begin(api: Client, files: str, size: int = len(CONTENT), name: str = "room.ply", **more: Any) -> str:
    """A new upload's path."""
    filename = base64.b64encode(name.encode()).decode()
    headers = TUS | {"Upload-Length": str(size), "Upload-Metadata": f"filename {filename}"}
    response = api.http.post(files, headers=headers | more.pop("headers", {}), **more)
    assert response.status_code == 201, response.text
    scan_models.ScanFileItem.model_validate(response.json())
    assert response.headers["location"] == f"{files}/{response.json()['file_id']}"
    return str(response.headers["location"])


def add(api: Client, path: str, offset: int, data: Any, **headers: str) -> httpx2.Response:
    return api.http.patch(path, headers=BYTES | {"Upload-Offset": str(offset)} | headers, content=data)


def offset_of(api: Client, path: str) -> int:
    response = api.http.head(path, headers=TUS)
    assert response.status_code == 204
    assert response.headers["cache-control"] == "no-store"
    return int(response.headers["upload-offset"])


def checksum(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


def objects_below(folder: Path, part: str) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and part in path.parts]


def test_a_client_learns_what_it_may_do_without_a_credential(url: str, files: str) -> None:
    told = httpx2.options(url + files).headers

    assert told["tus-version"] == "1.0.0"
    assert told["tus-extension"] == "creation,creation-with-upload,checksum,termination,expiration"
    assert told["tus-max-size"] == str(2 * 1024 * MIB)
    assert told["tus-checksum-algorithm"] == "sha1,sha256"


def test_a_file_in_two_pieces_becomes_a_file_of_its_scan(api: Client, files: str, folder: Path) -> None:
    path = begin(api, files)
    first = add(api, path, 0, CONTENT[:300])
    assert (first.status_code, first.headers["upload-offset"], first.headers["tus-resumable"]) == (204, "300", "1.0.0")
    assert offset_of(api, path) == 300
    assert api.get(files)["items"][0]["complete"] is False
    assert send(api, "GET", path, status=409)["code"] == "not_complete"

    assert add(api, path, 300, CONTENT[300:]).headers["upload-offset"] == "1024"

    [file] = api.get(files)["items"]
    assert (file["complete"], file["kind"], file["received"]) == (True, "ply", 1024)
    assert file["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    downloaded = api.http.get(path)
    assert downloaded.content == CONTENT
    assert 'filename="room.ply"' in downloaded.headers["content-disposition"]
    [shown] = api.get(files.removesuffix("/files"))["files"]
    assert (shown["file_id"], shown["complete"]) == (file["file_id"], True)
    assert offset_of(api, path) == 1024
    assert objects_below(folder, file["file_id"])[0].read_bytes() == CONTENT
    assert not [one for one in objects_below(folder, "uploads") if file["file_id"] in one.parts]


def test_the_first_bytes_may_come_with_the_beginning(api: Client, files: str) -> None:
    part = begin(api, files, content=CONTENT[:10], headers=BYTES)
    whole = begin(api, files, content=CONTENT, headers=BYTES | {"Upload-Checksum": checksum(CONTENT)})

    assert offset_of(api, part) == 10
    assert api.http.get(whole).content == CONTENT


def test_what_came_before_the_connection_broke_stays(api: Client, files: str, url: str, tenant: Tenant) -> None:
    content = hashlib.shake_256(b"cut").digest(10 * MIB)
    path = begin(api, files, len(content))
    with announced(url, path, tenant, len(content)) as connection:
        connection.sendall(content[: 9 * MIB])
        wait_until(lambda: offset_of(api, path) == 8 * MIB, what="a whole piece of 8 MiB")

    def goes_on() -> bool:
        there = offset_of(api, path)
        assert 8 * MIB <= there <= 9 * MIB
        return add(api, path, there, content[there:]).status_code == 204

    wait_until(goes_on, what="the other bytes to be taken")
    assert api.http.get(path).content == content


def test_a_broken_request_with_a_checksum_leaves_nothing(
    api: Client, files: str, url: str, tenant: Tenant, folder: Path
) -> None:
    content = hashlib.shake_256(b"cut").digest(10 * MIB)
    path = begin(api, files, len(content))
    pieces = path.rpartition("/")[2]
    with announced(url, path, tenant, len(content), f"Upload-Checksum: {checksum(content)}\r\n") as connection:
        connection.sendall(content[: 9 * MIB])
        wait_until(lambda: [one for one in objects_below(folder, "uploads") if pieces in one.parts], what="a piece")
        assert offset_of(api, path) == 0

    wait_until(lambda: not [one for one in objects_below(folder, "uploads") if pieces in one.parts], what="its removal")
    assert add(api, path, 0, content, **{"Upload-Checksum": checksum(content, "sha1")}).status_code == 204
    assert api.http.get(path).content == content


def announced(url: str, path: str, tenant: Tenant, length: int, extra: str = "") -> socket.socket:
    """A connection on which so many bytes are announced and none are sent yet."""
    parts = urlsplit(url)
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {tenant.api_key}\r\n"
        f"Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
        f"{extra}Content-Length: {length}\r\n\r\n"
    )
    connection = socket.create_connection((parts.hostname or "", parts.port or 0))
    connection.sendall(head.encode())
    return connection


def test_bytes_that_are_others_than_their_checksum_are_460_and_forgotten(api: Client, files: str) -> None:
    path = begin(api, files)
    assert add(api, path, 0, CONTENT[:100]).status_code == 204

    refused = add(api, path, 100, CONTENT[100:], **{"Upload-Checksum": checksum(CONTENT)})

    assert (refused.status_code, refused.json()["code"], refused.json()["title"]) == (
        460,
        "checksum_mismatch",
        "Checksum Mismatch",
    )
    assert offset_of(api, path) == 100
    assert add(api, path, 100, CONTENT[100:], **{"Upload-Checksum": "md5 xx"}).status_code == 400


def test_a_wrong_offset_is_409_and_told_the_right_one(api: Client, files: str) -> None:
    path = begin(api, files)
    assert add(api, path, 0, CONTENT[:100]).status_code == 204

    for offset in (0, 99, 101, 1024):
        refused = add(api, path, offset, CONTENT[:10])
        assert (refused.status_code, refused.headers["upload-offset"]) == (409, "100")
    assert offset_of(api, path) == 100


def test_too_much_is_413(api: Client, files: str) -> None:
    assert api.http.post(files, headers=TUS | {"Upload-Length": str(2 * 1024 * MIB + 1)}).status_code == 413
    path = begin(api, files)

    assert add(api, path, 0, CONTENT + b"!").status_code == 413
    assert add(api, path, 0, iter([CONTENT, b"!"])).status_code == 413  # chunked: its length is not told
    assert offset_of(api, path) == 0


def test_whoever_does_not_speak_tus_is_told(api: Client, files: str) -> None:
    assert api.http.post(files, json={}).status_code == 412
    assert api.http.post(files, headers=TUS).status_code == 422
    path = begin(api, files)
    assert api.http.patch(path, content=CONTENT).status_code == 412
    assert api.http.patch(path, headers=TUS | {"Upload-Offset": "0"}, json={}).status_code == 415


def test_another_tenants_scan_and_file_are_404_whatever_is_asked(
    api: Client, files: str, url: str, database: Database
) -> None:
    path = begin(api, files)
    with client(url, new_tenant(database, "other").api_key) as stranger:
        asked = [
            stranger.http.post(files, headers=TUS | {"Upload-Length": "10"}),
            stranger.http.get(files),
            stranger.http.head(path, headers=TUS),
            stranger.http.get(path),
            add(stranger, path, 0, CONTENT),
            stranger.http.delete(path, headers=TUS),
        ]

    assert [response.status_code for response in asked] == [404] * 6
    assert offset_of(api, path) == 0


def test_an_ended_upload_is_gone_with_its_bytes_and_a_whole_file_stays(api: Client, files: str, folder: Path) -> None:
    path = begin(api, files)
    add(api, path, 0, CONTENT[:100])
    assert [one for one in objects_below(folder, "uploads") if path.rpartition("/")[2] in one.parts]

    assert api.http.delete(path, headers=TUS).status_code == 204

    assert api.http.head(path, headers=TUS).status_code == 404
    assert not [one for one in objects_below(folder, "uploads") if path.rpartition("/")[2] in one.parts]
    whole = begin(api, files, content=CONTENT, headers=BYTES)
    assert api.http.delete(whole, headers=TUS).json()["code"] == "complete"


def test_a_scan_is_not_completed_over_an_upload_and_an_expired_one_is_gone(
    api: Client, files: str, database: Database
) -> None:
    path, scan = begin(api, files), files.removesuffix("/files")
    assert send(api, "POST", f"{scan}/complete", status=409)["code"] == "upload_under_way"

    database.query("UPDATE weir.scan_upload SET expires_at = now() WHERE file_id = %s", path.rpartition("/")[2])

    assert api.http.head(path, headers=TUS).status_code == 404
    assert send(api, "POST", f"{scan}/complete")["status"] == "queued"
    refused = api.http.post(files, headers=TUS | {"Upload-Length": "10"})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_receiving")


def test_a_file_that_is_there_but_was_not_joined_is_joined_when_somebody_asks(
    api: Client, files: str, folder: Path, database: Database
) -> None:
    path = begin(api, files)
    add(api, path, 0, CONTENT[:1000])
    # As if the process had been killed between the last piece and the join.
    file_id = path.rpartition("/")[2]
    [piece] = [one for one in objects_below(folder, "uploads") if file_id in one.parts]
    (piece.parent / "last").write_bytes(CONTENT[1000:])
    database.query(
        "WITH u AS (UPDATE weir.scan_upload SET received = bytes WHERE file_id = %s RETURNING *)"
        " INSERT INTO weir.scan_upload_piece SELECT file_id, tenant_id, 1000, 24, %s FROM u",
        file_id,
        str((piece.parent / "last").relative_to(folder)),
    )

    assert offset_of(api, path) == 1024
    assert api.http.get(path).content == CONTENT


def test_a_scan_that_ended_meanwhile_is_processed_again_with_the_file(
    api: Client, files: str, database: Database
) -> None:
    path, scan_id = begin(api, files), files.split("/")[3]
    set_scan(database, scan_id, status="completed", end_frames=0, all_arrived=True)

    add(api, path, 0, CONTENT)

    assert api.get(f"/v1/scans/{scan_id}")["status"] == "queued"


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tus-js-client installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node is not installed, and the real client needs it")
    folder = tmp_path_factory.mktemp("tus")
    install = ["npm", "install", "--no-audit", "--no-fund", "--silent", "tus-js-client@4"]
    done = subprocess.run(install, cwd=folder, capture_output=True, timeout=240, check=False)
    if done.returncode:
        pytest.skip("npm cannot install tus-js-client here (no registry within reach)")
    shutil.copy(Path(__file__).parent / "tus_client.cjs", folder)
    return folder


@pytest.fixture
def process(database: Database, tmp_path: Path) -> Iterator[ApiProcess]:
    process = start_process(database, tmp_path / "api.log")
    wait_until(process.answers, 60, "the API's start")
    yield process
    process.kill()


def peak_bytes(process: ApiProcess) -> int:
    """Most memory that it ever had."""
    status = Path(f"/proc/{process.process.pid}/status").read_text().splitlines()
    [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_a_large_upload_is_never_whole_in_memory(process: ApiProcess, tenant: Tenant) -> None:
    with client(process.url, tenant.api_key) as api:
        scan_id = send(api, "POST", "/v1/scans", {}, status=201)["scan_id"]
        path = begin(api, f"/v1/scans/{scan_id}/files", size=192 * MIB)
        before = peak_bytes(process)

        assert add(api, path, 0, (b"x" * MIB for _ in range(192))).status_code == 204

        digest, size = hashlib.sha256(), 0
        with api.http.stream("GET", path) as response:
            for data in response.iter_bytes():
                digest.update(data)
                size += len(data)
        assert (size, digest.hexdigest()) == (192 * MIB, hashlib.sha256(b"x" * 192 * MIB).hexdigest())
        assert peak_bytes(process) - before < 96 * MIB


def test_the_real_client_goes_on_after_the_server_was_killed(
    database: Database, process: ApiProcess, tenant: Tenant, node_folder: Path, tmp_path: Path
) -> None:
    content = hashlib.shake_256(b"room").digest(24 * MIB)
    (tmp_path / "room.ply").write_bytes(content)
    base = process.url
    with client(base, tenant.api_key) as api:
        scan_id = send(api, "POST", "/v1/scans", {}, status=201)["scan_id"]
    endpoint = f"{base}/v1/scans/{scan_id}/files"
    words = ["node", "tus_client.cjs", endpoint, tenant.api_key, str(tmp_path / "room.ply"), str(2 * MIB)]
    with subprocess.Popen(words, cwd=node_folder, stdout=subprocess.PIPE, text=True) as node:
        said = told(node)
        first = next(each for each in said if each["said"] == "accepted")
        process.kill()
        assert next(said)["said"] in {"retry", "accepted"}
        again = start_process(database, tmp_path / "api.log", port=process.port)
        try:
            rest = list(said)
            assert node.wait(timeout=60) == 0
            with client(base, tenant.api_key) as api:
                assert api.http.get(rest[-1]["url"]).content == content
                assert api.get(f"/v1/scans/{scan_id}/files")["items"][0]["name"] == "room.ply"
        finally:
            again.kill()

    assert first["bytes"] < len(content)
    assert rest[-1]["said"] == "done", rest


def told(node: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    """What the client says, as it says it."""
    assert node.stdout is not None
    for line in node.stdout:
        yield json.loads(line)
