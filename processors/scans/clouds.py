"""Point-cloud files, PLY and PCD, as blocks of points: streamed, in constant memory.

Border: the bytes of one file, read once from front to back; an object store's stream will do. What is no point (NaN, infinity,
beyond reach, the (0, 0, 0) of a scanner without an answer) is left out and counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from processors.scans.cloud_rows import Columns, Reader, Source
from processors.scans.pcd import PcdRows
from processors.scans.ply import PlyRows
from schemas.errors import Reason, Rejected
from schemas.scan_frames import MAX_POSITION_M

ROWS: Final = 262_144
_PCD_WORDS: Final = ("#", "VERSION", "FIELDS")
_COLOURS: Final = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
_PACKED_COLOURS: Final = ("rgb", "rgba")


@dataclass(frozen=True, slots=True)
class CloudBlock:
    """Some points of a cloud.

    Attributes:
        points: shape (n, 3), metres; float64 where the file has doubles, float32 otherwise.
        colours: shape (n, 3), red, green, blue; None if the file has none.
    """

    points: NDArray[np.floating]
    colours: NDArray[np.uint8] | None


class Cloud:
    """A point-cloud file whose header was read.

    Attributes:
        declared: points that the header claims.
        viewpoint: x, y, z, qw, qx, qy, qz of the sensor, if the file says so.
        non_finite, out_of_reach, no_return: rows left out so far, by why.
        kept: points given so far.
    """

    def __init__(self, reader: Reader) -> None:
        source = Source(reader)
        self._rows = _opened(source)
        self.declared = self._rows.table.rows
        self.viewpoint = self._rows.viewpoint
        self.non_finite = self.out_of_reach = self.no_return = self.kept = 0

    def blocks(self, rows: int = ROWS) -> Iterator[CloudBlock]:
        """The points, in blocks of up to `rows` rows; once.

        Raises:
            Rejected: corrupt_payload if the file ends early or holds something else; at its end points_out_of_reach if more
                than half are, no_valid_points if none was kept.
        """
        for columns in self._rows.blocks(rows):
            block = self._usable(columns)
            self.kept += len(block.points)
            if len(block.points):
                yield block
        self._judge()

    def _usable(self, columns: Columns) -> CloudBlock:
        points, colours = _points(columns), _colours(columns)
        kept = self._kept(points)
        if kept is not None:
            points, colours = points[kept], None if colours is None else colours[kept]
        return CloudBlock(points, colours)

    def _kept(self, points: NDArray[np.floating]) -> NDArray[np.bool_] | None:
        """Which rows are points; None if all are, which costs least to find out."""
        x_is_zero = points[:, 0] == 0
        if points.min() >= -MAX_POSITION_M and points.max() <= MAX_POSITION_M and not x_is_zero.any():
            return None
        finite = np.isfinite(points).all(axis=1)
        with np.errstate(invalid="ignore"):  # damaged files hold signalling ones too
            near = (np.abs(points) <= MAX_POSITION_M).all(axis=1)
            returned = points.any(axis=1)
        self.non_finite += int(np.count_nonzero(~finite))
        self.out_of_reach += int(np.count_nonzero(finite & ~near))
        self.no_return += int(np.count_nonzero(~returned))
        kept: NDArray[np.bool_] = near & returned
        return kept

    def _judge(self) -> None:
        if 2 * self.out_of_reach > self.declared:
            detail = (
                f"{self.out_of_reach} of {self.declared} points are beyond {MAX_POSITION_M:g} m; metres are expected"
            )
            raise Rejected(Reason.POINTS_OUT_OF_REACH, detail)
        if not self.kept:
            detail = f"none of {self.declared} points can be used, {self.non_finite} are not finite"
            raise Rejected(Reason.NO_VALID_POINTS, detail)


def read_blocks(reader: Reader, rows: int = ROWS) -> Iterator[NDArray[np.floating]]:
    """The points of a PLY or PCD file alone, shape (n, 3) each; see `Cloud`."""
    for block in Cloud(reader).blocks(rows):
        yield block.points


def _opened(source: Source) -> PlyRows | PcdRows:
    try:
        first = source.header_line()
    except Rejected:
        first = ""
    if first.rstrip() == "ply":
        return PlyRows(source)
    if first.startswith(_PCD_WORDS):
        return PcdRows(source, first)
    raise Rejected(Reason.UNSUPPORTED_FORMAT, "the file is neither PLY nor PCD; it begins with neither's header")


def _points(columns: Columns) -> NDArray[np.floating]:
    axes = [columns[name] for name in "xyz"]
    wide = any(axis.dtype.itemsize > 4 or axis.dtype.kind != "f" for axis in axes)  # noqa: PLR2004 - bytes of a float
    # Axis after axis in memory, as they are looked through and added up.
    return np.stack([axis.astype(np.float64 if wide else np.float32, copy=False) for axis in axes]).T


def _colours(columns: Columns) -> NDArray[np.uint8] | None:
    for names in _COLOURS:
        if all(name in columns for name in names):
            return np.stack([_channel(columns[name]) for name in names], axis=1)
    for name in _PACKED_COLOURS:
        if name in columns and columns[name].dtype.itemsize == 4:  # noqa: PLR2004 - 0xAARRGGBB, often as a float's bits
            values = columns[name]
            packed = values.astype(values.dtype.newbyteorder("=")).view(np.uint32)
            return np.stack([packed >> 16, packed >> 8, packed], axis=1).astype(np.uint8)
    return None


def _channel(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Eight bits of one colour: from bytes, from 16 bits, or from 0 to 1."""
    if values.dtype.kind == "f":
        return np.rint(np.clip(np.nan_to_num(values.astype(np.float64)), 0, 1) * 255).astype(np.uint8)
    if values.dtype.itemsize == 1:
        return values.astype(np.uint8)
    return (values.astype(np.uint32) >> 8 if values.dtype.itemsize == 2 else values).astype(np.uint8)  # noqa: PLR2004
