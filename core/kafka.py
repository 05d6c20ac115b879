"""Kafka from the outside: topic names, creating topics, topic identities, offsets of the log.

Administration goes through kafka-python (blocking, so callers in an event loop use a thread); the stream itself is
read by Faust in `streams`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from schemas.errors import Transient

_BOOTSTRAP_MS = 5_000
# A legal record has up to 1 MiB of value, and a stock broker's limit counts key, headers and batch as well. What is larger
# should still arrive, so that it becomes a dead letter with its bytes rather than an error that only the device sees.
_TOPIC_SETTINGS = {"max.message.bytes": str(8 * 1024 * 1024)}


class Topic(StrEnum):
    """The topics of INTERFACES §3, without the prefix of the settings."""

    READINGS = "readings"
    SCAN_FRAMES = "scan-frames"
    ALERTS = "alerts"
    USAGE = "usage"
    DEAD_LETTERS = "dead-letters"


@dataclass(frozen=True, slots=True)
class TopicIdentity:
    """A topic as the broker knows it; the identity changes when the topic is deleted and made again."""

    name: str
    identity: str
    partitions: int


def topic_name(prefix: str, topic: Topic) -> str:
    """The broker's name of a topic."""
    return f"{prefix}{topic.value}"


def _admin(bootstrap: str) -> KafkaAdminClient:
    try:
        return KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","), bootstrap_timeout_ms=_BOOTSTRAP_MS, request_timeout_ms=10_000
        )
    except (KafkaError, OSError, ValueError) as exc:
        msg = f"no Kafka broker answers at {bootstrap} ({type(exc).__name__}); start it or correct WEIR_KAFKA_BOOTSTRAP"
        raise Transient(msg) from exc


def ensure_topics(bootstrap: str, prefix: str, partitions: int, replication: int = 1) -> None:
    """Create the topics that do not exist yet.

    Raises:
        Transient: no broker answers.
    """
    admin = _admin(bootstrap)
    try:
        missing = sorted({topic_name(prefix, topic) for topic in Topic} - set(admin.list_topics()))
        for name in missing:
            _create(admin, name, partitions, replication)
        if missing:
            # Created is not yet usable: metadata and leaders follow, on Apache Kafka sometimes seconds later.
            admin.wait_for_topics(missing)
    except (KafkaError, OSError) as exc:
        msg = f"topics could not be created at {bootstrap}: {type(exc).__name__}"
        raise Transient(msg) from exc
    finally:
        admin.close()


def _create(admin: KafkaAdminClient, name: str, partitions: int, replication: int) -> None:
    try:
        settings = {"num_partitions": partitions, "replication_factor": replication, "configs": dict(_TOPIC_SETTINGS)}
        admin.create_topics({name: settings})
    except TopicAlreadyExistsError:
        return  # another process was faster


def describe(bootstrap: str, names: Sequence[str]) -> dict[str, TopicIdentity]:
    """Identities of the topics that exist.

    Raises:
        Transient: no broker answers.
    """
    admin = _admin(bootstrap)
    try:
        rows = admin.describe_topics(list(names))
    except (KafkaError, OSError) as exc:
        msg = f"topics could not be described at {bootstrap}: {type(exc).__name__}"
        raise Transient(msg) from exc
    finally:
        admin.close()
    return {
        row["name"]: TopicIdentity(row["name"], str(row["topic_id"]), len(row["partitions"]))
        for row in rows
        if row["error_code"] == 0
    }
