"""What happens to a unit and when: its surroundings, doors, defrosts, incidents. All functions of absolute time.

A unit's day starts at its anchor, the start of its first defrost (01:00 to 03:00 local). The 90 min before are the
pre-cool: controllers pull the cabinet down before a defrost so that it ends less warm. That moment is also where the
thermal model starts afresh, so nothing may disturb it: nobody opens a door from 22:00 to 06:00, and recurring incidents
start 1 to 11 h after the anchor and last at most 5 h.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ops.simulator.noise import Bools, Floats, Ints, Stream, again, draw, smooth, uniform
from ops.simulator.scenarios import Chance, Incident, Scenario
from ops.simulator.units import DAY_MS, HOUR_MS, STEP_MS, Units, site_offset_ms

PRECOOL_MS = 90 * 60_000
STEP_S = STEP_MS / 1000.0

# Door traffic by local hour, relative to the busiest: deliveries, lunch, dinner; closed from 22:00 to 06:00.
BUSY = np.array([0, 0, 0, 0, 0, 0, 0.6, 0.8, 0.6, 0.5, 0.7, 0.9, 1, 0.9, 0.6, 0.5, 0.6, 0.8, 1, 1, 0.7, 0.4, 0, 0])
_SHORTEST_OPENING_S = 5.0
_MEAN_EXTRA_OPENING_S = 10.0
_LONGEST_OPENING_S = 120.0
_OPENING_STEPS = 4  # 120 s / 30 s

_AMBIENT_MEAN = 22.0  # °C behind a working kitchen: 19 to 25 over the day, ±2.5 by site and weather
_AMBIENT_SWING = 3.0
_WARMEST_HOUR = 15.0
_WEATHER_KELVIN = 1.5
_KNOT_MS = 6 * HOUR_MS

_INCIDENT_FROM_MS = HOUR_MS
_INCIDENT_SPREAD_MS = 10 * HOUR_MS


def ambient(seed: int, sites: Ints, time_ms: Ints) -> Floats:
    """Temperature around the units in °C, shape (times, sites): a day curve, the site's own level, the weather."""
    times = time_ms[:, None]
    hour = (times + site_offset_ms(sites)) % DAY_MS / HOUR_MS
    day = np.cos((hour - _WARMEST_HOUR) * (2.0 * np.pi / 24.0))
    level = 2.0 * uniform(draw(seed, Stream.TRAITS, sites, 8)) - 1.0
    weather = smooth(seed, Stream.WEATHER, sites, times, _KNOT_MS)
    return _AMBIENT_MEAN + level + _AMBIENT_SWING * day + _WEATHER_KELVIN * weather


def door_open_s(seed: int, units: Units, time_ms: Ints) -> Floats:
    """Seconds that each door is open in the step at each time, shape (times, devices); openings are Poisson.

    Args:
        seed: of the fleet.
        units: the fleet.
        time_ms: consecutive multiples of the step.
    """
    first = int(time_ms[0]) // STEP_MS - (_OPENING_STEPS - 1)
    steps = np.arange(first, first + len(time_ms) + _OPENING_STEPS - 1, dtype=np.int64)
    opened = _opening_s(seed, units, steps)
    total = np.zeros((len(time_ms), len(units.key)))
    for age in range(_OPENING_STEPS):
        newest = _OPENING_STEPS - 1 - age
        total += np.clip(opened[newest : newest + len(time_ms)] - age * STEP_S, 0.0, STEP_S)
    return np.minimum(total, STEP_S)


def _opening_s(seed: int, units: Units, steps: Ints) -> Floats:
    """How long a door that is opened in each step stays open; 0 where none is."""
    hour = (steps[:, None] * STEP_MS + site_offset_ms(units.site)) % DAY_MS // HOUR_MS
    chance = BUSY[hour] * units.openings_per_busy_hour * (STEP_S / 3600.0)
    words = draw(seed, Stream.DOOR, units.key, steps[:, None])
    extra = -_MEAN_EXTRA_OPENING_S * np.log1p(-uniform(again(words)))
    duration = np.minimum(_SHORTEST_OPENING_S + extra, _LONGEST_OPENING_S)
    return np.where(uniform(words) < chance, duration, 0.0)


