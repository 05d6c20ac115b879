"""What judging the next batch needs of the last ones: recent readings and firing episodes, a memory any worker can lose.

It is a cache and nothing else. What is kept of a sensor counts while the version of its state is the one that this worker's
last batch made: any other batch, late rows too, and any batch that did not commit, makes it forget. Then the store is asked.

A fast sensor's 24 h, which judging would want for the expected interval, are not kept but for their least spacing: where
nothing lies further apart than three times that, there is no gap whatever the median is.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from processors.gaps import DEFAULT_INTERVAL_MS, GAP_INTERVALS, WINDOW_MS
from processors.rules.judge import Carried
from processors.rules.model import Episode
from streams.rules.book import BookedRule
from streams.rules.histories import SensorHistory
from streams.rules.recent import SensorColumns

_MOST_READINGS = 1_000_000
# Less than this is not worth shortening.
_FEW_READINGS = 4_000


@dataclass(frozen=True, slots=True)
class Firing:
    """A rule's firing episode: what judging goes on from, and as what it was stored."""

    booked: BookedRule
    carried: Carried
    episode: Episode


@dataclass(frozen=True, slots=True)
class Recalled:
    """Readings for judging, and an expected interval that leaves the same gaps among them as the true one would."""

    readings: SensorHistory
    interval_ms: int | None


@dataclass(slots=True)
class _Sensor:
    """Readings from the last one at or before `since_ms` on, and the least spacing from the one at `spaced_ms` on."""

    since_ms: int
    readings: SensorHistory
    spaced_ms: int
    least_ms: int
    # How far before its newest reading judging has asked.
    back_ms: int
    firing: dict[int, Firing] = field(default_factory=dict)

    def gapless(self, since_ms: int) -> SensorHistory | None:
        """What judging from this moment on reads, if no gap can lie there."""
        if self.since_ms > since_ms or self.spaced_ms > since_ms - WINDOW_MS:
            return None
        part = self.readings.stretch(since_ms, None)
        widest = int(np.diff(part.at_ms).max()) if len(part.at_ms) > 1 else 0
        return part if widest <= GAP_INTERVALS * self.least_ms else None

    def shorten(self, since_ms: int) -> None:
        """Let go of what lies before."""
        self.readings, self.since_ms = self.readings.stretch(since_ms, None), since_ms


