"""A recognizer names boxes; one that fails, in whatever way, fails nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from processors.scans.recognizers import Recognized, named
from processors.scans.result import FoundObject, Mistake, ScanResult

BOXES = tuple(FoundObject(center=(1.0 + n, 1.0, 0.4), size=(1.0, 0.5, 0.8), yaw=0.0) for n in range(3))
RESULT = ScanResult(objects=BOXES)
CLOUD = np.zeros((7, 3), dtype=np.float32)


class BySize:
    """Calls the second one a table."""

    def recognize(self, boxes: Sequence[FoundObject], cloud: NDArray[np.float32]) -> list[Recognized | None]:
        assert (len(boxes), len(cloud)) == (3, 7)
        return [None, Recognized("table", 0.876), None]


class Wrong:
    """Answers as it was told."""

    def __init__(self, answer: object) -> None:
        self.answer = answer

    def recognize(self, boxes: Sequence[FoundObject], cloud: NDArray[np.float32]) -> Sequence[Recognized | None]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value] # that is the point


def test_what_is_recognized_has_a_class_and_how_sure_it_is() -> None:
    result = named(RESULT, BySize(), CLOUD)

    assert [(one.label, one.confidence) for one in result.objects] == [(None, None), ("table", 0.88), (None, None)]
    assert [(one.center, one.size) for one in result.objects] == [(one.center, one.size) for one in BOXES]
    assert result.warnings == ()


@pytest.mark.parametrize(
    "answer",
    [RuntimeError("no GPU"), None, [], [None], ["table"] * 3],
    ids=["raises", "nothing", "none", "few", "texts"],
)
def test_a_recognizer_that_fails_leaves_a_warning_and_the_boxes(answer: object) -> None:
    result = named(RESULT, Wrong(answer), CLOUD)

    assert result.objects == BOXES
    assert result.warnings == (Mistake.RECOGNIZER_FAILED,)


@pytest.mark.parametrize(
    ("label", "confidence"), [("", 0.5), ("x" * 65, 0.5), ("sofa", 1.1), ("sofa", float("nan")), ("a\0", 0.5)]
)
def test_a_label_is_a_word_and_a_confidence_a_share(label: str, confidence: float) -> None:
    with pytest.raises(ValueError, match="expected 1 to 64, 0 to 1"):
        Recognized(label, confidence)
