"""What the API reads: one typed function per query, under the role weir_reader.

Border: rows in, rows out; no HTTP, no formatting. Functions that take a connection expect it inside a
`core.postgres.tenant_transaction`, whose setting the views and functions of schema weir_tenant go by: without it they show
nothing. Times are epoch milliseconds, floored, except where a name says µs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, LiteralString

from core.postgres import Connection

STEPS_MS: Final = {"1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}
"""Widths of the buckets, by resolution."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WIDENING: Final = 4


@dataclass(frozen=True, slots=True)
class SensorRow:
    """A sensor and its newest reading."""

    sensor_no: int
    sensor_id: str
    device_id: str
    name: str
    unit: str
    expected_interval_ms: int | None
    site_id: str | None
    unit_id: str | None
    last_at_ms: int | None
    last_value: float | None
    archived_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class SensorFilter:
    """What a list of sensors is narrowed to; None: not at all."""

    site_id: str | None = None
    unit_id: str | None = None
    device_id: str | None = None
    archived: bool = True


@dataclass(frozen=True, slots=True)
class Conflict:
    """An identity for which several values came: the one that is the reading, and the others, greatest first."""

    at_ms: int
    seq: int
    value: float
    others: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RefusalCounts:
    """Dead letters of one sensor that were not replayed."""

    quarantined: int = 0
    rejected: int = 0


RawRow = tuple[int, float, int, int]
"""at in µs, value, seq, received_at in µs. A plain tuple, as ten thousand of them are one page."""

BucketRow = tuple[int, int, float, float, float, float, float]
"""start in µs, count, sum, min, max, first, last."""


def _instant(at_ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=at_ms)


def _ms(at_us: int | None) -> int | None:
    return None if at_us is None else at_us // 1_000


def _after(place: tuple[int, int] | None) -> tuple[datetime | None, int | None]:
    return (None, None) if place is None else (_EPOCH + timedelta(microseconds=place[0]), place[1])


async def _rows(connection: Connection, statement: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement, parameters, binary=True)).fetchall()


# Times travel as microseconds: exact, as a double holds those of 285 years, and far quicker to take in than timestamps.
# LIMIT 1 keeps each state a look-up by key; a plain join would read the states of all the tenant's sensors first.
_SENSOR: Final[LiteralString] = (
    "s.sensor_no, s.sensor_id, s.device_id, s.name, s.unit, s.expected_interval_ms, s.site_id, s.unit_id,"
    " (date_part('epoch', s.archived_at) * 1e6)::bigint, (date_part('epoch', t.last_at) * 1e6)::bigint, t.last_value"
)
_STATE: Final[LiteralString] = (
    " LEFT JOIN LATERAL (SELECT q.last_at, q.last_value FROM weir_tenant.sensor_states q"
    " WHERE q.sensor_no = s.sensor_no LIMIT 1) t ON true"
)
_SENSOR_BY_ID: Final[LiteralString] = f"SELECT {_SENSOR} FROM weir.sensor s{_STATE} WHERE s.sensor_id = %s"  # noqa: S608 - constants
_NARROWED: Final[dict[str, LiteralString]] = {
    "site_id": " AND site_id = %s",
    "unit_id": " AND unit_id = %s",
    "device_id": " AND device_id = %s",
}


async def list_sensors(
    connection: Connection, after: str, limit: int, wanted: SensorFilter | None = None
) -> list[SensorRow]:
    """Sensors with an id greater than `after`, in the order of their ids; without a filter all of them."""
    wanted = wanted or SensorFilter()
    given = {name: value for name in _NARROWED if (value := getattr(wanted, name)) is not None}
    narrowed = "".join([_NARROWED[name] for name in given]) + ("" if wanted.archived else " AND archived_at IS NULL")
    page = f"SELECT * FROM weir.sensor WHERE sensor_id > %s{narrowed} ORDER BY sensor_id LIMIT %s"  # noqa: S608 - constants
    statement = f"SELECT {_SENSOR} FROM ({page}) s{_STATE} ORDER BY s.sensor_id"  # noqa: S608 - constants
    return [_sensor(row) for row in await _rows(connection, statement, after, *given.values(), limit)]