@dataclass(frozen=True, slots=True)
class Timer:
    """The controller's clockwork at some times, each of shape (times, devices)."""

    starts_day: Bools
    defrosting: Bools
    precooling: Bools


def timer(units: Units, time_ms: Ints) -> Timer:
    """Where each unit is in its day of evenly spaced defrosts."""
    into_day = (time_ms[:, None] - units.anchor_ms) % DAY_MS
    defrosting = into_day % units.defrost_spacing_ms < units.defrost_ms
    return Timer(into_day == 0, defrosting, into_day >= DAY_MS - PRECOOL_MS)


class Incidents:
    """Which incident a device is in. At most one recurring one per device and day; staged ones come on top."""

    def __init__(self, seed: int, units: Units, scenario: Scenario, origin_ms: int) -> None:
        self._seed = seed
        self._units = units
        self._scenario = scenario
        self._origin_ms = origin_ms
        self._chances = list(scenario.chances.items())
        self._bounds = np.cumsum([chance.share for _, chance in self._chances])

    def on_grid(self, time_ms: Ints) -> dict[Incident, Bools]:
        """Masks of shape (times, devices), for times less than a day apart; incidents that cannot occur are absent."""
        times = time_ms[:, None]
        devices = np.arange(len(self._units.key))
        masks = {staged.incident: self._staged(staged.incident, devices, times) for staged in self._scenario.staged}
        first, last = self._day(devices, time_ms[0]), self._day(devices, time_ms[-1])
        days = [first] if np.array_equal(first, last) else [first, last]
        for day in days if self._chances else ():
            drawn, start, end = self._recurring(devices, day)
            inside = (times >= start) & (times < end)
            for number, (incident, _) in enumerate(self._chances):
                mask = inside & (drawn == number)
                masks[incident] = masks[incident] | mask if incident in masks else mask
        return masks

    def at(self, incident: Incident, device: Ints, time_ms: Ints) -> Bools:
        """Whether each device is in the incident at its time; device and time have the same shape."""
        mask = self._staged(incident, device, time_ms)
        for number, (each, _) in enumerate(self._chances):
            if each == incident:
                drawn, start, end = self._recurring(device, self._day(device, time_ms))
                mask = mask | ((drawn == number) & (time_ms >= start) & (time_ms < end))
        return mask

    def can_occur(self, incident: Incident) -> bool:
        """Whether the scenario has the incident at all."""
        return incident in self._scenario.chances or any(each.incident == incident for each in self._scenario.staged)

    def _day(self, device: Ints, time_ms: Ints) -> Ints:
        return np.asarray((time_ms - self._units.anchor_ms[device]) // DAY_MS, dtype=np.int64)

    def _recurring(self, device: Ints, day: Ints) -> tuple[Ints, Ints, Ints]:
        """Number of the drawn chance (one past the last: none), and its [start, end)."""
        words = draw(self._seed, Stream.INCIDENT, self._units.key[device], day)
        drawn = np.searchsorted(self._bounds, uniform(words), side="right")
        words = again(words)
        from_ms = self._units.anchor_ms[device] + day * DAY_MS + _INCIDENT_FROM_MS
        start = from_ms + (uniform(words) * _INCIDENT_SPREAD_MS).astype(np.int64)
        return drawn, start, start + self._duration_ms(drawn, uniform(again(words)))

    def _duration_ms(self, drawn: Ints, part: Floats) -> Ints:
        chances = [*(chance for _, chance in self._chances), Chance(0.0, 0.0, 0.0)]
        shortest = np.array([chance.shortest_min for chance in chances])[drawn]
        longest = np.array([chance.longest_min for chance in chances])[drawn]
        duration: Ints = ((shortest + (longest - shortest) * part) * 60_000.0).astype(np.int64)
        return duration

    def _staged(self, incident: Incident, device: Ints, time_ms: Ints) -> Bools:
        mask = np.zeros(np.broadcast_shapes(device.shape, time_ms.shape), dtype=np.bool_)
        for staged in self._scenario.staged:
            if staged.incident == incident:
                start = self._origin_ms + staged.after_s * 1000.0
                affected = np.isin(self._units.slot[device], staged.slots)
                mask |= affected & (time_ms >= start) & (time_ms < start + staged.lasts_s * 1000.0)
        return mask
