"""The notation of series in rule tests, as promtool's: `a+bxn`, `a-bxn`, `axn`, `_`, `_xn`, `stale`.

Border: text to samples. `1+2x3` is 1 3 5 7: one sample and then n more. `_` is a sample that never came, and so is
`stale`: a sensor that stops sends nothing that says so.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MAX_SAMPLES: Final = 1_000_000

_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_VALUES = re.compile(rf"(?P<first>{_NUMBER})(?:(?P<step>[+-](?:\d+(?:\.\d*)?|\.\d+))?x(?P<count>\d{{1,7}}))?")
_MISSING = re.compile(r"(?:_|stale)(?:x(?P<count>\d{1,7}))?")


@dataclass(frozen=True, slots=True)
class Samples:
    """A series' samples in order."""

    at_ms: NDArray[np.int64]
    value: NDArray[np.float64]


def expand(series: str, start_ms: int, interval_ms: int) -> Samples:
    """The samples of a series.

    Raises:
        ValueError: a word of it is none of the notation, or it is too long; says which and what is known.
    """
    values: list[float] = []
    for word in series.split():
        values += _expanded(word)
        if len(values) > MAX_SAMPLES:
            msg = f"has more than {MAX_SAMPLES} samples; use a longer interval, or several tests"
            raise ValueError(msg)
    column = np.array(values, np.float64)
    present = np.flatnonzero(~np.isnan(column))
    return Samples(start_ms + present * interval_ms, column[present])


def _expanded(word: str) -> list[float]:
    missing = _MISSING.fullmatch(word)
    if missing is not None:
        return [math.nan] * int(missing["count"] or 1)
    values = _VALUES.fullmatch(word)
    if values is None:
        msg = f"found {word[:60]!r}, expected 5, 5x9, 5+0.5x9, 5-0.5x9, _, _x9 or stale, with blanks between"
        raise ValueError(msg)
    first, step, count = float(values["first"]), float(values["step"] or 0), int(values["count"] or 0)
    if not math.isfinite(first):
        msg = f"found {word[:60]!r}, whose value is beyond the range of a double"
        raise ValueError(msg)
    return [first + n * step for n in range(min(count, MAX_SAMPLES) + 1)]
