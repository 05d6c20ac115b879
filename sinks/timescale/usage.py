"""Usage rows and what they are counted from: which hours of which sensor have readings.

Border: set-wise writes in the caller's transaction. What to count is `processors.metering`'s.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Final

import numpy as np

from core.postgres import Connection
from schemas.usage import DAY_MS, HOURS_A_DAY, Ints, Meter, SensorHours, UsageIncrement, sensor_hours
from sinks.timescale import binary

# A look-up costs a tenth of an enumeration's `value`.
_NAMES: Final = {meter: meter.value for meter in Meter}
JSON_HEADERS: Final = json.dumps([("content-type", base64.b64encode(b"application/json").decode())])

# Every change of a row is published; the row's lock keeps its versions in order.
_ADD = """
WITH changed AS (
    INSERT INTO weir.usage AS u (tenant_id, meter, bucket_start, quantity)
    SELECT q.* FROM unnest(%s, %s, %s, %s) AS q (tenant_id, meter, hour, quantity)
    ON CONFLICT (tenant_id, meter, bucket_start) DO UPDATE
        SET quantity = u.quantity + EXCLUDED.quantity, revision = u.revision + 1, changed_at = clock_timestamp()
    RETURNING *)
INSERT INTO weir.topic_outbox (topic, key, value, headers)
SELECT %s, convert_to(tenant_id, 'UTF8'),
    convert_to(weir.usage_text(tenant_id, meter, bucket_start, quantity, revision), 'UTF8'), %s::jsonb
FROM changed
"""
_READ_HOURS = """
SELECT d.sensor_no, (extract(epoch FROM d.day) / 3600)::bigint, d.hours
FROM unnest(%s, %s) AS q (sensor_no, day) JOIN weir.sensor_day d USING (sensor_no, day)
"""
_WRITE_HOURS = """
INSERT INTO weir.sensor_day AS d (sensor_no, day, hours) SELECT q.* FROM unnest(%s, %s, %s) AS q
ON CONFLICT (sensor_no, day) DO UPDATE SET hours = d.hours | EXCLUDED.hours
"""


async def add(connection: Connection, increments: Sequence[UsageIncrement], topic: str) -> None:
    """Add usage and publish the rows as they are then; increments come sorted."""
    if not increments:
        return
    binary.register(connection)
    tenant_ids, meters, hours, quantities = zip(*increments, strict=True)
    await connection.execute(
        _ADD,
        (
            binary.TextArray(tenant_ids),
            binary.TextArray([_NAMES[meter] for meter in meters]),
            binary.TimestampArray(binary.timestamps(np.array(hours, dtype=np.int64))),
            binary.Int8Array(np.array(quantities, dtype=np.int64)),
            topic,
            JSON_HEADERS,
        ),
    )


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
