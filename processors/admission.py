"""Admission (INTERFACES §4): which readings are taken in, and which of several copies of one identity is the reading.

Border: columns in, row indices out, one batch at a time. What an earlier batch stored is the writer's to compare; the
greater value wins there too, so that the result does not depend on how readings were cut into batches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.readings import EARLIEST_MS, FUTURE_TOLERANCE_MS

_KEYS = 2**63  # how many distinct keys an int64 counts from 0


@dataclass(frozen=True, slots=True)
class Greatest:
    """Rows by what became of them; every row is kept, a loser, or counted once in `copies`.

    Attributes:
        kept: one row for each identity, the greatest value, in the order of (sensor_no, at_ms, seq).
        losers: one row for each further value of an identity, the evidence of a conflict, in the same order.
        copies: shape of `kept`; how many rows only repeated a value of that identity.
    """

    kept: NDArray[np.intp]
    losers: NDArray[np.intp]
    copies: NDArray[np.int64]


def admit(at_ms: NDArray[np.int64], now_ms: int) -> NDArray[np.bool_]:
    """Which times lie in 2010-01-01T00:00:00Z ≤ at ≤ now + 5 min, both ends included."""
    return (at_ms >= EARLIEST_MS) & (at_ms <= now_ms + FUTURE_TOLERANCE_MS)


def keep_greatest(
    sensor_no: NDArray[np.int32], at_ms: NDArray[np.int64], seq: NDArray[np.int32], value: NDArray[np.float64]
) -> Greatest:
    """Leave one row of each identity (sensor, at, seq): the greatest value, and of equal ones the first.

    Args:
        sensor_no: shape (n,), as the other three; rows in any order.
        at_ms: epoch milliseconds.
        seq: the device's sequence number.
        value: finite.
    """
    key = _identity_keys(sensor_no, at_ms, seq)
    if (key[1:] > key[:-1]).all():
        return _all_kept(np.arange(len(key)))
    order = np.argsort(key, kind="stable")
    is_first = _starts(key[order])
    if is_first.all():
        return _all_kept(order)
    order = np.lexsort((-value, key))  # the same order of identities, now from the greatest value down
    is_another_value = is_first | _starts(value[order])
    identity = np.cumsum(is_first) - 1
    copies = np.bincount(identity[~is_another_value], minlength=int(identity[-1]) + 1)
    return Greatest(order[is_first], order[is_another_value & ~is_first], copies.astype(np.int64))


def _identity_keys(sensor_no: NDArray[np.int32], at_ms: NDArray[np.int64], seq: NDArray[np.int32]) -> NDArray[np.int64]:
    """One number for each row, ordered as the identities are: one column sorts several times faster than three."""
    if not len(at_ms):
        return np.zeros(0, np.int64)
    columns = [sensor_no.astype(np.int64), at_ms, seq.astype(np.int64)]
    lows = [int(column.min()) for column in columns]
    sensors, times, seqs = (int(column.max()) - low + 1 for column, low in zip(columns, lows, strict=True))
    if sensors * times * seqs > _KEYS:
        return _ranks(sensor_no, at_ms, seq)
    sensor, at, number = (column - low for column, low in zip(columns, lows, strict=True))
    key: NDArray[np.int64] = (sensor * times + at) * seqs + number
    return key


def _ranks(sensor_no: NDArray[np.int32], at_ms: NDArray[np.int64], seq: NDArray[np.int32]) -> NDArray[np.int64]:
    """The keys of a batch whose numbers span too far to be packed into one."""
    order = np.lexsort((seq, at_ms, sensor_no))
    starts = _starts(sensor_no[order]) | _starts(at_ms[order]) | _starts(seq[order])
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.cumsum(starts)
    return ranks


def _starts(column: NDArray[np.int32] | NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a value differs from the one before; the first row does."""
    starts = np.ones(len(column), np.bool_)
    starts[1:] = column[1:] != column[:-1]
    return starts


def _all_kept(rows: NDArray[np.intp]) -> Greatest:
    return Greatest(rows, np.zeros(0, np.intp), np.zeros(len(rows), np.int64))