class Memory:
    """Of the sensors that were judged lately; batches of several partitions may be under way at once."""

    def __init__(self, most_readings: int = _MOST_READINGS) -> None:
        self._most = most_readings
        self._held = 0
        self._sensors: OrderedDict[int, _Sensor] = OrderedDict()
        self._versions: NDArray[np.int64] = np.zeros(0, np.int64)

    def follow(self, batch: SensorColumns) -> NDArray[np.int32]:
        """Take a batch in, whose rows are stored; returns the sensors of which something happened that was not seen here.

        They are forgotten, and those with late rows; of all others the batch's readings follow what is kept.
        """
        self._make_room(batch.sensor_no)
        is_lost = self._versions[batch.sensor_no] != batch.version
        self._versions[batch.sensor_no] = batch.version + 1
        self._drop(batch.sensor_no[is_lost | batch.has_late].tolist())
        for number in self._sensors.keys() & set(batch.sensor_no.tolist()):
            self._append(number, batch.readings_of(number))
        lost: NDArray[np.int32] = batch.sensor_no[is_lost]
        return lost

    def forget(self, sensor_no: NDArray[np.int32]) -> None:
        """The batch did not commit: whatever was kept of its sensors may not be so."""
        self._drop(sensor_no.tolist())
        self._versions[sensor_no[sensor_no < len(self._versions)]] = -1

    def forget_firing(self) -> None:
        """Rules, or what they apply to, have changed."""
        for sensor in self._sensors.values():
            sensor.firing.clear()

    def recall(self, number: int, from_ms: int, window_ms: int, declared_ms: int | None) -> Recalled | None:
        """What judging from a moment on needs, with windows of this width; None where the store must be asked."""
        sensor = self._sensors.get(number)
        since_ms = from_ms - window_ms
        if sensor is None or sensor.since_ms > since_ms:
            return None
        self._sensors.move_to_end(number)
        if declared_ms is not None:
            return self._asked(sensor, sensor.readings.stretch(since_ms, None), since_ms, declared_ms)
        part = sensor.gapless(since_ms)
        if part is not None:
            return self._asked(sensor, part, since_ms, sensor.least_ms)
        if sensor.since_ms > since_ms - WINDOW_MS:
            return None
        return self._asked(sensor, sensor.readings.stretch(since_ms - WINDOW_MS, None), since_ms - WINDOW_MS, None)

    def _asked(self, sensor: _Sensor, part: SensorHistory, since_ms: int, interval_ms: int | None) -> Recalled:
        sensor.back_ms = max(sensor.back_ms, int(sensor.readings.at_ms[-1]) - since_ms)
        return Recalled(part, interval_ms)

    def keep(self, number: int, since_ms: int, readings: SensorHistory, needed_ms: int) -> None:
        """Readings as stored, the last at or before `since_ms` and all later ones, of a sensor of a batch that is followed.

        Those before `needed_ms` go again where they said nothing but how far readings lie apart.
        """
        if len(readings.at_ms) == 0:
            return
        firing = self._sensors[number].firing if number in self._sensors else {}
        self._drop([number])
        kept = _Sensor(since_ms, readings, since_ms, _least_spacing(readings), 0, firing)
        if len(readings.at_ms) > _FEW_READINGS and kept.gapless(needed_ms) is not None:
            kept.shorten(needed_ms)
        if len(kept.readings.at_ms) <= self._most // 4:
            self._sensors[number] = kept
            self._held += len(kept.readings.at_ms)
        while self._held > self._most:
            self._drop([next(iter(self._sensors))])

    def firing(self, number: int, booked: BookedRule) -> Firing | None:
        """The rule's firing episode, if these are the versions that judged it."""
        sensor = self._sensors.get(number)
        found = None if sensor is None else sensor.firing.get(booked.rule_no)
        return found if found is not None and found.booked is booked else None

    def note(self, number: int, booked: BookedRule, carried: Carried | None, episode: Episode | None) -> None:
        """How a rule stands after the batch; nothing of it can be carried on where there is no `carried`."""
        sensor = self._sensors.get(number)
        if sensor is None:
            return
        if carried is None or episode is None:
            sensor.firing.pop(booked.rule_no, None)
        else:
            sensor.firing[booked.rule_no] = Firing(booked, carried, episode)

    def _append(self, number: int, rows: SensorHistory) -> None:
        sensor = self._sensors[number]
        held = len(sensor.readings.at_ms)
        sensor.least_ms = min(sensor.least_ms, _least_spacing(sensor.readings.part(held - 1, held).followed_by(rows)))
        sensor.readings = sensor.readings.followed_by(rows)
        at_ms, since_ms = sensor.readings.at_ms, int(rows.at_ms[-1]) - sensor.back_ms
        # Copying is cheap once in a while: about twice of what is asked for is kept.
        if sensor.back_ms and len(at_ms) > _FEW_READINGS and np.searchsorted(at_ms, since_ms) > len(at_ms) // 2:
            sensor.shorten(since_ms)
        self._held += len(sensor.readings.at_ms) - held

    def _make_room(self, sensor_no: NDArray[np.int32]) -> None:
        needed = int(sensor_no[-1]) + 1 if len(sensor_no) else 0
        if needed > len(self._versions):
            self._versions = np.concatenate((self._versions, np.zeros(needed * 2 - len(self._versions), np.int64)))

    def _drop(self, numbers: list[int]) -> None:
        for number in numbers:
            sensor = self._sensors.pop(number, None)
            if sensor is not None:
                self._held -= len(sensor.readings.at_ms)


def _least_spacing(readings: SensorHistory) -> int:
    """The least that can be expected between these readings: their least spacing above 0, or the default."""
    spacing = np.diff(readings.at_ms)
    positive = spacing[spacing > 0]
    return min(int(positive.min()), DEFAULT_INTERVAL_MS) if len(positive) else DEFAULT_INTERVAL_MS
