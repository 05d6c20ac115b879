"""The shapes of scans and their files, as OpenAPI tells them; see `api.models`."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import ConfigDict, Field

from api.models import NEXT_EXAMPLE, Model, Responses, answer, problems

STATUSES: Final = ("receiving", "queued", "processing", "completed", "incomplete", "failed", "cancelled")
MAX_PRIORITY: Final = 100


class Open(Model):
    """A part of what processing found; a later release may find more."""

    model_config = ConfigDict(extra="allow")


class RejectedFrame(Open):
    """A record that was not used, and why."""

    seq: int
    reason: str | None


class ScanFrames(Open):
    """What came of a scan's records."""

    received: int = Field(description="records stored, without `end`")
    accepted: int
    rejected: list[RejectedFrame] = Field(description="the first 10 000")
    missing: list[int] = Field(description="the first 10 000 numbers that have not come")


class RoomDimensions(Open):
    """Metres, m², m³; null without enough evidence. Of `uncertainty`, one standard deviation."""

    length: float | None = None
    width: float | None = None
    height: float | None = None
    area: float | None = None
    volume: float | None = None
    perimeter: float | None = None


class Opening(Open):
    """A hole in a wall: `offset` from the start of side `wall` of the floor polygon."""

    kind: str
    wall: int
    offset: float
    width: float
    height: float
    sill: float


class ScanObject(Open):
    """An upright box; `class` (with its `confidence`) if a recognizer or RoomPlan named it."""

    center: list[float]
    size: list[float]
    yaw: float
    label: str | None = Field(None, alias="class")
    confidence: float | None = None
    source: Literal["measured", "roomplan"] = Field("measured", description="`roomplan`: seen by RoomPlan only")


class RoomPlanDifference(Open):
    """A number that RoomPlan has too. `sigma`: what the difference may be by chance; three of them still agree."""

    what: str
    measured: float
    roomplan: float
    difference: float
    sigma: float
    agrees: bool


class RoomPlanCheck(Open):
    """What a RoomPlan file was used for."""

    version: int | None
    is_source: bool = Field(description="the numbers are RoomPlan's own, since no frames came")
    placement: Literal["shared", "fitted", "none"]
    labels: int
    differences: list[RoomPlanDifference]


class ScanModel(Open):
    """The mesh, and which exports are there."""

    vertices: int
    triangles: int
    formats: list[str]


class Scan(Open):
    """A room's scan."""

    scan_id: str
    device_id: str | None = Field(None, description="whose frames it takes; null: none have come yet")
    name: str
    status: Literal["receiving", "queued", "processing", "completed", "incomplete", "failed", "cancelled"]
    priority: int = Field(description="higher goes first")
    progress: int = Field(ge=0, le=100)
    frames: ScanFrames
    room_dimensions: RoomDimensions | None = Field(None, description="null until something is measured")
    uncertainty: RoomDimensions | None = None
    verdict: Literal["good", "estimate", "incomplete"] | None = None
    confidence: float | None = None
    completeness: float | None = None
    missing_parts: list[str] = Field(description="what to scan again")
    floor_polygon: list[list[float]] = Field(description="metres, counter-clockwise")
    openings: list[Opening]
    objects: list[ScanObject]
    model: ScanModel
    warnings: list[str] = Field([], description="likely mistakes, and steps that failed")
    roomplan: RoomPlanCheck | None = Field(None, description="null without a RoomPlan file")
    processing: dict[str, Any] | None = None
    queue_position: int | None = Field(None, description="scans that go before it, itself included; 0: it is processed")
    estimated_seconds: float | None = Field(None, description="until its result, about")
    error: str | None = None
    created_at: str
    completed_at: str | None = None


class ScanPage(Model):
    """Scans, the newest first."""

    items: list[Scan]
    next: str | None


class ScanFileItem(Model):
    """A file of a scan, whole or on its way."""

    file_id: str
    scan_id: str
    name: str
    kind: str
    bytes: int | None = Field(description="null: not known yet")
    received: int
    complete: bool
    sha256: str | None = Field(None, description="of a complete file, hexadecimal")
    created_at: str
    expires_at: str | None = Field(None, description="when an upload is forgotten if nothing more comes")
    error: str | None = None


class ScanFilePage(Model):
    """Files in the order of their ids."""

    items: list[ScanFileItem]
    next: str | None


SCAN_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 200},
        "device_id": {"type": ["string", "null"]},
        "priority": {"type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY},
    },
    "additionalProperties": False,
}
SCAN_PATCH_SCHEMA: Final = {
    "type": "object",
    "properties": {name: SCAN_SCHEMA["properties"][name] for name in ("name", "priority")},  # type: ignore[index]
    "additionalProperties": False,
}
COMPLETE_SCHEMA: Final = {
    "type": "object",
    "properties": {"frames": {"type": ["integer", "null"], "minimum": 0, "maximum": 1_000_000}},
    "additionalProperties": False,
}

