"""What judging the next batch needs of the last ones: recent readings and firing episodes, a memory any worker can lose.

It is a cache and nothing else. What is kept of a sensor counts while the version of its state is the one that this worker's
last batch made: any other batch, late rows too, and any batch that did not commit, makes it forget. Then the store is asked.

Which neighbours have a gap between them is kept with the readings: nothing that comes later changes it. A fast sensor's
24 h, which tell it, are not kept but for their least spacing: where nothing lies further apart than three times that, there
is no gap whatever the median is.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from processors.gaps import DEFAULT_INTERVAL_MS, GAP_INTERVALS, MIN_READINGS, WINDOW_MS, expected_intervals_ms
from processors.rules.judge import Carried
from processors.rules.model import Episode, Flags, series_of
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
    """Readings for judging, and of each one whether a gap lies before it."""

    readings: SensorHistory
    gap: Flags


@dataclass(slots=True)
class _Sensor:
    """Readings from the last one at or before `since_ms` on, and the least that may be expected from the one at `spaced_ms` on.

    `gap` tells of each reading whether a gap lies before it, as far as `is_told` says that this is known. `least_ms` is the
    least spacing above 0, `has_equal` whether there are any of 0, and `widest_ms` is the greatest spacing that was judged.
    """

    since_ms: int
    readings: SensorHistory
    spaced_ms: int
    least_ms: int
    has_equal: bool
    widest_ms: int
    gap: Flags
    is_told: Flags
    # How far before its newest reading judging has asked.
    back_ms: int = 0
    firing: dict[int, Firing] = field(default_factory=dict)

    @staticmethod
    def of(since_ms: int, needed_ms: int, readings: SensorHistory) -> _Sensor:
        """What was read from the store, of which judging needs what lies after a moment."""
        gap = series_of(readings.at_ms, readings.value, None).gap
        widest = int(np.diff(readings.stretch(needed_ms, None).at_ms).max(initial=0))
        told = readings.at_ms - WINDOW_MS >= since_ms
        return _Sensor(since_ms, readings, since_ms, *_least_spacing(readings), widest, gap, told)

    @property
    def is_calm(self) -> bool:
        """Whether the least spacing alone tells that nothing was a gap."""
        return self.widest_ms <= self.surely_near_ms

    @property
    def surely_near_ms(self) -> int:
        """What is no gap whatever the median is: among readings of one moment that may be the mean of 0 and the least spacing."""
        return GAP_INTERVALS * self.least_ms // (2 if self.has_equal else 1)

    def append(self, rows: SensorHistory) -> None:
        """Take later readings in."""
        joint = self.readings.part(len(self.gap) - 1, len(self.gap)).followed_by(rows)
        least_ms, has_equal = _least_spacing(joint)
        self.least_ms, self.has_equal = min(self.least_ms, least_ms), self.has_equal or has_equal
        self.widest_ms = max(self.widest_ms, int(np.diff(joint.at_ms).max(initial=0)))
        self.readings = self.readings.followed_by(rows)
        none = np.zeros(len(rows.at_ms), np.bool_)
        self.gap, self.is_told = np.concatenate((self.gap, none)), np.concatenate((self.is_told, none))

    def recall(self, since_ms: int, declared_ms: int | None) -> Recalled | None:
        """What judging from this moment on reads, if it can be told which of it are gaps."""
        low = self.readings.first(since_ms)
        part = self.readings.part(low, len(self.gap))
        if declared_ms is not None:
            return Recalled(part, series_of(part.at_ms, part.value, declared_ms).gap)
        if not self._tell(low + 1):
            return None
        gap = self.gap[low:].copy()
        gap[:1] = False
        return Recalled(part, gap)

    def _tell(self, low: int) -> bool:
        """Find out of which readings from an index on a gap lies before; False where the 24 h before one are not here."""
        at_ms = self.readings.at_ms
        open_at = np.flatnonzero(~self.is_told[low:]) + low
        spacing = at_ms[open_at] - at_ms[open_at - 1]
        near = (spacing <= self.surely_near_ms) & (at_ms[open_at] - WINDOW_MS >= self.spaced_ms)
        for place in open_at[~near & (spacing > 0)].tolist():
            if at_ms[place] - WINDOW_MS < self.since_ms:
                return False
            self.gap[place] = self._is_gap(place)
        self.is_told[open_at] = True
        return True

    def _is_gap(self, place: int) -> bool:
        """Whether a gap lies before a reading whose 24 h are here."""
        at_ms = self.readings.at_ms
        first, after = np.searchsorted(at_ms, [at_ms[place] - WINDOW_MS, at_ms[place]], side="right").tolist()
        day, wide_ms = at_ms[first:after], int(at_ms[place] - at_ms[place - 1])
        # Where more than half of the spacings are at least a third of it, so is their median.
        if len(day) >= MIN_READINGS and 2 * np.count_nonzero(GAP_INTERVALS * np.diff(day) >= wide_ms) >= len(day):
            return False
        expected_ms = expected_intervals_ms(day)[-1] if len(day) > 1 else DEFAULT_INTERVAL_MS
        return bool(wide_ms > GAP_INTERVALS * expected_ms)

    def shorten(self, since_ms: int) -> None:
        """Let go of what lies before."""
        low = self.readings.first(since_ms)
        self.readings, self.since_ms = self.readings.part(low, len(self.gap)), since_ms
        self.gap, self.is_told = self.gap[low:], self.is_told[low:]


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
        # What a calm sensor's gaps are takes no 24 h to tell.
        back_ms = int(sensor.readings.at_ms[-1]) - since_ms
        is_enough = declared_ms is not None or sensor.is_calm
        sensor.back_ms = max(sensor.back_ms, back_ms if is_enough else back_ms + WINDOW_MS)
        return sensor.recall(since_ms, declared_ms)

    def keep(self, number: int, since_ms: int, readings: SensorHistory, needed_ms: int) -> None:
        """Readings as stored, the last at or before `since_ms` and all later ones, of a sensor of a batch that is followed.

        Those before `needed_ms` go again where they said nothing but how far readings lie apart.
        """
        if len(readings.at_ms) == 0:
            return
        kept = _Sensor.of(since_ms, needed_ms, readings)
        if number in self._sensors:
            kept.firing = self._sensors[number].firing
        self._drop([number])
        if len(readings.at_ms) > _FEW_READINGS and kept.is_calm and since_ms <= needed_ms - WINDOW_MS:
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
        sensor.append(rows)
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


def _least_spacing(readings: SensorHistory) -> tuple[int, bool]:
    """The least spacing above 0 of these readings, or the default, and whether any is 0."""
    spacing = np.diff(readings.at_ms)
    positive = spacing[spacing > 0]
    has_equal = len(positive) < len(spacing)
    return int(positive.min(initial=DEFAULT_INTERVAL_MS)), has_equal
