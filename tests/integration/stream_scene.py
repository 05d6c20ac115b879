"""What came of a tenant's own records, of many that share a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.integration.servers import Database, Tenant, wait_until


@dataclass(frozen=True)
class Own:
    """What a test's own tenant sees."""

    database: Database
    tenant: Tenant

    def stored(self) -> list[tuple[Any, ...]]:
        return self.database.query(
            "SELECT at, seq, value FROM readings WHERE tenant_id = %s ORDER BY sensor_id, at, seq",
            self.tenant.tenant_id,
        )

    def values(self) -> list[float]:
        return sorted(value for _, _, value in self.stored())

    def refusals(self) -> list[tuple[Any, ...]]:
        """(reason, device, sensor, index) of everything that came under the keys of the tenant's devices."""
        keys = [device.device_id.encode() for device in self.tenant.devices]
        return self.database.query(
            "SELECT reason, device_id, sensor, index FROM dead_letters WHERE key = ANY (%s) ORDER BY dead_letter_id",
            keys,
        )

    def usage(self) -> list[tuple[Any, ...]]:
        return self.database.query(
            "SELECT meter, bucket_start, quantity FROM usage_hourly WHERE tenant_id = %s AND meter = 'readings' ORDER BY 2",
            self.tenant.tenant_id,
        )

    def conflicts(self) -> list[float]:
        return [
            value
            for (value,) in self.database.query(
                "SELECT value FROM reading_conflicts WHERE tenant_id = %s ORDER BY 1", self.tenant.tenant_id
            )
        ]

    def duplicates(self) -> int:
        statement = "SELECT sum(duplicates)::int FROM weir.quality_hourly JOIN weir.sensor USING (sensor_no) WHERE tenant_id = %s"
        return int(self.database.query(statement, self.tenant.tenant_id)[0][0])

    def newest(self) -> list[float]:
        statement = "SELECT last_value FROM weir.sensor_state JOIN weir.sensor USING (sensor_no) WHERE tenant_id = %s"
        return [value for (value,) in self.database.query(statement, self.tenant.tenant_id)]

    def hours(self) -> list[tuple[Any, ...]]:
        return self.database.query(
            "SELECT bucket_start, count, max FROM readings_1h WHERE tenant_id = %s ORDER BY 1", self.tenant.tenant_id
        )

    def kept_values(self) -> list[bytes]:
        """The bytes of the tenant's own dead letters."""
        statement = "SELECT value FROM dead_letters WHERE tenant_id = %s ORDER BY dead_letter_id"
        return [value for (value,) in self.database.query(statement, self.tenant.tenant_id)]

    def wait_for_readings(self, count: int) -> None:
        wait_until(lambda: len(self.stored()) >= count, 30, f"{count} readings")

    def wait_for_refusals(self, count: int) -> None:
        wait_until(lambda: len(self.refusals()) >= count, 30, f"{count} refusals")