async def find_sensor(connection: Connection, sensor_id: str) -> SensorRow | None:
    """One sensor; None if there is none or it is another tenant's."""
    if "\0" in sensor_id:  # no text in the database has one
        return None
    rows = await _rows(connection, _SENSOR_BY_ID, sensor_id)
    return _sensor(rows[0]) if rows else None


def _sensor(row: tuple[Any, ...]) -> SensorRow:
    return SensorRow(*row[:8], _ms(row[9]), row[10], _ms(row[8]))  # type: ignore[call-arg] # 8 columns


# The function returns its rows in order, and a scan of it keeps them so.
_RAW = """
SELECT (date_part('epoch', r.at) * 1e6)::bigint, r.value, r.seq, (date_part('epoch', r.received_at) * 1e6)::bigint
FROM weir_tenant.sensor_raw(%s::integer, %s, %s, %s::timestamptz, %s::integer, %s::integer) r
"""


async def raw_page(
    connection: Connection, sensor_no: int, start_ms: int, end_ms: int, after: tuple[int, int] | None, limit: int
) -> list[RawRow]:
    """At most `limit` readings with start <= at < end beyond `after` (at in µs, seq), in the order of (at, seq)."""
    after_at, after_seq = _after(after)
    return await _rows(connection, _RAW, sensor_no, _instant(start_ms), _instant(end_ms), after_at, after_seq, limit)


_ROLLUP = """
SELECT (date_part('epoch', b.bucket_start) * 1e6)::bigint, b.count, b.sum, b.min, b.max, b.first, b.last
FROM weir_tenant.sensor_rollup(%s::integer, %s, %s, %s, %s::integer) b
"""


async def rollup_page(
    connection: Connection, sensor_no: int, resolution: str, start_ms: int, end_ms: int, limit: int
) -> list[BucketRow]:
    """At most `limit` buckets with start <= bucket < end, in order, empty ones absent; resolution: of `STEPS_MS`.

    Asked for in spans: the first cannot hold more than `limit` buckets, the next ones widen as the data is sparse. So a page
    costs what it shows, however long the range is and however much of it must be computed from raw rows.
    """
    rows: list[BucketRow] = []
    span_ms = limit * STEPS_MS[resolution]
    while start_ms < end_ms and len(rows) < limit:
        stop_ms = min(end_ms, start_ms + span_ms)
        wanted = limit - len(rows)
        rows += await _rows(connection, _ROLLUP, sensor_no, resolution, _instant(start_ms), _instant(stop_ms), wanted)
        start_ms, span_ms = stop_ms, span_ms * _WIDENING
    return rows


_TIMES = """
SELECT r.sensor_no, (date_part('epoch', r.at) * 1e6)::bigint
FROM weir_tenant.reading_times(%s::integer[], %s, %s, %s::integer) r
"""
_NEIGHBOURS = """
SELECT n.sensor_no, (date_part('epoch', n.last_before) * 1e6)::bigint, (date_part('epoch', n.first_from) * 1e6)::bigint
FROM weir_tenant.reading_neighbours(%s::integer[], %s, %s) n
"""
_TIMES_AND_SEQS = """
SELECT (date_part('epoch', r.at) * 1e6)::bigint, r.seq
FROM weir_tenant.sensor_raw(%s::integer, %s, %s, %s::timestamptz, %s::integer, %s::integer) r
"""


async def reading_times(
    connection: Connection, sensor_nos: Sequence[int], start_ms: int, end_ms: int, limit: int
) -> list[tuple[int, int]]:
    """Sensor and time (µs) of readings, sensor by sensor in the order given, ending after `limit` of them."""
    return await _rows(connection, _TIMES, list(sensor_nos), _instant(start_ms), _instant(end_ms), limit)


async def reading_neighbours(
    connection: Connection, sensor_nos: Sequence[int], before_ms: int, from_ms: int
) -> dict[int, tuple[int | None, int | None]]:
    """By sensor, the time of its newest reading before a moment and of its oldest one from another moment on."""
    rows = await _rows(connection, _NEIGHBOURS, list(sensor_nos), _instant(before_ms), _instant(from_ms))
    return {sensor_no: (_ms(before_us), _ms(from_us)) for sensor_no, before_us, from_us in rows}


