"""A sensor's status."""

from __future__ import annotations

import pytest

from api.sensors import sensor_item, status_of
from sinks.timescale.reader import SensorRow

NOW = 1_795_377_600_000  # 2026-11-22T20:00:00.000Z
MINUTE = 60_000


def row(last_at_ms: int | None, expected_interval_ms: int | None = None) -> SensorRow:
    value = None if last_at_ms is None else 3.8
    return SensorRow(7, "sen_1", "dev_1", "air", "celsius", expected_interval_ms, None, None, last_at_ms, value)


class TestStatus:
    @pytest.mark.parametrize(
        ("declared_ms", "silence_ms", "status"),
        [
            (MINUTE, 3 * MINUTE, "ok"),
            (MINUTE, 3 * MINUTE + 1, "silent"),
            (None, 15 * MINUTE, "ok"),  # 3 × 5 min
            (None, 15 * MINUTE + 1, "silent"),
            (MINUTE, -5 * MINUTE, "ok"),  # a device's clock may be ahead
        ],
    )
    def test_silent_means_nothing_for_more_than_three_expected_intervals(
        self, declared_ms: int | None, silence_ms: int, status: str
    ) -> None:
        assert status_of(row(NOW - silence_ms, declared_ms), NOW) == status

    def test_new_means_nothing_ever(self) -> None:
        assert status_of(row(None), NOW) == "new"


class TestItem:
    def test_it_has_the_fields_of_the_contract(self) -> None:
        assert sensor_item(row(NOW - MINUTE, 90_000), NOW) == {
            "sensor_id": "sen_1",
            "device_id": "dev_1",
            "name": "air",
            "unit": "celsius",
            "expected_interval": "1m30s",
            "site_id": None,
            "unit_id": None,
            "last": {"at": "2026-11-22T19:59:00.000Z", "value": 3.8},
            "status": "ok",
            "archived_at": None,
        }

    def test_without_a_reading_last_is_null(self) -> None:
        assert sensor_item(row(None), NOW)["last"] is None
