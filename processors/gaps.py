"""Gaps in a sensor's readings (INTERFACES §6): neighbours more than three expected intervals apart.

Pure: times in, pairs of times out. The expected interval is declared, or the median spacing of the readings in the
24 h of event time that end at the later neighbour. That is a sliding median, taken exactly and for all pairs at once
with a wavelet matrix: O(n log n) in numpy whatever the spacings look like, about 2 µs a reading.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

WINDOW_MS: Final = 86_400_000
"""24 h: the readings whose spacing is the expected interval of the last of them."""

DEFAULT_INTERVAL_MS: Final = 300_000
"""5 min: what is expected while fewer than four readings say otherwise."""

GAP_INTERVALS: Final = 3
"""A gap is more than this many expected intervals."""

MIN_READINGS: Final = 4
"""Fewer readings in the 24 h say nothing."""

Times = NDArray[np.int64]


def find_gaps(at_ms: Times, declared_interval_ms: int | None = None) -> Times:
    """The gaps between neighbouring readings.

    Args:
        at_ms: shape (n,), UTC epoch milliseconds in ascending order, equal ones allowed. Pairs in the first 24 h are
            judged by the readings that are there, so put the 24 h before the first pair of interest in front.
        declared_interval_ms: the sensor's declared expected interval; None takes the median spacing.

    Returns:
        Shape (k, 2): the times of the earlier and the later neighbour of each gap, in ascending order.
    """
    spacing = np.diff(at_ms)
    is_gap = spacing > GAP_INTERVALS * expected_intervals_ms(at_ms, declared_interval_ms)
    return np.column_stack((at_ms[:-1][is_gap], at_ms[1:][is_gap]))


def expected_intervals_ms(at_ms: Times, declared_interval_ms: int | None = None) -> NDArray[np.float64]:
    """The interval expected between each reading and the one before it.

    The 24 h are half open, `later - 24 h < at <= later`. Readings of one instant (told apart by seq) are 0 ms apart;
    where that makes the median 0 it says nothing about the rhythm, and the median of the spacings above 0 is taken.

    Args:
        at_ms: as for `find_gaps`.
        declared_interval_ms: as for `find_gaps`.

    Returns:
        Shape (n - 1,), milliseconds; half a millisecond where an even number of spacings has such a median.
    """
    pairs = max(len(at_ms) - 1, 0)
    if declared_interval_ms is not None:
        return np.full(pairs, declared_interval_ms, np.float64)
    expected = np.full(pairs, DEFAULT_INTERVAL_MS, np.float64)
    later = at_ms[1:]
    first = np.searchsorted(at_ms, later - WINDOW_MS, side="right")
    last = np.searchsorted(at_ms, later, side="right") - 1
    enough = np.flatnonzero(last - first + 1 >= MIN_READINGS)
    expected[enough] = _median_spacings(np.diff(at_ms), first[enough], last[enough])
    return expected


def _median_spacings(spacing: Times, start: NDArray[np.intp], stop: NDArray[np.intp]) -> NDArray[np.float64]:
    """Median of `spacing[start:stop]` for each pair of bounds, zeros left out where the median would be 0."""
    distinct, rank = np.unique(spacing, return_inverse=True)
    median = _medians(distinct, rank, start, stop, np.zeros_like(start))
    zeros_before = np.concatenate(([0], np.cumsum(spacing == 0)))
    silent = np.flatnonzero(median == 0)
    zeros = zeros_before[stop[silent]] - zeros_before[start[silent]]
    told = zeros < stop[silent] - start[silent]
    median[silent] = DEFAULT_INTERVAL_MS
    silent = silent[told]
    median[silent] = _medians(distinct, rank, start[silent], stop[silent], zeros[told])
    return median


def _medians(
    distinct: Times, rank: NDArray[np.intp], start: NDArray[np.intp], stop: NDArray[np.intp], skipped: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Medians of ranges after their `skipped` smallest values; of an even number, the mean of the middle two."""
    left = stop - start - skipped
    middle = np.concatenate((skipped + (left - 1) // 2, skipped + left // 2))
    low, high = distinct[_kth_smallest(rank, len(distinct), np.tile(start, 2), np.tile(stop, 2), middle)].reshape(2, -1)
    return (low + high) / 2


def _kth_smallest(
    rank: NDArray[np.intp], ranks: int, start: NDArray[np.intp], stop: NDArray[np.intp], k: NDArray[np.intp]
) -> NDArray[np.intp]:
    """The k-th smallest (from 0) of `rank[start:stop]`, for arrays of start, stop and k.

    A wavelet matrix (Navarro et al. 2015, "The wavelet matrix"), walked while it is built: each level sorts stably
    by one bit, and a range stays a range in the half that holds its k-th value.
    """
    found = np.zeros_like(start)
    for bit in reversed(range((ranks - 1).bit_length())):
        ones = (rank >> bit) & 1 == 1
        zeros_before = np.concatenate(([0], np.cumsum(~ones)))
        zeros_at_start, zeros_at_stop = zeros_before[start], zeros_before[stop]
        zeros = zeros_at_stop - zeros_at_start
        up = k >= zeros
        found |= up.astype(np.intp) << bit
        k = np.where(up, k - zeros, k)
        start = np.where(up, zeros_before[-1] + start - zeros_at_start, zeros_at_start)
        stop = np.where(up, zeros_before[-1] + stop - zeros_at_stop, zeros_at_stop)
        rank = np.concatenate((rank[~ones], rank[ones]))
    return found
