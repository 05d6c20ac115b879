"""What `weir bench rules` says of the screen alone: a batch of one reading a sensor against very many rules, no server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from psycopg import AsyncConnection

from processors.rules.model import RuleVersion
from schemas.rules import parse_rule
from sinks.timescale.batch_columns import ReadingColumns
from streams.rules.book import BookedRule
from streams.rules.recent import RecentWindows, SensorColumns
from streams.rules.screening import Screening

_BATCHES = 20
_STEP_MS = 60_000
_START_MS = 1_790_856_000_000


def screen(conditions: Sequence[Mapping[str, Any]], sensors: int, rules: int) -> dict[str, object]:
    """The median processor time of screening a batch with a reading of each sensor, one in a hundred beyond the limit.

    Args:
        conditions: what the rules say, in turn.
        sensors: how many there are.
        rules: how many there are, each for one sensor.
    """
    screening, recent = Screening(), RecentWindows()
    screening.add(_pairs(conditions, sensors, rules))
    took, touched = [], 0
    for number in range(_BATCHES):
        batch = _batch(sensors, number)
        # A sensor's first batch is its first reading at all: the connection is asked nothing.
        asyncio.run(recent.learn(AsyncConnection.__new__(AsyncConnection), batch, sorted(screening.windows_ms)))
        started = time.process_time()
        touched = len(screening.touched(batch, recent))
        recent.add(batch)
        took.append((time.process_time() - started) * 1000)
    return {
        "bench": "rules",
        "measure": "screen_a_batch",
        "rows": sensors,
        "rules": rules,
        "touched_pairs": touched,
        "p50_cpu_ms": round(float(np.median(took)), 1),
    }


def _pairs(conditions: Sequence[Mapping[str, Any]], sensors: int, rules: int) -> list[tuple[int, BookedRule]]:
    parsed = [parse_rule({"name": "r", "severity": "major", "condition": dict(one)}) for one in conditions]
    versions = [(RuleVersion(0, one),) for one in parsed]
    each = rules // sensors
    return [
        (number // each, BookedRule(number, "ten_bench", versions[number % len(versions)]))
        for number in range(sensors * each)
    ]


def _batch(sensors: int, number: int) -> SensorColumns:
    at_ms = np.full(sensors, _START_MS + number * _STEP_MS)
    sensor_no = np.arange(sensors, dtype=np.int32)
    value = np.where(sensor_no % 100 == number, 9.0, 5.0)
    newest = at_ms - _STEP_MS if number else np.full(sensors, np.iinfo(np.int64).min)
    rows = ReadingColumns(sensor_no, np.zeros(sensors, np.int32), at_ms, value)
    late, version = np.zeros(sensors, np.bool_), np.full(sensors, number)
    spacing, starts = np.full(sensors, _STEP_MS if number else 0), np.arange(sensors)
    return SensorColumns(sensor_no, at_ms, at_ms, value, value, newest, late, spacing, version, rows, starts)
