"""The thermal model: first-order equations on a grid of 30 s, for all devices at once.

Three temperatures. The *core* (walls and contents) leaks towards ambient and is cooled by the compressor; the *excess*
of the air over the core is what an open door or a defrost heater adds, and fades within minutes; the *product* probe
sits in a bottle of glycol and follows the air slowly.

    core'    = leak · (ambient - core) - cooling · running + open · (ambient - air) / 90 min + warm goods
    excess'  = open · (ambient - air) / 4 min + (heater - excess) / 4 min
    product' = (air - product) / 25 min

An open door exchanges the cabinet's air within minutes (hence 4 min), the contents much more slowly. At each unit's
daily anchor (see schedule) a unit that works is put exactly at its cut-out temperature, where its pre-cool has brought
it to within a fraction of a degree. So a trajectory depends on absolute time only, not on when the simulation began.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ops.simulator.noise import Bools, Floats, Ints, Stream, draw, smooth, uniform
from ops.simulator.scenarios import Incident
from ops.simulator.schedule import STEP_S, Incidents, ambient, door_open_s, timer
from ops.simulator.units import HOUR_MS, STEP_MS, Units

_STEPS_PER_CHUNK = HOUR_MS // STEP_MS
_DOOR_TO_CORE_S = 5400.0
_DOOR_TO_AIR_S = 240.0
_AIR_S = 240.0
_PRODUCT_S = 1500.0
_WARM_LOAD_KELVIN_PER_S = 2.0 / 60.0
_PRECOOL_BAND_KELVIN = 0.1
_AFRESH_KELVIN = 1.0
_THERMOSTAT_AIR_SHARE = 0.5  # its bulb sits in the return air, half shielded

_ROOM_TARGET = 20.0
_ROOM_AMBIENT_MEAN = 22.0
_ROOM_FOLLOWS = 0.4
_AIR_CONDITIONING_KELVIN = 0.3
_AIR_CONDITIONING_MS = 37 * 60_000
_HUMIDITY_TARGET = 50.0
_HUMIDITY_SWING = 8.0
_HUMIDITY_PER_KELVIN = -3.0  # saturation pressure rises 6.2 %/K at 20 °C (Magnus), so 50 % falls by 3 points/K

Trace = NDArray[np.float32]


class Trajectories:
    """What the probes of all devices feel, computed hour by hour from `begin_ms` on and kept as long as asked.

    Args:
        seed: of the fleet.
        units: the fleet.
        incidents: what goes wrong.
        begin_ms: at or before the anchor after which a unit's times are wanted; what lies before it is invalid.
    """

    def __init__(self, seed: int, units: Units, incidents: Incidents, begin_ms: int) -> None:
        self._seed = seed
        self._units = units
        self._incidents = incidents
        self._sites, self._site_of = np.unique(units.site, return_inverse=True)
        self._next_chunk = begin_ms // HOUR_MS
        self._first_ms = self._next_chunk * HOUR_MS
        self._model = _Model(units)
        self._air: Trace = np.empty((0, len(units.key)), dtype=np.float32)
        self._second: Trace = self._air

    def keep(self, from_ms: int, to_ms: int) -> None:
        """Hold the span [from_ms, to_ms] and the hour before it, forget what is older."""
        while self._next_chunk * HOUR_MS <= to_ms + STEP_MS:
            self._extend()
            surplus = min((from_ms - self._first_ms) // STEP_MS - _STEPS_PER_CHUNK, len(self._air) - 1)
            if surplus >= _STEPS_PER_CHUNK:
                self._air, self._second = self._air[surplus:], self._second[surplus:]
                self._first_ms += surplus * STEP_MS

    def sample(self, device: Ints, time_ms: Ints) -> tuple[Floats, Floats]:
        """Temperature at the air probe, and the product's (rooms: humidity), for devices and times of one shape."""
        offset = time_ms - self._first_ms
        row = offset // STEP_MS
        part = (offset - row * STEP_MS) / STEP_MS
        return _between(self._air, row, device, part), _between(self._second, row, device, part)

    def _extend(self) -> None:
        times = self._next_chunk * HOUR_MS + np.arange(_STEPS_PER_CHUNK, dtype=np.int64) * STEP_MS
        around = ambient(self._seed, self._sites, times)[:, self._site_of]
        masks = self._incidents.on_grid(times)
        doors = door_open_s(self._seed, self._units, times)
        air, second = self._model.run(times, around, doors, masks)
        room_air, humidity = _rooms(self._seed, self._units, times, around)
        stuck = masks.get(Incident.STUCK_SENSOR)
        air = np.where(self._units.is_room, room_air, air)
        second = np.where(self._units.is_room, humidity, second)
        self._air = np.concatenate([self._air, self._model.freeze(air, stuck).astype(np.float32)])
        self._second = np.concatenate([self._second, second.astype(np.float32)])
        self._next_chunk += 1


