"""What a worker says of itself in the database, for /readyz and /metrics: that it lives, what it holds, how its lives end.

A worker that stops in order takes its row away. One that fails says so if it can; one that was killed leaves its last beat,
and the next life under the same name writes down that the last one failed. Readiness is judged in `api.health`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from core.postgres import Pool

_BEAT = """
INSERT INTO weir.worker_heartbeat AS h (worker_id, started_at, beat_at, partitions, metrics)
VALUES (%(worker)s, %(started)s, now(), %(partitions)s, %(metrics)s)
ON CONFLICT (worker_id) DO UPDATE SET
    failed_at = CASE WHEN h.ended OR h.started_at = EXCLUDED.started_at THEN h.failed_at ELSE h.beat_at END,
    ended = false, started_at = EXCLUDED.started_at, beat_at = EXCLUDED.beat_at,
    partitions = EXCLUDED.partitions, metrics = EXCLUDED.metrics
"""
# Who holds a partition knows how far it goes. What another said of it before this one got it, and has not said again since,
# means nothing any more: it was killed, or will not say it again.
_TAKEN_OVER = """
UPDATE weir.worker_heartbeat h SET partitions = (
    SELECT coalesce(jsonb_agg(p), '[]') FROM jsonb_array_elements(h.partitions) AS p WHERE NOT EXISTS (
        SELECT FROM jsonb_to_recordset(%(partitions)s) AS mine (topic text, partition integer, held_s float8)
        WHERE to_jsonb(mine.topic) = p -> 'topic' AND to_jsonb(mine.partition) = p -> 'partition'
          AND h.beat_at < clock_timestamp() - make_interval(secs => mine.held_s)))
WHERE worker_id <> %(worker)s AND partitions <> '[]' AND EXISTS (
    SELECT FROM jsonb_array_elements(h.partitions) AS p
    JOIN jsonb_to_recordset(%(partitions)s) AS mine (topic text, partition integer, held_s float8)
        ON to_jsonb(mine.topic) = p -> 'topic' AND to_jsonb(mine.partition) = p -> 'partition'
    WHERE h.beat_at < clock_timestamp() - make_interval(secs => mine.held_s))
"""
_STOPPED = "DELETE FROM weir.worker_heartbeat WHERE worker_id = %(worker)s"
_FAILED = """
INSERT INTO weir.worker_heartbeat (worker_id, started_at, beat_at, partitions, metrics, ended, failed_at)
VALUES (%(worker)s, %(started)s, now(), '[]', '{}', true, now())
ON CONFLICT (worker_id) DO UPDATE SET
    ended = true, failed_at = now(), started_at = EXCLUDED.started_at, beat_at = now(), partitions = '[]', metrics = '{}'
"""


class Heartbeat:
    """The row of one life of a worker.

    Args:
        pool: under the writer role.
        worker_id: its name, the same in its next life if it was given one.
        started_at: when this life began.
    """

    def __init__(self, pool: Pool, worker_id: str, started_at: datetime) -> None:
        self._pool = pool
        self._life = {"worker": worker_id, "started": started_at}

    async def beat(self, partitions: Sequence[Mapping[str, object]], metrics: Mapping[str, float]) -> None:
        """Say what is held and counted now.

        Args:
            partitions: of each `topic`, `partition`, `identity`, `next_offset`, `end_offset`, and for how long it is `held_s`.
            metrics: counters and gauges of the process.
        """
        said = {"partitions": json.dumps(partitions), "metrics": json.dumps(metrics)}
        async with self._pool.connection() as connection:
            await connection.execute(_BEAT, self._life | said)
            await connection.execute(_TAKEN_OVER, self._life | said)

    async def end(self, *, failed: bool) -> None:
        """Say that this life is over."""
        async with self._pool.connection(timeout=1.0) as connection:
            await connection.execute(_FAILED if failed else _STOPPED, self._life)
