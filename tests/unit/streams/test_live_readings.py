"""What the workers publish: each sensor's newest reading of the tenants that are watched."""

from __future__ import annotations

import numpy as np

from schemas.live import READING
from streams.live import conflate


def rows(*readings: tuple[int, int, int, float]) -> np.ndarray[tuple[int], np.dtype[np.void]]:
    return np.array(list(readings), dtype=READING)


def test_of_several_batches_the_newest_reading_of_each_sensor_stays_as_the_store_decides() -> None:
    found = conflate(
        [
            ("a", 10, rows((1, 0, 500, 3.0), (2, 0, 500, 1.0))),
            ("b", 11, rows((3, 0, 100, 7.0))),
            # Sensor 1: older. Sensor 2: the same moment, a greater sequence number.
            ("a", 12, rows((1, 0, 400, 9.0), (2, 1, 500, 0.5))),
            # The same identity: the greater value.
            ("a", 11, rows((1, 0, 500, 3.5))),
        ]
    )
    assert [(one.tenant_id, one.received_ms, one.rows.tolist()) for one in found] == [
        ("a", 12, [(1, 0, 500, 3.5), (2, 1, 500, 0.5)]),
        ("b", 11, [(3, 0, 100, 7.0)]),
    ]
