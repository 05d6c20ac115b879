"""What rules see of a batch: one row a sensor, of the readings that changed."""

from __future__ import annotations

import numpy as np

from sinks.timescale.batch_columns import InsertOutcome, ReadingColumns
from streams.readings import Stored
from streams.rules.effect import columns_of

NEVER = np.iinfo(np.int64).min


def stored(rows: list[tuple[int, int, float, int, int, str]]) -> Stored:
    """Rows of (sensor, at, value, newest before, version before, what became of it)."""
    sensor, at, value, newest, version, became = zip(*rows, strict=True) if rows else ((),) * 6
    count = len(rows)
    columns = ReadingColumns(
        np.array(sensor, np.int32), np.zeros(count, np.int32), np.array(at, np.int64), np.array(value, np.float64)
    )
    inserted, replaced, duplicate = (np.array([one == word for one in became], np.bool_) for word in ("+", "~", "="))
    outcome = InsertOutcome(inserted, replaced, duplicate)
    code = np.zeros(count, np.int64)
    return Stored(
        columns, outcome, ["ten_1"], code, np.array(newest, np.int64), np.array(version, np.int64), received_ms=0
    )


def test_each_sensor_is_one_row_of_its_readings_extremes_and_times() -> None:
    batch = columns_of(
        stored(
            [
                (2, 1000, 5.0, 400, 7, "+"),
                (2, 1700, 9.0, 400, 7, "+"),
                (2, 1900, 3.0, 400, 7, "+"),
                (5, 600, 1.0, NEVER, 0, "+"),
                (5, 800, 2.0, NEVER, 0, "+"),
                (9, 300, 4.0, 900, 3, "+"),
                (9, 1000, 4.0, 900, 3, "+"),
            ]
        )
    )

    assert batch.sensor_no.tolist() == [2, 5, 9]
    assert (batch.first_ms.tolist(), batch.last_ms.tolist()) == ([1000, 600, 300], [1900, 800, 1000])
    assert (batch.least.tolist(), batch.greatest.tolist()) == ([3.0, 1.0, 4.0], [9.0, 2.0, 4.0])
    assert (batch.newest_ms.tolist(), batch.version.tolist()) == ([400, NEVER, 900], [7, 0, 3])
    # 1700 - 1000; from 400 to 1000 are only 600. Before a sensor's first reading there is no gap.
    assert batch.spacing_ms.tolist() == [700, 200, 700]
    assert batch.has_late.tolist() == [False, False, True]
    assert batch.many.tolist() == [3, 2, 2]
    assert batch.readings_of(5).at_ms.tolist() == [600, 800]
    assert batch.readings_of(9).value.tolist() == [4.0, 4.0]


def test_only_what_changed_counts_and_the_same_moment_again_is_late() -> None:
    batch = columns_of(
        stored(
            [
                (2, 1000, 50.0, 1000, 7, "="),
                (2, 1500, 5.0, 1000, 7, "+"),
                (3, 1000, 6.0, 1000, 8, "~"),
                (4, 2000, 7.0, 1000, 9, "="),
            ]
        )
    )

    assert (batch.sensor_no.tolist(), batch.greatest.tolist()) == ([2, 3], [5.0, 6.0])
    assert batch.has_late.tolist() == [False, True]
    # The time since the newest reading before counts, also where one row of the sensor was a copy.
    assert batch.spacing_ms.tolist() == [500, 0]


def test_a_batch_that_changed_nothing_has_no_rows() -> None:
    for rows in ([], [(2, 1000, 5.0, 1000, 7, "=")]):
        assert len(columns_of(stored(rows)).sensor_no) == 0
