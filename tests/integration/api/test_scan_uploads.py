"""Files of scans over tus 1.0: in pieces, cut and resumed, checked, refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.api_scene import Client, client, new_tenant
from tests.integration.rule_scene import send
from tests.integration.scan_scene import set_scan
from tests.integration.scan_upload_scene import (
    BYTES,
    CONTENT,
    MIB,
    TUS,
    add,
    announced,
    begin,
    checksum,
    objects_below,
    offset_of,
)
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("objects")


@pytest.fixture(scope="module")
def api_options(folder: Path) -> dict[str, Any]:
    return {"objects_url": str(folder)}


@pytest.fixture(scope="module")
def tenant(database: Database) -> Tenant:
    tenant = new_tenant(database)
    database.query("UPDATE weir.tenant SET plan = 'enterprise' WHERE tenant_id = %s", tenant.tenant_id)
    return tenant


@pytest.fixture
def files(api: Client) -> str:
    """Where the files of a new scan are."""
    return f"/v1/scans/{send(api, 'POST', '/v1/scans', {}, status=201)['scan_id']}/files"


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


def test_an_upload_in_too_many_pieces_is_409_and_leaves_no_object(
    api: Client, files: str, folder: Path, database: Database
) -> None:
    path = begin(api, files)
    file_id = path.rpartition("/")[2]
    database.query("UPDATE weir.scan_upload SET pieces = 20000 WHERE file_id = %s", file_id)

    refused = add(api, path, 0, CONTENT[:10])

    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_pieces")
    assert offset_of(api, path) == 0
    assert objects_below(folder, file_id) == []


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
    for method in ("HEAD", "DELETE"):
        other = api.http.request(method, path, headers={"Tus-Resumable": "0.2.2"})
        assert (other.status_code, other.headers["Tus-Version"]) == (412, "1.0.0")


def test_a_client_that_can_only_post_says_what_it_means_in_a_header(api: Client, files: str) -> None:
    path = begin(api, files)
    headers = TUS | {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"}

    assert api.http.post(path, headers=headers | {"X-HTTP-Method-Override": "PATCH"}, content=b"abc").status_code == 204
    assert offset_of(api, path) == 3
    assert api.http.post(path, headers=TUS | {"X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert api.http.head(path, headers=TUS).status_code == 404
    without = api.http.post(path, headers=headers, content=b"abc")
    assert (without.status_code, without.headers["Allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH, POST")


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
