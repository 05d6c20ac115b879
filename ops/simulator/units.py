"""The monitored units: what a fridge, a freezer and a room are made of, and how one differs from the next.

Numbers come from the physical side; where a source is named it gives the range, the choice within it is ours.

- Fridge: cuts in at 5 °C and out at 3 °C around its target of 4 °C (chilled food: at most 5 °C by the FDA Food Code
  3-501.16, 8 °C in many European rules). Left alone it drifts to ambient with a time constant of 4 h: +4 K/h in a
  room of 20 °C. Running, it would settle 42 K below ambient, so it falls by 6.5 K/h: 18 min on, 30 min off, a duty
  of 38 % (a compressor typically starts once or twice an hour at a duty of about 40 %).
- Freezer: -18.5 and -21.5 °C around -20 °C (frozen food: -18 °C, Codex CAC/RCP 8-1976), 9 h, 75 K: 41 min off, 46 min
  on. The heavier frozen load makes the time constant longer.
- Defrost: three or four a day of 15 to 20 min on a timer, as is usual for commercial units. Fridges simply stop
  (off-cycle defrost, the air is above 0 °C); freezers heat the coil, which warms the air by some 4 K.
- Room: an air-conditioned store at 20 °C that follows 40 % of the building's day curve; 50 % relative humidity.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from ops.simulator.noise import Bools, Floats, Ints, Stream, again, draw, uniform

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
STEP_MS = 30_000
SENSORS_PER_DEVICE = 3

_DEVICES_PER_TENANT_LIMIT = 1 << 20
_BATTERY_LIFE_DAYS = (500, 1100)  # two AA lithium cells, a message a minute


class Kind(IntEnum):
    """What a device watches."""

    FRIDGE = 0
    FREEZER = 1
    ROOM = 2


# Position of the device within its tenant, modulo six: a small kitchen.
KITCHEN = (Kind.FRIDGE, Kind.FREEZER, Kind.ROOM, Kind.FRIDGE, Kind.FREEZER, Kind.FRIDGE)

# Names of the three sensors of a device. `product` is a probe in a bottle of glycol, as vaccine storage rules ask for.
SENSORS = {
    Kind.FRIDGE: ("air", "product", "battery"),
    Kind.FREEZER: ("air", "product", "battery"),
    Kind.ROOM: ("air", "humidity", "battery"),
}
SENSOR_UNITS = {"air": "celsius", "product": "celsius", "humidity": "percent", "battery": "percent"}


@dataclass(frozen=True, slots=True)
class Appliance:
    """Physics of one kind; temperatures in °C or K, see the module docstring."""

    cut_in: float
    cut_out: float
    time_constant_h: float
    capacity_kelvin: float
    defrosts_a_day: tuple[int, int]
    defrost_minutes: float
    defrost_air_kelvin: float
    openings_per_busy_hour: float


APPLIANCES = {
    Kind.FRIDGE: Appliance(5.0, 3.0, 4.0, 42.0, (3, 4), 20.0, 0.0, 6.0),
    Kind.FREEZER: Appliance(-18.5, -21.5, 9.0, 75.0, (3, 4), 18.0, 4.0, 3.0),
    Kind.ROOM: Appliance(21.0, 19.0, 6.0, 0.0, (1, 1), 0.0, 0.0, 0.0),
}


@dataclass(frozen=True)
class Units:
    """Every device's unit as columns of shape (devices,); a device's row does not depend on how many others there are.

    `key` is the device's own key for draws, `site` its tenant, `position` its number within the tenant. Rates are
    per second, `anchor_ms` is the time of day (UTC) at which its first defrost of the day starts.
    """

    key: Ints
    site: Ints
    position: Ints
    kind: Ints
    is_room: Bools
    cut_in: Floats
    cut_out: Floats
    leak_rate: Floats
    cooling_rate: Floats
    defrost_spacing_ms: Ints
    defrost_ms: Ints
    defrost_air_kelvin: Floats
    openings_per_busy_hour: Floats
    anchor_ms: Ints
    phase_ns: Ints
    battery_life_ms: Ints

    @property
    def slot(self) -> Ints:
        """The place in the kitchen, 0 to 5, which decides the kind."""
        return self.position % len(KITCHEN)


def site_offset_ms(site: Ints) -> Ints:
    """How far a site's local time is ahead of UTC: 0, 1 or 2 h."""
    return site % 3 * HOUR_MS


