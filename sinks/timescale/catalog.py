"""What workers know of devices and sensors: credentials and sensor numbers, cached, fresh to the generation.

The database is the truth. A device's entry is dropped as soon as a batch's own transaction shows a newer catalogue
generation, so a revocation acts with the next batch. Unknown devices are asked for every time: nothing remembers a no.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.clock import Clock
from core.postgres import Connection, Pool
from core.secrets import Vault
from schemas.signing import SecretKey

_NEVER_MS = np.iinfo(np.int64).min


@dataclass(slots=True)
class Device:
    """A device as the stream needs it."""

    device_id: str
    tenant_id: str
    revoked: bool
    keys: tuple[SecretKey, ...]
    # A secret with an end is looked up again after it; None: no end.
    expires_ms: int | None
    # Sensor numbers by the sensor's name within the device.
    sensors: dict[str, int] = field(default_factory=dict)


class Catalog:
    """Devices by id, sensors by device and name.

    Bounded: past `capacity` devices the whole cache is dropped and fills again from what is in use.
    """

    def __init__(self, pool: Pool, vault: Vault, clock: Clock, *, capacity: int = 200_000) -> None:
        self._pool = pool
        self._vault = vault
        self._clock = clock
        self._capacity = capacity
        self._devices: dict[str, Device] = {}
        self._horizons_ms: dict[str, int] = {}
        self.generation = 0

    @property
    def has_horizons(self) -> bool:
        """Whether any tenant's readings expire."""
        return bool(self._horizons_ms)

    def horizon_ms(self, tenant_id: str) -> int:
        """Readings before this are refused."""
        return self._horizons_ms.get(tenant_id, _NEVER_MS)

    async def devices(self, device_ids: Iterable[str]) -> dict[str, Device]:
        """The devices that exist among those asked for."""
        now_ms = self._clock.now_ms()
        wanted = {name for name in device_ids if "\0" not in name}
        missing = [name for name in wanted if not self._usable(name, now_ms)]
        if missing:
            await self._load(missing)
        return {name: self._devices[name] for name in wanted if name in self._devices}

    def _usable(self, device_id: str, now_ms: int) -> bool:
        device = self._devices.get(device_id)
        return device is not None and (device.expires_ms is None or now_ms < device.expires_ms)

    async def _load(self, device_ids: Sequence[str]) -> None:
        if len(self._devices) + len(device_ids) > self._capacity:
            self._devices.clear()
        for name in device_ids:
            self._devices.pop(name, None)
        async with self._pool.connection() as connection, connection.transaction():
            # One snapshot for the generation and the rows, so that no change can fall between them.
            await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await self._adopt_generation(connection)
            rows = await connection.execute(
                "SELECT device_id, tenant_id, revoked, sealed, (extract(epoch FROM expires_at) * 1000)::bigint"
                " FROM weir.device_credentials(%s)",
                (list(device_ids),),
            )
            for device_id, tenant_id, revoked, sealed, expires_ms in await rows.fetchall():
                keys = tuple(SecretKey(self._vault.unseal(bytes(one), device_id)) for one in sealed)
                self._devices[device_id] = Device(device_id, tenant_id, revoked, keys, expires_ms)
            await self._load_sensors(connection, device_ids)

    async def _load_sensors(self, connection: Connection, device_ids: Sequence[str]) -> None:
        rows = await connection.execute(
            "SELECT device_id, name, sensor_no FROM weir.sensor WHERE device_id = ANY (%s)", (list(device_ids),)
        )
        for device_id, name, sensor_no in await rows.fetchall():
            if device_id in self._devices:
                self._devices[device_id].sensors[name] = sensor_no

    async def refresh(self, connection: Connection) -> None:
        """Drop what changed since the generation that this cache stands for."""
        await self._adopt_generation(connection)

    async def _adopt_generation(self, connection: Connection) -> None:
        cursor = await connection.execute("SELECT generation FROM weir.catalog_generation")
        row = await cursor.fetchone()
        generation = 0 if row is None else int(row[0])
        if generation == self.generation:
            return
        changed = await connection.execute(
            "SELECT device_id FROM weir.device WHERE changed_generation > %s", (self.generation,)
        )
        for (device_id,) in await changed.fetchall():
            self._devices.pop(device_id, None)
        horizons = await connection.execute(
            "SELECT tenant_id, (extract(epoch FROM retention_horizon) * 1000)::bigint FROM weir.tenant"
            " WHERE retention_horizon > '-infinity'"
        )
        self._horizons_ms = dict(await horizons.fetchall())
        self.generation = generation

    async def register_sensors(
        self, connection: Connection, wanted: Sequence[tuple[Device, str]]
    ) -> dict[tuple[str, str], int]:
        """Give numbers to sensors seen for the first time, inside the batch's transaction.

        Returns:
            sensor_no by (device id, name). The cache learns them only through `adopt_sensors`, after the commit.
        """
        ordered = sorted({(device.device_id, name): device for device, name in wanted}.items())
        parameters = (
            [device.tenant_id for _, device in ordered],
            [device_id for (device_id, _), _ in ordered],
            [name for (_, name), _ in ordered],
        )
        await connection.execute(
            "INSERT INTO weir.sensor (tenant_id, device_id, name) SELECT * FROM unnest(%s::text[], %s::text[], %s::text[])"
            " ON CONFLICT (device_id, name) DO NOTHING",
            parameters,
        )
        rows = await connection.execute(
            "SELECT s.device_id, s.name, s.sensor_no FROM weir.sensor s"
            " JOIN unnest(%s::text[], %s::text[]) AS q (device_id, name) USING (device_id, name)",
            parameters[1:],
        )
        return {(device_id, name): sensor_no for device_id, name, sensor_no in await rows.fetchall()}

    def adopt_sensors(self, registered: dict[tuple[str, str], int]) -> None:
        """Remember sensors whose registration has committed."""
        for (device_id, name), sensor_no in registered.items():
            if device_id in self._devices:
                self._devices[device_id].sensors[name] = sensor_no
