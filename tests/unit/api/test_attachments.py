"""What a download is called."""

from __future__ import annotations

import pytest

from api.scan_exports import attachment


@pytest.mark.parametrize(
    ("name", "plain", "encoded"),
    [
        ("room.pcd", "room.pcd", "room.pcd"),
        ("Küche.ply", "K_che.ply", "K%C3%BCche.ply"),
        ("../../etc/cron.d/room.pcd", "room.pcd", "room.pcd"),
        ("..\\room.pcd", "room.pcd", "room.pcd"),
        ("/", "file", "file"),
        ('a"\r\nX-Evil: 1.ply', "a___X-Evil_ 1.ply", "a%22%0D%0AX-Evil%3A%201.ply"),
    ],
    ids=["plain", "umlaut", "path", "backslashes", "nothing", "header"],
)
def test_a_name_is_one_file_and_no_header(name: str, plain: str, encoded: str) -> None:
    expected = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    assert attachment(name) == {"Content-Disposition": expected}
