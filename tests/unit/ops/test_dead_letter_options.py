"""What `weir dead-letters` makes of a time and shows of bytes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from ops.commands.dead_letters import known, parse_since, preview
from schemas.errors import Misconfigured

NOW_MS = 1_795_377_600_000  # 2026-11-22T20:00:00Z


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", datetime(2026, 11, 22, 18, 30, tzinfo=UTC)),
        ("1d12h", datetime(2026, 11, 21, 8, tzinfo=UTC)),
        ("2w", datetime(2026, 11, 8, 20, tzinfo=UTC)),
        ("2026-11-22T19:00:00Z", datetime(2026, 11, 22, 19, tzinfo=UTC)),
        ("2026-11-22T19:00:00.500+01:00", datetime(2026, 11, 22, 18, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_since_is_a_time_or_a_duration(text: str, moment: datetime) -> None:
    assert parse_since(text, NOW_MS) == moment


@pytest.mark.parametrize("text", ["", "5", "m", "5 m", "-5m", "2026-11-22", "2026-11-22T19:00:00", "now"])
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Misconfigured, match="neither a time with an offset"):
        parse_since(text, NOW_MS)


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (None, "-"),
        (b"", ""),
        ('{"ü": 1}\n'.encode(), '{"ü": 1}\n'),
        (b"\x00\x01\xff", "00 01 ff"),
        (b"\x1b[31mred", "1b 5b 33 31 6d 72 65 64"),  # no escape sequence reaches the terminal
        ("ü".encode() * 600, "ü" * 512 + " … and 176 bytes more"),  # 1200 - 1024
        (b"x" + "ü".encode() * 600, "x" + "ü" * 511 + " … and 177 bytes more"),  # a character cut at the edge
    ],
)
def test_a_preview_shows_text_or_hexadecimal(content: bytes | None, shown: str) -> None:
    assert preview(content) == shown


def test_a_reason_is_one_of_those_that_there_are() -> None:
    assert (known("unsigned"), known(None)) == ("unsigned", None)
    with pytest.raises(Misconfigured, match="'unknown'; the reasons are beyond_retention, corrupt_payload, "):
        known("unknown")
