"""Readings packed into notification payloads."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.live import MAX_PAYLOAD_CHARS, READING, Newest, pack, unpack


def newest(tenant_id: str, first: int, count: int) -> Newest:
    rows = np.zeros(count, dtype=READING)
    rows["sensor_no"] = np.arange(first, first + count)
    rows["at_ms"] = 1_790_856_000_000 + np.arange(count)
    rows["value"] = rows["sensor_no"] / 7
    rows["seq"] = 2**31 - 1
    return Newest(tenant_id, 1_790_856_000_123, rows)


@pytest.mark.parametrize("counts", [[1], [237], [238], [5_000], [1] * 300, [100, 3_000, 7]])
def test_everything_packed_is_unpacked_and_no_payload_is_too_long(counts: list[int]) -> None:
    parts = [newest(f"ten_{number}", number * 10_000, count) for number, count in enumerate(counts)]
    payloads = pack(parts)
    assert max(map(len, payloads)) <= MAX_PAYLOAD_CHARS
    found: dict[str, list[object]] = {}
    for payload in payloads:
        for part in unpack(payload):
            assert part.received_ms == 1_790_856_000_123
            found.setdefault(part.tenant_id, []).extend(part.rows.tolist())
    assert found == {part.tenant_id: part.rows.tolist() for part in parts}


def test_nothing_packs_to_no_payload_and_237_readings_to_one_part() -> None:
    assert pack([]) == []
    # 237 × 24 bytes are 7 584 characters of base64; two such parts do not share 7 900.
    assert [len(list(unpack(payload))) for payload in pack([newest("t", 0, 474)])] == [1, 1]


def test_what_is_no_payload_is_refused() -> None:
    with pytest.raises(ValueError, match="unpack"):
        list(unpack("hello"))
