"""Where the log of each partition ends, exactly, on every broker.

The embedded broker answers a ListOffsets request for the end with the place behind the *first* record of the last batch. The
high watermark of its Fetch answers is right, so the last batch is fetched as well.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaTimeoutError

_TIMEOUT_S = 5.0
_POLL_MS = 10


def open_consumer(bootstrap: str) -> KafkaConsumer:
    """A consumer for `log_ends`, without a group.

    Raises:
        KafkaError: no broker answers.
    """
    return KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False, fetch_max_wait_ms=_POLL_MS)


def log_ends(consumer: KafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset that the next record of each partition will get.

    Raises:
        KafkaError: the broker does not tell.
    """
    wanted = list(partitions)
    ends: dict[TopicPartition, int] = dict(consumer.end_offsets(wanted))
    starts = consumer.beginning_offsets(wanted)
    unsure = {partition: end for partition, end in ends.items() if end > starts[partition]}
    consumer.assign([])  # forgets earlier high watermarks
    consumer.assign(wanted)  # the sure ones too: the client keeps up the metadata of assigned topics only
    for partition in wanted:
        consumer.seek(partition, max(starts[partition], ends[partition] - 1))
    deadline_s = time.monotonic() + _TIMEOUT_S
    while waiting := [partition for partition in unsure if consumer.highwater(partition) is None]:
        if time.monotonic() > deadline_s:
            msg = f"the broker did not tell the end of {waiting[0].topic} partition {waiting[0].partition}"
            raise KafkaTimeoutError(msg)
        consumer.poll(timeout_ms=_POLL_MS)
    return ends | {partition: max(end, consumer.highwater(partition)) for partition, end in unsure.items()}


def topic_ends(bootstrap: str, topic: str, partitions: int) -> dict[int, int]:
    """The end of every partition of a topic, asked by a consumer of its own.

    Raises:
        KafkaError: no broker answers, or it does not tell.
    """
    with closing(open_consumer(bootstrap)) as consumer:
        ends = log_ends(consumer, [TopicPartition(topic, number) for number in range(partitions)])
    return {each.partition: end for each, end in ends.items()}
