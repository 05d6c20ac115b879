"""Randomness without state: every draw is a hash of a seed, a stream and integer keys such as device and time.

A generator that is advanced draw by draw would give other numbers when a span is cut differently; a hash of *what* is
drawn cannot. The mixer is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Hashes = NDArray[np.uint64]

_WORD = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_U16_MEAN_OF_FOUR = 2.0 * 65_535
_U16_DEVIATION_OF_FOUR = 65_536 / 3.0**0.5  # four uniforms of variance 65536²/12 each


class Stream(IntEnum):
    """What a draw is for; draws of different streams are independent."""

    TRAITS = 1
    PHASE = 2
    WEATHER = 3
    MOISTURE = 4
    DOOR = 5
    INCIDENT = 6
    OUTAGE = 7
    LATENCY = 8
    COPY = 9
    MEASUREMENT = 10
    BATTERY = 11


def _mix(words: Hashes) -> Hashes:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))


def draw(seed: int, stream: Stream, *keys: Ints | int) -> Hashes:
    """One 64-bit word for each combination of the keys, which broadcast against each other (at least shape (1,))."""
    words = _mix(np.array([(seed * _GOLDEN + stream) & _WORD], dtype=np.uint64))
    for key in keys:
        column = np.atleast_1d(np.asarray(key, dtype=np.int64)).view(np.uint64)
        words = _mix(words + column * np.uint64(_GOLDEN))
    return words


def again(words: Hashes) -> Hashes:
    """A second, independent word from a first one."""
    return _mix(words + np.uint64(_GOLDEN))


def uniform(words: Hashes) -> Floats:
    """Words as numbers in [0, 1)."""
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(words: Hashes) -> Floats:
    """Words as nearly normal numbers, mean 0 and deviation 1, never beyond 3.5 (the sum of four uniforms)."""
    total = np.zeros(words.shape)
    for shift in (0, 16, 32, 48):
        total += ((words >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float64)
    return (total - _U16_MEAN_OF_FOUR) / _U16_DEVIATION_OF_FOUR


def smooth(seed: int, stream: Stream, key: Ints | int, time_ms: Ints, knot_ms: int) -> Floats:
    """A slow random curve in (-1, 1) through independent knots `knot_ms` apart; key and time broadcast."""
    knot = time_ms // knot_ms
    part = (time_ms - knot * knot_ms) / knot_ms
    blend = part * part * (3.0 - 2.0 * part)
    before = uniform(draw(seed, stream, key, knot))
    after = uniform(draw(seed, stream, key, knot + 1))
    return 2.0 * (before + (after - before) * blend) - 1.0
