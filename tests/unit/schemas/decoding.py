"""What a decoded batch says, as plain values that can be compared."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas.errors import Reason
from schemas.readings import DecodedBatch, decode_batch

JSON, MSGPACK, SENML = "application/json", "application/msgpack", "application/senml+json"

EIGHT_PM = 1_795_377_600_000  # 2026-11-22T20:00:00Z
READING = {"sensor": "air", "at": "2026-11-22T20:00:00.000Z", "value": 3.8, "seq": 17}

DOCUMENTED = (
    b'{"readings": [{"sensor": "air", "at": "2026-11-22T20:00:00.000Z", "value": 3.8, "seq": 17}],'
    b' "sent_at": "2026-11-22T20:00:01.000Z"}'
)


class Row(NamedTuple):
    record: int
    reading: int
    sensor: str
    at_ms: int
    value: float
    seq: int


AIR = Row(0, 0, "air", EIGHT_PM, 3.8, 17)
"""What is read of DOCUMENTED."""


class Refused(NamedTuple):
    record: int
    reading: int | None
    sensor: str | None
    reason: Reason


def rows(batch: DecodedBatch) -> list[Row]:
    columns = (batch.record, batch.index, batch.at_ms, batch.value, batch.seq)
    record, index, at_ms, value, seq = (column.tolist() for column in columns)
    return [Row(*row) for row in zip(record, index, batch.sensor, at_ms, value, seq, strict=True)]


def refusals(batch: DecodedBatch) -> list[Refused]:
    whole = [Refused(refusal.record, None, None, refusal.reason) for refusal in batch.record_refusals]
    single = [Refused(each.record, each.index, each.sensor, each.reason) for each in batch.reading_refusals]
    return whole + single


def decode(value: bytes, content_type: str | None = None) -> DecodedBatch:
    return decode_batch([value], [content_type])


def decode_readings(*readings: object) -> DecodedBatch:
    return decode(msgspec.json.encode({"readings": readings}))


def whole_record_refused(value: bytes, content_type: str | None = None) -> Reason:
    """The reason, after making sure that nothing else came of the record."""
    batch = decode(value, content_type)
    [refusal] = batch.record_refusals
    assert rows(batch) == []
    assert batch.reading_refusals == []
    assert refusal.record == 0
    return refusal.reason
