"""What the API's operators read: workers, positions, refusals, alarms; sums without any tenant's data.

Border: rows out, under the role weir_reader. What is healthy is judged in `api.health`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.postgres import Connection


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition as a worker sees it; the end of the log is None while it does not know."""

    topic: str
    partition: int
    next_offset: int
    end_offset: int | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker last said of itself.

    Attributes:
        worker_id: its name.
        age_s: since it said so.
        partitions: what it held.
        metrics: its counters.
        up_s: since it started.
        ended: it said that it was over.
        failed_s: since a life under this name ended otherwise than in order, if one did.
    """

    worker_id: str
    age_s: float
    partitions: tuple[Partition, ...]
    metrics: Mapping[str, float]
    up_s: float = math.inf
    ended: bool = False
    failed_s: float | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands in the database."""

    topic: str
    partition: int
    next_offset: int


async def heartbeats(connection: Connection) -> list[Heartbeat]:
    """Every worker that said anything, by the database's clock."""
    cursor = await connection.execute(
        "SELECT worker_id, date_part('epoch', clock_timestamp() - beat_at), partitions, metrics,"
        " date_part('epoch', clock_timestamp() - started_at), ended, date_part('epoch', clock_timestamp() - failed_at)"
        " FROM weir.worker_heartbeat ORDER BY worker_id"
    )
    return [_heartbeat(*row) for row in await cursor.fetchall()]


def _heartbeat(
    worker_id: str,
    age_s: float,
    partitions: list[dict[str, Any]],
    metrics: dict[str, Any],
    up_s: float,
    ended: bool,
    failed_s: float | None,
) -> Heartbeat:
    numbers = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
    stands = (
        Partition(str(each["topic"]), int(each["partition"]), int(each["next_offset"]), each.get("end_offset"))
        for each in partitions
    )
    return Heartbeat(worker_id, age_s, tuple(stands), numbers, up_s, ended, failed_s)


async def positions(connection: Connection) -> list[Position]:
    """Every stored position."""
    cursor = await connection.execute(
        "SELECT topic, partition, next_offset FROM weir.stream_position ORDER BY topic, partition"
    )
    return [Position(*row) for row in await cursor.fetchall()]


async def refusals_by_reason(connection: Connection) -> list[tuple[str, int, int]]:
    """Reason, refusals on record, and of these the ones kept with their bytes."""
    cursor = await connection.execute("SELECT reason, refused, kept FROM weir.refusals_by_reason() ORDER BY reason")
    return [(str(reason), int(refused), int(kept)) for reason, refused, kept in await cursor.fetchall()]


async def open_alarms(connection: Connection) -> dict[str, int]:
    """How many operator alarms are open, by kind."""
    cursor = await connection.execute(
        "SELECT kind, count(*) FROM weir.operator_alarm WHERE closed_at IS NULL GROUP BY kind ORDER BY kind"
    )
    return {str(kind): int(count) for kind, count in await cursor.fetchall()}
