"""Going on from a carried episode finds what judging everything finds, however the readings are cut into batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.rules.judge import Carried, Episode, RuleVersion, judge_on
from schemas.rules import Rule, Silence
from tests.unit.processors.rules.judging import MINUTE, rule
from tests.unit.processors.rules.judging import context as everywhere
from tests.unit.processors.rules.test_judge_laws import (
    context,
    declared,
    histories,
    judged,
    look_back,
    readings,
    schedules,
    simple,
    targets,
)

Row = tuple[int, int, float]

lasting = st.builds(Rule, st.just("r"), targets, st.just("major"), simple, schedules, st.none()).map(
    lambda one: [RuleVersion(0, one)]
)


def go_on(
    versions: Sequence[RuleVersion], rows: list[Row], declared_ms: int | None, begin: Carried | int
) -> tuple[list[Episode], Carried | None]:
    """Judge with no more readings than it asks for."""
    from_ms = begin if isinstance(begin, int) else begin.at_ms
    earlier = [n for n, row in enumerate(rows) if row[0] <= from_ms - look_back(versions)]
    kept = rows[earlier[-1] if earlier else 0 :]
    at, seq = (np.array([row[place] for row in kept], np.int64) for place in (0, 1))
    return judge_on(versions, at, seq, np.array([row[2] for row in kept]), context(declared_ms), begin)


def watches_silence(versions: Sequence[RuleVersion]) -> bool:
    return any(one.rule is not None and isinstance(one.rule.condition, Silence) for one in versions)


@settings(max_examples=600, deadline=None)
@given(st.one_of(lasting, lasting, histories), readings(), declared, st.lists(st.integers(1, 6), min_size=1))
def test_batch_by_batch_from_what_is_carried_finds_the_same_to_the_last_bit(
    versions: list[RuleVersion], rows: list[Row], declared_ms: int | None, sizes: list[int]
) -> None:
    if watches_silence(versions) or any(one.rule is not None and one.rule.ladder for one in versions):
        return
    rows, carried, end = [(at, n % 3, value / 3) for at, n, value in rows], None, 0
    rows = sorted({row[:2]: row for row in rows}.values())
    judged_last = judged(versions, [], declared_ms)
    for size in sizes:
        ended = [one for one in judged_last if one.status not in {"pending", "firing"}]
        end = min(end + size, len(rows))
        # A reading as old as the newest is late: it may change the gap before, and nothing is carried past it.
        while end < len(rows) and rows[end][0] == rows[end - 1][0]:
            end += 1
        known: list[str] = [] if carried is None else [repr(one) for one in ended]
        judged_last = judged(versions, rows[:end], declared_ms)
        expected = [one for one in judged_last if repr(one) not in known]
        found, carried = go_on(versions, rows[:end], declared_ms, carried or 0)
        assert repr(found) == repr(expected)


def test_a_firing_threshold_is_carried_from_the_reading_at_which_its_clear_time_began() -> None:
    condition = {"type": "threshold", "above": 8.0, "clear": {"below": 7.5, "for": "5m"}}
    values = [5.0, 9.0, 9.5, 7.8, 7.0, 7.0]
    at = np.arange(6) * MINUTE
    versions = [RuleVersion(0, rule(condition))]
    [one], carried = judge_on(versions, at, np.zeros(6, np.int64), np.array(values), everywhere(), 0)

    assert (one.status, one.proven_ms, one.possible_ms) == ("firing", MINUTE, 3 * MINUTE)
    assert carried is not None
    assert (carried.at_ms, carried.started_at_ms, carried.fired_at_ms) == (4 * MINUTE, MINUTE, MINUTE)
    # 9 and 9.5 violate: one pair proven; with the pair before them and the pair after them three are possible.
    assert (carried.totals.peak_value, carried.totals.proven_ms, carried.totals.possible_ms) == (
        9.5,
        MINUTE,
        3 * MINUTE,
    )


def test_nothing_is_carried_while_pending_or_of_a_combination() -> None:
    at, seq, value = np.arange(3) * MINUTE, np.zeros(3, np.int64), np.array([9.0, 9.0, 9.0])
    above = {"type": "threshold", "above": 8.0}
    for condition, status in (
        ({**above, "for": "1h"}, "pending"),
        ({"type": "any_of", "conditions": [above, {**above, "for": "1m"}]}, "firing"),
    ):
        [one], carried = judge_on([RuleVersion(0, rule(condition))], at, seq, value, everywhere(), 0)
        assert (one.status, carried) == (status, None)
