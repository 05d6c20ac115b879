"""The radio: when a record leaves the device, whether it waited out a loss of the link, and whether it is sent twice.

In each quarter of a UTC day a device may lose its link for 20 min to 5 h. Meanwhile it buffers up to 4 000 samples
(what CDC asks of vaccine loggers) and stops recording when that is full; afterwards it sends the backlog, oldest first,
25 records a second. A record whose acknowledgement is lost is sent again after 5 to 30 s, byte for byte.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ops.simulator.noise import Bools, Ints, Stream, again, draw, uniform
from ops.simulator.scenarios import Scenario
from ops.simulator.units import HOUR_MS, Units

BUFFER_SAMPLES = 4000
MAX_LATENCY_MS = 1500
MAX_COPY_DELAY_MS = 30_000

_QUARTER_MS = 6 * HOUR_MS
_SHORTEST_OUTAGE_MS = 20 * 60_000
_LONGEST_OUTAGE_MS = 5 * HOUR_MS
_BACKLOG_SPACING_MS = 40
_MIN_LATENCY_MS = 80
_MIN_COPY_DELAY_MS = 5_000
_NEVER = -1

MAX_DRAIN_MS = BUFFER_SAMPLES * _BACKLOG_SPACING_MS
LONGEST_DELAY_MS = _LONGEST_OUTAGE_MS + MAX_DRAIN_MS + MAX_COPY_DELAY_MS


@dataclass(frozen=True)
class Cadence:
    """How the devices sample and group: one interval for all, each with its own phase; times of sampling are exact.

    Sample k of a device is taken at `phase + k · interval`; record b carries samples b·n to b·n + n - 1 and is due when
    the last of them is taken.
    """

    interval_ns: int
    samples_per_record: int
    phase_ns: Ints

    @property
    def record_ns(self) -> int:
        """Time from one record of a device to its next."""
        return self.interval_ns * self.samples_per_record

    def due_ns(self, device: Ints, record: Ints) -> Ints:
        """When a record is due."""
        return self.phase_ns[device] % self.interval_ns + (record + 1) * self.record_ns - self.interval_ns

    def first_due(self, device: Ints, from_ns: Ints) -> Ints:
        """The first record that is due at `from_ns` or later."""
        missing = from_ns - self.due_ns(device, np.zeros_like(device))
        return np.asarray(-(-missing // self.record_ns), dtype=np.int64)

    def sample(self, record: Ints) -> Ints:
        """Numbers k of the samples of records, shape (records, samples per record)."""
        return record[:, None] * self.samples_per_record + np.arange(self.samples_per_record, dtype=np.int64)

    def sampled_ns(self, device: Ints, sample: Ints) -> Ints:
        """When samples are taken; device has shape (records,), sample (records, samples per record)."""
        return (self.phase_ns[device] % self.interval_ns)[:, None] + sample * self.interval_ns


@dataclass(frozen=True, slots=True)
class Plan:
    """What becomes of records, each column of shape (records,).

    Attributes:
        send_ms: when it is sent.
        copy_ms: when it is sent again, or -1.
        late: whether it waited for the link.
        lost: whether the buffer was full.
    """

    send_ms: Ints
    copy_ms: Ints
    late: Bools
    lost: Bools

    def of(self, chosen: Bools) -> Plan:
        """The plan of the chosen records only."""
        return Plan(self.send_ms[chosen], self.copy_ms[chosen], self.late[chosen], self.lost[chosen])


class Radio:
    """The links of a fleet."""

    def __init__(self, seed: int, units: Units, cadence: Cadence, scenario: Scenario, origin_ms: int) -> None:
        self._seed = seed
        self._key = units.key
        self._cadence = cadence
        self._outage_share = scenario.outage_share
        self._duplicate_share = scenario.duplicate_share
        staged = scenario.staged_outage
        self._staged = np.isin(units.slot, staged.slots if staged else ())
        self._staged_start = origin_ms - int(staged.began_s_before * 1000) if staged else 0
        self._staged_end = origin_ms + int(staged.ends_after_s * 1000) if staged else 0

    def plan(self, device: Ints, record: Ints, due_ms: Ints) -> Plan:
        """Decide about records from who sends them and when they are due."""
        start, end = self._outage(device, due_ms)
        late = (start <= due_ms) & (due_ms < end)
        place = record - self._cadence.first_due(device, start * 1_000_000)
        words = draw(self._seed, Stream.LATENCY, self._key[device], due_ms)
        latency = _MIN_LATENCY_MS + (uniform(words) * (MAX_LATENCY_MS - _MIN_LATENCY_MS)).astype(np.int64)
        send = np.where(late, end + place * _BACKLOG_SPACING_MS, due_ms + latency)
        words = draw(self._seed, Stream.COPY, self._key[device], due_ms)
        wait = (uniform(again(words)) * (MAX_COPY_DELAY_MS - _MIN_COPY_DELAY_MS)).astype(np.int64)
        copy = np.where(uniform(words) < self._duplicate_share, send + _MIN_COPY_DELAY_MS + wait, _NEVER)
        lost = late & ((place + 1) * self._cadence.samples_per_record > BUFFER_SAMPLES)
        return Plan(send, copy, late, lost)

    def unsent_since_ms(self, at_ms: int) -> Ints:
        """The due time from which on something may be unsent at `at_ms`, shape (devices,)."""
        device = np.arange(len(self._key), dtype=np.int64)
        oldest = np.full(len(device), at_ms - MAX_LATENCY_MS - MAX_COPY_DELAY_MS, dtype=np.int64)
        for moment in (at_ms, at_ms - _QUARTER_MS, self._staged_start):
            start, end = self._outage(device, np.full(len(device), moment, dtype=np.int64))
            relevant = (start < at_ms) & (end > at_ms - MAX_DRAIN_MS - MAX_COPY_DELAY_MS)
            oldest = np.where(relevant, np.minimum(oldest, start), oldest)
        return oldest

    def _outage(self, device: Ints, time_ms: Ints) -> tuple[Ints, Ints]:
        """[start, end) of the loss in each time's quarter, or of a staged one that covers it; empty if none."""
        quarter = time_ms // _QUARTER_MS
        words = draw(self._seed, Stream.OUTAGE, self._key[device], quarter)
        lost = uniform(words) < self._outage_share
        words = again(words)
        stretch = np.exp(uniform(words) * np.log(_LONGEST_OUTAGE_MS / _SHORTEST_OUTAGE_MS))  # short ones are commoner
        lasts = (_SHORTEST_OUTAGE_MS * stretch).astype(np.int64)
        start = quarter * _QUARTER_MS + (uniform(again(words)) * (_QUARTER_MS - lasts)).astype(np.int64)
        staged = self._staged[device] & (self._staged_start <= time_ms) & (time_ms < self._staged_end)
        start = np.where(staged, self._staged_start, start)
        end = np.where(staged, self._staged_end, np.where(lost, start + lasts, start))
        return start, end
