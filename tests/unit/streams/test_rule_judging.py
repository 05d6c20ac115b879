"""How much of a sensor's history judging again reads."""

from __future__ import annotations

import numpy as np

from processors.rules.model import RuleVersion, SensorContext
from schemas.rules import parse_rule
from streams.rules.book import BookedRule
from streams.rules.episodes import Pair
from streams.rules.judging import Task, Touched

MINUTE_MS = 60_000
DAY_MS = 1440 * MINUTE_MS
NOW_MS = 1_790_000_000_000


def task(touched: Touched) -> Task:
    """A mean of 15 minutes on a sensor of unknown interval."""
    condition = {"type": "aggregate", "function": "mean", "window": "15m", "above": 8.0}
    rule = parse_rule({"name": "r", "severity": "major", "condition": condition})
    context = SensorContext(
        None, lambda _target, at: np.ones(len(at), np.bool_), lambda _one, at: np.full(len(at), np.nan)
    )
    return Task(Pair("ten_1", 1, 1), BookedRule(1, "ten_1", (RuleVersion(0, rule),)), context, touched)


def minutes_read(one: Task) -> int:
    """How many readings a minute apart lie in what is read of the 365 days before now."""
    at_ms = np.arange(NOW_MS - 365 * DAY_MS, NOW_MS, MINUTE_MS)
    to_ms = one.to_ms(1, NOW_MS)
    return int(((at_ms >= one.from_ms - one.back_ms) & (at_ms < (to_ms or NOW_MS))).sum())


def test_a_late_reading_reads_the_days_around_it_however_long_the_history_is() -> None:
    late = NOW_MS - 30 * DAY_MS

    # Look-back is 24 h + 15 min: twice before the reading (to begin, and for the first window), 48 h 15 min after it.
    assert minutes_read(task(Touched(late, late))) == 2 * (1440 + 15) + (1440 + 1440 + 15)


def test_a_live_reading_reads_its_window_and_what_tells_gaps() -> None:
    newest = NOW_MS - MINUTE_MS

    # From the newest reading before it: 24 h + 15 min, and that reading itself.
    assert minutes_read(task(Touched(NOW_MS, NOW_MS, newest))) == 1440 + 15 + 1
