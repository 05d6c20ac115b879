"""Likely mistakes of the sender: what would explain frames that make no sense, in the words of whoever made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.poses import rotation
from processors.scans.result import Mistake
from processors.scans.scan_map import FrameNote, Refusal

_FEW_FRAMES: Final = 24
_RASTER_M: Final = 0.2
# Poses the wrong way round smear a room over half as much space again; noise and drift do not.
_SMEARED: Final = 0.8
# Whoever has only turned about so far sees as much either way.
_LEAST_SPREAD_M: Final = 0.3
_LEAST_FRAMES: Final = 6
# Nobody walks through a room of a hundred metres, but in millimetres three metres are three thousand.
_ROOM_M: Final = 100.0
_ALIGNED: Final = 0.75
_OF_REFUSALS: Final = {
    Refusal.IMPOSSIBLE_INTRINSICS.value: Mistake.COLOUR_INTRINSICS,
    Refusal.DEPTH_NOT_MILLIMETRES.value: Mistake.METRES_AS_MILLIMETRES,
    "points_out_of_reach": Mistake.MILLIMETRES_AS_METRES,
}
FATAL: Final = frozenset({Mistake.INVERSE_POSE, Mistake.MILLIMETRES_AS_METRES})
"""With these, whatever is measured is wrong."""


def of_frames(notes: Sequence[FrameNote]) -> list[Mistake]:
    """What the frames' own notes tell; of accepted and refused frames together."""
    refused = Counter(note.reason for note in notes if note.reason is not None)
    found = [mistake for reason, mistake in _OF_REFUSALS.items() if 2 * refused[reason] > len(notes)]
    usable = [note for note in notes if note.reason is None]
    if len(usable) < _LEAST_FRAMES:
        return found
    places = np.array([note.pose[:3] for note in usable])
    if _spread(places) > _ROOM_M:
        return [*found, Mistake.MILLIMETRES_AS_METRES]
    if _spread(places) > _LEAST_SPREAD_M and _is_inverse(usable[:: -(-len(usable) // _FEW_FRAMES)]):
        found.append(Mistake.INVERSE_POSE)
    if is_y_up(usable):
        found.append(Mistake.Y_UP_WORLD)
    return found


def _spread(places: NDArray[np.float64]) -> float:
    """How far from the middle of all places half of them lie."""
    return float(np.median(np.linalg.norm(places - np.median(places, axis=0), axis=1)))


def of_cloud(middle: NDArray[np.float64], centers: NDArray[np.float64]) -> list[Mistake]:
    """What the size of a cloud tells; centers of its voxels, shape (n, 3)."""
    far = float(np.median(np.abs(centers - middle).max(axis=1))) if len(centers) else 0.0
    return [Mistake.MILLIMETRES_AS_METRES] if far > _ROOM_M else []


def is_y_up(notes: Sequence[FrameNote]) -> bool:
    """Whether cameras were held along y: the image's down (or right, if held upright) points to y all the time, never to z.

    Who looks one way all the time holds both of them still, and which of them is up cannot be told.
    """
    depth = [note for note in notes if note.kind == "depth" and note.gravity is None]
    if len(depth) < _LEAST_FRAMES:
        return False
    turns = np.array([rotation(np.array(note.pose[3:])) for note in depth])
    means = [turns[:, :, axis].mean(axis=0) for axis in (0, 1)]
    held = max(means, key=lambda mean: float(np.linalg.norm(mean)))
    return bool(abs(held[1]) > _ALIGNED and all(abs(mean[2]) < 1 - _ALIGNED for mean in means))


def _is_inverse(notes: Sequence[FrameNote]) -> bool:
    as_sent, inverted = [], []
    for note in notes:
        turn, place = rotation(np.array(note.pose[3:])), np.array(note.pose[:3])
        world = note.sampled()
        as_sent.append(world)
        own = (world - place) @ turn
        inverted.append((own - place) @ turn)
    return _occupied(inverted) < _SMEARED * _occupied(as_sent)


def _occupied(samples: Sequence[NDArray[np.float64]]) -> int:
    return len(np.unique(np.floor(np.concatenate(samples) / _RASTER_M).astype(np.int64), axis=0))
