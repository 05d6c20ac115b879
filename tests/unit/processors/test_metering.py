"""Metering counts inserted rows per tenant and UTC hour, and the sensors that were active."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from processors.metering import count_active, count_readings, perhaps_first, without
from schemas.usage import HOUR_MS, Meter, SensorHours, UsageIncrement, sensor_hours

FIRST_HOUR = 400_000
Pairs = set[tuple[int, int]]


def count(tenant_ids: list[str], codes: list[int], at_ms: list[int]) -> list[UsageIncrement]:
    return count_readings(tenant_ids, np.array(codes, dtype=np.int64), np.array(at_ms, dtype=np.int64)).rows()


def order(increment: UsageIncrement) -> tuple[Meter, int, str]:
    """In which usage rows are locked."""
    return increment.meter, increment.hour_ms, increment.tenant_id


def test_nothing_inserted_is_nothing_billed() -> None:
    assert count(["a"], [], []) == []


def test_rows_are_counted_by_tenant_and_hour_of_their_own_time() -> None:
    hour = FIRST_HOUR * HOUR_MS

    found = count(["a", "b"], [1, 0, 0, 0], [hour, hour, hour + HOUR_MS - 1, hour + HOUR_MS])

    assert found == [
        UsageIncrement("a", Meter.READINGS, hour, 2),
        UsageIncrement("b", Meter.READINGS, hour, 1),
        UsageIncrement("a", Meter.READINGS, hour + HOUR_MS, 1),
    ]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1_262_304_000_000, 4_102_444_800_000)), max_size=50))
def test_every_row_is_billed_exactly_once(rows: list[tuple[int, int]]) -> None:
    found = count(["a", "b", "c"], [code for code, _ in rows], [at for _, at in rows])

    assert sum(increment.quantity for increment in found) == len(rows)
    assert found == sorted(found, key=order)


def test_only_readings_outside_the_hour_of_their_sensors_newest_may_be_the_first_of_an_hour() -> None:
    hour = FIRST_HOUR * HOUR_MS
    never = np.iinfo(np.int64).min

    found = perhaps_first(
        np.array([1, 1, 1, 2, 3], dtype=np.int32),
        np.array([hour - 1, hour, hour + HOUR_MS, hour, hour]),
        np.array([hour + 5, hour + 5, hour + 5, hour + HOUR_MS - 1, never]),
    )

    assert pairs_of(found) == {(1, FIRST_HOUR - 1), (1, FIRST_HOUR + 1), (3, FIRST_HOUR)}


def pairs_of(columns: SensorHours) -> Pairs:
    return set(zip(columns.sensor_no.tolist(), columns.hour.tolist(), strict=True))


def columns_of(pairs: Pairs) -> SensorHours:
    ordered = sorted(pairs)
    sensors, hours = [s for s, _ in ordered], [h for _, h in ordered]
    return sensor_hours(SensorHours(np.array(sensors, dtype=np.int64), np.array(hours, dtype=np.int64)).key)


def active(pairs: Pairs) -> Counter[tuple[str, int]]:
    """The definition: sensors of a tenant with a reading in the 24 h ending at the hour's end; odd sensors are b's."""
    spans = {(sensor, hour + n) for sensor, hour in pairs for n in range(24)}
    return Counter(("b" if sensor % 2 else "a", hour) for sensor, hour in spans)


PAIRS = st.sets(st.tuples(st.integers(1, 4), st.integers(FIRST_HOUR, FIRST_HOUR + 100)), max_size=25)


@given(PAIRS, PAIRS)
def test_what_is_added_is_what_the_definition_gains(stored: Pairs, batch: Pairs) -> None:
    new = without(columns_of(batch), columns_of(stored))
    # What the store is asked for: days around each new hour.
    days = {(sensor, hour // 24 + n) for sensor, hour in pairs_of(new) for n in (-1, 0, 1)}
    known = columns_of({(sensor, hour) for sensor, hour in stored if (sensor, hour // 24) in days})
    sensors = np.arange(1, 5, dtype=np.int64)

    found = count_active(["a", "b"], sensors % 2, known, new, sensors).rows()

    gained = active(stored | batch) - active(stored)
    assert {(one.tenant_id, one.hour_ms // HOUR_MS): one.quantity for one in found} == dict(gained)
    assert found == sorted(found, key=order)
    assert {one.meter for one in found} <= {Meter.ACTIVE_SENSORS}