def make_units(seed: int, tenants: int, devices: int) -> Units:
    """The units of `tenants` × `devices` devices, ordered by tenant.

    Raises:
        ValueError: a count is below one, or a tenant would have more than 2^20 devices.
    """
    if tenants < 1 or not 1 <= devices <= _DEVICES_PER_TENANT_LIMIT:
        limit = _DEVICES_PER_TENANT_LIMIT
        msg = f"expected at least one tenant and 1 to {limit} devices each, got {tenants} and {devices}"
        raise ValueError(msg)
    site = np.repeat(np.arange(tenants, dtype=np.int64), devices)
    position = np.tile(np.arange(devices, dtype=np.int64), tenants)
    key = site * _DEVICES_PER_TENANT_LIMIT + position
    kind = np.array(KITCHEN, dtype=np.int64)[position % len(KITCHEN)]
    return _units(seed, site, position, kind, key)


def _units(seed: int, site: Ints, position: Ints, kind: Ints, key: Ints) -> Units:
    leak_rate = 1.0 / (3600.0 * _of_kind("time_constant_h")[kind] * _spread(seed, key, 0, 0.85, 1.15))
    setting = _spread(seed, key, 1, -0.3, 0.3)  # where somebody turned the knob
    return Units(
        key=key,
        site=site,
        position=position,
        kind=kind,
        is_room=kind == Kind.ROOM,
        cut_in=_of_kind("cut_in")[kind] + setting,
        cut_out=_of_kind("cut_out")[kind] + setting,
        leak_rate=leak_rate,
        cooling_rate=leak_rate * _of_kind("capacity_kelvin")[kind] * _spread(seed, key, 2, 0.92, 1.08),
        defrost_spacing_ms=_defrost_spacing_ms(seed, kind, key),
        defrost_ms=(_of_kind("defrost_minutes")[kind] * 60_000).astype(np.int64),
        defrost_air_kelvin=_of_kind("defrost_air_kelvin")[kind] * _spread(seed, key, 3, 0.8, 1.2),
        openings_per_busy_hour=_of_kind("openings_per_busy_hour")[kind] * _spread(seed, key, 4, 0.6, 1.2),
        anchor_ms=_anchor_ms(seed, site, key),
        phase_ns=(uniform(draw(seed, Stream.PHASE, key)) * 60_000).astype(np.int64) * 1_000_000,
        battery_life_ms=_spread(seed, key, 5, *_BATTERY_LIFE_DAYS).astype(np.int64) * DAY_MS,
    )


def _of_kind(name: str) -> Floats:
    return np.array([getattr(APPLIANCES[kind], name) for kind in Kind], dtype=np.float64)


def _spread(seed: int, key: Ints, trait: int, low: float, high: float) -> Floats:
    return low + (high - low) * uniform(draw(seed, Stream.TRAITS, key, trait))


def _defrost_spacing_ms(seed: int, kind: Ints, key: Ints) -> Ints:
    choices = np.array([APPLIANCES[each].defrosts_a_day for each in Kind], dtype=np.int64)
    pick = (again(draw(seed, Stream.TRAITS, key, 6)) & np.uint64(1)).astype(np.int64)
    return DAY_MS // choices[kind, pick]


def _anchor_ms(seed: int, site: Ints, key: Ints) -> Ints:
    # Between 01:00 and 03:00 local: nobody opens a door then, see schedule.BUSY.
    local = (HOUR_MS + _spread(seed, key, 7, 0.0, 2.0 * HOUR_MS)).astype(np.int64)
    return (local - site_offset_ms(site)) % DAY_MS // STEP_MS * STEP_MS
