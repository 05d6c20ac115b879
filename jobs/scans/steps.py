"""Steps that the processing of a scan can do without: when one takes its process down, the rest is done again without it.

Border: names and the share of progress at which each runs. Nothing heavy is imported here: the worker that watches needs it too.
"""

from __future__ import annotations

from typing import Final

RECOGNIZER: Final = "recognizer"
MESH: Final = "mesh"
_SPANS: Final = {RECOGNIZER: (0.55, 0.6), MESH: (0.6, 0.8)}


def begin(step: str) -> float:
    """The share of progress that is told before it."""
    return _SPANS[step][0]


def end(step: str) -> float:
    """The share that is told after it."""
    return _SPANS[step][1]


def at(share: float) -> str | None:
    """The optional step that runs at a share of progress."""
    return next((step for step, (first, last) in _SPANS.items() if first <= share < last), None)
