"""A small cloud of what was seen so far, as PLY, for a page that shows a scan grow."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.result import Placement
from processors.scans.scan_map import ScanMap

MOST_POINTS: Final = 20_000
_HEADER: Final = """ply
format binary_little_endian 1.0
element vertex {count}
property float x
property float y
property float z
end_header
"""


def preview_ply(scan_map: ScanMap, placement: Placement) -> bytes:
    """Centres of the map's voxels in the room's coordinates, evenly thinned to `MOST_POINTS`."""
    world = _seen(scan_map)
    # Voxels are sorted by place, so every n-th of them is an even choice.
    thinned = world[:: max(1, -(-len(world) // MOST_POINTS))]
    room = thinned @ np.array(placement.rotation).T + np.array(placement.translation)
    body: bytes = room.astype("<f4").tobytes()
    return _HEADER.format(count=len(room)).encode("ascii") + body


def _seen(scan_map: ScanMap) -> NDArray[np.float64]:
    """Of the best kind of evidence that there is, as measuring does."""
    for kind in ("depth", "points", "cloud"):
        voxels = scan_map.map_of(kind).voxels()
        if len(voxels):
            return voxels.center
    return np.empty((0, 3))
