"""A client of tus 1.0 for files of scans, piece by piece."""

from __future__ import annotations

import base64
import hashlib
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from api import scan_models
from tests.integration.api_scene import Client
from tests.integration.servers import Tenant

CONTENT = bytes(range(256)) * 4  # 1 024 bytes
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}
MIB = 1024 * 1024


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
