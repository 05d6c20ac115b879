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


MEAN = {"type": "aggregate", "function": "mean", "window": "15m", "above": 8.0}


def task(touched: Touched, condition: dict[str, object] = MEAN, declared_ms: int | None = None) -> Task:
    """A condition on a sensor, of unknown interval unless one is declared."""
    rule = parse_rule({"name": "r", "severity": "major", "condition": condition})
    context = SensorContext(
        declared_ms, lambda _target, at: np.ones(len(at), np.bool_), lambda _one, at: np.full(len(at), np.nan)
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


def test_a_run_that_must_count_readings_is_looked_for_as_long_as_they_may_take() -> None:
    late = NOW_MS - 30 * DAY_MS
    counting = {"type": "threshold", "above": 8.0, "for": "10m", "consecutive": 3}

    # Three readings a day apart have no gap between them where the median says so, and 24 h tell that median.
    assert task(Touched(late, late), counting).from_ms == late - 10 * MINUTE_MS - 3 * DAY_MS - DAY_MS
    # Three gapless pairs of a sensor that reports every second day.
    slow = task(Touched(late, late), counting, declared_ms=2 * DAY_MS)
    assert slow.from_ms == late - 10 * MINUTE_MS - 3 * 6 * DAY_MS - DAY_MS


def test_only_a_declared_interval_spares_the_24_hours_that_tell_gaps() -> None:
    live = Touched(NOW_MS, NOW_MS, NOW_MS - MINUTE_MS)

    assert task(live, declared_ms=MINUTE_MS).reads_back_ms == 15 * MINUTE_MS + 1
    assert task(live).reads_back_ms == 15 * MINUTE_MS + 1 + DAY_MS
    # A late reading lies between others, whose gaps may change.
    assert task(Touched(NOW_MS, NOW_MS), declared_ms=MINUTE_MS).reads_back_ms == 15 * MINUTE_MS + 1 + DAY_MS
