"""What is computed of a scan, in a child process: a preview of what has come, or the final result and its files.

Both measure with the same code. A final result is made of all records in the order of their `seq`, so neither the order in
which they came nor what previews did shows in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from jobs.child import Document
from jobs.scans.payloads import Payloads
from processors.scans.clouds import read_blocks
from processors.scans.colours import Picture, picture
from processors.scans.exports import available, cleaned_cloud, export
from processors.scans.mesh import Mesh, build_mesh, shell
from processors.scans.model_files import cloud_ply
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import ScanResult
from schemas.errors import Rejected
from schemas.scan_frames import RgbFrame

Tell = Callable[[float], None]

CLOUD_KINDS: Final = ("ply", "pcd")
# Longer files are read at the end only: a preview that takes longer than scanning is none.
_PREVIEW_FILE_BYTES: Final = 64 * 1024 * 1024
_FRAME_TYPES: Final = ("depth", "points")
_PREVIEW_POINTS: Final = 20_000
# Evenly chosen; each is some megabytes in memory.
_MOST_PICTURES: Final = 40


class Record(msgspec.Struct, array_like=True, frozen=True):
    """A record of the scan: its row in the index."""

    seq: int
    type: str
    key: str
    sha256: bytes


class File(msgspec.Struct, array_like=True, frozen=True):
    """A complete file of the scan."""

    file_id: str
    kind: str
    key: str
    size: int


class Request(msgspec.Struct, frozen=True):
    """What a computation works on.

    Args:
        store: settings of the object store.
        prefix: of keys for what is made.
        state: what the preview before kept; empty if nothing is left of it.
        version: of the program.
        title: of the report.
    """

    store: dict[str, str]
    prefix: str
    records: list[Record]
    files: list[File]
    version: str
    title: str
    state: bytes = b""


class _State(msgspec.Struct, array_like=True):
    """What a preview keeps for the next: the map, and what is in it."""

    records: dict[int, bytes]
    files: dict[str, int]
    scan_map: bytes


class Work:
    """A scan's map, and what was added to it.

    Args:
        request: what to work on.
        payloads: where its bytes come from.
    """

    def __init__(self, request: Request, payloads: Payloads) -> None:
        self.payloads = payloads
        self._pictures = [record.seq for record in request.records if record.type == "rgb"]
        self._images = {file.file_id: file.key for file in request.files if file.kind == "jpeg"}
        self._records = [record for record in request.records if record.type in _FRAME_TYPES]
        self._files = [file for file in request.files if file.kind in CLOUD_KINDS]
        self.scan_map, self._known, self.file_points = ScanMap(), dict[int, bytes](), dict[str, int]()
        self._resume(request.state)

    def add_records(self, tell: Tell = lambda _: None) -> None:
        """Add those that are not in the map yet, by seq."""
        new = [record.seq for record in self._records if record.seq not in self._known]
        for done, seqs in _pieces(new):
            self.payloads.fetch(seqs)
            for seq in seqs:
                self.scan_map.add(seq, self.payloads.frame(seq))
            tell((done + len(seqs)) / len(new))
        self._known = {record.seq: record.sha256 for record in self._records}

    def add_files(self, largest: int | None = None) -> dict[str, str]:
        """Add the clouds that are not in the map yet; by file id, why one cannot be read."""
        refused = {}
        for file in self._files:
            if file.file_id in self.file_points or (largest is not None and file.size > largest):
                continue
            before = self.scan_map.to_bytes()
            try:
                self.file_points[file.file_id] = self.scan_map.add_cloud(self._blocks(file))
            except Rejected as error:
                # Half of a torn file must not stay in the map.
                self.scan_map = ScanMap.from_bytes(before)
                self.file_points[file.file_id] = 0
                refused[file.file_id] = str(error)
        return refused

    def measure(self, *, ended: bool) -> ScanResult:
        """The measured part of the scan's document."""
        return measure_scan(self.scan_map, self.payloads.frame, ended=ended)

    def pictures(self) -> list[Picture]:
        """Colour images of the scan that can be used."""
        step = max(1, -(-len(self._pictures) // _MOST_PICTURES))
        found = (self._picture(seq) for seq in self._pictures[::step])
        return [one for one in found if one is not None]

    def _picture(self, seq: int) -> Picture | None:
        frame = self.payloads.frame(seq)
        if not isinstance(frame, RgbFrame):
            return None
        key = self._images.get(frame.file_id or "")
        return picture(frame, self.payloads.whole(key) if key and not frame.image else None)

    def state(self) -> bytes:
        """For the next preview."""
        return msgspec.msgpack.encode(_State(self._known, self.file_points, self.scan_map.to_bytes()))

    def _resume(self, state: bytes) -> None:
        """Go on from what a preview kept, unless one of its records has meanwhile been replaced by other bytes."""
        if not state:
            return
        kept = msgspec.msgpack.decode(state, type=_State)
        now = {record.seq: record.sha256 for record in self._records}
        if all(now.get(seq) == sha256 for seq, sha256 in kept.records.items()):
            self.scan_map = ScanMap.from_bytes(kept.scan_map)
            self._known, self.file_points = kept.records, kept.files

    def _blocks(self, file: File) -> Iterator[NDArray[np.floating]]:
        return read_blocks(self.payloads.open(file.key))


def preview(document: Document, _tell: Tell) -> Document:
    """Measure what has come so far, from what is new since the preview before."""
    request = msgspec.convert(document, Request)
    with Payloads(request.store, {record.seq: record.key for record in request.records}) as payloads:
        work = Work(request, payloads)
        work.add_records()
        work.add_files(_PREVIEW_FILE_BYTES)
        result = work.measure(ended=False)
        cloud = cloud_ply(cleaned_cloud(work.scan_map, result, _PREVIEW_POINTS))
        kept = _kept(payloads, request, "preview.ply", cloud)
        return {"document": result.to_document(), "exports": [kept], "state": work.state()}


def _kept(payloads: Payloads, request: Request, name: str, data: bytes) -> Document:
    """A file made of a result, in the object store."""
    key, sha256 = payloads.put(f"{request.prefix}/{name}", data)
    return {"format": name, "size": len(data), "sha256": sha256, "object_key": key}


def _pieces(seqs: Sequence[int], size: int = 32) -> Iterable[tuple[int, Sequence[int]]]:
    """Some at a time, with how many came before."""
    return ((start, seqs[start : start + size]) for start in range(0, len(seqs), size))


def process(document: Document, tell: Tell) -> Document:
    """The final result."""
    request = msgspec.convert(document, Request)
    with Payloads(request.store, {record.seq: record.key for record in request.records}) as payloads:
        work = Work(request, payloads)
        work.add_records(lambda share: tell(0.4 * share))
        refused = work.add_files()
        tell(0.5)
        result = work.measure(ended=True)
        tell(0.6)
        mesh, surface = _mesh(work, result)
        tell(0.8)
        cloud = cleaned_cloud(work.scan_map, result)
        files = {form: export(result, mesh, cloud, form, request.title) for form in available(mesh)}
        model = {"vertices": len(mesh.vertices), "triangles": len(mesh.triangles)}
        processing = {"version": request.version, "surface": surface}
        return {
            "document": result.to_document() | {"model": model, "processing": processing},
            "exports": [_kept(payloads, request, form, data) for form, data in files.items()],
            "verdicts": _verdicts(work, result),
            "file_points": work.file_points,
            "file_errors": refused,
        }


def _mesh(work: Work, result: ScanResult) -> tuple[Mesh, str]:
    """The model, and whether it is `fused` from images or an `outline` of the measured room."""
    try:
        mesh = build_mesh(work.scan_map, work.payloads.frame, result, work.pictures())
    except (ImportError, RuntimeError):
        # A machine without Open3D, or without what it loads (`weir doctor` says so); or Open3D found no surface in a few
        # frames. The measurements stand without.
        return shell(result), "outline"
    return mesh, "fused" if work.scan_map.measured_kind() == "depth" else "outline"


def _verdicts(work: Work, result: ScanResult) -> list[tuple[int, bool, str | None, int]]:
    """Of every depth and points frame: seq, whether it took part, the reason that the document shows, its points."""
    reasons = {one.seq: one.reason for one in result.frames.rejected}
    return [(note.seq, note.seq not in reasons, reasons.get(note.seq), note.points) for note in work.scan_map.notes]
