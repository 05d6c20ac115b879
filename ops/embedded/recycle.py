"""Replaces the embedded broker when it has grown: it keeps every record in memory and deletes none.

It may only go while nothing waits in it, and a record that it acknowledges must not go with it. So it is frozen first
and killed only if, since before the question whether all is committed, it has sent not a byte to any other process:
whatever it took in meanwhile was never acknowledged, and its sender will send it again.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg
from kafka import KafkaAdminClient, TopicPartition

from core.log_ends import log_ends, open_consumer
from ops.embedded.lifeline import send, wait_until
from ops.embedded.traffic import bytes_sent, own_ports

_FREEZE_S = 1.0


class Ledger:
    """Compares the ends of the devices' topics with the positions in the database.

    Its connections stay open until it is closed, so that they can be told from other processes'.

    Args:
        bootstrap: of the broker.
        database_url: of a login that may read the view `stream_positions`.
        topics: those that devices write to.
    """

    def __init__(self, bootstrap: str, database_url: str, topics: Sequence[str]) -> None:
        self._topics = list(topics)
        with ExitStack() as opened:
            self._admin = KafkaAdminClient(bootstrap_servers=bootstrap)
            opened.callback(self._admin.close)
            self._consumer = open_consumer(bootstrap)
            opened.callback(self._consumer.close)
            self._database = psycopg.connect(database_url, autocommit=True)
            opened.callback(self._database.close)
            self._opened = opened.pop_all()

    def nothing_waits(self) -> bool:
        """Whether every record that the broker has was committed."""
        committed = {
            (topic, partition, identity): next_offset
            for topic, partition, identity, next_offset in self._database.execute(
                "SELECT topic, partition, topic_identity, next_offset FROM stream_positions"
            )
        }
        described = self._admin.describe_topics(self._topics)
        identities = {row["name"]: str(row["topic_id"]) for row in described}
        partitions = [
            TopicPartition(row["name"], number) for row in described for number in range(len(row["partitions"]))
        ]
        ends = log_ends(self._consumer, partitions)
        return all(
            committed.get((each.topic, each.partition, identities[each.topic]), 0) >= end for each, end in ends.items()
        )

    def close(self) -> None:
        """Give up the connections."""
        self._opened.close()


def memory_mib(pid: int) -> int:
    """Resident memory of a process; 0 where there is no /proc or no such process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    lines = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    return int(lines[0]) // 1024 if lines else 0


def freeze_if_idle(pid: int, port: int, nothing_waits: Callable[[], bool]) -> bool:
    """Stop the broker's process if it can be killed without loss; else leave it running.

    Args:
        pid: of the broker.
        port: where it listens.
        nothing_waits: asks broker and database whether every record is committed.

    Returns:
        Whether it is frozen now; the caller kills it.

    Raises:
        OSError: the kernel does not tell what was sent.
    """
    if not nothing_waits():  # also opens the connections that it takes
        return False
    before = bytes_sent(port)
    if not nothing_waits():
        return False
    send(pid, signal.SIGSTOP)
    if wait_until(lambda: _is_frozen(pid), _FREEZE_S) and _nobody_heard(before, bytes_sent(port)):
        return True
    send(pid, signal.SIGCONT)
    return False


def _nobody_heard(before: dict[int, int], after: dict[int, int]) -> bool:
    """Whether no connection but ours got a byte; one that is gone by now may have."""
    ours = own_ports()
    clients = (before.keys() | after.keys()) - ours
    return all(client in after and after[client] == before.get(client, 0) for client in clients)


def _is_frozen(pid: int) -> bool:
    """Whether every thread has stopped."""
    tasks = list(Path(f"/proc/{pid}/task").glob("*/stat"))
    return all(task.read_text().rpartition(")")[2].split()[0] == "T" for task in tasks)
