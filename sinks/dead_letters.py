"""Dead letters on the writing side: what was refused, with its bytes, its coordinates and why.

Every refusal is counted. A device that floods keeps its first `kept_per_minute` refusals of a minute with their bytes;
past that every `sampled_every`-th is kept, so a flood cannot fill the disk nor stop the partition (promise 5 holds: the
count, the offsets' range and samples stay, and the log itself still has the rest). Everybody who cannot prove to be a
device shares one such allowance, because a claimed device id costs nothing.
"""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from core.postgres import Connection
from schemas.errors import Reason

UNVERIFIED = "(unverified)"
_MINUTE_MS = 60_000
_MAX_TEXT = 200


class Record(Protocol):
    """A Kafka record as the transport hands it over."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused record (`index` None) or one refused reading of it."""

    record: Record
    index: int | None
    sensor: str | None
    reason: Reason
    detail: str
    # As the record claims it; proven only where `tenant_id` is set.
    device_id: str | None
    tenant_id: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a batch came from."""

    topic: str
    partition: int
    identity: str


@dataclass(slots=True)
class RefusalCount:
    """Refusals of one device for one reason within one batch."""

    tenant_id: str | None
    refused: int = 0
    kept: int = 0
    first_offset: int = 0
    last_offset: int = 0


@dataclass(slots=True)
class Selection:
    """What of a batch's refusals is kept with bytes, and how many there were."""

    kept: list[Refusal]
    counts: dict[tuple[str, Reason], RefusalCount]
    total: int
    flooding: list[str]


class Throttle:
    """Decides which refusals keep their bytes; state is this process's, a restart only makes it more generous."""

    def __init__(self, kept_per_minute: int, sampled_every: int, alarm_per_minute: int) -> None:
        self._allowance = kept_per_minute
        self._sampled_every = sampled_every
        self._alarm = alarm_per_minute
        self._minute = -1
        self._seen: dict[str, int] = defaultdict(int)

    def select(self, refusals: Sequence[Refusal], now_ms: int) -> Selection:
        """Count every refusal, keep the allowed ones."""
        if now_ms // _MINUTE_MS != self._minute:
            self._minute = now_ms // _MINUTE_MS
            self._seen.clear()
        before = dict(self._seen)
        kept: list[Refusal] = []
        counts: dict[tuple[str, Reason], RefusalCount] = {}
        for refusal in refusals:
            # One verified device, or everybody who is none.
            source = refusal.device_id if refusal.tenant_id and refusal.device_id else UNVERIFIED
            self._seen[source] += 1
            seen = self._seen[source]
            count = counts.setdefault(
                (source, refusal.reason), RefusalCount(refusal.tenant_id, first_offset=refusal.record.offset)
            )
            count.refused += 1
            count.last_offset = refusal.record.offset
            if seen <= self._allowance or seen % self._sampled_every == 0:
                count.kept += 1
                kept.append(refusal)
        flooding = [name for name, seen in self._seen.items() if before.get(name, 0) < self._alarm <= seen]
        return Selection(kept, counts, len(refusals), flooding)


async def write_refusals(
    connection: Connection, source: Source, selection: Selection, refused_at: datetime, dead_letter_topic: str
) -> None:
    """Write kept dead letters, their records, the outbox rows and all counts in the batch's transaction."""
    await _write_records(connection, source, selection.kept)
    await _write_letters(connection, source, selection.kept, refused_at)
    await _write_outbox(connection, source, selection.kept, dead_letter_topic)
    await _write_counts(connection, source, selection, refused_at)
    for device_id in selection.flooding:
        await raise_alarm(
            connection,
            "refusal_flood",
            device_id,
            "this source exceeds the refusals a minute that WEIR_REFUSALS_ALARM_PER_MINUTE allows",
        )


async def _write_records(connection: Connection, source: Source, kept: Sequence[Refusal]) -> None:
    records = {refusal.record.offset: refusal.record for refusal in kept}
    async with connection.cursor() as cursor:
        await cursor.executemany(
            'INSERT INTO weir.dead_letter_record (topic, topic_identity, partition, "offset", key, value, headers,'
            " broker_timestamp_ms) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
            [
                (
                    source.topic,
                    source.identity,
                    source.partition,
                    record.offset,
                    record.key,
                    record.value,
                    json.dumps(_encode_headers(record.headers)),
                    record.timestamp,
                )
                for record in records.values()
            ],
        )


