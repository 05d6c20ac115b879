"""A series' gaps are those of the definition, also where no median is taken to tell them."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from processors.gaps import find_gaps
from processors.rules.model import series_of

SPACINGS = st.lists(st.sampled_from([0, 1000, 59_999, 60_000, 90_001, 170_000, 450_001, 900_001]), max_size=12)


@given(SPACINGS)
# The median is the mean of 0 and 60 s, so 170 s are a gap, although the least spacing above 0 is more than a third of them.
@example([0, 0, 0, 60_000, 60_000, 170_000])
def test_whatever_lies_between_readings(spacings: list[int]) -> None:
    at_ms = np.cumsum([0, *spacings])
    gap = series_of(at_ms, np.zeros(len(at_ms)), None).gap

    assert np.column_stack((at_ms[:-1], at_ms[1:]))[gap[1:]].tolist() == find_gaps(at_ms).tolist()
