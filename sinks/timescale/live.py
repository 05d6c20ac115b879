"""Reads of the live bridge: events of log channels, snapshots with the position they stand at, newest readings, usage.

Border: rows of one tenant through weir_reader; `item` is JSON text as the database renders it, ready to be sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, NamedTuple

from core.postgres import Connection, Pool, tenant_transaction

PAGE_EVENTS: Final = 500


class Event(NamedTuple):
    """One event of a log channel.

    Attributes:
        seq: 1, 2, 3 … within the tenant.
        at_us: when it was written, epoch microseconds; with `seq` it names the event.
        item: JSON text.
    """

    seq: int
    at_us: int
    channel: str
    sensor_id: str | None
    site_id: str | None
    unit_id: str | None
    item: str


class Place(NamedTuple):
    """A position in a tenant's log: after this event; (0, 0) before the first."""

    seq: int
    at_us: int


class SensorState(NamedTuple):
    """A sensor, and its newest reading if it has one."""

    sensor_no: int
    sensor_id: str
    site_id: str | None
    unit_id: str | None
    at_ms: int | None
    seq: int
    value: float
    received_ms: int


class UsageRow(NamedTuple):
    """A usage row (INTERFACES §7)."""

    meter: str
    bucket_start: str
    quantity: int
    revision: int
    changed_us: int


_EVENT_COLUMNS: Final = (
    "seq, (extract(epoch FROM at) * 1000000)::bigint, channel, sensor_id, site_id, unit_id, item::text"
)


@asynccontextmanager
async def snapshot(pool: Pool, tenant_id: str) -> AsyncIterator[Connection]:
    """A transaction of one tenant in which every statement sees the same moment."""
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        await connection.execute("SELECT set_config('weir.tenant', %s, true)", (tenant_id,))
        yield connection


async def head(connection: Connection) -> Place:
    """Where the current tenant's log ends."""
    cursor = await connection.execute(
        "SELECT h.seq, coalesce((extract(epoch FROM e.at) * 1000000)::bigint, 0) FROM weir.live_head h"
        " LEFT JOIN weir.live_event e USING (tenant_id, seq) WHERE h.tenant_id = weir.current_tenant()"
    )
    row = await cursor.fetchone()
    return Place(0, 0) if row is None else Place(*row)


async def events_before(connection: Connection, limit: int) -> list[Event]:
    """The current tenant's newest events, oldest first."""
    cursor = await connection.execute(
        f"SELECT {_EVENT_COLUMNS} FROM weir.live_event WHERE tenant_id = weir.current_tenant()"  # noqa: S608 - constants
        " ORDER BY seq DESC LIMIT %s",
        (limit,),
    )
    return [Event(*row) for row in reversed(await cursor.fetchall())]


async def events_after(pool: Pool, tenant_id: str, seq: int, limit: int = PAGE_EVENTS) -> list[Event]:
    """The tenant's events from the one with this number on, that one included if it is still there."""
    async with tenant_transaction(pool, tenant_id) as connection:
        cursor = await connection.execute(
            f"SELECT {_EVENT_COLUMNS} FROM weir.live_event WHERE tenant_id = weir.current_tenant() AND seq >= %s"  # noqa: S608
            " ORDER BY seq LIMIT %s",
            (seq, limit),
        )
        return [Event(*row) for row in await cursor.fetchall()]


async def heads(pool: Pool, tenant_ids: Sequence[str]) -> dict[str, int]:
    """The last event's number of each of these tenants that has any."""
    async with pool.connection() as connection:
        cursor = await connection.execute("SELECT * FROM weir.live_heads(%s)", (list(tenant_ids),))
        return dict(await cursor.fetchall())


async def want(pool: Pool, bridge_id: str, tenant_ids: Sequence[str], seconds: int) -> None:
    """Ask the workers for these tenants' readings, for so long."""
    async with pool.connection() as connection:
        await connection.execute("SELECT weir.want_live(%s, %s, %s)", (bridge_id, list(tenant_ids), seconds))


_FILTERS: Final = {"sensor_id": "s.sensor_id", "site_id": "s.site_id", "unit_id": "s.unit_id"}


async def alerts_needing_attention(connection: Connection, wanted: dict[str, list[str]]) -> list[str]:
    """Episodes that are pending, firing, or over but unacknowledged, as JSON text, newest start first."""
    conditions = "".join(f" AND {column} = ANY (%({name})s)" for name, column in _FILTERS.items() if name in wanted)
    statement = (
        "SELECT weir.episode_document(e)::text FROM weir.alert_episode e JOIN weir.sensor s USING (sensor_no)"  # noqa: S608
        " WHERE e.tenant_id = weir.current_tenant()"
        " AND (e.status IN ('pending', 'firing') OR (e.status = 'resolved' AND e.acknowledged_at IS NULL))"
        f"{conditions} ORDER BY e.started_at DESC, e.episode_no DESC"
    )
    cursor = await connection.execute(statement.encode(), wanted)
    return [text for (text,) in await cursor.fetchall()]


async def newest_scans(connection: Connection, limit: int) -> list[str]:
    """The current tenant's newest scans, as JSON text, the newest first."""
    cursor = await connection.execute(
        "SELECT document::text FROM weir_tenant.scan_page(NULL, NULL, NULL, NULL, NULL, NULL, %s)", (limit,)
    )
    return [text for (text,) in await cursor.fetchall()]


async def unfinished_jobs(connection: Connection) -> list[str]:
    """The current tenant's jobs that wait or run, as JSON text, the newest first."""
    cursor = await connection.execute(
        "SELECT document::text FROM weir_tenant.jobs WHERE finished_at IS NULL ORDER BY created_at DESC, job_no DESC"
    )
    return [text for (text,) in await cursor.fetchall()]


async def sensor_states(pool: Pool, tenant_id: str) -> list[SensorState]:
    """Every sensor of a tenant with its newest reading."""
    async with tenant_transaction(pool, tenant_id) as connection:
        cursor = await connection.execute(
            "SELECT s.sensor_no, s.sensor_id, s.site_id, s.unit_id, (extract(epoch FROM t.last_at) * 1000)::bigint,"
            " coalesce(t.last_seq, 0), coalesce(t.last_value, 0),"
            " coalesce((extract(epoch FROM t.last_received_at) * 1000)::bigint, 0)"
            " FROM weir.sensor s LEFT JOIN sensor_states t USING (sensor_no) WHERE s.tenant_id = weir.current_tenant()"
        )
        return [SensorState(*row) for row in await cursor.fetchall()]


async def usage_changed_since(
    pool: Pool, tenant_id: str, changed_us: int, bucket_from_ms: int | None = None
) -> list[UsageRow]:
    """Usage rows that changed at or after a time, oldest change first.

    Args:
        pool: under the reader role.
        tenant_id: whose.
        changed_us: epoch microseconds.
        bucket_from_ms: only buckets from here on, which is cheap however long the tenant is a customer.
    """
    since = datetime.fromtimestamp(changed_us / 1_000_000, UTC)
    bucket = datetime.fromtimestamp((bucket_from_ms or 0) / 1000, UTC)
    async with tenant_transaction(pool, tenant_id) as connection:
        cursor = await connection.execute(
            "SELECT meter, weir.shown_time(bucket_start), quantity, revision,"
            " (extract(epoch FROM changed_at) * 1000000)::bigint FROM usage_changes"
            " WHERE changed_at >= %s AND bucket_start >= %s ORDER BY changed_at",
            (since, bucket),
        )
        return [UsageRow(*row) for row in await cursor.fetchall()]
