"""What sites, units, devices and sensors may be called and hold: fields of request bodies, checked one by one.

Border: values in, values out; whether an id is known and whose it is the database tells.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import available_timezones

from schemas import rfc3339
from schemas.rule_model import RuleError, parse_duration_ms, shown

UNIT_KINDS: Final = (
    "fridge",
    "freezer",
    "cold_room",
    "freezer_room",
    "blast_chiller",
    "display_case",
    "hot_holding",
    "vehicle",
    "room",
    "other",
)
MAX_ATTRIBUTES: Final = 64
MAX_NAME_CHARS: Final = 128
FIRST_MS: Final = 1_262_304_000_000
"""2010-01-01T00:00:00.000Z: no reading is older, so nothing need hold before."""

_MAX_ATTRIBUTE_CHARS: Final = 256
_MAX_UNIT_CHARS: Final = 32
_MAX_DURATION_CHARS: Final = 64
_MAX_INTERVAL_MS: Final = 30 * 86_400_000
_MAX_OVERLAP_MS: Final = 30 * 86_400_000
_AHEAD_MS: Final = 5 * 60_000
_ATTRIBUTE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

Attributes = Mapping[str, float | str]


class FieldError(ValueError):
    """A field of a body that cannot be used.

    Args:
        path: the field, such as `attributes.max_celsius`.
        detail: what was found, what was expected.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path


@dataclass(frozen=True, slots=True)
class Site:
    """What people say of a site."""

    name: str
    timezone: str = "UTC"
    attributes: Attributes = field(default_factory=dict)
    archived: bool = False


@dataclass(frozen=True, slots=True)
class Unit:
    """What people say of a unit."""

    name: str
    kind: str
    site_id: str | None = None
    attributes: Attributes = field(default_factory=dict)
    archived: bool = False


SITE_FIELDS: Final = ("name", "timezone", "attributes")
UNIT_FIELDS: Final = ("name", "kind", "site_id", "attributes")


def new_site(body: Mapping[str, Any]) -> Site:
    """The site that a body describes.

    Raises:
        FieldError: the first field that cannot be used.
    """
    return changed_site(Site(printable(body.get("name"), "name")), body)


def changed_site(site: Site, body: Mapping[str, Any]) -> Site:
    """The site with the fields of the body, each replaced whole.

    Raises:
        FieldError: the first field that cannot be used.
    """
    checks = {"name": printable, "timezone": time_zone, "attributes": attributes, "archived": flag}
    return replace(site, **_checked(checks, body))


def new_unit(body: Mapping[str, Any]) -> Unit:
    """The unit that a body describes.

    Raises:
        FieldError: the first field that cannot be used.
    """
    return changed_unit(Unit(printable(body.get("name"), "name"), unit_kind(body.get("kind"), "kind")), body)


def changed_unit(unit: Unit, body: Mapping[str, Any]) -> Unit:
    """The unit with the fields of the body, each replaced whole.

    Raises:
        FieldError: the first field that cannot be used.
    """
    checks = {"name": printable, "kind": unit_kind, "site_id": optional_id, "attributes": attributes, "archived": flag}
    return replace(unit, **_checked(checks, body))


def _checked(checks: Mapping[str, Callable[[object, str], object]], body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: check(body[name], name) for name, check in checks.items() if name in body}


def printable(value: object, path: str, most: int = MAX_NAME_CHARS) -> str:
    """A name: one line that can be read.

    Raises:
        FieldError: it is none.
    """
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > most:
        raise FieldError(path, f"found {shown(value)}, expected text of 1 to {most} printable characters")
    return value


def measured_in(value: object, path: str) -> str:
    """The unit of a sensor's values.

    Raises:
        FieldError: it is none.
    """
    return printable(value, path, _MAX_UNIT_CHARS)


def unit_kind(value: object, path: str) -> str:
    """A kind of unit.

    Raises:
        FieldError: there is no such kind.
    """
    if not isinstance(value, str) or value not in UNIT_KINDS:
        raise FieldError(path, f"found {shown(value)}, expected one of {', '.join(UNIT_KINDS)}")
    return value


