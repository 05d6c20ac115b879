"""Where each partition stands, kept in the database with the topic's identity.

A re-created topic starts again at offset 0 under another identity: its position starts again too. Offsets that the log
has lost are written down as a gap and raised; they are never glided over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from core.postgres import Connection, Pool
from sinks.dead_letters import raise_alarm

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Stand:
    """The stored position of one partition."""

    identity: str
    next_offset: int


async def load_positions(pool: Pool, topic: str, identity: str, log_starts: Mapping[int, int]) -> dict[int, Stand]:
    """Stored positions of the partitions asked for, made where there is none.

    Args:
        pool: under the writer role.
        topic: the broker's name of the topic.
        identity: the topic's identity as the broker tells it now.
        log_starts: by partition, the oldest offset that the log still has.
    """
    async with pool.connection() as connection, connection.transaction():
        return {
            partition: await _settle(connection, topic, identity, partition, start)
            for partition, start in sorted(log_starts.items())
        }


async def _settle(connection: Connection, topic: str, identity: str, partition: int, start: int) -> Stand:
    await connection.execute(
        "INSERT INTO weir.stream_position (topic, partition, topic_identity, next_offset) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (topic, partition, identity, start),
    )
    cursor = await connection.execute(
        "SELECT topic_identity, next_offset FROM weir.stream_position WHERE topic = %s AND partition = %s FOR UPDATE",
        (topic, partition),
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - inserted above
    stored_identity, next_offset = str(row[0]), int(row[1])
    if stored_identity != identity:
        await _tell_of_lost_end(connection, topic, stored_identity, partition, next_offset)
        log.warning(
            "position.topic_recreated", topic=topic, partition=partition, old_offset=next_offset, new_offset=start
        )
        return await _move(connection, topic, identity, partition, start)
    if next_offset < start:
        await _record_gap(connection, topic, identity, partition, next_offset, start)
        return await _move(connection, topic, identity, partition, start)
    return Stand(identity, next_offset)


async def _tell_of_lost_end(
    connection: Connection, topic: str, identity: str, partition: int, next_offset: int
) -> None:
    """The old log is gone. A worker that stopped in order left no heartbeat; one that did not tells how far the log went.

    One that was killed long ago may have told of an older log still.
    """
    cursor = await connection.execute(
        "SELECT max((p ->> 'end_offset')::bigint) FROM weir.worker_heartbeat h, jsonb_array_elements(h.partitions) AS p"
        " WHERE p ->> 'topic' = %s AND (p ->> 'partition')::int = %s AND p ->> 'identity' = %s",
        (topic, partition, identity),
    )
    row = await cursor.fetchone()
    end = None if row is None else row[0]
    if end is None:
        return
    if end > next_offset:
        await _record_gap(connection, topic, identity, partition, next_offset, int(end))
    await raise_alarm(
        connection,
        "topic_recreated",
        f"{topic}/{partition}",
        f"the log was replaced while workers ran; records after offset {max(int(end), next_offset)} may be lost:"
        " have devices send again what they published then, duplicates do no harm",
    )


async def reread_truncated_log(pool: Pool, topic: str, partition: int, stand: Stand, end: int, offset: int) -> Stand:
    """The log ends before what was read from it: an unclean failure took its tail. Write that down, read on from `offset`."""
    async with pool.connection() as connection, connection.transaction():
        await _record_gap(connection, topic, stand.identity, partition, end, stand.next_offset)
        return await _move(connection, topic, stand.identity, partition, offset)


async def _move(connection: Connection, topic: str, identity: str, partition: int, offset: int) -> Stand:
    await connection.execute(
        "UPDATE weir.stream_position SET topic_identity = %s, next_offset = %s, updated_at = now()"
        " WHERE topic = %s AND partition = %s",
        (identity, offset, topic, partition),
    )
    return Stand(identity, offset)


async def _record_gap(
    connection: Connection, topic: str, identity: str, partition: int, from_offset: int, to_offset: int
) -> None:
    log.error("position.data_lost", topic=topic, partition=partition, from_offset=from_offset, to_offset=to_offset)
    await connection.execute(
        "INSERT INTO weir.stream_gap (topic, partition, topic_identity, from_offset, to_offset) VALUES (%s, %s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (topic, partition, identity, from_offset, to_offset),
    )
    await raise_alarm(
        connection,
        "stream_gap",
        f"{topic}/{partition}",
        f"offsets {from_offset} to {to_offset} were not in the log any more; lengthen the topic's retention",
    )
