"""What a scan came to: the measured part of `GET /v1/scans/{id}`, as one document.

All numbers are rounded here and nowhere else, so that the document and every export made from it print the same digits.
Coordinates are the room's own: metres, floor at z = 0, the first wall from the origin along x, walls counter-clockwise.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Final

import msgspec

DIGITS: Final = 3
_SIGMA_DIGITS: Final = 4
# Of a number that may lie anywhere within half a unit of its last digit.
_ROUNDING_SIGMA: Final = 10.0**-DIGITS / math.sqrt(12)
DIMENSIONS: Final = ("length", "width", "height", "area", "volume", "perimeter")


class Verdict(StrEnum):
    """How far the numbers can be trusted as a whole."""

    GOOD = "good"
    ESTIMATE = "estimate"
    INCOMPLETE = "incomplete"


class Mistake(StrEnum):
    """What went wrong although there is a result: a likely mistake of the sender or of light, or a step that failed."""

    MILLIMETRES_AS_METRES = "millimetres_sent_as_metres"
    METRES_AS_MILLIMETRES = "metres_sent_as_millimetres"
    INVERSE_POSE = "inverse_pose"
    Y_UP_WORLD = "y_up_world"
    COLOUR_INTRINSICS = "colour_intrinsics_on_depth"
    MIRROR = "mirror"
    ROOMPLAN_DISAGREES = "roomplan_disagrees"
    RECOGNIZER_FAILED = "recognizer_failed"
    MESH_FAILED = "mesh_failed"


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """One number for each dimension; None without enough evidence. Metres, m², m³."""

    length: float | None = None
    width: float | None = None
    height: float | None = None
    area: float | None = None
    volume: float | None = None
    perimeter: float | None = None


class RejectedFrame(msgspec.Struct, frozen=True):
    """A frame that took no part, and why."""

    seq: int
    reason: str


class FrameCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Depth and points frames: how many were measured from, and which were not."""

    accepted: int = 0
    rejected: tuple[RejectedFrame, ...] = ()


class FoundWall(msgspec.Struct, frozen=True, kw_only=True):
    """A wall from one corner of the floor polygon to the next; `seen` is the share of it that was looked at."""

    start: tuple[float, float]
    end: tuple[float, float]
    length: float
    uncertainty: float
    seen: float


class FoundOpening(msgspec.Struct, frozen=True, kw_only=True):
    """A hole in wall number `wall`; `offset` from that wall's start to the hole's nearer edge."""

    kind: str
    wall: int
    offset: float
    width: float
    height: float
    sill: float


class FoundObject(msgspec.Struct, frozen=True, kw_only=True, rename={"label": "class"}):
    """An upright box; `class` only if a recognizer named it, `confidence` being how sure that name is.

    `source` is `measured`, or `roomplan` for what only RoomPlan saw.
    """

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    label: str | None = None
    confidence: float | None = None
    source: str = "measured"


class CeilingPart(msgspec.Struct, frozen=True, kw_only=True):
    """A plane of the ceiling: corners counter-clockwise, heights above the floor, rise in metres a metre, m² of floor below."""

    corners: tuple[tuple[float, float, float], ...]
    lowest: float
    highest: float
    slope: float
    area: float


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """The ceiling, as heights above the floor.

    `kind`: `level`; `sloped` or `stepped` (`room_dimensions.height` is then the highest, `volume` lies under all parts);
    `uneven` (not level, and not seen well enough to say how it runs); `unseen`. `mean` is volume by area.
    """

    kind: str = "unseen"
    lowest: float | None = None
    highest: float | None = None
    mean: float | None = None
    parts: tuple[CeilingPart, ...] = ()


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where the room lies in the scan's world: p_room = rotation · p_world + translation; rows of the rotation."""

    rotation: tuple[tuple[float, float, float], ...] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A number that was measured and that RoomPlan has too; `sigma` is what the difference may be by chance."""

    what: str
    measured: float
    roomplan: float
    difference: float
    sigma: float
    agrees: bool


class RoomPlanCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What a RoomPlan file came to: the source of the numbers (`is_source`), or a check of measured ones.

    `placement` says how its world was laid over the scan's: as it is (`shared`), moved (`fitted`), or not at all (`none`).
    """

    version: int | None = None
    is_source: bool = False
    placement: str = "none"
    labels: int = 0
    differences: tuple[Difference, ...] = ()


class ScanResult(msgspec.Struct, frozen=True, kw_only=True):
    """The document. A number without enough evidence is None, and `missing_parts` says what to scan again."""

    frames: FrameCounts = FrameCounts()
    points: int = 0
    room_dimensions: Values = Values()
    uncertainty: Values = Values()
    verdict: Verdict = Verdict.INCOMPLETE
    confidence: float = 0.0
    completeness: float = 0.0
    missing_parts: tuple[str, ...] = ()
    warnings: tuple[Mistake, ...] = ()
    floor_polygon: tuple[tuple[float, float], ...] = ()
    walls: tuple[FoundWall, ...] = ()
    openings: tuple[FoundOpening, ...] = ()
    objects: tuple[FoundObject, ...] = ()
    ceiling: Ceiling = Ceiling()
    placement: Placement = Placement()
    roomplan: RoomPlanCheck | None = None

    def to_document(self) -> dict[str, object]:
        """As JSON takes it."""
        document: dict[str, object] = msgspec.json.decode(msgspec.json.encode(self))
        return document

    @classmethod
    def from_document(cls, document: object) -> ScanResult:
        """The result of a stored document; members that are not measured are passed over."""
        return msgspec.convert(document, cls)


def rounded(number: float | None) -> float | None:
    """To a millimetre (m², m³ alike); no negative zero."""
    return None if number is None else round(float(number), DIGITS) + 0.0


def rounded_sigma(sigma: float | None) -> float | None:
    """A standard deviation, with what rounding the number adds to it; to a tenth of that number's last digit."""
    return None if sigma is None else round(math.hypot(sigma, _ROUNDING_SIGMA), _SIGMA_DIGITS)
