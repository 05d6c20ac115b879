"""Draws without state: even, independent, and the same whatever else is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from ops.simulator.noise import Stream, draw, normal, smooth, uniform

KEYS = np.arange(100_000, dtype=np.int64)


def test_uniform_numbers_fill_the_unit_interval_evenly() -> None:
    values = uniform(draw(1, Stream.DOOR, KEYS))

    counts, _ = np.histogram(values, bins=10, range=(0.0, 1.0))

    assert 0.0 <= values.min() < values.max() < 1.0
    assert counts == pytest.approx(10_000, rel=0.05)


def test_normal_numbers_have_mean_0_and_deviation_1() -> None:
    values = normal(draw(1, Stream.MEASUREMENT, KEYS))

    assert values.mean() == pytest.approx(0.0, abs=0.02)
    assert values.std() == pytest.approx(1.0, abs=0.02)
    assert np.abs(values).max() < 3.5


@pytest.mark.parametrize(
    "other", [draw(2, Stream.DOOR, KEYS), draw(1, Stream.COPY, KEYS), draw(1, Stream.DOOR, 0, KEYS)]
)
def test_other_seeds_streams_and_keys_are_independent(other: np.typing.NDArray[np.uint64]) -> None:
    correlation = np.corrcoef(uniform(draw(1, Stream.DOOR, KEYS)), uniform(other))[0, 1]

    assert abs(correlation) < 0.02


def test_a_draw_depends_on_its_own_keys_only() -> None:
    alone = draw(1, Stream.DOOR, np.array([77], dtype=np.int64), 5)

    assert draw(1, Stream.DOOR, KEYS, 5)[77] == alone[0]


def test_a_smooth_curve_has_no_jumps_and_does_not_stand_still() -> None:
    # Over a knot of 6 h it moves by at most 2, in 1 min by at most 1.5 x 2 / 360.
    times = np.arange(0, 30 * 24 * 60, dtype=np.int64) * 60_000

    values = smooth(1, Stream.WEATHER, 3, times, 6 * 3_600_000)

    assert np.abs(np.diff(values)).max() < 1.5 * 2 / 360 + 1e-9
    assert (np.diff(values) == 0).mean() < 0.01
    assert -1.0 <= values.min() < -0.6
    assert 0.6 < values.max() <= 1.0
