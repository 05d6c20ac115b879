"""Which readings of a batch are admitted, and the refusals of all others.

Border: columns and what the catalogue knows; nothing is written here. What the database makes of the rest is `streams.readings`'.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors import admission
from schemas.errors import Reason
from schemas.readings import DecodedBatch
from sinks.dead_letters import Refusal
from sinks.timescale.batch_columns import ReadingColumns
from sinks.timescale.catalog import Catalog
from streams.authentication import Trusted


@dataclass(slots=True)
class Candidates:
    """Admitted readings ready to be stored: rows sorted by key with unique identities, losers among copies set apart."""

    rows: ReadingColumns
    losers: ReadingColumns
    # Further copies of each row within the batch, shape (n,).
    copies: NDArray[np.int64]
    tenant_ids: list[str]
    tenant_code: NDArray[np.int64]
    # The rows' sensors, and how many rows each has.
    sensors: NDArray[np.int32]
    per_sensor: NDArray[np.int64]


class Judgement:
    """Which decoded readings are admitted at time T, and the refusals of all others."""

    def __init__(
        self, trusted: Trusted, decoded: DecodedBatch, catalog: Catalog, received_ms: int, max_sensors: int
    ) -> None:
        self._trusted = trusted
        self._decoded = decoded
        self.refusals = [*trusted.refusals, *self._decoding_refusals()]
        self._devices = trusted.devices
        self.admitted = admission.admit(decoded.at_ms, received_ms)
        self._refuse_rows(
            ~self.admitted,
            Reason.IMPOSSIBLE_TIME,
            "the time lies before 2010 or more than 5 min ahead; check the clock",
        )
        self._refuse_expired(catalog)
        names = decoded.sensor
        sensors = [device.sensors for device in self._devices]
        self._sensor_no = np.array(
            [sensors[record].get(name, -1) for record, name in zip(decoded.record.tolist(), names, strict=True)],
            dtype=np.int32,
        )
        self._refuse_excess_sensors(max_sensors)
        new = np.flatnonzero(self.admitted & (self._sensor_no < 0)).tolist()
        self.unregistered = [(self._devices[decoded.record[row]], names[row]) for row in new]

    def _decoding_refusals(self) -> list[Refusal]:
        found = [
            self._refusal(refusal.record, None, None, refusal.reason, refusal.detail)
            for refusal in self._decoded.record_refusals
        ]
        found += [
            self._refusal(refusal.record, refusal.index, refusal.sensor, refusal.reason, refusal.detail)
            for refusal in self._decoded.reading_refusals
        ]
        return found

    def _refusal(self, record: int, index: int | None, sensor: str | None, reason: Reason, detail: str) -> Refusal:
        device = self._trusted.devices[record]
        return Refusal(self._trusted.records[record], index, sensor, reason, detail, device.device_id, device.tenant_id)

    def _refuse_rows(self, mask: NDArray[np.bool_], reason: Reason, detail: str) -> None:
        decoded = self._decoded
        for row in np.flatnonzero(mask).tolist():
            self.refusals.append(
                self._refusal(int(decoded.record[row]), int(decoded.index[row]), decoded.sensor[row], reason, detail)
            )

    def _refuse_expired(self, catalog: Catalog) -> None:
        if not catalog.has_horizons:
            return
        horizons = np.array([catalog.horizon_ms(device.tenant_id) for device in self._devices], dtype=np.int64)
        if not len(horizons):
            return
        expired = self.admitted & (self._decoded.at_ms < horizons[self._decoded.record])
        self._refuse_rows(
            expired, Reason.BEYOND_RETENTION, "the tenant's data of that time has expired; it is not stored again"
        )
        self.admitted &= ~expired

    def _refuse_excess_sensors(self, max_sensors: int) -> None:
        """A device that invents names must not fill the sensor table."""
        excess = np.zeros(len(self.admitted), dtype=bool)
        names: dict[str, set[str]] = {}
        for row in np.flatnonzero(self.admitted & (self._sensor_no < 0)).tolist():
            device, name = self._devices[self._decoded.record[row]], self._decoded.sensor[row]
            fresh = names.setdefault(device.device_id, set())
            if name not in fresh and len(device.sensors) + len(fresh) >= max_sensors:
                excess[row] = True
            else:
                fresh.add(name)
        if excess.any():
            self._refuse_rows(
                excess,
                Reason.TOO_MANY_SENSORS,
                f"the device has {max_sensors} sensors, the most allowed; reuse their names",
            )
            self.admitted &= ~excess

    def columns(self, registered: dict[tuple[str, str], int]) -> Candidates:
        """The admitted rows with their sensor numbers, the newly registered ones included."""
        decoded = self._decoded
        for row in np.flatnonzero(self.admitted & (self._sensor_no < 0)).tolist():
            device = self._devices[decoded.record[row]]
            self._sensor_no[row] = registered[device.device_id, decoded.sensor[row]]
        keep = np.flatnonzero(self.admitted)
        sensor_no, at_ms = self._sensor_no[keep], decoded.at_ms[keep]
        seq, value = decoded.seq[keep], decoded.value[keep]
        greatest = admission.keep_greatest(sensor_no, at_ms, seq, value)
        every = ReadingColumns(sensor_no, seq, at_ms, value)
        tenant_ids = sorted({device.tenant_id for device in self._devices})
        code = {tenant_id: number for number, tenant_id in enumerate(tenant_ids)}
        tenant_of_record = np.array([code[device.tenant_id] for device in self._devices], dtype=np.int64)
        kept = greatest.kept
        tenant_code = tenant_of_record[decoded.record[keep[kept]]] if len(kept) else np.zeros(0, dtype=np.int64)
        rows = every.take(kept)
        sensors, per_sensor = np.unique(rows.sensor_no, return_counts=True)
        return Candidates(
            rows, every.take(greatest.losers), greatest.copies, tenant_ids, tenant_code, sensors, per_sensor
        )
