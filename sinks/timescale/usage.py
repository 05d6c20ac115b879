"""Usage rows and what they are counted from: which hours of which sensor have readings; changed rows on their way out.

Border: set-wise writes in the caller's transaction. What to count is `processors.metering`'s, publishing is the relay's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from core.postgres import Connection
from schemas.usage import DAY_MS, HOUR_MS, HOURS_A_DAY, METERS, Ints, SensorHours, UsageIncrements, sensor_hours
from sinks.timescale import binary

JSON_HEADERS: Final = json.dumps([("content-type", base64.b64encode(b"application/json").decode())])
# So many changes wait for the relay in one row: each row costs as much as fifty changes in it.
_CHANGES_A_ROW: Final = 2_000

# Every change of a row is published; the row's lock keeps its versions in order.
_ADD = """
WITH changed AS (
    INSERT INTO weir.usage AS u (tenant_id, meter, bucket_start, quantity)
    SELECT q.tenant_id, %(meter)s, q.hour, q.quantity
    FROM unnest(%(tenant_ids)s, %(hours)s, %(quantities)s) AS q (tenant_id, hour, quantity)
    ON CONFLICT (tenant_id, meter, bucket_start) DO UPDATE
        SET quantity = u.quantity + EXCLUDED.quantity, revision = u.revision + 1, changed_at = clock_timestamp()
    RETURNING tenant_id, bucket_start, quantity, revision)
INSERT INTO weir.usage_outbox (topic, meter, tenant_ids, hours, quantities, revisions)
SELECT %(topic)s, %(meter)s, array_agg(tenant_id), array_agg(bucket_start), array_agg(quantity), array_agg(revision) FROM changed
"""
_NEXT_CHANGES = """
SELECT outbox_id, topic, meter, tenant_ids, hours, quantities, revisions FROM weir.usage_outbox ORDER BY outbox_id LIMIT %s
"""
_READ_HOURS = """
SELECT d.sensor_no, (extract(epoch FROM d.day) / 3600)::bigint, d.hours
FROM unnest(%s, %s) AS q (sensor_no, day) JOIN weir.sensor_day d USING (sensor_no, day)
"""
_WRITE_HOURS = """
INSERT INTO weir.sensor_day AS d (sensor_no, day, hours) SELECT q.* FROM unnest(%s, %s, %s) AS q
ON CONFLICT (sensor_no, day) DO UPDATE SET hours = d.hours | EXCLUDED.hours
"""


class UsageChanges(NamedTuple):
    """Usage rows of a meter as one statement left them, columns of one length; not published yet."""

    outbox_id: int
    topic: str
    meter: str
    tenant_ids: list[str]
    hours: list[datetime]
    quantities: list[int]
    revisions: list[int]

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of each row's record (INTERFACES §3, §7); no part of them can need escaping."""
        rows = zip(self.tenant_ids, self.hours, self.quantities, self.revisions, strict=True)
        for tenant_id, hour, quantity, revision in rows:
            document = (
                f'{{"tenant_id": "{tenant_id}", "meter": "{self.meter}", "bucket_start": "{_shown(hour)}",'
                f' "quantity": {quantity}, "revision": {revision}}}'
            )
            yield tenant_id.encode(), document.encode()


@lru_cache(maxsize=1024)
def _shown(hour: datetime) -> str:
    return f"{hour:%Y-%m-%dT%H}:00:00.000Z"


async def add(connection: Connection, increments: UsageIncrements, topic: str) -> None:
    """Add usage, and leave the rows as they are then to the relay."""
    binary.register(connection)
    edges = np.searchsorted(increments.meter, np.arange(len(METERS) + 1)).tolist()
    for meter, first, end in zip(METERS, edges, edges[1:], strict=False):
        for start in range(first, end, _CHANGES_A_ROW):
            part = increments.part(start, min(start + _CHANGES_A_ROW, end))
            await connection.execute(_ADD, {**_parameters(part), "meter": meter.value, "topic": topic})


def _parameters(part: UsageIncrements) -> dict[str, object]:
    return {
        "tenant_ids": binary.TextArray(part.tenant_ids, part.tenant_code),
        "hours": binary.TimestampArray(binary.timestamps(part.hour * HOUR_MS)),
        "quantities": binary.Int8Array(part.quantity),
    }


async def unpublished(connection: Connection, limit: int) -> list[UsageChanges]:
    """The oldest changes that wait for the relay."""
    cursor = await connection.execute(_NEXT_CHANGES, (limit,))
    return [UsageChanges(*row) for row in await cursor.fetchall()]


async def published(connection: Connection, changes: list[UsageChanges]) -> None:
    """Forget changes that the broker has."""
    numbers = [change.outbox_id for change in changes]
    await connection.execute("DELETE FROM weir.usage_outbox WHERE outbox_id = ANY (%s)", (numbers,))


async def known_hours(connection: Connection, pairs: SensorHours) -> SensorHours:
    """The stored hours of the sensors on the days of these pairs and the days beside.

    The transaction has written the sensors' states and so holds their rows: no other counts hours of theirs meanwhile.
    """
    around = [pairs.hour // HOURS_A_DAY + offset for offset in (-1, 0, 1)]
    days = np.unique(np.stack([np.tile(pairs.sensor_no, 3), np.concatenate(around)]), axis=1)
    cursor = await connection.execute(_READ_HOURS, (binary.Int4Array(days[0]), _days(days[1])))
    found = np.array(await cursor.fetchall(), dtype=np.int64).reshape(-1, 3)
    bits = found[:, 2:] >> np.arange(HOURS_A_DAY) & 1
    row, hour = np.nonzero(bits)
    return sensor_hours(SensorHours(found[row, 0], found[row, 1] + hour).key)


async def add_hours(connection: Connection, new: SensorHours) -> None:
    """Note that these sensors have readings in these hours."""
    days, places = np.unique(np.stack([new.sensor_no, new.hour // HOURS_A_DAY]), axis=1, return_inverse=True)
    bits = np.bincount(places.reshape(-1), 1 << (new.hour % HOURS_A_DAY)).astype(np.int64)
    await connection.execute(_WRITE_HOURS, (binary.Int4Array(days[0]), _days(days[1]), binary.Int4Array(bits)))


def _days(days: Ints) -> binary.TimestampArray:
    return binary.TimestampArray(binary.timestamps(days * DAY_MS))