@lru_cache(maxsize=1)
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def time_zone(value: object, path: str) -> str:
    """The name of an IANA time zone.

    Raises:
        FieldError: there is no such zone.
    """
    if not isinstance(value, str) or value not in _time_zones():
        raise FieldError(path, f"found {shown(value)}, expected an IANA time zone such as Europe/Berlin or UTC")
    return value


def attributes(value: object, path: str) -> Attributes:
    """Numbers that rules may use, and short texts.

    Raises:
        FieldError: which attribute is neither, or is not well named.
    """
    if not isinstance(value, Mapping):
        raise FieldError(path, f'found {shown(value)}, expected an object such as {{"max_celsius": 5}}')
    if len(value) > MAX_ATTRIBUTES:
        raise FieldError(path, f"has {len(value)} attributes, expected at most {MAX_ATTRIBUTES}")
    for name, one in value.items():
        if not _ATTRIBUTE_NAME.fullmatch(name):
            detail = f"found the name {shown(name)}, expected a letter, then at most 63 letters, digits or _"
            raise FieldError(path, detail)
        _require_value(one, f"{path}.{name}")
    return dict(value)


def _require_value(value: object, path: str) -> None:
    if isinstance(value, str):
        if len(value) > _MAX_ATTRIBUTE_CHARS or not value.isprintable():
            detail = f"found {shown(value)}, expected at most {_MAX_ATTRIBUTE_CHARS} printable characters"
            raise FieldError(path, detail)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise FieldError(path, f"found {shown(value)}, expected a finite number or a short text")


def flag(value: object, path: str) -> bool:
    """True or false.

    Raises:
        FieldError: it is neither.
    """
    if not isinstance(value, bool):
        raise FieldError(path, f"found {shown(value)}, expected true or false")
    return value


def optional_id(value: object, path: str) -> str | None:
    """An id, or null for none.

    Raises:
        FieldError: it is neither.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not value or "\0" in value or len(value) > MAX_NAME_CHARS:
        raise FieldError(path, f"found {shown(value)}, expected an id or null")
    return value


def revision(value: object, path: str) -> int:
    """The revision that somebody has seen.

    Raises:
        FieldError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FieldError(path, f"found {shown(value)}, expected the revision as it was read, a number from 1 on")
    return value


def expected_interval_ms(value: object, path: str) -> int | None:
    """How far apart readings should be; null for the median of what comes.

    Raises:
        FieldError: it is no such duration.
    """
    return None if value is None else _duration_ms(value, path, 1_000, _MAX_INTERVAL_MS)


def overlap_ms(value: object, path: str) -> int:
    """How long earlier secrets hold yet.

    Raises:
        FieldError: it is no such duration.
    """
    return _duration_ms(value, path, 0, _MAX_OVERLAP_MS)


def _duration_ms(value: object, path: str, least: int, most: int) -> int:
    try:
        if isinstance(value, str) and len(value) <= _MAX_DURATION_CHARS:
            duration = parse_duration_ms(value, path, least_ms=least)
            if duration <= most:
                return duration
    except RuleError:
        pass
    bounds = f"{least // 1_000}s to {most // 86_400_000}d"
    raise FieldError(path, f"found {shown(value)}, expected a duration from {bounds} such as 30s, 5m or 1h")


def effective_from(value: object, path: str, now_ms: int) -> datetime | None:
    """The moment from which a change holds; None for now.

    Raises:
        FieldError: it is no time, or lies before all readings or in the future.
    """
    if value is None:
        return None
    at_ms, valid = rfc3339.parse([value if isinstance(value, str) else ""])
    moment = int(at_ms[0])
    if not valid[0]:
        raise FieldError(path, f"found {shown(value)}, expected a time such as 2026-11-22T20:00:00.000Z")
    if not FIRST_MS <= moment <= now_ms + _AHEAD_MS:
        detail = (
            f"found {shown(value)}, expected a time from {rfc3339.format_ms(FIRST_MS)} until now; changes hold at once"
        )
        raise FieldError(path, detail)
    return datetime.fromtimestamp(moment / 1_000, UTC)
