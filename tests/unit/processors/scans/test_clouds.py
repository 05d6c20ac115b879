"""Point-cloud files: all kinds of PLY and PCD give the same points, in constant memory, or say what is wrong."""

from __future__ import annotations

import io
import math
import struct
import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from processors.scans.clouds import Cloud, read_blocks
from processors.scans.pcd import unlzf
from schemas.errors import Reason, Rejected

RECORDING = Path(__file__).parents[5] / "shared" / "data" / "room_scan1.pcd"
POINTS = [[1.0, -2.0, 3.5], [4.25, 5.0, -6.0], [0.5, 0.0, 0.0]]
COLOURS = [[255, 0, 16], [1, 2, 3], [0, 128, 255]]
NAN = math.nan


def ply(kind: str = "binary_little_endian", rows: Sequence[Sequence[float]] = POINTS, *, faces: bool = True) -> bytes:
    order = ">" if kind == "binary_big_endian" else "<"
    header = f"ply\nformat {kind} 1.0\ncomment made by hand\nelement vertex {len(rows)}\n" + "".join(
        f"property {name}\n" for name in ("float x", "uchar red", "uchar green", "uchar blue", "float32 y", "float z")
    )
    header += "element face 1\nproperty list uchar int vertex_indices\n" * faces + "end_header\n"
    table = [(x, *colour, y, z) for (x, y, z), colour in zip(rows, [*COLOURS, *COLOURS], strict=False)]
    if kind == "ascii":
        body = "".join(" ".join(map(str, row)) + "\n" for row in table).encode() + b"3 0 1 2\n" * faces
    else:
        body = b"".join(struct.pack(order + "f3B2f", *row) for row in table) + b"\x03" * faces
    return header.encode() + body


def pcd(kind: str = "binary", rows: list[list[float]] = POINTS) -> bytes:
    """With a histogram of two numbers, padding, and colours in a float's bits, as PCL writes them."""
    header = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z _ rgb _ h\nSIZE 4 4 4 1 4 1 2\nTYPE F F F U F U U\nCOUNT 1 1 1 4 1 4 2\n"
        f"WIDTH {len(rows)}\nHEIGHT 1\nVIEWPOINT 1 2 3 1 0 0 0\nPOINTS {len(rows)}\nDATA {kind}\n"
    ).encode()
    packed = [struct.pack("<I", r << 16 | g << 8 | b) for r, g, b in COLOURS]
    if kind == "ascii":
        texts = [f"{struct.unpack('<f', bits)[0]:.9g}" for bits in packed]
        lines = [f"{x} {y} {z} 0 0 0 0 {text} 0 0 0 0 7 8\n" for (x, y, z), text in zip(rows, texts, strict=False)]
        return header + "".join(lines).encode()
    if kind == "binary":
        return header + b"".join(
            struct.pack("<3f4x4s4x2H", *row, bits, 7, 8) for row, bits in zip(rows, packed, strict=False)
        )
    columns = [b"".join(struct.pack("<f", row[axis]) for row in rows) for axis in range(3)]
    columns += [bytes(4 * len(rows)), b"".join(packed), bytes(4 * len(rows)), struct.pack("<2H", 7, 8) * len(rows)]
    data = b"".join(columns)
    compressed = lzf_literals(data)
    return header + struct.pack("<II", len(compressed), len(data)) + compressed


def lzf_literals(data: bytes) -> bytes:
    """LZF without a single reference: runs of up to 32 bytes, each after its length less one."""
    return b"".join(bytes([len(run) - 1]) + run for run in (data[n : n + 32] for n in range(0, len(data), 32)))


FILES = {
    "PLY ascii": ply("ascii"),
    "PLY little endian": ply("binary_little_endian"),
    "PLY big endian": ply("binary_big_endian"),
    "PCD ascii": pcd("ascii"),
    "PCD binary": pcd("binary"),
    "PCD compressed": pcd("binary_compressed"),
}


class Stream:
    """A reader that gives little at a time and cannot go back."""

    def __init__(self, data: bytes, step: int = 7) -> None:
        self._data, self._step, self._place = data, step, 0

    def read(self, size: int, /) -> bytes:
        piece = self._data[self._place : self._place + min(size, self._step)]
        self._place += len(piece)
        return piece


def read(data: bytes, rows: int = 1000) -> tuple[NDArray[np.floating], NDArray[np.uint8] | None]:
    blocks = list(Cloud(Stream(data)).blocks(rows))
    colours = [block.colours for block in blocks if block.colours is not None]
    return np.concatenate([block.points for block in blocks]), np.concatenate(colours) if colours else None


def reason_of(data: bytes) -> Reason:
    with pytest.raises(Rejected) as refusal:
        read(data)
    return refusal.value.reason


