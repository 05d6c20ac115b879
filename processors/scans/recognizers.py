"""The port of recognizers: boxes of a room in, what each of them is out. Weir has RoomPlan's labels only (`room_plan_check`).

Whatever a recognizer does, a scan does not fail for it: its labels are left out, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from processors.scans.result import FoundObject, Mistake, ScanResult

MAX_LABEL: Final = 64


@dataclass(frozen=True, slots=True)
class Recognized:
    """What a box holds, and how sure that is, 0 to 1."""

    label: str
    confidence: float

    def __post_init__(self) -> None:
        if not 0 < len(self.label) <= MAX_LABEL or not 0 <= self.confidence <= 1 or not self.label.isprintable():
            msg = f"a label of {len(self.label)} characters with confidence {self.confidence}; expected 1 to {MAX_LABEL}, 0 to 1"
            raise ValueError(msg)


class Recognizer(Protocol):
    """Tells what things are. The same input must give the same answer, or repeated processing does not."""

    def recognize(
        self, boxes: Sequence[FoundObject], cloud: NDArray[np.float32]
    ) -> Sequence[Recognized | None]:  # pragma: no cover - a form
        """One answer for each box, in their order; None for what it does not know.

        Args:
            boxes: in the room's coordinates: metres, floor at z = 0.
            cloud: the cleaned cloud in the same coordinates, shape (n, 3).
        """
        ...


def named(result: ScanResult, recognizer: Recognizer, cloud: NDArray[np.float32]) -> ScanResult:
    """The result with what the recognizer knows of its objects; with a warning if it failed."""
    try:
        answers = list(recognizer.recognize(result.objects, cloud))
        objects = tuple(_named(box, answer) for box, answer in zip(result.objects, answers, strict=True))
    except Exception:  # it is somebody else's program, and the measurements stand without it
        return failed(result)
    return msgspec.structs.replace(result, objects=objects)


def failed(result: ScanResult) -> ScanResult:
    """The result, saying that a recognizer failed."""
    return msgspec.structs.replace(result, warnings=(*result.warnings, Mistake.RECOGNIZER_FAILED))


def _named(box: FoundObject, answer: Recognized | None) -> FoundObject:
    if answer is None:
        return box
    return msgspec.structs.replace(box, label=str(answer.label), confidence=round(float(answer.confidence), 2))
