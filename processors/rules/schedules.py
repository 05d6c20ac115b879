"""When a schedule judges: local wall-clock time, so a span keeps its hours over changes to and from summer time.

The hour that a clock repeats belongs to the schedule twice, the one it skips not at all.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from processors.rules.model import Flags, SensorContext, Times
from schemas.rules import Schedule, Span

DAY_MS: Final = 86_400_000
_MINUTE_MS: Final = 60_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_WEEKDAY: Final = 3  # a Thursday


def in_schedule(schedule: Schedule | None, at_ms: Times, context: SensorContext) -> Flags:
    """Whether the schedule judges the sensor at these times; without a schedule, always."""
    if schedule is None:
        return np.ones(len(at_ms), np.bool_)
    if schedule.timezone is not None:
        return _inside(schedule, ZoneInfo(schedule.timezone), at_ms)
    zones = context.timezone(at_ms)
    inside = np.zeros(len(at_ms), np.bool_)
    for name in np.unique(zones).tolist():
        there = zones == name
        inside[there] = _inside(schedule, ZoneInfo(name), at_ms[there])
    return inside


def _inside(schedule: Schedule, zone: ZoneInfo, at_ms: Times) -> Flags:
    local = at_ms + utc_offsets_ms(zone, at_ms)
    weekday, time_of_day = (local // DAY_MS + _EPOCH_WEEKDAY) % 7, local % DAY_MS
    inside = np.zeros(len(at_ms), np.bool_)
    for span in schedule.weekly:
        inside |= _in_span(span, weekday, time_of_day)
    return inside


def _in_span(span: Span, weekday: Times, time_of_day: Times) -> Flags:
    start, end = span.start * _MINUTE_MS, span.end * _MINUTE_MS
    today = np.isin(weekday, list(span.days))
    if start < end:
        return today & (start <= time_of_day) & (time_of_day < end)
    yesterday = np.isin((weekday - 1) % 7, list(span.days))
    return (today & (start <= time_of_day)) | (yesterday & (time_of_day < end))


def utc_offsets_ms(zone: ZoneInfo, at_ms: Times) -> Times:
    """What to add to UTC for local time. The zone is asked twice a day, and bisected on days it changes."""
    days, day_of = np.unique(at_ms // DAY_MS, return_inverse=True)
    before = np.array([_offset_ms(zone, int(day) * DAY_MS) for day in days], np.int64)
    after = np.array([_offset_ms(zone, int(day + 1) * DAY_MS) for day in days], np.int64)
    change = (days + 1) * DAY_MS
    for n in np.flatnonzero(before != after):
        change[n] = _change_ms(zone, int(days[n]) * DAY_MS)
    return np.where(at_ms < change[day_of], before[day_of], after[day_of])


def _change_ms(zone: ZoneInfo, day_ms: int) -> int:
    """The first millisecond of the day's new offset."""
    low, high, old = day_ms, day_ms + DAY_MS, _offset_ms(zone, day_ms)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset_ms(zone, middle) == old:
            low = middle
        else:
            high = middle
    return high


def _offset_ms(zone: ZoneInfo, at_ms: int) -> int:
    offset = (_EPOCH + timedelta(milliseconds=at_ms)).astimezone(zone).utcoffset()
    return round((offset or timedelta()).total_seconds() * 1000)
