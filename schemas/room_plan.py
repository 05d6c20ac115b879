"""RoomPlan's JSON (Apple's `CapturedRoom`, as Swift's JSONEncoder writes it): its form and limits, from the file's bytes alone.

Metres; y up; a transform has its four columns one after the other, and takes the surface's own frame (x along it, y up, z out of
it) into the session's world. iOS 16 writes no version, floors, corners, parents or storeys; iOS 17 writes version 2. Apple
documents the types and not the encoding, so whatever is not needed here may be missing or new. Border: what it says of a room
is `processors.scans.room_plan`'s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from schemas.errors import Reason, Rejected

MAX_BYTES: Final = 33_554_432
"""A room takes some 100 kB; the opaque `coreModel` of iOS 17 up to some MB more."""
MAX_ELEMENTS: Final = 2_000
MAX_CORNERS: Final = 1_000
MAX_NAME: Final = 200
MAX_SIDE_M: Final = 200.0
MAX_POSITION_M: Final = 10_000.0
VERSIONS: Final = (1, 2)
"""Known ones; a file without a version is iOS 16's."""
_RIGID_TOLERANCE: Final = 0.01

Triple: TypeAlias = tuple[float, float, float]
Enum: TypeAlias = str | dict[str, Any] | None
"""A case of a Swift enum: its name, or an object with the name as its only key, or (of a wrapper) as its only value."""
_Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]


class Element(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A surface or an object."""

    dimensions: Triple
    transform: Annotated[tuple[float, ...], msgspec.Meta(min_length=16, max_length=16)]
    identifier: _Text = ""
    category: Enum = None
    confidence: Enum = None
    parent_identifier: _Text | None = None
    polygon_corners: Annotated[tuple[Triple, ...], msgspec.Meta(max_length=MAX_CORNERS)] = ()
    curve: dict[str, Any] | None = None
    story: int = 0

    @property
    def label(self) -> str | None:
        """Its category's name, as RoomPlan spells it: `wall`, `door`, `washerDryer`; None if it has none."""
        return _case(self.category)

    @property
    def certainty(self) -> str | None:
        """`low`, `medium` or `high`."""
        return _case(self.confidence)


_Elements: TypeAlias = Annotated[tuple[Element, ...], msgspec.Meta(max_length=MAX_ELEMENTS)]


class CapturedRoom(msgspec.Struct, frozen=True, kw_only=True):
    """One room."""

    walls: _Elements
    doors: _Elements = ()
    windows: _Elements = ()
    openings: _Elements = ()
    objects: _Elements = ()
    floors: _Elements = ()
    version: int | None = None
    story: int = 0

    def elements(self) -> Iterator[tuple[str, Element]]:
        """All of them, each with where it stands in the file."""
        for name in ("walls", "doors", "windows", "openings", "objects", "floors"):
            for number, one in enumerate(getattr(self, name)):
                yield f"{name}[{number}]", one


_decode = msgspec.json.Decoder(CapturedRoom).decode
_PLACE: Final = re.compile(r"at `\$\.?([\w.\[\]]*)")


def decode_room_plan(data: bytes) -> CapturedRoom:
    """The room in a file; members that nothing is made of are passed over.

    Raises:
        Rejected: `too_large`, `undecodable` (no JSON; NaN is none), `wrong_shape`, `unsupported_format` (another version, a
            structure of several rooms), `invalid_value` (a number that is not finite, a size or transform that cannot be).
    """
    if len(data) > MAX_BYTES:
        raise Rejected(Reason.TOO_LARGE, f"the file has {len(data)} bytes, a room of RoomPlan at most {MAX_BYTES}")
    try:
        room = _decode(data)
    except msgspec.ValidationError as error:
        raise _other_shape(data, str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Rejected(Reason.UNDECODABLE, "the file is not JSON; numbers that are not finite are none") from error
    if room.version is not None and room.version not in VERSIONS:
        detail = f"RoomPlan's version is {room.version}; expected {' or '.join(map(str, VERSIONS))}, or none (iOS 16)"
        raise Rejected(Reason.UNSUPPORTED_FORMAT, detail)
    for place, one in room.elements():
        _check(place, one)
    return room


def _case(value: Enum) -> str | None:
    if isinstance(value, dict):
        name, inner = next(iter(value.items()), (None, None))
        return inner if isinstance(inner, str) else name
    return value


def _other_shape(data: bytes, error: str) -> Rejected:
    """The decoder's own words quote what was found, which is the sender's: only the place is told."""
    if "out of range" in error:
        return Rejected(Reason.INVALID_VALUE, "the file has a number that is too large to be finite")
    if _has(data, "rooms"):
        detail = "the file is a structure of several rooms; export each room by itself, one scan each"
        return Rejected(Reason.UNSUPPORTED_FORMAT, detail)
    if "missing required field `walls`" in error or not _has(data, "walls"):
        return Rejected(Reason.WRONG_SHAPE, "no room of RoomPlan: an object with a list named walls is expected")
    found = _PLACE.search(error)
    where = found[1] if found and found[1] else "the room"
    expected = "dimensions of 3 numbers, a transform of 16, corners of 3 each; at most 2 000 elements of a kind"
    return Rejected(Reason.WRONG_SHAPE, f"{where} is not as RoomPlan writes it; expected {expected}")


def _has(data: bytes, member: str) -> bool:
    document = msgspec.json.decode(data)
    return isinstance(document, dict) and isinstance(document.get(member), list)


def _check(place: str, one: Element) -> None:
    numbers = (*one.dimensions, *one.transform, *(value for corner in one.polygon_corners for value in corner))
    if not all(map(math.isfinite, numbers)):
        raise Rejected(Reason.INVALID_VALUE, f"{place} has a number that is not finite")
    if not all(0 <= side <= MAX_SIDE_M for side in one.dimensions) or max(one.dimensions) == 0:
        raise Rejected(Reason.INVALID_VALUE, f"{place}.dimensions: expected metres from 0 to {MAX_SIDE_M:g}")
    if not all(abs(value) <= MAX_SIDE_M for corner in one.polygon_corners for value in corner):
        raise Rejected(Reason.INVALID_VALUE, f"{place}.polygonCorners: expected metres, {MAX_SIDE_M:g} at most")
    if not _is_name(one.label):
        raise Rejected(
            Reason.INVALID_VALUE, f"{place}.category: expected a printable name of up to {MAX_NAME} characters"
        )
    if not _is_rigid(one.transform):
        detail = f"{place}.transform: expected the columns of a rotation and a position within {MAX_POSITION_M:g} m"
        raise Rejected(Reason.INVALID_VALUE, detail)


def _is_name(label: str | None) -> bool:
    """Whether the result can show it: a database's document takes no NUL."""
    return label is None or (len(label) <= MAX_NAME and label.isprintable())


def _is_rigid(columns: tuple[float, ...]) -> bool:
    axes = [columns[n : n + 3] for n in (0, 4, 8)]
    products = [
        sum(a * b for a, b in zip(axes[n], axes[m], strict=True)) - (n == m) for n in range(3) for m in range(n, 3)
    ]
    bottom = [columns[n] for n in (3, 7, 11)]
    return (
        all(abs(product) <= _RIGID_TOLERANCE for product in (*products, *bottom, columns[15] - 1))
        and _handedness(axes) > 0
        and all(abs(value) <= MAX_POSITION_M for value in columns[12:15])
    )


def _handedness(axes: list[tuple[float, ...]]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = axes
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
