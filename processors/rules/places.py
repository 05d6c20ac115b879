"""Where a sensor was when: what rules for units and sites, their numbers and their hours need, as of each time.

Border: a timeline that somebody has read, in; a `SensorContext` out. Before its first place a sensor is nowhere.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from processors.rules.model import Flags, Names, SensorContext, Times, Values
from schemas.rules import Attribute, Target

_ALWAYS_MS: Final = int(np.iinfo(np.int64).min)
_FOREVER_MS: Final = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Place:
    """What is so of a sensor's surroundings from some time on; attributes that are no numbers are left out."""

    from_ms: int = _ALWAYS_MS
    unit_id: str | None = None
    unit_kind: str | None = None
    site_id: str | None = None
    timezone: str = "UTC"
    unit_attributes: Mapping[str, float] = field(default_factory=dict)
    site_attributes: Mapping[str, float] = field(default_factory=dict)

    def covered_by(self, target: Target, sensor_id: str) -> bool:
        """Whether a rule for this target watches the sensor here."""
        match target.kind:
            case "all":
                return True
            case "sensor_id":
                return target.value == sensor_id
            case "unit_id":
                return target.value == self.unit_id
            case "site_id":
                return target.value == self.site_id
            case _:
                return target.value == self.unit_kind

    def number(self, wanted: Attribute) -> float:
        """The attribute's number; NaN where there is none."""
        held = self.unit_attributes if wanted.of == "unit" else self.site_attributes
        return held.get(wanted.name, np.nan)


Assignment = tuple[int, str | None, str | None]
"""From when on, in which unit, at which site."""

Versions = Mapping[str, Sequence[tuple[int, str, Mapping[str, Any]]]]
"""Per unit or site: from when on, its kind or time zone, its attributes; ascending."""


def places_of(assignments: Sequence[Assignment], units: Versions, sites: Versions) -> tuple[Place, ...]:
    """A sensor's places: one from each moment on at which anything of its assignment, unit or site changes."""
    found: list[Place] = []
    ends = [*(one[0] for one in assignments[1:]), _FOREVER_MS][: len(assignments)]
    for (from_ms, unit_id, site_id), until_ms in zip(assignments, ends, strict=True):
        unit, site = units.get(unit_id or "", ()), sites.get(site_id or "", ())
        moments = {from_ms} | {one[0] for one in (*unit, *site) if from_ms < one[0] < until_ms}
        found += [_place(moment, unit_id, site_id, _at(unit, moment), _at(site, moment)) for moment in sorted(moments)]
    return tuple(found)


def _at(versions: Sequence[tuple[int, str, Mapping[str, Any]]], moment_ms: int) -> tuple[str | None, Mapping[str, Any]]:
    """What the version in force says."""
    held = next((one for one in reversed(versions) if one[0] <= moment_ms), None)
    return (None, {}) if held is None else held[1:]


def _place(
    from_ms: int,
    unit_id: str | None,
    site_id: str | None,
    unit: tuple[str | None, Mapping[str, Any]],
    site: tuple[str | None, Mapping[str, Any]],
) -> Place:
    return Place(from_ms, unit_id, unit[0], site_id, site[0] or "UTC", numbers_of(unit[1]), numbers_of(site[1]))


def numbers_of(attributes: Mapping[str, Any]) -> dict[str, float]:
    """The attributes that a rule can take a number from."""
    return {
        name: float(value)
        for name, value in attributes.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    }


class Whereabouts:
    """A sensor's places over time.

    Args:
        sensor_id: whose.
        places: by `from_ms`, each until the next.
    """

    def __init__(self, sensor_id: str, places: Sequence[Place]) -> None:
        self.sensor_id = sensor_id
        self.places = [Place(), *places]
        self._from_ms: Times = np.array([one.from_ms for one in self.places], np.int64)

    def context(self, declared_interval_ms: int | None) -> SensorContext:
        """The sensor as the judge asks for it."""
        return SensorContext(declared_interval_ms, self._applies, self._attribute, self._timezone)

    def range_of(self, wanted: Attribute) -> tuple[float, float] | None:
        """Least and greatest number that the attribute ever is; None where it never is."""
        numbers = [number for one in self.places if not np.isnan(number := one.number(wanted))]
        return (min(numbers), max(numbers)) if numbers else None

    def _applies(self, target: Target, at_ms: Times) -> Flags:
        return np.array([one.covered_by(target, self.sensor_id) for one in self.places], np.bool_)[self._place(at_ms)]

    def _attribute(self, wanted: Attribute, at_ms: Times) -> Values:
        return np.array([one.number(wanted) for one in self.places], np.float64)[self._place(at_ms)]

    def _timezone(self, at_ms: Times) -> Names:
        return np.array([one.timezone for one in self.places])[self._place(at_ms)]

    def _place(self, at_ms: Times) -> Times:
        place: Times = np.searchsorted(self._from_ms, at_ms, side="right") - 1
        return place
