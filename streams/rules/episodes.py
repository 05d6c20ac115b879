"""Episodes in the store: which pairs are open, what is stored of them, and writing what changed.

Everything runs in the caller's transaction. A sensor's state row is locked before its rules are judged, so live batches,
back-fill and rule changes take turns per sensor (DESIGN §2).
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.postgres import Connection
from processors.rules.amend import Amendment, StoredEpisode
from processors.rules.model import Episode
from sinks.timescale import binary
from streams.rules.histories import FOREVER_MS

_EPISODE_COLUMNS = (
    "alert_id, severity, status, (extract(epoch FROM started_at) * 1000)::bigint,"
    " (extract(epoch FROM fired_at) * 1000)::bigint, (extract(epoch FROM resolved_at) * 1000)::bigint,"
    " (extract(epoch FROM peak_at) * 1000)::bigint, coalesce(peak_value, 'NaN'), proven_ms, possible_ms, reason"
)


class Pair(NamedTuple):
    """A rule watching a sensor."""

    tenant_id: str
    sensor_no: int
    rule_no: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """The stretch of a pair's time that is judged: from one moment on, and before another unless that is None."""

    pair: Pair
    from_ms: int
    to_ms: int | None


async def open_pairs(
    connection: Connection, sensor_nos: NDArray[np.int32], late_sensor_nos: NDArray[np.int32]
) -> set[tuple[int, int]]:
    """(sensor_no, rule_no) of open episodes among these sensors, and of any episodes among those with late readings."""
    cursor = await connection.execute(
        "SELECT sensor_no, rule_no FROM weir.alert_episode WHERE sensor_no = ANY (%s) AND status IN ('pending', 'firing')"
        " UNION SELECT sensor_no, rule_no FROM weir.alert_episode WHERE sensor_no = ANY (%s) AND status <> 'retracted'",
        (binary.Int4Array(sensor_nos), binary.Int4Array(late_sensor_nos)),
    )
    return set(await cursor.fetchall())


async def lock_sensor(connection: Connection, sensor_no: int) -> None:
    """Take turns with whoever else judges this sensor."""
    await lock_sensors(connection, [sensor_no])


async def lock_sensors(connection: Connection, sensor_nos: list[int]) -> None:
    """The same for many, in order."""
    await connection.execute(
        "SELECT 1 FROM weir.sensor_state WHERE sensor_no = ANY (%s) ORDER BY sensor_no FOR UPDATE", (sensor_nos,)
    )


async def covering_stretches(connection: Connection, wanted: Sequence[Stretch]) -> list[Stretch]:
    """The stretches, begun where an episode covers the start at that episode's: judging must begin where a rule is idle.

    Episodes of budgets may start inside the one before, so this goes back until nothing covers the start.
    """
    found, moved = list(wanted), list(range(len(wanted)))
    while moved:
        starts = await _covering_starts(connection, [found[number] for number in moved])
        earlier = {moved[place]: start for place, start in starts.items()}
        moved = [number for number, start in earlier.items() if start < found[number].from_ms]
        for number in moved:
            found[number] = replace(found[number], from_ms=earlier[number])
    return found


async def _covering_starts(connection: Connection, asked: Sequence[Stretch]) -> dict[int, int]:
    cursor = await connection.execute(
        "SELECT q.i, (extract(epoch FROM min(e.started_at)) * 1000)::bigint"
        " FROM unnest(%s::int[], %s::int[], %s::int[], %s::timestamptz[]) AS q (i, sensor_no, rule_no, since)"
        " JOIN weir.alert_episode e ON e.sensor_no = q.sensor_no AND e.rule_no = q.rule_no AND e.status <> 'retracted'"
        " AND e.started_at <= q.since AND (e.resolved_at IS NULL OR e.resolved_at >= q.since) GROUP BY q.i",
        (
            list(range(len(asked))),
            [one.pair.sensor_no for one in asked],
            [one.pair.rule_no for one in asked],
            [_time(one.from_ms) for one in asked],
        ),
    )
    return dict(await cursor.fetchall())


