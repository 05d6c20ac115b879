"""What is computed of a scan, in a child process: a preview of what has come, or the final result and its files.

Both measure with the same code. A final result is made of all records in the order of their `seq`, so neither the order in
which they came nor what previews did shows in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from jobs.child import Document
from jobs.scans import steps
from jobs.scans.payloads import Payloads
from processors.scans import recognizers
from processors.scans.clouds import read_blocks
from processors.scans.colours import Picture, picture, seen_colours
from processors.scans.exports import available, cleaned_cloud, export
from processors.scans.mesh import Mesh, build_mesh, shell
from processors.scans.model_files import cloud_ply
from processors.scans.pipeline import ScanMap, measure_scan
from processors.scans.result import Mistake, ScanResult
from processors.scans.room_plan import room_plan_result
from processors.scans.room_plan_check import checked
from schemas.errors import Reason, Rejected, WeirError
from schemas.room_plan import MAX_BYTES as MAX_ROOM_PLAN_BYTES
from schemas.room_plan import decode_room_plan
from schemas.scan_frames import RgbFrame

Tell = Callable[[float], None]

CLOUD_KINDS: Final = ("ply", "pcd")
ROOM_PLAN_KIND: Final = "json"
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
    recognizer: str = ""
    without: dict[str, str] = {}
    state: bytes = b""


class _State(msgspec.Struct, array_like=True):
    """What a preview keeps for the next: the map, and what is in it."""

    records: dict[int, bytes]
    files: dict[str, int]
    keys: dict[str, str]
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
        self._room_plans = sorted(
            (file for file in request.files if file.kind == ROOM_PLAN_KIND), key=lambda file: file.file_id
        )
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

    def measure(self, *, ended: bool) -> tuple[ScanResult, dict[str, str]]:
        """The measured part of the scan's document; by file id, why a RoomPlan file cannot be used."""
        result = measure_scan(self.scan_map, self.payloads.frame, ended=ended)
        seen, refused = self._room_plan()
        if seen is None:
            return result, refused
        if not self._records and not any(self.file_points.values()):
            return seen, refused
        return checked(result, seen, cleaned_cloud(self.scan_map, result)), refused

    def _room_plan(self) -> tuple[ScanResult | None, dict[str, str]]:
        """What the first usable RoomPlan file says; why the others are not used."""
        seen: ScanResult | None = None
        refused = {}
        for file in self._room_plans:
            if seen is not None:
                refused[file.file_id] = (
                    f"{Reason.UNSUPPORTED_FORMAT}: a scan is of one room, and has another RoomPlan file"
                )
                continue
            try:
                seen = room_plan_result(decode_room_plan(self._whole(file)))
            except Rejected as error:
                refused[file.file_id] = str(error)
        return seen, refused

    def _whole(self, file: File) -> bytes:
        if file.size > MAX_ROOM_PLAN_BYTES:
            detail = f"the file has {file.size} bytes, a room of RoomPlan at most {MAX_ROOM_PLAN_BYTES}"
            raise Rejected(Reason.TOO_LARGE, detail)
        return self.payloads.whole(file.key)

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
        keys = {file.file_id: file.key for file in self._files if file.file_id in self.file_points}
        return msgspec.msgpack.encode(_State(self._known, self.file_points, keys, self.scan_map.to_bytes()))

    def _resume(self, state: bytes) -> None:
        """Go on from what a preview kept, unless a record or file of it has meanwhile been replaced by other bytes."""
        if not state:
            return
        kept = msgspec.msgpack.decode(state, type=_State)
        records = {record.seq: record.sha256 for record in self._records}
        keys = {file.file_id: file.key for file in self._files}
        if kept.records.items() <= records.items() and kept.keys.items() <= keys.items():
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
        result, _ = work.measure(ended=False)
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
        result, unusable = work.measure(ended=True)
        cloud = cleaned_cloud(work.scan_map, result)
        tell(steps.begin(steps.RECOGNIZER))
        result = _recognized(request, result, cloud)
        tell(steps.begin(steps.MESH))
        pictures = work.pictures()
        mesh, surface, result = _mesh(work, request, result, pictures)
        tell(steps.end(steps.MESH))
        colours = seen_colours(cloud, cloud, pictures, result.placement) if pictures else None
        files = {form: export(result, mesh, cloud, form, request.title, colours) for form in available(mesh)}
        model = {"vertices": len(mesh.vertices), "triangles": len(mesh.triangles)}
        processing = {"version": request.version, "surface": surface, "without": request.without}
        return {
            "document": result.to_document() | {"model": model, "processing": processing},
            "exports": [_kept(payloads, request, form, data) for form, data in files.items()],
            "verdicts": _verdicts(work, result),
            "file_points": work.file_points,
            "file_errors": refused | unusable,
        }


def _recognized(request: Request, result: ScanResult, cloud: NDArray[np.float32]) -> ScanResult:
    """With the names that the configured recognizer has for objects that RoomPlan did not name."""
    if not request.recognizer or not result.objects:
        return result
    if steps.RECOGNIZER in request.without:
        return recognizers.failed(result)
    try:
        factory = metadata.EntryPoint("recognizer", request.recognizer, "weir.recognizers").load()
        found = recognizers.named(result, factory(), cloud)
    except Exception:  # it is somebody else's program
        return recognizers.failed(result)
    kept = (before if before.label else after for before, after in zip(result.objects, found.objects, strict=True))
    return msgspec.structs.replace(found, objects=tuple(kept))


def _mesh(
    work: Work, request: Request, result: ScanResult, pictures: Sequence[Picture]
) -> tuple[Mesh, str, ScanResult]:
    """The model, whether it is `fused` from images or an `outline` of the measured room, and the result, saying what failed."""
    fused = "fused" if work.scan_map.measured_kind() == "depth" else "outline"
    try:
        if steps.MESH not in request.without:
            return build_mesh(work.scan_map, work.payloads.frame, result, pictures), fused, result
    except ImportError:
        # A machine without Open3D, or without what it loads (`weir doctor` says so): the measurements stand without.
        return shell(result), "outline", result
    except (WeirError, MemoryError):
        raise
    except Exception as error:
        request.without[steps.MESH] = f"it failed ({type(error).__name__})"
    warned = msgspec.structs.replace(result, warnings=(*result.warnings, Mistake.MESH_FAILED))
    return shell(result), "outline", warned


def _verdicts(work: Work, result: ScanResult) -> list[tuple[int, bool, str | None, int]]:
    """Of every depth and points frame: seq, whether it took part, the reason that the document shows, its points."""
    reasons = {one.seq: one.reason for one in result.frames.rejected}
    return [(note.seq, note.seq not in reasons, reasons.get(note.seq), note.points) for note in work.scan_map.notes]
