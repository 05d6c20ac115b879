"""Scenarios: which faults a fleet has, as data.

Two kinds of fault. *Recurring* ones are drawn by day and device and depend on absolute time only, so a second run over
the same hours repeats the same readings (they are duplicates, not conflicts). *Staged* ones are placed relative to the
start of the run, so that what the scenario is named after shows within minutes; they never reach back before it, apart
from a radio loss that is about to end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Incident(IntEnum):
    """What can go wrong with a unit or its air probe."""

    WARM_LOAD = 1
    COMPRESSOR_FAILURE = 2
    DOOR_LEFT_OPEN = 3
    STUCK_SENSOR = 4
    DEAD_SENSOR = 5


@dataclass(frozen=True, slots=True)
class Chance:
    """A recurring incident: its share of device-days, and how long it lasts, in minutes.

    A repair within 4.5 h leaves a freezer time to recover before the next day's first defrost, where the thermal model
    starts afresh (see thermal).
    """

    share: float
    shortest_min: float
    longest_min: float


@dataclass(frozen=True, slots=True)
class Staged:
    """An incident at a fixed time after the start, for the devices at these positions of the kitchen."""

    incident: Incident
    slots: tuple[int, ...]
    after_s: float
    lasts_s: float = float("inf")


@dataclass(frozen=True, slots=True)
class StagedOutage:
    """A radio loss that began before the start and ends shortly after it."""

    slots: tuple[int, ...]
    began_s_before: float
    ends_after_s: float


@dataclass(frozen=True, slots=True)
class ClockFault:
    """How a device's clock is wrong.

    Attributes:
        skew_ms: constant error; positive is ahead.
        drift_ppm: error that grows until the weekly synchronisation takes it back in one step. A tuning-fork crystal
            is good to 20 ppm (1.7 s a day) at 25 °C and loses 0.034 ppm/K² away from it: -69 ppm at -20 °C.
        step_ms: an error until two minutes after the start, when the clock is put right in one step.
    """

    skew_ms: int = 0
    drift_ppm: float = 0.0
    step_ms: int = 0


RIGHT = ClockFault()


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named set of faults; shares are per device-day (incidents), six hours (outages) or record (duplicates)."""

    name: str
    summary: str
    chances: Mapping[Incident, Chance] = field(default_factory=dict)
    staged: tuple[Staged, ...] = ()
    outage_share: float = 0.0
    staged_outage: StagedOutage | None = None
    duplicate_share: float = 0.0
    clocks: tuple[ClockFault, ...] = (RIGHT,)


_MIXED_CHANCES = {
    Incident.WARM_LOAD: Chance(0.05, 4, 4),
    Incident.COMPRESSOR_FAILURE: Chance(0.04, 60, 270),
    Incident.DOOR_LEFT_OPEN: Chance(0.06, 10, 45),
    Incident.STUCK_SENSOR: Chance(0.03, 60, 300),
    Incident.DEAD_SENSOR: Chance(0.03, 30, 300),
}

_ALL = (
    Scenario(
        "mixed",
        "a bit of everything: now and then an incident, radio loss, duplicates, clocks that drift",
        chances=_MIXED_CHANCES,
        outage_share=0.08,
        duplicate_share=0.015,
        clocks=(RIGHT, ClockFault(drift_ppm=-69), RIGHT, RIGHT, ClockFault(skew_ms=-40_000), ClockFault(drift_ppm=20)),
    ),
    Scenario("normal", "healthy units: compressor cycles, defrost, door openings, nothing else"),
    Scenario(
        "warm-fridge",
        "half a minute in, warm goods are loaded into the first fridge: above 8 °C within minutes, for about an hour",
        staged=(Staged(Incident.WARM_LOAD, (0,), 30.0, 240.0),),
    ),
    Scenario(
        "compressor-failure",
        "half a minute in, the compressors of the first fridge and freezer stop for good: slow warm-up to ambient",
        staged=(Staged(Incident.COMPRESSOR_FAILURE, (0, 1), 30.0),),
    ),
    Scenario(
        "door-left-open",
        "half a minute in, the doors of the first fridge and freezer stay open for half an hour",
        staged=(Staged(Incident.DOOR_LEFT_OPEN, (0, 1), 30.0, 1800.0),),
    ),
    Scenario(
        "dead-sensor",
        "half a minute in, the first device's air probe falls silent for good, the fourth's sticks at its last value",
        staged=(Staged(Incident.DEAD_SENSOR, (0,), 30.0), Staged(Incident.STUCK_SENSOR, (3,), 30.0)),
    ),
    Scenario(
        "late-upload",
        "every other device comes back from 40 min of radio loss and sends its backlog; later losses are frequent",
        outage_share=0.5,
        staged_outage=StagedOutage((0, 2, 4), 2400.0, 3.0),
    ),
    Scenario("duplicates", "every fifth record is sent twice", duplicate_share=0.2),
    Scenario(
        "clock-errors",
        "one step back, drift, constant skew, and a clock 10 min ahead whose readings are quarantined",
        clocks=(
            ClockFault(step_ms=90_000),
            ClockFault(drift_ppm=-69),
            ClockFault(skew_ms=-180_000),
            ClockFault(skew_ms=600_000),
            ClockFault(skew_ms=120_000),
            RIGHT,
        ),
    ),
)

SCENARIOS: Mapping[str, Scenario] = {scenario.name: scenario for scenario in _ALL}
DEFAULT_SCENARIO = "mixed"


def find_scenario(name: str) -> Scenario:
    """The scenario of that name.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    try:
        return SCENARIOS[name]
    except KeyError:
        msg = f"no scenario is named {name!r}; expected one of {', '.join(SCENARIOS)}"
        raise ValueError(msg) from None
