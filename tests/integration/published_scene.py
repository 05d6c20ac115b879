"""What a topic holds, read with confluent-kafka."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from tests.integration.conftest import PARTITIONS

SECRET = "sésame"
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as the broker has it."""

    partition: int
    key: bytes
    value: bytes
    headers: dict[str, bytes]

    @property
    def readings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.value)["readings"]
        return found


def stored(bootstrap: str, topic: str) -> list[Stored]:
    """All records of a topic; those of one partition in order.

    Up to where a fetch says the end is: the embedded broker's answer to "latest offset" ends within the last batch.
    """
    settings = {
        "group.id": "reader",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,
    }
    consumer = Consumer({"bootstrap.servers": bootstrap, **settings})
    try:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)])
        return list(_until_the_end(consumer, PARTITIONS))
    finally:
        consumer.close()


def _until_the_end(consumer: Consumer, partitions: int) -> Iterator[Stored]:
    deadline = time.monotonic() + DEADLINE_S
    while partitions:
        assert time.monotonic() < deadline
        message = consumer.poll(1.0)
        if message is None:
            continue
        if (error := message.error()) is not None:
            assert error.code() == KafkaError._PARTITION_EOF
            partitions -= 1
            continue
        number = message.partition()
        assert number is not None
        yield Stored(number, message.key() or b"", message.value() or b"", dict(message.headers() or []))
