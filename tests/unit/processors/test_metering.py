"""Metering counts inserted rows per tenant and UTC hour."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.metering import count_readings
from schemas.usage import HOUR_MS, UsageIncrement


def count(tenant_ids: list[str], codes: list[int], at_ms: list[int]) -> list[UsageIncrement]:
    return count_readings(tenant_ids, np.array(codes, dtype=np.int64), np.array(at_ms, dtype=np.int64))


def test_nothing_inserted_is_nothing_billed() -> None:
    assert count(["a"], [], []) == []


def test_rows_are_counted_by_tenant_and_hour_of_their_own_time() -> None:
    hour = 400_000 * HOUR_MS

    found = count(["a", "b"], [1, 0, 0, 0], [hour, hour, hour + HOUR_MS - 1, hour + HOUR_MS])

    assert found == [UsageIncrement("a", hour, 2), UsageIncrement("a", hour + HOUR_MS, 1), UsageIncrement("b", hour, 1)]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1_262_304_000_000, 4_102_444_800_000)), max_size=50))
def test_every_row_is_billed_exactly_once(rows: list[tuple[int, int]]) -> None:
    found = count(["a", "b", "c"], [code for code, _ in rows], [at for _, at in rows])

    assert sum(increment.quantity for increment in found) == len(rows)
    assert found == sorted(found, key=lambda row: (row.tenant_id, row.hour_ms))
