"""Sends refused records to their topics once more: same key, value and headers, marked when the broker has them.

At least once: a record whose mark was lost with the process is sent again, and the store recognises its readings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas.errors import Transient
from sinks.timescale.dead_letters import Filter, Original, Session, mark_replayed, originals

# Of one record; the original topic's own limit is the broker's to enforce.
_MAX_RECORD_BYTES = 64 * 1024 * 1024
_ACK_TIMEOUT_S = 30


@dataclass(slots=True)
class ReplayReport:
    """What a replay did.

    Args:
        records: sent and acknowledged.
        letters: dead letters that stem from them, now marked.
        refused: records that the broker or the protocol does not take, and why.
        interrupted: why the replay ended early, empty if it did not.
    """

    records: int = 0
    letters: int = 0
    refused: list[tuple[Original, str]] = field(default_factory=list)
    interrupted: str = ""


def open_producer(bootstrap: str) -> KafkaProducer:
    """A producer that waits for all replicas.

    Raises:
        Transient: no broker answers.
    """
    try:
        return KafkaProducer(
            bootstrap_servers=bootstrap.split(","),
            acks="all",
            linger_ms=5,
            max_request_size=_MAX_RECORD_BYTES,
            bootstrap_timeout_ms=5_000,
            max_block_ms=15_000,
            request_timeout_ms=10_000,
            delivery_timeout_ms=20_000,
        )
    except (KafkaError, OSError, ValueError) as exc:
        msg = f"no Kafka broker answers at {bootstrap} ({type(exc).__name__}); start it or correct WEIR_KAFKA_BOOTSTRAP"
        raise Transient(msg) from exc


def replay(session: Session, producer: KafkaProducer, which: Filter) -> ReplayReport:
    """Send every record that matches, once each, in the order of their coordinates.

    Args:
        session: of the operator or the writer role.
        producer: with acks from all replicas.
        which: with `up_to_id`, or what is refused again is sent again.
    """
    report = ReplayReport()
    for records in originals(session, which):
        acknowledged = _send(producer, records, report)
        if acknowledged:
            report.letters += mark_replayed(session, acknowledged)
            report.records += len(acknowledged)
        if report.interrupted:
            break
    return report


def _send(producer: KafkaProducer, records: Sequence[Original], report: ReplayReport) -> list[Original]:
    """Send some records and wait for them; returns those that the broker has."""
    pending = []
    for record in records:
        try:
            future = producer.send(record.topic, record.value, record.key, headers=record.headers)
        except (KafkaError, ValueError, TypeError) as exc:
            _note(record, exc, report)
            if report.interrupted:
                break
        else:
            pending.append((record, future))
    return [record for record, future in pending if _is_acknowledged(record, future, report)]


def _is_acknowledged(record: Original, future: object, report: ReplayReport) -> bool:
    try:
        future.get(timeout=_ACK_TIMEOUT_S)  # type: ignore[attr-defined] # kafka-python is untyped
    except KafkaError as exc:
        _note(record, exc, report)
        return False
    return True


def _note(record: Original, error: Exception, report: ReplayReport) -> None:
    """What passes by itself ends the replay, for it would meet every record; anything else is the record's own."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, KafkaError) and error.retriable:
        report.interrupted = f"the broker did not take a record for {record.topic} ({text})"
    else:
        report.refused.append((record, text))
