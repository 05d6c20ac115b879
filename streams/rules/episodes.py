"""Episodes in the store: which pairs are open, the readings that judge them, and writing what changed.

Everything runs in the caller's transaction. A sensor's state row is locked before its rules are judged, so live batches,
back-fill and rule changes take turns per sensor (DESIGN §2).
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from processors.rules.amend import Amendment, StoredEpisode
from processors.rules.model import Episode
from sinks.timescale import binary

_EPISODE_COLUMNS = (
    "alert_id, severity, status, (extract(epoch FROM started_at) * 1000)::bigint,"
    " (extract(epoch FROM fired_at) * 1000)::bigint, (extract(epoch FROM resolved_at) * 1000)::bigint,"
    " (extract(epoch FROM peak_at) * 1000)::bigint, coalesce(peak_value, 'NaN'), proven_ms, possible_ms, reason"
)


@dataclass(frozen=True, slots=True)
class SensorHistory:
    """A sensor's readings of an interval, sorted by (at, seq)."""

    at_ms: NDArray[np.int64]
    seq: NDArray[np.int64]
    value: NDArray[np.float64]


async def open_pairs(connection: Connection, sensor_nos: NDArray[np.int32]) -> set[tuple[int, int]]:
    """(sensor_no, rule_no) of pending and firing episodes among these sensors."""
    cursor = await connection.execute(
        "SELECT sensor_no, rule_no FROM weir.alert_episode WHERE sensor_no = ANY (%s) AND status IN ('pending', 'firing')",
        (binary.Int4Array(sensor_nos),),
    )
    return {(sensor_no, rule_no) for sensor_no, rule_no in await cursor.fetchall()}


async def lock_sensor(connection: Connection, sensor_no: int) -> None:
    """Take turns with whoever else judges this sensor."""
    await connection.execute("SELECT 1 FROM weir.sensor_state WHERE sensor_no = %s FOR UPDATE", (sensor_no,))


async def covering_start_ms(connection: Connection, sensor_no: int, rule_no: int, from_ms: int) -> int:
    """`from_ms`, or the start of the episode that covers it: judging must begin where the rule was idle."""
    cursor = await connection.execute(
        "SELECT (extract(epoch FROM min(started_at)) * 1000)::bigint FROM weir.alert_episode"
        " WHERE sensor_no = %s AND rule_no = %s AND status <> 'retracted' AND started_at <= %s"
        " AND (resolved_at IS NULL OR resolved_at >= %s)",
        (sensor_no, rule_no, _time(from_ms), _time(from_ms)),
    )
    row = await cursor.fetchone()
    return from_ms if row is None or row[0] is None else min(from_ms, int(row[0]))


async def history(connection: Connection, sensor_no: int, from_ms: int, to_ms: int | None) -> SensorHistory:
    """Readings from the last one at or before `from_ms` on, and before `to_ms` where it is given."""
    rows: list[bytes] = []
    statement = (
        "COPY (SELECT at, seq, value FROM weir.reading WHERE sensor_no = %(sensor_no)s AND at < %(to)s AND at >="
        " coalesce((SELECT r.at FROM weir.reading r WHERE r.sensor_no = %(sensor_no)s AND r.at <= %(from)s"
        " ORDER BY r.at DESC LIMIT 1), %(from)s) ORDER BY at, seq) TO STDOUT (FORMAT BINARY)"
    )
    bound = "infinity" if to_ms is None else _time(to_ms)
    async with (
        connection.cursor() as cursor,
        cursor.copy(statement, {"sensor_no": sensor_no, "from": _time(from_ms), "to": bound}) as copy,
    ):
        rows.extend([bytes(block) async for block in copy])
    table = binary.parse_copy(b"".join(rows), [binary.INT8, binary.INT4, binary.FLOAT8])
    return SensorHistory(
        binary.epoch_ms(table[0].astype(np.int64)), table[1].astype(np.int64), table[2].astype(np.float64)
    )


async def stored_episodes(
    connection: Connection, sensor_no: int, rule_no: int, from_ms: int, to_ms: int | None
) -> list[StoredEpisode]:
    """Episodes that are not retracted and start in the interval."""
    cursor = await connection.execute(
        f"SELECT {_EPISODE_COLUMNS} FROM weir.alert_episode WHERE sensor_no = %s AND rule_no = %s"  # noqa: S608 - constant columns
        " AND status <> 'retracted' AND started_at >= %s AND started_at < %s ORDER BY started_at",
        (sensor_no, rule_no, _time(from_ms), "infinity" if to_ms is None else _time(to_ms)),
    )
    return [StoredEpisode(row[0], Episode(*row[1:])) for row in await cursor.fetchall()]


