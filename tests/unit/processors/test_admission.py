"""Admission by time, and one row for each identity."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.admission import Greatest, admit, keep_greatest

NOW = 1_795_377_600_000  # 2026-11-22T20:00:00Z
START_OF_2010 = 1_262_304_000_000  # 14 610 days of 86 400 000 ms


class Row(NamedTuple):
    sensor_no: int
    at_ms: int
    seq: int
    value: float


def keep(rows: list[Row]) -> Greatest:
    return keep_greatest(
        np.array([row.sensor_no for row in rows], np.int32),
        np.array([row.at_ms for row in rows], np.int64),
        np.array([row.seq for row in rows], np.int32),
        np.array([row.value for row in rows], np.float64),
    )


def rows_of(rows: list[Row], indices: np.ndarray[tuple[int], np.dtype[np.intp]]) -> list[Row]:
    return [rows[index] for index in indices.tolist()]


few = st.builds(Row, st.integers(1, 3), st.integers(0, 2), st.integers(0, 1), st.sampled_from([-1.5, 0.0, 3.8]))
# Numbers that span too far to be packed into one key of 63 bits:
far = st.builds(
    Row,
    st.sampled_from([0, 1, 2**31 - 1]),
    st.sampled_from([-62_135_596_800_000, 0, 253_402_300_799_999]),
    st.sampled_from([0, 2**31 - 1]),
    st.sampled_from([-1e300, 3.8]),
)
batches = st.lists(few, max_size=40) | st.lists(far, max_size=40)


class TestAdmit:
    @pytest.mark.parametrize(
        ("at_ms", "admitted"),
        [
            (START_OF_2010 - 1, False),
            (START_OF_2010, True),
            (NOW, True),
            (NOW + 5 * 60_000, True),
            (NOW + 5 * 60_000 + 1, False),
            (NOW + 6 * 60_000, False),
            (0, False),
            (946_684_800_000, False),  # 2000-01-01
            (253_402_300_799_999, False),  # the last millisecond of 9999
            (-62_135_596_800_000, False),
        ],
    )
    def test_from_2010_to_5_min_ahead_both_included(self, at_ms: int, admitted: bool) -> None:
        assert admit(np.array([at_ms, NOW]), NOW).tolist() == [admitted, True]

    def test_nothing_of_nothing(self) -> None:
        assert admit(np.zeros(0, np.int64), NOW).tolist() == []


class TestKeepGreatest:
    def test_the_greatest_value_stays_and_the_others_are_evidence(self) -> None:
        rows = [Row(7, 1_000, 0, value) for value in (3.0, 5.0, 3.0, 4.0, 5.0, 3.0)]
        greatest = keep(rows)

        assert greatest.kept.tolist() == [1]
        assert greatest.losers.tolist() == [3, 0]
        assert greatest.copies.tolist() == [3]  # one 5.0 and two 3.0

    def test_another_sensor_time_or_seq_is_another_identity(self) -> None:
        rows = [Row(2, 1, 0, 1.0), Row(1, 2, 0, 2.0), Row(1, 1, 1, 3.0), Row(1, 1, 0, 4.0)]
        greatest = keep(rows)

        assert greatest.kept.tolist() == [3, 2, 1, 0]
        assert greatest.losers.tolist() == []
        assert greatest.copies.tolist() == [0, 0, 0, 0]

    def test_rows_already_in_order_stay_as_they_are(self) -> None:
        greatest = keep([Row(1, at_ms, 0, 0.0) for at_ms in range(5)])

        assert greatest.kept.tolist() == [0, 1, 2, 3, 4]
        assert greatest.copies.tolist() == [0] * 5

    def test_nothing_of_nothing(self) -> None:
        greatest = keep([])

        assert [len(column) for column in (greatest.kept, greatest.losers, greatest.copies)] == [0, 0, 0]
        assert [column.dtype for column in (greatest.kept, greatest.losers, greatest.copies)] == [
            np.intp,
            np.intp,
            np.int64,
        ]

    @given(batches)
    def test_agrees_with_a_count_by_hand(self, rows: list[Row]) -> None:
        values: dict[tuple[int, int, int], list[float]] = defaultdict(list)
        for row in rows:
            values[row[:3]].append(row.value)
        greatest = keep(rows)

        assert rows_of(rows, greatest.kept) == [Row(*key, max(values[key])) for key in sorted(values)]
        losers = [Row(*key, value) for key in sorted(values) for value in sorted(set(values[key]), reverse=True)[1:]]
        assert rows_of(rows, greatest.losers) == losers
        assert greatest.copies.tolist() == [len(values[key]) - len(set(values[key])) for key in sorted(values)]

    @given(batches, st.randoms(use_true_random=False))
    def test_the_order_of_arrival_changes_nothing(self, rows: list[Row], shuffle: random.Random) -> None:
        shuffled = shuffle.sample(rows, len(rows))
        here, there = keep(rows), keep(shuffled)

        assert rows_of(rows, here.kept) == rows_of(shuffled, there.kept)
        assert rows_of(rows, here.losers) == rows_of(shuffled, there.losers)
        assert here.copies.tolist() == there.copies.tolist()

    @given(batches)
    def test_every_row_is_kept_a_loser_or_a_copy(self, rows: list[Row]) -> None:
        greatest = keep(rows)

        assert len({*greatest.kept.tolist(), *greatest.losers.tolist()}) == len(greatest.kept) + len(greatest.losers)
        assert len(greatest.kept) + len(greatest.losers) + greatest.copies.sum() == len(rows)
