"""Which frames' poses can belong to one walk: nobody jumps."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

_MAX_SPEED_M_S: Final = 2.0
_MAX_TURN_RAD_S: Final = math.pi
# What a pose may be off although nothing moved, and the shortest time that a speed is computed over.
_SLACK_M: Final = 0.1
_SLACK_RAD: Final = 0.2
_REACH: Final = 40
# Two scans under one name are halves; of the larger one nothing is taken for the smaller one's.
_LEAST_SHARE: Final = 0.4
_HURRY: Final = 4.0
# Of a place from which was seen, and not a few wrong poses that happen to lie near each other.
_LEAST_FRAMES: Final = 4
_LEAST_PLACE: Final = 0.05
_MOST_CHANGES: Final = 0.2


def consistent_walk(captured_at_ms: NDArray[np.int64], pose: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The longest chain of frames in which no step is faster than 2 m/s or 180 degrees/s.

    A single wrong pose drops out, whether it is the first, the last or in between; a wrong pose is never taken for the start
    of the rest. Where that leaves only the lesser part, nobody walked, or nobody wrote down when: then steps may be faster, and
    what was seen from one place after the other counts as well, as from a tripod.

    Args:
        captured_at_ms: shape (n,), in the order of the frames' seq.
        pose: shape (n, 7).

    Returns:
        shape (n,): the frames that belong to the chain; of chains of one length the one that ends first.
    """
    walked = _longest_chain(captured_at_ms, pose, 1.0)
    return walked if walked.sum() >= _LEAST_SHARE * len(pose) else every_place(captured_at_ms, pose, _HURRY)


def every_place(captured_at_ms: NDArray[np.int64], pose: NDArray[np.float64], pace: float = 1.0) -> NDArray[np.bool_]:
    """All chains of more than a few frames, at so many times the pace of walking; without any the longest one.

    Whoever stands at one place after the other gives one chain after the other; chains through each other are several scans.
    """
    number, left, chains = np.full(len(pose), -1), np.arange(len(pose)), 0
    least = max(_LEAST_FRAMES, round(_LEAST_PLACE * len(pose)))
    while len(left):
        chain = _longest_chain(captured_at_ms[left], pose[left], pace)
        if chain.sum() < least and chains:
            break
        number[left[chain]], left, chains = chains, left[~chain], chains + 1
    changes = int(np.count_nonzero(np.diff(number[number >= 0])))
    return number >= 0 if changes < _MOST_CHANGES * len(pose) else number == 0


def _longest_chain(captured_at_ms: NDArray[np.int64], pose: NDArray[np.float64], pace: float) -> NDArray[np.bool_]:
    """At so many times the pace that people walk at. Frames are compared with the 40 before them."""
    count = len(pose)
    length = np.ones(count, dtype=np.int64)
    before = np.full(count, -1, dtype=np.int64)
    for n in range(1, count):
        earlier = np.arange(max(0, n - _REACH), n)
        seconds = np.abs(captured_at_ms[n] - captured_at_ms[earlier]) / 1000
        moved = np.linalg.norm(pose[earlier, :3] - pose[n, :3], axis=1)
        turned = 2 * np.arccos(np.clip(np.abs(pose[earlier, 3:] @ pose[n, 3:]), 0, 1))
        fits = moved <= pace * (_SLACK_M + _MAX_SPEED_M_S * seconds)
        fits &= turned <= pace * (_SLACK_RAD + _MAX_TURN_RAD_S * seconds)
        if fits.any():
            best = earlier[fits][int(np.argmax(length[earlier[fits]]))]
            length[n], before[n] = length[best] + 1, best
    chosen = np.zeros(count, dtype=bool)
    n = int(np.argmax(length)) if count else -1
    while n >= 0:
        chosen[n] = True
        n = int(before[n])
    return chosen
