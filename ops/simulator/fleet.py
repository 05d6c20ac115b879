"""The fleet: what every device sends in a span of time, in the order of sending.

`Fleet.emissions` is a function of the seed and the span, however the span is cut: emissions(a, b) followed by
emissions(b, c) is emissions(a, c). Asking on from where the last call ended is cheap; any other start costs a run-in of
5 to 34 simulated hours, back to the last time that every unit started afresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import NamedTuple, TypeAlias

import numpy as np

from ops.simulator.clocks import Clocks
from ops.simulator.noise import Floats, Hashes, Ints, Stream, again, draw, normal, uniform
from ops.simulator.radio import LONGEST_DELAY_MS, Cadence, Plan, Radio
from ops.simulator.scenarios import Incident, Scenario
from ops.simulator.schedule import Incidents
from ops.simulator.thermal import Trajectories
from ops.simulator.units import DAY_MS, HOUR_MS, SENSORS, SENSORS_PER_DEVICE, Kind, make_units

Reading: TypeAlias = tuple[str, int, float, int]
"""(sensor, at in epoch ms by the device's clock, value, seq), as schemas.readings.encode_record takes it."""

MINUTE_NS = 60_000_000_000
_SECOND_NS = 1_000_000_000
_MAX_SAMPLES_PER_RECORD = 1000
_READINGS_PER_SLICE = 20_000
_WEEK_S = 7 * 86_400
_MAX_SEQ = 2**31 - 1

_PROBE_NOISE_KELVIN = 0.06  # digital probes: ±0.5 °C accuracy but well under 0.1 K from sample to sample
_SECOND_NOISE = np.array([0.03, 0.03, 0.3])  # by kind: product, product, humidity
_BATTERY_NOISE_PERCENT = 0.15
_BATTERY_EMPTY_PERCENT = 5.0  # somebody changes it then
_QUANTA_PER_UNIT = 10.0  # every sensor reports steps of 0.1


class Emission(NamedTuple):
    """One record that a device sends.

    Attributes:
        device: index into the fleet, 0 to tenants × devices - 1.
        send_at_ms: true time of sending, epoch ms.
        readings: oldest first.
        sent_at_ms: `sent_at` of the record: the device's clock at the first sending, so that a copy has the same bytes.
        late: it waited for the radio link.
        copy: it has been sent before.
    """

    device: int
    send_at_ms: int
    readings: list[Reading]
    sent_at_ms: int
    late: bool
    copy: bool


def interval_for(readings_per_s: float, devices: int) -> int:
    """The sampling interval in ns at which that many devices make so many readings a second.

    Raises:
        ValueError: the rate is not positive or the interval would be below a microsecond.
    """
    if readings_per_s <= 0:
        msg = f"the rate must be above 0 readings/s, got {readings_per_s:g}"
        raise ValueError(msg)
    interval_ns = round(devices * SENSORS_PER_DEVICE * _SECOND_NS / readings_per_s)
    if interval_ns < 1000:  # noqa: PLR2004 - a microsecond
        msg = f"{readings_per_s:g} readings/s are too many for {devices} devices; at most 3 000 000 each"
        raise ValueError(msg)
    return interval_ns


class Fleet:
    """Simulated devices.

    Args:
        seed: everything random follows from it.
        tenants: number of tenants; each is one site.
        devices: number of devices per tenant, three sensors each.
        scenario: which faults they have.
        origin_ms: the moment to which the scenario's staged faults are relative.
        interval_ns: from one sample of a device to the next; samples of less than a second's distance share records.

    Raises:
        ValueError: a count is out of range.
    """

    def __init__(
        self,
        seed: int,
        tenants: int,
        devices: int,
        *,
        scenario: Scenario,
        origin_ms: int,
        interval_ns: int = MINUTE_NS,
    ) -> None:
        self.units = make_units(seed, tenants, devices)
        self._seed = seed
        self._origin_ms = origin_ms
        self._has_staged = bool(scenario.staged)
        samples = max(1, min(_MAX_SAMPLES_PER_RECORD, _SECOND_NS // interval_ns))
        self._cadence = Cadence(interval_ns, samples, self.units.phase_ns)
        self._incidents = Incidents(seed, self.units, scenario, origin_ms)
        self._radio = Radio(seed, self.units, self._cadence, scenario, origin_ms)
        self._clocks = Clocks(self.units, scenario.clocks, origin_ms)
        self._trajectories: Trajectories | None = None
        self._waiting: list[tuple[int, int, int, bool, Emission]] = []
        self._position_ms: int | None = None

    def emissions(self, start_ms: int, end_ms: int) -> Iterator[Emission]:
        """What is sent in [start_ms, end_ms), ordered by time of sending, then device."""
        if self._position_ms != start_ms:
            self._prime(start_ms)
        self._position_ms = None  # a caller that stops half-way starts over
        slice_ms = self._slice_ms()
        for from_ms in range(start_ms, end_ms, slice_ms):
            to_ms = min(from_ms + slice_ms, end_ms)
            self._make(np.full(len(self.units.key), from_ms, dtype=np.int64), to_ms, from_ms)
            while self._waiting and self._waiting[0][0] < to_ms:
                yield heappop(self._waiting)[-1]
        self._position_ms = end_ms

    def sensor_names(self, device: int) -> tuple[str, str, str]:
        """The three sensors of a device."""
        return SENSORS[Kind(self.units.kind[device])]

    def _slice_ms(self) -> int:
        readings_per_ms = len(self.units.key) * SENSORS_PER_DEVICE * 1e6 / self._cadence.interval_ns
        return max(1, min(HOUR_MS, int(_READINGS_PER_SLICE / readings_per_ms)))

    def _prime(self, start_ms: int) -> None:
        """Load what is still unsent at `start_ms`: backlogs of radio losses, records and copies on their way."""
        self._waiting = []
        earliest_ms = start_ms - LONGEST_DELAY_MS - 2 * self._cadence.record_ns // 1_000_000
        if self._has_staged:  # their effect may outlast the day after which a unit starts afresh
            earliest_ms = min(earliest_ms, self._origin_ms)
        anchors_ms = earliest_ms - (earliest_ms - self.units.anchor_ms) % DAY_MS
        self._trajectories = Trajectories(self._seed, self.units, self._incidents, int(anchors_ms.min()))
        self._make(self._radio.unsent_since_ms(start_ms), start_ms, start_ms)

    def _make(self, due_from_ms: Ints, due_to_ms: int, not_before_ms: int) -> None:
        """Put the records that fall due in a span, from a time of its own for each device, among the waiting ones."""
        device, record = self._due(due_from_ms, due_to_ms)
        due_ms = self._cadence.due_ns(device, record) // 1_000_000
        plan = self._radio.plan(device, record, due_ms)
        wanted = ~plan.lost & ((plan.send_ms >= not_before_ms) | (plan.copy_ms >= not_before_ms))
        if wanted.any():
            self._enqueue(device[wanted], record[wanted], plan.of(wanted), not_before_ms)

    def _due(self, from_ms: Ints, to_ms: int) -> tuple[Ints, Ints]:
        everyone = np.arange(len(self.units.key), dtype=np.int64)
        first = self._cadence.first_due(everyone, from_ms * 1_000_000)
        past = self._cadence.first_due(everyone, np.full(len(everyone), to_ms * 1_000_000, dtype=np.int64))
        count = past - first
        device = np.repeat(everyone, count)
        place = np.arange(len(device), dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
        return device, first[device] + place

    def _enqueue(self, device: Ints, record: Ints, plan: Plan, not_before_ms: int) -> None:
        clock = self._clocks.shown_ms(device, plan.send_ms)
        numbers = (column.tolist() for column in (device, record, plan.send_ms, plan.copy_ms, plan.late, clock))
        columns = zip(*numbers, self._bodies(device, record), strict=True)
        for each, number, send_ms, copy_ms, late, clock_ms, readings in columns:
            for moment, copy in ((send_ms, False), (copy_ms, True)):
                if moment >= not_before_ms:
                    emission = Emission(each, moment, readings, clock_ms, late, copy)
                    heappush(self._waiting, (moment, each, number, copy, emission))

    def _bodies(self, device: Ints, record: Ints) -> list[list[Reading]]:
        """The readings of each record."""
        sample = self._cadence.sample(record)
        taken_ns = self._cadence.sampled_ns(device, sample)
        taken_ms = taken_ns // 1_000_000
        owner = np.broadcast_to(device[:, None], sample.shape)
        values = self._values(owner, taken_ms, taken_ns)
        at = np.repeat(self._clocks.shown_ms(owner, taken_ms), SENSORS_PER_DEVICE, axis=1).tolist()
        seq = np.repeat(self._seq(sample, taken_ms), SENSORS_PER_DEVICE, axis=1).tolist()
        names = [self.sensor_names(each) * sample.shape[1] for each in device.tolist()]
        rows = values.reshape(len(device), -1).tolist()
        bodies = [list(zip(*row, strict=True)) for row in zip(names, at, rows, seq, strict=True)]
        return self._without_dead(bodies, owner, taken_ms)

    def _without_dead(self, bodies: list[list[Reading]], owner: Ints, taken_ms: Ints) -> list[list[Reading]]:
        if not self._incidents.can_occur(Incident.DEAD_SENSOR):
            return bodies
        dead = np.zeros((*owner.shape, SENSORS_PER_DEVICE), dtype=np.bool_)
        dead[..., 0] = self._incidents.at(Incident.DEAD_SENSOR, owner, taken_ms)
        silent = dead.reshape(len(bodies), -1)
        for row in np.flatnonzero(silent.any(axis=1)).tolist():
            bodies[row] = [reading for reading, gone in zip(bodies[row], silent[row], strict=True) if not gone]
        return bodies

    def _seq(self, sample: Ints, taken_ms: Ints) -> Ints:
        """Seconds since the weekly restart, or a running count if there are several samples a second.

        It is unique among samples of one `at` even when a clock is set back, and the first kind is the same at any
        interval, so that a back-fill at one reading a minute repeats what was sent live every ten seconds.
        """
        if self._cadence.interval_ns >= _SECOND_NS:
            return taken_ms // 1000 % _WEEK_S
        return sample & _MAX_SEQ

    def _values(self, owner: Ints, taken_ms: Ints, taken_ns: Ints) -> Floats:
        """Values of all sensors, shape (records, samples, sensors); noise depends on device and time only."""
        assert self._trajectories is not None  # noqa: S101 - _prime comes first
        self._trajectories.keep(int(taken_ms.min()), int(taken_ms.max()))
        air, second = self._trajectories.sample(owner, taken_ms)
        words = draw(self._seed, Stream.MEASUREMENT, self.units.key[owner], taken_ns)
        jitter = normal(words) * _PROBE_NOISE_KELVIN
        if self._incidents.can_occur(Incident.STUCK_SENSOR):
            jitter = np.where(self._incidents.at(Incident.STUCK_SENSOR, owner, taken_ms), 0.0, jitter)
        words = again(words)
        second = second + normal(words) * _SECOND_NOISE[self.units.kind[owner]]
        values = np.stack([air + jitter, second, self._battery(owner, taken_ms, words)], axis=-1)
        return np.rint(values * _QUANTA_PER_UNIT) / _QUANTA_PER_UNIT + 0.0  # + 0.0: no negative zero

    def _battery(self, owner: Ints, taken_ms: Ints, words: Hashes) -> Floats:
        """Charge in percent, falling evenly over the battery's life."""
        life = self.units.battery_life_ms[owner]
        birth = uniform(draw(self._seed, Stream.BATTERY, self.units.key))[owner]
        age = (taken_ms / life + birth) % 1.0
        level = 100.0 - (100.0 - _BATTERY_EMPTY_PERCENT) * age
        return np.clip(level + normal(again(words)) * _BATTERY_NOISE_PERCENT, 0.0, 100.0)
