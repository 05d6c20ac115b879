"""Files of scans through an API process of its own: large ones, and `tus-js-client` through a `kill -9`."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration import npm
from tests.integration.api_processes import ApiProcess, start_process
from tests.integration.api_scene import client, new_tenant
from tests.integration.rule_scene import send
from tests.integration.scan_upload_scene import MIB, add, begin
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def tenant(database: Database) -> Tenant:
    tenant = new_tenant(database)
    database.query("UPDATE weir.tenant SET plan = 'enterprise' WHERE tenant_id = %s", tenant.tenant_id)
    return tenant


@pytest.fixture(scope="module")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tus-js-client installed."""
    program = Path(__file__).parent / "tus_client.cjs"
    return npm.install(tmp_path_factory.mktemp("tus"), "tus-js-client@4", program)


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