def _encode_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, str]]:
    return [(clean(name) or "", base64.b64encode(value or b"").decode()) for name, value in headers]


async def _write_letters(connection: Connection, source: Source, kept: Sequence[Refusal], refused_at: datetime) -> None:
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO weir.dead_letter (tenant_id, device_id, sensor, reason, detail, topic, topic_identity, partition,"
            ' "offset", index, refused_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING',
            [
                (
                    refusal.tenant_id,
                    clean(refusal.device_id),
                    clean(refusal.sensor),
                    refusal.reason.value,
                    clean(refusal.detail),
                    source.topic,
                    source.identity,
                    source.partition,
                    refusal.record.offset,
                    refusal.index,
                    refused_at,
                )
                for refusal in kept
            ],
        )


async def _write_outbox(
    connection: Connection, source: Source, kept: Sequence[Refusal], dead_letter_topic: str
) -> None:
    """One record on the dead-letters topic for each refused record, with Kafka Connect's error headers."""
    first: dict[int, Refusal] = {}
    for refusal in kept:
        first.setdefault(refusal.record.offset, refusal)
    if not first:
        return
    async with (
        connection.cursor() as cursor,
        cursor.copy("COPY weir.topic_outbox (topic, key, value, headers) FROM STDIN") as copy,
    ):
        for refusal in first.values():
            headers = [*_encode_headers(refusal.record.headers), *_encode_headers(_connect_headers(source, refusal))]
            await copy.write_row((dead_letter_topic, refusal.record.key, refusal.record.value, json.dumps(headers)))


def _connect_headers(source: Source, refusal: Refusal) -> list[tuple[str, bytes]]:
    return [
        ("__connect.errors.topic", source.topic.encode()),
        ("__connect.errors.partition", str(source.partition).encode()),
        ("__connect.errors.offset", str(refusal.record.offset).encode()),
        ("__connect.errors.stage", b"VALUE_CONVERTER"),
        ("__connect.errors.class.name", b"weir.streams.readings"),
        ("__connect.errors.exception.class.name", refusal.reason.value.encode()),
        ("__connect.errors.exception.message", refusal.detail.encode("utf-8", "replace")),
    ]


async def _write_counts(connection: Connection, source: Source, selection: Selection, refused_at: datetime) -> None:
    rows = sorted(selection.counts.items(), key=lambda item: (item[0][0], item[0][1].value))
    minute = refused_at.replace(second=0, microsecond=0)
    await connection.execute(
        "INSERT INTO weir.refusal_count AS c (minute, topic, partition, device_id, reason, tenant_id, refused, kept,"
        " first_offset, last_offset) SELECT %s, %s, %s, q.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[],"
        " %s::bigint[], %s::bigint[], %s::bigint[]) AS q ON CONFLICT (minute, device_id, reason, topic, partition) DO UPDATE SET"
        " refused = c.refused + EXCLUDED.refused, kept = c.kept + EXCLUDED.kept, last_offset = EXCLUDED.last_offset",
        (
            minute,
            source.topic,
            source.partition,
            [clean(device_id) for (device_id, _), _ in rows],
            [reason.value for (_, reason), _ in rows],
            [count.tenant_id for _, count in rows],
            [count.refused for _, count in rows],
            [count.kept for _, count in rows],
            [count.first_offset for _, count in rows],
            [count.last_offset for _, count in rows],
        ),
    )


async def raise_alarm(connection: Connection, kind: str, subject: str, detail: str) -> None:
    """Open an operator alarm, or note that it still holds."""
    await connection.execute(
        "INSERT INTO weir.operator_alarm AS a (kind, subject, detail) VALUES (%s, %s, %s)"
        " ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO UPDATE SET last_seen_at = now(), detail = EXCLUDED.detail",
        (kind, clean(subject), clean(detail)),
    )


async def close_alarms(connection: Connection, kind: str, but: Sequence[str]) -> None:
    """Close the alarms of a kind, but not those of these subjects."""
    await connection.execute(
        "UPDATE weir.operator_alarm SET closed_at = now() WHERE kind = %s AND closed_at IS NULL AND subject <> ALL (%s)",
        (kind, list(but)),
    )


def clean(text: str | None) -> str | None:
    """Text that PostgreSQL and a terminal can hold: no control characters, bounded."""
    if text is None:
        return None
    shown = text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
    return "".join(char if char.isprintable() else "�" for char in shown)