@dataclass(frozen=True, slots=True)
class Pair:
    """A rule watching a sensor."""

    tenant_id: str
    sensor_no: int
    rule_no: int


async def write_amendments(
    connection: Connection,
    pair: Pair,
    amendments: Sequence[Amendment],
    now_ms: int,
    historical_before_ms: int,
    topic: str,
) -> None:
    """Write changed episodes with their history, the record for the `alerts` topic and what somebody must be told."""
    for amendment in amendments:
        alert_id = await _apply(connection, pair, amendment, now_ms, historical_before_ms)
        await _announce(connection, alert_id, topic)


async def _apply(
    connection: Connection, pair: Pair, amendment: Amendment, now_ms: int, historical_before_ms: int
) -> str:
    episode = amendment.episode
    if episode is None:
        await connection.execute(
            "UPDATE weir.alert_episode SET status = 'retracted', merged_into = %s, reason = %s, version = version + 1,"
            " updated_at = %s WHERE alert_id = %s",
            (amendment.merged_into, amendment.reason, _time(now_ms), amendment.alert_id),
        )
        return str(amendment.alert_id)
    fields = (
        episode.severity,
        episode.status,
        _time(episode.started_at_ms),
        _maybe(episode.fired_at_ms),
        _maybe(episode.resolved_at_ms),
        _time(episode.peak_at_ms),
        None if math.isnan(episode.peak_value) else episode.peak_value,
        episode.proven_ms,
        episode.possible_ms,
        episode.reason,
        _time(now_ms),
    )
    historical = episode.fired_at_ms is not None and episode.fired_at_ms < historical_before_ms
    if amendment.alert_id is not None:
        # An episode that was told as it happened stays so, whatever later corrects it.
        await connection.execute(
            "UPDATE weir.alert_episode SET severity = %s, status = %s, started_at = %s,"
            " historical = CASE WHEN fired_at IS NULL THEN %s ELSE historical END, fired_at = %s, resolved_at = %s,"
            " peak_at = %s, peak_value = %s, proven_ms = %s, possible_ms = %s, reason = %s, updated_at = %s,"
            " version = version + 1 WHERE alert_id = %s",
            (*fields[:3], historical, *fields[3:], amendment.alert_id),
        )
        return amendment.alert_id
    cursor = await connection.execute(
        "INSERT INTO weir.alert_episode (tenant_id, sensor_no, rule_no, severity, status, started_at, fired_at, resolved_at,"
        " peak_at, peak_value, proven_ms, possible_ms, reason, updated_at, historical)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING alert_id",
        (pair.tenant_id, pair.sensor_no, pair.rule_no, *fields, historical),
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - RETURNING of one inserted row
    return str(row[0])


async def _announce(connection: Connection, alert_id: str, topic: str) -> None:
    """Keep the version, publish it, and queue at most one message a kind."""
    cursor = await connection.execute(
        "INSERT INTO weir.alert_history (alert_id, version, recorded_at, episode)"
        " SELECT alert_id, version, updated_at, weir.episode_document(e) FROM weir.alert_episode e WHERE alert_id = %s"
        " RETURNING version, episode",
        (alert_id,),
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - the episode was just written
    version, document = int(row[0]), row[1]
    await connection.execute(
        "INSERT INTO weir.topic_outbox (topic, key, value, headers) VALUES (%s, %s, %s, %s)",
        (
            topic,
            document["sensor_id"].encode(),
            json.dumps(document).encode(),
            json.dumps([("content-type", base64.b64encode(b"application/json").decode())]),
        ),
    )
    kind = _told_as(document)
    if kind is not None:
        await connection.execute(
            "INSERT INTO weir.notification (tenant_id, alert_id, alert_version, kind, episode) VALUES (%s, %s, %s, %s, %s)"
            " ON CONFLICT DO NOTHING",
            (document["tenant_id"], alert_id, version, kind, json.dumps(document)),
        )


def _told_as(document: dict[str, object]) -> str | None:
    """Which message an episode is worth: none while pending or retracted, one in all when it is history."""
    if document["status"] not in {"firing", "resolved"}:
        return None
    if document["historical"]:
        return "historical"
    return "fired" if document["status"] == "firing" else "resolved"


def _time(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def _maybe(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else _time(epoch_ms)
