"""Where a sensor was when: what rules for units and sites, their numbers and their hours need, as of each time.

Border: a timeline that somebody has read, in; a `SensorContext` out. Before its first place a sensor is nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from processors.rules.model import Flags, Names, SensorContext, Times, Values
from schemas.rules import Attribute, Target

_ALWAYS_MS: Final = int(np.iinfo(np.int64).min)


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

    def ever_covered_by(self, target: Target) -> bool:
        """Whether a rule for this target watches the sensor at any time."""
        return any(one.covered_by(target, self.sensor_id) for one in self.places)

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
