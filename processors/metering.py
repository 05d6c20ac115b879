"""Metering: what is billed, counted only from rows that the database really inserted.

`active_sensors` of an hour counts the sensors with a reading in the 24 h that end with it. So a reading counts its sensor in
the 24 hours from its own on, and only the first reading of a sensor in an hour can change anything: the hours between that
one and the sensor's next hour with readings that no earlier hour covered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from schemas.usage import (
    HOUR_CODES,
    HOUR_MS,
    HOURS_A_DAY,
    METERS,
    Ints,
    Meter,
    SensorHours,
    UsageIncrements,
    sensor_hours,
)


def count_readings(tenant_ids: list[str], tenant_code: Ints, at_ms: Ints) -> UsageIncrements:
    """Readings per tenant and hour.

    Rows of one sensor lie together and mostly in one hour: runs are counted first, so that few of them are left to sort.

    Args:
        tenant_ids: the tenants that `tenant_code` points into, sorted.
        tenant_code: shape (n,), index into `tenant_ids` for each inserted row.
        at_ms: shape (n,), epoch milliseconds of each inserted row.

    Returns:
        Increments in the order in which transactions lock usage rows.
    """
    pairs = tenant_code * HOUR_CODES + at_ms // HOUR_MS
    starts = np.flatnonzero(np.append(True, pairs[1:] != pairs[:-1])[: len(pairs)])
    lengths = np.diff(starts, append=len(pairs))
    keys, places = np.unique(pairs[starts], return_inverse=True)
    return _increments(tenant_ids, Meter.READINGS, keys, np.bincount(places, lengths).astype(np.int64))


def perhaps_first(sensor_no: NDArray[np.int32], at_ms: Ints, newest_ms: Ints) -> SensorHours:
    """Pairs of sensor and hour that may be new to the store.

    A sensor's newest reading tells all of its hour, so live readings ask the store once an hour.

    Args:
        sensor_no: shape (n,), of each inserted row.
        at_ms: shape (n,), its time.
        newest_ms: shape (n,), the time of its sensor's newest reading stored before.
    """
    rows = np.flatnonzero(at_ms // HOUR_MS != newest_ms // HOUR_MS)
    return sensor_hours(sensor_no[rows].astype(np.int64) * HOUR_CODES + at_ms[rows] // HOUR_MS)


def without(pairs: SensorHours, known: SensorHours) -> SensorHours:
    """The pairs that are not among the known ones."""
    return sensor_hours(np.setdiff1d(pairs.key, known.key, assume_unique=True))


def count_active(
    tenant_ids: list[str], tenant_code: Ints, known: SensorHours, new: SensorHours, sensors: Ints
) -> UsageIncrements:
    """By how much more sensors are active in which hours.

    Args:
        tenant_ids: the tenants that `tenant_code` points into, sorted.
        tenant_code: shape (m,), whose each of `sensors` is.
        known: at least every stored pair less than 24 h from a new one of the same sensor.
        new: pairs that become stored; none is known.
        sensors: shape (m,), sorted: every sensor of `new` and `known`.

    Returns:
        As of `count_readings`; nothing here is ever negative.
    """
    after = _changes(sensor_hours(np.concatenate([known.key, new.key])), sensors, tenant_code, 1)
    before = _changes(known, sensors, tenant_code, -1)
    key, places = np.unique(np.concatenate([after[0], before[0]]), return_inverse=True)
    change = np.bincount(places, np.concatenate([after[1], before[1]])).astype(np.int64)
    level = np.cumsum(change)  # back at 0 after each tenant's last change
    held = np.flatnonzero(level)
    lengths = key[held + 1] - key[held]
    hours = np.repeat(key[held] - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    return _increments(tenant_ids, Meter.ACTIVE_SENSORS, hours, np.repeat(level[held], lengths))


def _changes(pairs: SensorHours, sensors: Ints, tenant_code: Ints, sign: int) -> tuple[Ints, Ints]:
    """Where a tenant's number of active sensors goes up and down: keys of (tenant, hour) and ±1 for each.

    A pair makes its sensor active from its hour until 24 h later, or until the sensor's next pair takes over.
    """
    until = pairs.hour + HOURS_A_DAY
    is_followed = pairs.sensor_no[:-1] == pairs.sensor_no[1:]
    until[:-1] = np.where(is_followed, np.minimum(until[:-1], pairs.hour[1:]), until[:-1])
    tenant = tenant_code[np.searchsorted(sensors, pairs.sensor_no)] * HOUR_CODES
    signs = np.full(len(pairs), sign, dtype=np.int64)
    return np.concatenate([tenant + pairs.hour, tenant + until]), np.concatenate([signs, -signs])


def _increments(tenant_ids: list[str], meter: Meter, keys: Ints, quantities: Ints) -> UsageIncrements:
    """Of one meter; keys of (tenant, hour), sorted."""
    tenant, hour = keys // HOUR_CODES, keys % HOUR_CODES
    order = np.argsort(hour, kind="stable")
    code = np.full(len(keys), METERS.index(meter), dtype=np.int64)
    return UsageIncrements(tenant_ids, tenant[order], code, hour[order], quantities[order])