async def stored_episodes_of(connection: Connection, stretches: Sequence[Stretch]) -> list[list[StoredEpisode]]:
    """For each stretch the episodes that are not retracted and start in it."""
    cursor = await connection.execute(
        f"SELECT q.i, {_EPISODE_COLUMNS}"  # noqa: S608 - constant columns
        " FROM unnest(%s::int[], %s::int[], %s::int[], %s::timestamptz[], %s::timestamptz[])"
        " AS q (i, sensor_no, rule_no, since, until) JOIN weir.alert_episode e ON e.sensor_no = q.sensor_no"
        " AND e.rule_no = q.rule_no AND e.status <> 'retracted' AND e.started_at >= q.since AND e.started_at < q.until"
        " ORDER BY q.i, e.started_at",
        (
            list(range(len(stretches))),
            [one.pair.sensor_no for one in stretches],
            [one.pair.rule_no for one in stretches],
            [_time(one.from_ms) for one in stretches],
            [_time(FOREVER_MS if one.to_ms is None else one.to_ms) for one in stretches],
        ),
    )
    found: list[list[StoredEpisode]] = [[] for _ in stretches]
    for row in await cursor.fetchall():
        found[row[0]].append(StoredEpisode(row[1], Episode(*row[2:])))
    return found


async def stored_episodes(
    connection: Connection, sensor_no: int, rule_no: int, from_ms: int, to_ms: int | None
) -> list[StoredEpisode]:
    """Episodes of one pair that are not retracted and start in the interval."""
    [found] = await stored_episodes_of(connection, [Stretch(Pair("", sensor_no, rule_no), from_ms, to_ms)])
    return found


async def write_amendments(
    connection: Connection,
    pair: Pair,
    amendments: Sequence[Amendment],
    now_ms: int,
    historical_before_ms: int,
    topic: str,
) -> None:
    """Write changed episodes of one pair (see `write_all_amendments`)."""
    await write_all_amendments(connection, [(pair, one) for one in amendments], now_ms, historical_before_ms, topic)


async def write_all_amendments(
    connection: Connection,
    amendments: Sequence[tuple[Pair, Amendment]],
    now_ms: int,
    historical_before_ms: int,
    topic: str,
) -> None:
    """Write changed episodes with their history, the record for the `alerts` topic and what somebody must be told."""
    alert_ids = await amend_episodes(connection, amendments, now_ms, historical_before_ms)
    if alert_ids:
        await announce(connection, alert_ids, topic)


async def amend_episodes(
    connection: Connection, amendments: Sequence[tuple[Pair, Amendment]], now_ms: int, historical_before_ms: int
) -> list[str]:
    """Write changed episodes; returns those that must be announced, in order."""
    if not amendments:
        return []
    named = [(one.alert_id or f"alt_{uuid.uuid4().hex}", pair, one) for pair, one in amendments]
    retracted = [one for _, _, one in named if one.episode is None]
    await _retract(connection, retracted, now_ms)
    heirs = await _hand_over(connection, [one for one in retracted if one.merged_into is not None])
    judged = [(alert_id, pair, one.episode, one.alert_id is None) for alert_id, pair, one in named if one.episode]
    for is_new, write in ((False, _update), (True, _insert)):
        rows = [
            (alert_id, pair, _fields(episode, now_ms, historical_before_ms))
            for alert_id, pair, episode, inserted in judged
            if inserted is is_new
        ]
        if rows:
            await write(connection, rows)
    return [*dict.fromkeys([*(alert_id for alert_id, _, _ in named), *heirs])]


_Row = tuple[str, Pair, tuple[object, ...]]
_FIELD_TYPES = (
    "text, text, timestamptz, timestamptz, timestamptz, timestamptz, float8, bigint, bigint, text, timestamptz, bool"
)
_FIELDS = (
    "severity, status, started_at, fired_at, resolved_at, peak_at, peak_value, proven_ms, possible_ms, reason, updated_at,"
    " historical"
)
_UNNEST_FIELDS = ", ".join(f"%s::{kind}[]" for kind in _FIELD_TYPES.split(", "))


def _fields(episode: Episode, now_ms: int, historical_before_ms: int) -> tuple[object, ...]:
    return (
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
        episode.fired_at_ms is not None and episode.fired_at_ms < historical_before_ms,
    )