async def time_page(
    connection: Connection, sensor_no: int, start_ms: int, end_ms: int, after: tuple[int, int] | None, limit: int
) -> list[tuple[int, int]]:
    """Times (µs) and seqs of one sensor's readings, paged as `raw_page` is."""
    after_at, after_seq = _after(after)
    bounds = (_instant(start_ms), _instant(end_ms), after_at, after_seq, limit)
    return await _rows(connection, _TIMES_AND_SEQS, sensor_no, *bounds)


_CONFLICTS = """
SELECT (date_part('epoch', c.at) * 1e6)::bigint, c.seq, c.value, c.others
FROM weir_tenant.sensor_conflicts(%s::integer, %s, %s, %s::integer) c
"""
_CONFLICT_COUNTS = """
SELECT q.sensor_no, count(*) FROM (
    SELECT c.sensor_no FROM weir_tenant.reading_conflicts c
    WHERE c.sensor_no = ANY (%s::integer[]) AND c.at >= %s AND c.at < %s GROUP BY c.sensor_no, c.at, c.seq) q
GROUP BY q.sensor_no
"""


async def conflict_counts(
    connection: Connection, sensor_nos: Sequence[int], start_ms: int, end_ms: int
) -> dict[int, int]:
    """How many identities have several values, by sensor; sensors without are absent."""
    rows = await _rows(connection, _CONFLICT_COUNTS, list(sensor_nos), _instant(start_ms), _instant(end_ms))
    return dict(rows)


async def conflicts(connection: Connection, sensor_no: int, start_ms: int, end_ms: int, limit: int) -> list[Conflict]:
    """The first identities with several values, in order."""
    rows = await _rows(connection, _CONFLICTS, sensor_no, _instant(start_ms), _instant(end_ms), limit)
    return [Conflict(at_us // 1_000, seq, value, tuple(others)) for at_us, seq, value, others in rows]


_QUALITY = """
SELECT q.sensor_no, sum(q.duplicates)::bigint, sum(q.late)::bigint FROM weir_tenant.quality_hourly q
WHERE q.sensor_no = ANY (%s::integer[]) AND q.hour >= date_bin('1 hour', %s::timestamptz, 'epoch') AND q.hour < %s
GROUP BY q.sensor_no
"""


async def quality_counts(
    connection: Connection, sensor_nos: Sequence[int], start_ms: int, end_ms: int
) -> dict[int, tuple[int, int]]:
    """Duplicates and late readings of the hours that overlap the range, by sensor."""
    rows = await _rows(connection, _QUALITY, list(sensor_nos), _instant(start_ms), _instant(end_ms))
    return {sensor_no: (duplicates, late) for sensor_no, duplicates, late in rows}


_REFUSALS = """
SELECT s.sensor_no, count(*) FILTER (WHERE d.reason = 'impossible_time'),
       count(*) FILTER (WHERE d.reason <> 'impossible_time')
FROM weir_tenant.refused_readings d JOIN weir.sensor s ON s.device_id = d.device_id AND s.name = d.sensor
WHERE s.sensor_no = ANY (%s::integer[]) AND d.refused_at >= %s AND d.refused_at < %s AND d.replayed_at IS NULL
GROUP BY s.sensor_no
"""
_DEVICE_REFUSALS = """
SELECT c.device_id, c.reason, sum(c.refused)::bigint, sum(c.kept)::bigint FROM weir_tenant.refusal_counts c
WHERE c.minute >= date_bin('1 minute', %s::timestamptz, 'epoch') AND c.minute < %s
GROUP BY c.device_id, c.reason ORDER BY c.device_id, c.reason LIMIT %s
"""


async def sensor_refusals(
    connection: Connection, sensor_nos: Sequence[int], start_ms: int, end_ms: int
) -> dict[int, RefusalCounts]:
    """Dead letters by sensor, of those refused in the range; sensors without are absent."""
    rows = await _rows(connection, _REFUSALS, list(sensor_nos), _instant(start_ms), _instant(end_ms))
    return {sensor_no: RefusalCounts(quarantined, rejected) for sensor_no, quarantined, rejected in rows}


async def device_refusals(
    connection: Connection, start_ms: int, end_ms: int, limit: int
) -> list[tuple[str, str, int, int]]:
    """Device, reason, refused, kept with their bytes, of the minutes that overlap the range."""
    return await _rows(connection, _DEVICE_REFUSALS, _instant(start_ms), _instant(end_ms), limit)
