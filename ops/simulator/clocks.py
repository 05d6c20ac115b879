"""Device clocks: what a device believes the time to be when the true time is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ops.simulator.noise import Floats, Ints
from ops.simulator.scenarios import ClockFault
from ops.simulator.units import DAY_MS, Units

_WEEK_MS = 7 * DAY_MS
_PUT_RIGHT_AFTER_MS = 120_000


class Clocks:
    """The clocks of a fleet; the faults are dealt to the devices of each tenant in turn."""

    def __init__(self, units: Units, faults: Sequence[ClockFault], origin_ms: int) -> None:
        dealt = [faults[position % len(faults)] for position in units.position.tolist()]
        self._skew_ms: Ints = np.array([fault.skew_ms for fault in dealt], dtype=np.int64)
        self._step_ms: Ints = np.array([fault.step_ms for fault in dealt], dtype=np.int64)
        self._drift: Floats = np.array([fault.drift_ppm * 1e-6 for fault in dealt], dtype=np.float64)
        self._synchronised_ms = units.anchor_ms  # once a week, at its quiet hour
        self._put_right_ms = origin_ms + _PUT_RIGHT_AFTER_MS

    def shown_ms(self, device: Ints, true_ms: Ints) -> Ints:
        """The device's time at each true time, epoch milliseconds; device and time broadcast."""
        since = (true_ms - self._synchronised_ms[device]) % _WEEK_MS
        drifted = np.floor(since * self._drift[device]).astype(np.int64)
        step = np.where(true_ms < self._put_right_ms, self._step_ms[device], 0)
        return np.asarray(true_ms + self._skew_ms[device] + drifted + step, dtype=np.int64)