@pytest.mark.parametrize("rows", [1, 2, 1000])
@pytest.mark.parametrize("what", FILES)
def test_every_kind_of_file_gives_its_points_and_colours(what: str, rows: int) -> None:
    points, colours = read(FILES[what], rows)

    assert points.dtype == np.float32
    assert points.tolist() == POINTS
    assert colours is not None
    assert colours.tolist() == COLOURS


def test_blocks_have_the_size_that_was_asked_for() -> None:
    assert [len(block) for block in read_blocks(io.BytesIO(FILES["PCD binary"]), rows=2)] == [2, 1]


def test_a_header_tells_how_many_points_and_from_where() -> None:
    cloud = Cloud(io.BytesIO(FILES["PCD binary"]))

    assert (cloud.declared, cloud.viewpoint) == (3, (1, 2, 3, 1, 0, 0, 0))


@pytest.mark.parametrize("kind", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_what_is_no_point_is_left_out_and_counted(kind: str) -> None:
    rows: list[list[float]] = [[NAN, 1, 2], POINTS[0], [0, 0, 0], [1, math.inf, 2], [1e9, 0, 0], POINTS[1]]
    cloud = Cloud(io.BytesIO(ply(kind, rows)))
    points = np.concatenate([block.points for block in cloud.blocks()])

    assert points.tolist() == POINTS[:2]
    assert (cloud.non_finite, cloud.no_return, cloud.out_of_reach, cloud.kept) == (2, 1, 1, 2)


@pytest.mark.parametrize("far", [-1e9, 1e9])
def test_a_single_point_far_away_is_left_out(far: float) -> None:
    assert read(ply(rows=[POINTS[0], [1.0, far, 1.0], POINTS[1]]))[0].tolist() == POINTS[:2]


def test_doubles_keep_their_digits() -> None:
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 1\n" + "".join(
        f"property double {axis}\n" for axis in "xyz"
    )
    points, colours = read(header.encode() + b"end_header\n" + struct.pack("<3d", 9000.0001, 2, 3))

    assert points.tolist() == [[9000.0001, 2, 3]]
    assert colours is None


def test_repeated_bytes_of_lzf_unfold() -> None:
    # "abc", then 3 bytes from 3 back, then 2 + 7 + 1 = 10 from 1 back: a run of the last one.
    assert unlzf(b"\x02abc" + bytes([1 << 5, 2]) + bytes([7 << 5, 1, 0]), 16) == b"abcabc" + b"c" * 10


@pytest.mark.parametrize(
    ("data", "size"),
    [(b"\x02ab", 3), (b"\x00a\x20", 4), (b"\x00a\x20\x01", 4), (b"\x00a\x20\x05", 4), (b"\x02abc", 2), (b"\x02abc", 4)],
)
def test_wrong_lzf_is_refused(data: bytes, size: int) -> None:
    with pytest.raises(Rejected, match="corrupt_payload"):
        unlzf(data, size)


