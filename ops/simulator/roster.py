"""As which devices the simulator publishes: the demo devices of a data dir, and more that it makes and remembers.

The first tenant is the demo tenant of `connection.json`, the second the other one; each starts with the device given
there, unless only the simulator's own devices are wanted. Tenants and devices beyond that are created in the database
and kept in a file (mode 0600), so that the next run is the same devices again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from accounts.provisioning import DeviceCredentials, create_device, create_tenant
from core.postgres import SEARCH_PATH, Connection, DatabaseRole, explain_connection_error
from core.secrets import Vault
from ops.demo_places import Kitchen, furnish
from ops.embedded import private_json
from schemas.errors import Misconfigured, Transient

_CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom to publish as.

    Attributes:
        tenants: how many.
        devices: how many of each tenant.
        own_only: none that connection.json gives to people; so two simulators, or one and a person, do not mix.
    """

    tenants: int
    devices: int
    own_only: bool = False

    @property
    def file_name(self) -> str:
        """Where the created ones are kept; two files, because the two kinds may run at the same time."""
        return "simulator-own.json" if self.own_only else "simulator.json"


@dataclass(slots=True)
class Tenant:
    """A tenant and the devices we may publish as."""

    tenant_id: str
    devices: list[DeviceCredentials] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Access:
    """What creating tenants and devices takes: a login that may become weir_owner, and the system's secret key."""

    database_url: str
    secret_key: str


def demo_tenants(connection: Mapping[str, Any] | None, *, with_devices: bool) -> list[Tenant]:
    """The tenants of `connection.json`, with the one device that each has there if wanted; none without the file.

    Raises:
        Misconfigured: the file lacks a key.
    """
    if connection is None:
        return []
    try:
        return [
            Tenant(each["tenant_id"], [DeviceCredentials(each["device_id"], each["device_secret"])][:with_devices])
            for each in (connection, connection["other_tenant"])
        ]
    except KeyError as error:
        msg = f"connection.json lacks {error}; start `weir up` once more in this data dir"
        raise Misconfigured(msg) from error


async def recruit(
    data_dir: Path, connection: Mapping[str, Any] | None, access: Access, wanted: Wanted
) -> list[DeviceCredentials]:
    """The credentials of the wanted devices, ordered by tenant; creates those that are missing.

    Raises:
        Misconfigured: some are missing and cannot be created; the message says what to set.
        Transient: the database does not answer.
    """
    belongs_to = _belongs_to(connection, access)
    path = data_dir / wanted.file_name
    known = _merge(demo_tenants(connection, with_devices=not wanted.own_only), _remembered(path, belongs_to))
    chosen = known[: wanted.tenants]
    if len(chosen) < wanted.tenants or any(len(tenant.devices) < wanted.devices for tenant in chosen):
        await _complete(access, known, wanted, lambda: _remember(path, belongs_to, known))
    if wanted.own_only and access.database_url:
        await _furnish(access, known, wanted)
    return [device for tenant in known[: wanted.tenants] for device in tenant.devices[: wanted.devices]]


def _belongs_to(connection: Mapping[str, Any] | None, access: Access) -> str:
    """Tells systems apart, so that devices of one are not used on another."""
    if connection is not None:
        return str(connection["tenant_id"])
    parts = conninfo_to_dict(access.database_url)
    return f"{parts.get('host', '')}:{parts.get('port', '')}/{parts.get('dbname', '')}"


def _remembered(path: Path, belongs_to: str) -> list[Tenant]:
    content = private_json.read(path)
    if content is None:
        return []
    if content.get("belongs_to") != belongs_to:
        msg = f"{path} holds devices of another system; move it away, or name another --data-dir"
        raise Misconfigured(msg)
    return [
        Tenant(each["tenant_id"], [DeviceCredentials(**device) for device in each["devices"]])
        for each in content["tenants"]
    ]


def _remember(path: Path, belongs_to: str, tenants: Sequence[Tenant]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    private_json.write(path, {"belongs_to": belongs_to, "tenants": [asdict(tenant) for tenant in tenants]})


def _merge(demo: Sequence[Tenant], remembered: Sequence[Tenant]) -> list[Tenant]:
    """Demo tenants first, each with its own device before the ones made for it."""
    merged = {tenant.tenant_id: tenant for tenant in demo}
    for tenant in remembered:
        known = merged.setdefault(tenant.tenant_id, Tenant(tenant.tenant_id))
        ids = {device.device_id for device in known.devices}
        known.devices += [device for device in tenant.devices if device.device_id not in ids]
    return list(merged.values())


async def _complete(access: Access, known: list[Tenant], wanted: Wanted, remember: Callable[[], None]) -> None:
    """Create what is missing, remembering after each tenant so that an interruption loses few."""
    if not (access.database_url and access.secret_key):
        msg = "more tenants or devices are wanted than exist; set WEIR_DATABASE_URL and WEIR_SECRET_KEY to create them"
        raise Misconfigured(msg)
    vault = Vault.from_secret(access.secret_key)
    async with _owner(access.database_url) as connection:
        for number in range(wanted.tenants):
            if number == len(known):
                known.append(Tenant(await create_tenant(connection, f"Simulated kitchen {number + 1}")))
            await _fill(connection, vault, known[number], wanted.devices)
            remember()


async def _furnish(access: Access, known: Sequence[Tenant], wanted: Wanted) -> None:
    """Put own devices into kitchens; where devices of people's stand is theirs to say."""
    async with _owner(access.database_url) as connection:
        for number, tenant in enumerate(known[: wanted.tenants]):
            ids = [device.device_id for device in tenant.devices[: wanted.devices]]
            await furnish(connection, Kitchen(tenant.tenant_id, number, ids))


async def _fill(connection: Connection, vault: Vault, tenant: Tenant, devices: int) -> None:
    for number in range(len(tenant.devices), devices):
        name = f"Simulated device {number + 1}"
        tenant.devices.append(await create_device(connection, vault, tenant.tenant_id, name))


@asynccontextmanager
async def _owner(url: str) -> AsyncIterator[Connection]:
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=_CONNECT_TIMEOUT_S)
    except psycopg.OperationalError as error:
        raise Transient(explain_connection_error(error, url)) from error
    async with connection:
        await _become_owner(connection)
        yield connection


async def _become_owner(connection: Connection) -> None:
    try:
        await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(DatabaseRole.OWNER)))
    except psycopg.Error as error:
        msg = (
            f"the login {connection.info.user} may not create tenants and devices ({error.sqlstate}); "
            "set WEIR_DATABASE_URL to a login that is a member of weir_owner"
        )
        raise Misconfigured(msg) from error
    await connection.execute(sql.SQL("SET search_path TO {}").format(sql.SQL(SEARCH_PATH[DatabaseRole.OWNER])))
