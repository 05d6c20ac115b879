"""Judging from memory finds what judging from the store finds, whatever batches, late rows, losses and rule changes come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from processors.rules.judge import Carried, Episode, RuleVersion, judge, judge_on, look_back_ms
from processors.rules.model import SensorContext, series_of
from streams.rules.book import BookedRule
from streams.rules.histories import SensorHistory
from streams.rules.memory import Memory
from streams.rules.recent import SensorColumns
from tests.unit.processors.rules.test_judge_laws import context, declared, readings
from tests.unit.processors.rules.test_judge_on import lasting
from tests.unit.streams.test_rule_screening import Row, columns

DAY_MS = 86_400_000
SENSOR = 1


def history(rows: Sequence[Row]) -> SensorHistory:
    at, seq = (np.array([row[place] for row in rows], np.int64) for place in (0, 1))
    return SensorHistory(at, seq, np.array([row[2] for row in rows], np.float64))


class Worker:
    """What the effect does with one sensor and rule, the store being a list."""

    def __init__(self, declared_ms: int | None) -> None:
        self.memory = Memory(most_readings=60)
        self.context = context(declared_ms)
        self.stored: list[Row] = []
        self.version = 0
        self.recalled = 0

    def take(self, batch: SensorColumns, rows: list[Row], committed: bool = True) -> None:
        """Store and follow a batch."""
        self.memory.follow(replace(batch, version=np.array([self.version])))
        if committed:
            self.stored = sorted([*self.stored, *rows])
            self.version += 1
        else:
            self.memory.forget(batch.sensor_no)

    def judge(self, booked: BookedRule, idle_ms: int) -> tuple[list[Episode], Carried | None]:
        """From memory where it reaches, from the store where it does not."""
        rule = booked.rules[0]
        firing = self.memory.firing(SENSOR, booked)
        begin: Carried | int = idle_ms if firing is None else firing.carried
        from_ms = idle_ms if firing is None else firing.carried.at_ms
        window_ms = look_back_ms(rule) - DAY_MS + 1  # and the pair that leads into the first
        found = self.memory.recall(SENSOR, from_ms, window_ms, self.context.declared_interval_ms)
        self.recalled += found is not None
        part, gap = history(self.stored).stretch(from_ms - window_ms - DAY_MS, None), None
        if found is not None:
            part, gap = found.readings, found.gap
        else:
            self.memory.keep(SENSOR, from_ms - window_ms - DAY_MS, part, from_ms - window_ms)
        episodes, carried = judge_on(booked.versions, part.at_ms, part.seq, part.value, self.context, begin, gap)
        self.memory.note(SENSOR, booked, carried, episodes[-1] if episodes else None)
        return episodes, carried


def everything(versions: Sequence[RuleVersion], rows: Sequence[Row], sensor: SensorContext) -> list[Episode]:
    every = history(rows)
    return judge(versions, every.at_ms, every.seq, every.value, sensor, from_ms=0)


def uncovered(stored: Sequence[Episode], from_ms: int) -> int:
    """Where to begin, as `covering_stretches` finds it: back to the start of what covers the moment."""
    for one in reversed(stored):
        if one.status != "retracted" and (one.resolved_at_ms is None or one.resolved_at_ms >= from_ms):
            from_ms = min(from_ms, one.started_at_ms)
    return from_ms


events = st.sampled_from(["batch"] * 8 + ["late", "elsewhere", "rolled back", "restart", "rule changed"])


@settings(max_examples=400, deadline=None)
@given(lasting, readings(), declared, st.lists(st.tuples(events, st.integers(1, 5)), min_size=3, max_size=20))
def test_what_is_judged_from_memory_equals_what_is_judged_from_everything(
    versions: list[RuleVersion], rows: list[Row], declared_ms: int | None, course: list[tuple[str, int]]
) -> None:
    worker, booked, place = Worker(declared_ms), BookedRule(7, "ten_1", tuple(versions)), 0
    for event, size in course:
        batch = rows[place : place + size]
        if not batch:
            return
        before = list(worker.stored)
        if event == "restart":
            worker.memory = Memory()
        if event == "rule changed":
            booked = replace(booked)
            worker.memory.forget_firing()
        if event == "rolled back":
            worker.take(columns(before, batch), batch, committed=False)
        if event in {"late", "elsewhere"} and before:
            late = [(before[0][0] + 7, 100 + place, 9.5)]
            if event == "late":
                worker.take(columns(before, late), late)
            else:
                worker.stored, worker.version = sorted([*before, *late]), worker.version + 1
            before = list(worker.stored)
        worker.take(columns(before, batch), batch)
        place += size
        if before and batch[0][0] <= before[-1][0]:
            continue  # late rows are judged by the days around them, from the store

        idle_ms = before[-1][0] if before else 0
        was = everything(versions, before, worker.context)
        ended = {repr(one) for one in was if one.status not in {"pending", "firing"}}
        found, _ = worker.judge(booked, uncovered(was, idle_ms))
        # A run that was retracted before may be found again; it changes nothing.
        new, expected = (
            [repr(one) for one in each if one.status != "retracted" and repr(one) not in ended]
            for each in (found, everything(versions, worker.stored, worker.context))
        )
        assert new == expected


def test_a_regular_fast_sensor_keeps_its_window_and_not_its_day() -> None:
    # One reading a second for 24 h and a quarter; then nothing of the day is needed but that all lie 1 s apart.
    at = np.arange(87_300, dtype=np.int64) * 1000
    every = SensorHistory(at, np.zeros(len(at), np.int64), np.zeros(len(at)))
    newest, window = int(at[-1]), 900_000
    memory = Memory()
    memory.keep(SENSOR, newest - window - DAY_MS, every, newest - window)

    found = memory.recall(SENSOR, newest, window, None)
    assert found is not None
    assert (len(found.readings.at_ms), bool(found.gap.any())) == (901, False)
    assert memory.recall(SENSOR, newest, 2 * window, None) is None


def batches_of(at_ms: list[int], first: int, sizes: list[int]) -> list[tuple[list[Row], list[Row]]]:
    """What is stored before each batch, and the batch."""
    rows = [(at, seq, 5.0) for seq, at in enumerate(at_ms)]
    ends = [first + sum(sizes[:number]) for number in range(len(sizes) + 1)]
    return [(rows[:low], rows[low:high]) for low, high in pairwise(ends) if rows[low:high]]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([0, 1000, 60_000, 61_000, 170_000, 600_000, 7_200_000]), min_size=12, max_size=120),
    st.integers(3, 10),
    st.lists(st.integers(1, 9), min_size=1, max_size=20),
    st.sampled_from([0, 900_000, DAY_MS]),
)
# Half of the spacings are 0: 30 s are expected before the 170 s, half of the least spacing above 0.
@example([0, 0, 0, 0, 60_000, 60_000, 60_000, 0, 60_000, 0, 170_000, 600_000], 4, [4, 4], 0)
def test_the_gaps_that_are_kept_are_those_that_everything_tells(
    spacings: list[int], first: int, sizes: list[int], window_ms: int
) -> None:
    at_ms = [DAY_MS + int(one) for one in np.cumsum(spacings)]
    memory, version = Memory(), 1
    for before, batch in batches_of(at_ms, first, sizes):
        if batch[0][0] <= before[-1][0]:
            return  # another reading of the same time is late
        memory.follow(replace(columns(before, batch), version=np.array([version])))
        version, since_ms = version + 1, before[-1][0] - window_ms
        found, every = memory.recall(SENSOR, before[-1][0], window_ms, None), history([*before, *batch])
        if found is None:
            part = every.stretch(since_ms - DAY_MS, None)
            memory.keep(SENSOR, since_ms - DAY_MS, part, since_ms)
            found = memory.recall(SENSOR, before[-1][0], window_ms, None)
        assert found is not None
        told = series_of(every.at_ms, every.value, None).gap[every.first(since_ms) :]
        assert found.gap.tolist() == [False, *told[1:].tolist()]


def test_an_uneven_fast_sensor_keeps_its_day_and_is_not_read_again() -> None:
    # A reading a second, every tenth after 5 s: more than three times the least spacing, and gaps, in the midst of 24 h.
    at = np.cumsum(np.where(np.arange(130_000) % 10 == 0, 5000, 1000)).tolist()
    rows, window, day = [(moment, 0, 5.0) for moment in at], 900_000, 70_000
    memory = Memory()
    memory.follow(replace(columns([], rows[:day]), version=np.array([0])))
    newest = rows[day - 1][0]
    memory.keep(SENSOR, newest - window - DAY_MS, history(rows[:day]), newest - window)
    for number in range(1, 4):
        low, high = day + 9 * (number - 1), day + 9 * number
        memory.follow(replace(columns(rows[:low], rows[low:high]), version=np.array([number])))
        found = memory.recall(SENSOR, rows[low - 1][0], window, None)
        assert found is not None
        assert found.gap[-9:].tolist() == [spacing == 5000 for spacing in np.diff(at[low - 1 : high]).tolist()]


def test_a_pause_is_a_gap_by_the_readings_of_the_whole_day() -> None:
    at = np.append(np.arange(1440, dtype=np.int64) * 60_000, [1443 * 60_000, 1446 * 60_000 + 1])
    memory = Memory()
    memory.keep(SENSOR, -DAY_MS, history([(moment, 0, 5.0) for moment in at.tolist()]), 0)

    # Three and four minutes after readings a minute apart; the one before what is asked begins the series.
    found = memory.recall(SENSOR, int(at[-3]), 0, None)
    assert found is not None
    assert (found.readings.at_ms.tolist(), found.gap.tolist()) == (at[-3:].tolist(), [False, True, True])


def test_a_sensor_judged_elsewhere_or_not_committed_is_forgotten() -> None:
    rows = [(n * 60_000, 0, 5.0) for n in range(10)]
    memory = Memory()

    def recalled(batch: SensorColumns, version: int) -> bool:
        lost = memory.follow(replace(batch, version=np.array([version])))
        found = memory.recall(SENSOR, 5 * 60_000, 0, 60_000) is not None
        assert found is (len(lost) == 0 and version > 0)
        memory.keep(SENSOR, 0, history(rows), 0)
        return found

    assert not recalled(columns([], rows[:4]), 0)
    assert recalled(columns(rows[:4], rows[4:6]), 1)
    assert not recalled(columns(rows[:6], rows[6:8]), 3)
    memory.forget(np.array([SENSOR], np.int32))
    assert not recalled(columns(rows[:8], rows[8:]), 4)


def test_gaps_whose_day_was_not_read_are_not_told() -> None:
    # Of readings from noon on, gaps are known a day later; three hours of silence are asked about before that.
    at = [*range(0, 20 * 3_600_000, 600_000), *range(23 * 3_600_000, 48 * 3_600_000, 600_000)]
    memory = Memory()
    memory.keep(SENSOR, 0, history([(moment, 0, 5.0) for moment in at]), DAY_MS)

    assert memory.recall(SENSOR, DAY_MS, 0, None) is not None
    assert memory.recall(SENSOR, DAY_MS, 2 * 3_600_000, None) is None


def test_readings_that_come_faster_one_by_one_make_a_shorter_pause_a_gap() -> None:
    # 24 h of a reading a minute, then 1 500 a second apart, each a batch: the median is a second, and 100 s are a gap.
    at = [*(n * 60_000 for n in range(1440)), *(1439 * 60_000 + n * 1000 for n in range(1, 1501))]
    rows = [(moment, 0, 5.0) for moment in [*at, at[-1] + 100_000]]
    memory = Memory()
    memory.follow(replace(columns([], rows[:1440]), version=np.array([0])))
    memory.keep(SENSOR, -DAY_MS, history(rows[:1440]), 0)
    for number in range(1440, len(rows)):
        memory.follow(
            replace(columns(rows[number - 1 : number], rows[number : number + 1]), version=np.array([number - 1439]))
        )

    found = memory.recall(SENSOR, rows[-2][0], 0, None)
    assert found is not None
    assert found.gap.tolist() == [False, True]