def test_a_bomb_of_lzf_stops_at_the_size_that_the_header_claims() -> None:
    bomb = b"\x00a" + bytes([7 << 5, 255, 0]) * 100_000  # 26 MB
    tracemalloc.start()
    try:
        with pytest.raises(Rejected, match="do not unpack to the 100 bytes"):
            unlzf(bomb, 100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 100_000


CLAIM = FILES["PCD compressed"].index(b"compressed\n") + len(b"compressed\n")
REFUSED = {
    "nothing": (b"", Reason.UNSUPPORTED_FORMAT),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), Reason.UNSUPPORTED_FORMAT),
    "PLY of another format": (ply("binary"), Reason.UNSUPPORTED_FORMAT),
    "PLY without end": (b"ply\nformat ascii 1.0\n", Reason.WRONG_SHAPE),
    "PLY without vertices": (b"ply\nformat ascii 1.0\nend_header\n", Reason.WRONG_SHAPE),
    "PLY without z": (ply("ascii").replace(b"float z", b"float q"), Reason.WRONG_SHAPE),
    "PLY with x twice": (ply("ascii").replace(b"uchar blue", b"uchar x"), Reason.WRONG_SHAPE),
    "PLY of unknown numbers": (ply().replace(b"float z", b"half z"), Reason.WRONG_SHAPE),
    "PLY of lists": (ply().replace(b"float z", b"list uchar float z"), Reason.UNSUPPORTED_FORMAT),
    "PLY that begins with faces": (ply().replace(b"vertex 3", b"face 3"), Reason.WRONG_SHAPE),
    "PLY without points": (ply(rows=[], faces=False), Reason.NO_VALID_POINTS),
    "PLY cut off": (ply(faces=False)[:-1], Reason.CORRUPT_PAYLOAD),
    "PLY text cut off": (ply("ascii", faces=False)[:-20], Reason.CORRUPT_PAYLOAD),
    "PLY text with a word": (ply("ascii").replace(b"-6.0", b"none"), Reason.CORRUPT_PAYLOAD),
    "PLY text with a number less": (ply("ascii").replace(b" -6.0", b""), Reason.CORRUPT_PAYLOAD),
    "PLY text of shorter rows": (ply("ascii").replace(b"float z\n", b"float z\nproperty int w\n"), Reason.CORRUPT_PAYLOAD),
    "a line without end": (ply("ascii", faces=False).partition(b"1.0 255")[0] + b"1" * 3_000_000, Reason.CORRUPT_PAYLOAD),
    "all NaN": (ply(rows=[[NAN, NAN, NAN]] * 2), Reason.NO_VALID_POINTS),
    "all zeros": (ply(rows=[[0.0, 0.0, 0.0]] * 2), Reason.NO_VALID_POINTS),
    "far away": (ply(rows=[[1e9, 0, 0], [0, 1e9, 0], [1, 1, 1]]), Reason.POINTS_OUT_OF_REACH),
    "a claim of many points": (ply().replace(b"vertex 3", b"vertex 999999999"), Reason.CORRUPT_PAYLOAD),
    "a claim of many points as text": (ply("ascii", faces=False).replace(b"x 3", b"x 999999999999"), Reason.CORRUPT_PAYLOAD),
    "a claim beyond numbers": (ply().replace(b"vertex 3", b"vertex " + b"9" * 5_000), Reason.TOO_LARGE),
    "PCD of another kind": (pcd("zip"), Reason.UNSUPPORTED_FORMAT),
    "PCD that counts otherwise": (pcd().replace(b"POINTS 3", b"POINTS 4"), Reason.WRONG_SHAPE),
    "PCD of half fields": (pcd().replace(b"SIZE 4 4 4", b"SIZE 4 4"), Reason.WRONG_SHAPE),
    "PCD of odd floats": (pcd().replace(b"SIZE 4", b"SIZE 2"), Reason.WRONG_SHAPE),
    "PCD of negative width": (pcd().replace(b"WIDTH 3", b"WIDTH -3"), Reason.WRONG_SHAPE),
    "PCD of wide rows": (pcd().replace(b"COUNT 1 1 1 4", b"COUNT 1 1 1 99999"), Reason.WRONG_SHAPE),
    "PCD cut off": (pcd()[:-1], Reason.CORRUPT_PAYLOAD),
    "compressed PCD cut off": (FILES["PCD compressed"][:-1], Reason.CORRUPT_PAYLOAD),
    "compressed PCD without sizes": (FILES["PCD compressed"][: CLAIM + 7], Reason.CORRUPT_PAYLOAD),
    "compressed PCD of another size": (
        FILES["PCD compressed"][:CLAIM] + struct.pack("<II", 9, 9) + bytes(9),
        Reason.WRONG_LENGTH,
    ),
    "compressed PCD of gigabytes": (
        FILES["PCD compressed"][:CLAIM].replace(b"H 3", b"H 99999999").replace(b"S 3", b"S 99999999")
        + struct.pack("<II", 9, 28 * 99_999_999) + bytes(9),
        Reason.TOO_LARGE,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_file_is_refused_by_its_own_reason(what: str) -> None:
    data, reason = REFUSED[what]

    assert reason_of(data) is reason


@given(st.sampled_from(sorted(FILES)), st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
def test_a_damaged_file_gives_points_or_is_refused(what: str, place: int, patch: bytes) -> None:
    data = bytearray(FILES[what])
    place %= len(data)
    data[place : place + len(patch)] = patch
    with suppress(Rejected):
        points, _ = read(bytes(data))
        assert np.isfinite(points).all()


class Endless:
    """A header, then one megabyte of points again and again."""

    def __init__(self, header: bytes, megabyte: bytes) -> None:
        self._head, self._body = header, megabyte

    def read(self, size: int, /) -> bytes:
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
            return piece
        return self._body[:size]


def test_a_large_file_takes_no_more_memory_than_a_small_one() -> None:
    count = 5_000_000  # 60 MB
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {count}\n".encode() + b"".join(
        b"property float %c\n" % axis for axis in b"xyz"
    )
    body = np.ones((1 << 20) // 4, dtype="<f4").tobytes()
    tracemalloc.start()
    try:
        points = sum(len(block) for block in read_blocks(Endless(header + b"end_header\n", body)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert points == count
    assert peak < 32 * 1024 * 1024


@pytest.mark.skipif(not RECORDING.exists(), reason="no recordings beside the repository")
def test_a_real_scanner_s_file_is_read_whole() -> None:
    with RECORDING.open("rb") as file:
        points = np.concatenate(list(read_blocks(file, rows=50_000)))

    assert points.shape == (112_586, 3)
    assert np.ptp(points[:, 2]) == pytest.approx(4.2, abs=2.0)