class _Model:
    """The state of all cabinets and one step of it."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._core = units.cut_out.copy()
        self._excess = np.zeros_like(self._core)
        self._product = units.cut_out.copy()
        self._felt = units.cut_out.copy()
        self._on = np.zeros(len(self._core), dtype=np.bool_)
        self._started = np.zeros(len(self._core), dtype=np.bool_)

    def run(self, times: Ints, around: Floats, doors: Floats, masks: dict[Incident, Bools]) -> tuple[Floats, Floats]:
        """Air and product temperatures at the times, shape (times, devices), leaving the state one step later."""
        clockwork = timer(self._units, times)
        nothing = np.zeros(around.shape, dtype=np.bool_)
        doors = np.where(masks.get(Incident.DOOR_LEFT_OPEN, nothing), STEP_S, doors) / STEP_S
        may_run = ~(clockwork.defrosting | masks.get(Incident.COMPRESSOR_FAILURE, nothing))
        heater = clockwork.defrosting * self._units.defrost_air_kelvin
        goods = masks.get(Incident.WARM_LOAD, nothing) * _WARM_LOAD_KELVIN_PER_S
        cut_in = np.where(clockwork.precooling, self._units.cut_out + _PRECOOL_BAND_KELVIN, self._units.cut_in)
        air, product = np.empty_like(around), np.empty_like(around)
        for step in range(len(times)):
            if clockwork.starts_day[step].any():
                self._start_afresh(clockwork.starts_day[step])
            air[step], product[step] = self._core + self._excess, self._product
            self._switch(cut_in[step], may_run[step])
            self._step(around[step], doors[step], heater[step], goods[step], self._on & may_run[step])
        return air, product

    def freeze(self, air: Floats, stuck: Bools | None) -> Floats:
        """What the air probe says: the air, or where it is stuck the last value before."""
        if stuck is not None and stuck.any():
            for step in range(len(air)):
                self._felt = air[step] = np.where(stuck[step], self._felt, air[step])
        self._felt = air[-1]
        return air

    def _start_afresh(self, at_anchor: Bools) -> None:
        works = at_anchor & (~self._started | (np.abs(self._core - self._units.cut_out) < _AFRESH_KELVIN))
        self._started |= at_anchor
        self._core = np.where(works, self._units.cut_out, self._core)
        self._product = np.where(works, self._units.cut_out, self._product)
        self._excess = np.where(works, 0.0, self._excess)
        self._on &= ~works

    def _switch(self, cut_in: Floats, may_run: Bools) -> None:
        felt = self._core + _THERMOSTAT_AIR_SHARE * self._excess
        self._on = (self._on & (felt > self._units.cut_out)) | (felt >= cut_in)

    def _step(self, around: Floats, door: Floats, heater: Floats, goods: Floats, running: Bools) -> None:
        air = self._core + self._excess
        inflow = door * (around - air) * STEP_S
        gain = self._units.leak_rate * (around - self._core) - self._units.cooling_rate * running + goods
        self._product = self._product + (air - self._product) * (STEP_S / _PRODUCT_S)
        self._excess = self._excess + inflow / _DOOR_TO_AIR_S + (heater - self._excess) * (STEP_S / _AIR_S)
        self._core = self._core + gain * STEP_S + inflow / _DOOR_TO_CORE_S


def _rooms(seed: int, units: Units, times: Ints, around: Floats) -> tuple[Floats, Floats]:
    """Temperature and relative humidity of rooms, shape (times, devices); no state, so no thermal run-in."""
    turn = times[:, None] / _AIR_CONDITIONING_MS + uniform(draw(seed, Stream.TRAITS, units.key, 9))
    air = _ROOM_TARGET + _ROOM_FOLLOWS * (around - _ROOM_AMBIENT_MEAN)
    air = air + _AIR_CONDITIONING_KELVIN * np.sin(2.0 * np.pi * (turn % 1.0))
    moisture = smooth(seed, Stream.MOISTURE, units.site, times[:, None], 6 * HOUR_MS)
    return air, _HUMIDITY_TARGET + _HUMIDITY_SWING * moisture + _HUMIDITY_PER_KELVIN * (air - _ROOM_TARGET)


def _between(trace: Trace, row: Ints, device: Ints, part: Floats) -> Floats:
    before = trace[row, device].astype(np.float64)
    return before + (trace[row + 1, device] - before) * part