_BEGUN: Final[dict[str, Any]] = {
    "scan_id": "scan_5b1f0c2e9d",
    "device_id": "dev_91c3f0a7b2",
    "name": "Kitchen, ground floor",
    "status": "receiving",
    "priority": 0,
    "progress": 0,
    "frames": {"received": 0, "accepted": 0, "rejected": [], "missing": []},
    "room_dimensions": None,
    "uncertainty": None,
    "verdict": None,
    "confidence": None,
    "completeness": None,
    "missing_parts": [],
    "floor_polygon": [],
    "openings": [],
    "objects": [],
    "model": {"vertices": 0, "triangles": 0, "formats": []},
    "processing": None,
    "error": None,
    "created_at": "2026-11-22T20:00:00.000Z",
    "completed_at": None,
}
_MEASURED: Final = {
    "status": "completed",
    "progress": 100,
    "frames": {"received": 120, "accepted": 118, "rejected": [{"seq": 7, "reason": "pose_jump"}], "missing": []},
    "room_dimensions": {"length": 5.203, "width": 4.101, "height": 2.498, "area": 21.34, "volume": 53.31, "perimeter": 18.61},
    "uncertainty": {"length": 0.011, "width": 0.009, "height": 0.006, "area": 0.06, "volume": 0.2, "perimeter": 0.028},
    "verdict": "good",
    "confidence": 0.93,
    "completeness": 0.97,
    "floor_polygon": [[0.0, 0.0], [5.203, 0.0], [5.203, 4.101], [0.0, 4.101]],
    "openings": [{"kind": "door", "wall": 2, "offset": 1.2, "width": 0.9, "height": 2.05, "sill": 0.0}],
    "objects": [{"center": [1.1, 0.4, 0.45], "size": [1.2, 0.6, 0.9], "yaw": 0.0}],
    "model": {"vertices": 40_812, "triangles": 80_114, "formats": ["glb", "obj", "ply"]},
    "processing": {"seconds": 1.4, "version": "0.1.0"},
    "completed_at": "2026-11-22T20:02:11.000Z",
}  # fmt: skip
_SCAN: Final = _BEGUN | _MEASURED
_UPLOAD: Final = {
    "file_id": "fil_77d0a1c3e4",
    "scan_id": "scan_5b1f0c2e9d",
    "name": "kitchen.ply",
    "kind": "ply",
    "bytes": 104_857_600,
    "received": 8_388_608,
    "complete": False,
    "created_at": "2026-11-22T20:00:00.000Z",
    "expires_at": "2026-11-29T20:00:00.000Z",
}

_READ: Final = problems(401, 403, 422, 429, 503)
_READ_ONE: Final = _READ | problems(404)
_WRITE: Final = _READ | problems(400, 413)
_ACT: Final[Responses] = _WRITE | problems(404, 409)
_TUS: Final = _READ_ONE | problems(409, 412)


SCAN_CREATED: Final[Responses] = {201: answer(Scan, "The scan.", scan=_SCAN), **_WRITE, **problems(402, 404)}
SCAN_FOUND: Final[Responses] = {200: answer(Scan, "The scan.", scan=_SCAN), **_READ_ONE}
SCAN_CHANGED: Final[Responses] = {200: answer(Scan, "The scan as it is now.", scan=_SCAN), **_ACT}
SCAN_RETRIED: Final[Responses] = SCAN_CHANGED | problems(402)
SCAN_ERASED: Final[Responses] = {204: {"description": "It is erased."}, **_READ_ONE}
SCANS_FOUND: Final[Responses] = {
    200: answer(ScanPage, "A page of scans.", page={"items": [_SCAN], "next": NEXT_EXAMPLE}),
    **_READ,
}
FILES_FOUND: Final[Responses] = {
    200: answer(ScanFilePage, "A page of files.", page={"items": [_UPLOAD], "next": NEXT_EXAMPLE}),
    **_READ_ONE,
}
UPLOAD_BEGUN: Final[Responses] = {
    201: answer(ScanFileItem, "The upload; `Location` is where its bytes go.", upload=_UPLOAD),
    **_TUS,
    **problems(400, 402, 413, 415, 460),
}
UPLOAD_STATE: Final[Responses] = {
    204: {"description": "`Upload-Offset` says how many bytes are there, of `Upload-Length`."},
    **_TUS,
}
UPLOAD_APPENDED: Final[Responses] = {
    204: {"description": "`Upload-Offset` says how many bytes are there now."},
    **_TUS,
    **problems(400, 413, 415, 460),
}
UPLOAD_ENDED: Final[Responses] = {204: {"description": "It is forgotten, its bytes with it."}, **_TUS}


def downloaded(description: str, *media_types: str) -> Responses:
    """A file is the answer, or a problem."""
    file: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}, "example": "…bytes…"}
    document = {"schema": {"type": "object"}, "example": _MEASURED}
    content = {kind: document if kind == "application/json" else file for kind in media_types}
    return {200: {"description": description, "content": content}, **_READ_ONE, **problems(409)}


EXPORT_KEPT: Final[Responses] = {304: {"description": "The client has it already."}, **problems(402)}