async def _retract(connection: Connection, amendments: Sequence[Amendment], now_ms: int) -> None:
    if amendments:
        await connection.execute(
            "UPDATE weir.alert_episode e SET status = 'retracted', merged_into = q.merged_into, reason = q.reason,"
            " version = version + 1, updated_at = greatest(e.updated_at, %s) FROM unnest(%s::text[], %s::text[], %s::text[])"
            " AS q (alert_id, merged_into, reason) WHERE e.alert_id = q.alert_id",
            (
                _time(now_ms),
                [one.alert_id for one in amendments],
                [one.merged_into for one in amendments],
                [one.reason for one in amendments],
            ),
        )


async def _hand_over(connection: Connection, merged: Sequence[Amendment]) -> list[str]:
    """What people said about merged episodes goes on with the one that survives; returns the survivors that got something."""
    if not merged:
        return []
    pairs = ([one.alert_id for one in merged], [one.merged_into for one in merged])
    await connection.execute(
        "UPDATE weir.alert_note n SET alert_id = q.heir FROM unnest(%s::text[], %s::text[]) AS q (alert_id, heir)"
        " WHERE n.alert_id = q.alert_id",
        pairs,
    )
    cursor = await connection.execute(
        "UPDATE weir.alert_episode h SET acknowledged_by = coalesce(h.acknowledged_by, e.acknowledged_by),"
        " acknowledged_at = coalesce(h.acknowledged_at, e.acknowledged_at),"
        " assigned_to = coalesce(h.assigned_to, e.assigned_to), version = h.version + 1"
        " FROM unnest(%s::text[], %s::text[]) AS q (alert_id, heir) JOIN weir.alert_episode e USING (alert_id)"
        " WHERE h.alert_id = q.heir AND (e.acknowledged_by IS NOT NULL OR e.assigned_to IS NOT NULL) RETURNING h.alert_id",
        pairs,
    )
    return [str(alert_id) for (alert_id,) in await cursor.fetchall()]


async def _update(connection: Connection, rows: Sequence[_Row]) -> None:
    columns = [list(column) for column in zip(*(fields for _, _, fields in rows), strict=True)]
    # An episode that was told as it happened stays so, whatever later corrects it.
    await connection.execute(
        "UPDATE weir.alert_episode e SET severity = q.severity, status = q.status, started_at = q.started_at,"  # noqa: S608 - constants
        " historical = CASE WHEN e.fired_at IS NULL THEN q.historical ELSE e.historical END, fired_at = q.fired_at,"
        " resolved_at = q.resolved_at, peak_at = q.peak_at, peak_value = q.peak_value, proven_ms = q.proven_ms,"
        " possible_ms = q.possible_ms, reason = q.reason, updated_at = greatest(e.updated_at, q.updated_at),"
        " version = e.version + 1"
        f" FROM unnest(%s::text[], {_UNNEST_FIELDS}) AS q (alert_id, {_FIELDS}) WHERE e.alert_id = q.alert_id",
        ([alert_id for alert_id, _, _ in rows], *columns),
    )


async def _insert(connection: Connection, rows: Sequence[_Row]) -> None:
    columns = [list(column) for column in zip(*(fields for _, _, fields in rows), strict=True)]
    keys = "alert_id, tenant_id, sensor_no, rule_no"
    await connection.execute(
        f"INSERT INTO weir.alert_episode ({keys}, {_FIELDS})"  # noqa: S608 - constants
        f" SELECT * FROM unnest(%s::text[], %s::text[], %s::int[], %s::int[], {_UNNEST_FIELDS})",
        (
            [alert_id for alert_id, _, _ in rows],
            [pair.tenant_id for _, pair, _ in rows],
            [pair.sensor_no for _, pair, _ in rows],
            [pair.rule_no for _, pair, _ in rows],
            *columns,
        ),
    )


async def announce(connection: Connection, alert_ids: Sequence[str], topic: str) -> None:
    """Keep the versions, publish them in order to topic and viewers, and queue at most one message a kind."""
    await connection.execute("SELECT weir.announce_episodes(%s, %s)", (list(alert_ids), topic))


def _time(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC)


def _maybe(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else _time(epoch_ms)
