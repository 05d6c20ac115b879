"""One group of records to Kafka and the broker's word that it has them (kafka-python 3).

Border: the only module that knows kafka-python, and all that is peculiar about it:

- Its constructor needs a living broker and blocks until there is one or a time-out has passed; so it is called by the
  sending thread, and again as long as it takes.
- A failed batch leaves the idempotent producer in a state that is not always recoverable (a broker that lost its memory
  answers UNKNOWN_PRODUCER_ID, then refuses a new epoch), and later batches may overtake the failed one. So one group is
  in flight at a time, as one batch, and a producer that failed is thrown away.
- `close` raises and leaves its thread behind while records are pending, hence `abandon`.
- `allow_auto_create_topics` is not passed on to its metadata requests. A device must not create the topic: with the
  broker's default number of partitions it would be another topic than the one that Weir creates.
- A TLS handshake has no time-out: a peer that is silent would hold the constructor for ever.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.producer.future import FutureRecordMetadata

from weir_device.errors import DeliveryFailed
from weir_device.wire import Record, sign

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10.0
METADATA_TIMEOUT_S = 2.0
DELIVERY_TIMEOUT_S = 120.0
_POLL_S = 0.2
_ABANDON_TIMEOUT_S = 2.0
_BATCH_BYTES = 1_000_000  # a group (256 KiB, or one record of 900 KiB) is one batch; max_request_size is 1 MiB

_OURS: Mapping[str, object] = {
    "acks": "all",
    "enable_idempotence": True,
    "batch_size": _BATCH_BYTES,
    "linger_ms": 10_000,  # a batch leaves when the group is complete (flush), not when a timer says so
    "delivery_timeout_ms": int(DELIVERY_TIMEOUT_S * 1000),
    "max_block_ms": int(METADATA_TIMEOUT_S * 1000),
}
_DEFAULTS: Mapping[str, object] = {
    "reconnect_backoff_max_ms": 5_000,
    "request_timeout_ms": 60_000,  # the time that a full group may take to be sent: 256 KiB at 35 kbit/s
    "metrics_enabled": False,
}
_RESERVED = frozenset(_OURS) | {
    "bootstrap_servers",
    "bootstrap_timeout_ms",
    "key_serializer",
    "value_serializer",
    "partitioner",
    "retries",
    "max_request_size",
    "transactional_id",
    "kafka_client",
    "allow_auto_create_topics",
}


class _Client(KafkaNetClient):  # type: ignore[misc]  # kafka-python has no types
    """The library's network client, without the last two peculiarities above."""

    def __init__(self, **configs: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(**configs)
        self.cluster.config["allow_auto_create_topics"] = False
        self._net.call_later(configs["bootstrap_timeout_ms"] / 1000 + 1, self._give_up)

    def interrupt(self) -> None:
        """End an attempt to connect, from another thread."""
        with suppress(RuntimeError):  # the attempt has just ended by itself
            self._net.call_soon_threadsafe(self._give_up)

    def _give_up(self) -> None:
        if not self._manager.bootstrapped:
            self._manager.close()


class _Producer(KafkaProducer):  # type: ignore[misc]  # kafka-python has no types
    """A producer that can be thrown away."""

    def abandon(self) -> None:
        """End its thread; what is pending fails, though the broker may have it."""
        self._sender.force_close()
        self._sender.join(_ABANDON_TIMEOUT_S)
        try:
            self.close(timeout=0)
        except KafkaTimeoutError:
            log.warning("a Kafka producer did not end within %s s; its thread is left to itself", _ABANDON_TIMEOUT_S)


class KafkaLink:
    """Delivers groups for one device; used by one thread.

    Args:
        device_id: `weir-device` header of every record, and the key of those that bring none.
        secret: signs them.
        bootstrap_servers: host:port of one or more brokers.
        topic: where to.
        kafka_options: further KafkaProducer settings, for TLS, SASL, compression and the like.
        connect_timeout_s: of one attempt; the next one follows.

    Raises:
        ValueError: an option is unknown, or one that delivery depends on.
    """

    def __init__(
        self,
        *,
        device_id: str,
        secret: str,
        bootstrap_servers: Sequence[str],
        topic: str,
        kafka_options: Mapping[str, object] | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        options = kafka_options or {}
        _check_options(options)
        self._key = device_id.encode()
        self._secret = secret.encode()
        self._topic = topic
        self._config = {
            **_DEFAULTS,
            **options,
            **_OURS,
            "bootstrap_servers": list(bootstrap_servers),
            "bootstrap_timeout_ms": int(connect_timeout_s * 1000),
            "kafka_client": self._new_client,
        }
        self._client: _Client | None = None
        self._producer: _Producer | None = None

    def deliver(self, records: Sequence[Record], gives_up: Callable[[], bool]) -> None:
        """Send records, in order, and return once all are acknowledged by all in-sync replicas.

        Raises:
            DeliveryFailed: some may have arrived, some may not; send all of them again.
        """
        try:
            producer = self._connected()
            if gives_up():
                msg = "stopped before anything was sent"
                raise DeliveryFailed(msg)
            futures = [self._send(producer, record) for record in records]
            _wait(producer, gives_up)
            for future in futures:
                if future.failed():
                    raise future.exception
        except (KafkaError, OSError, ValueError) as exc:  # ValueError: the topic's partitions went away meanwhile
            self.close()
            raise DeliveryFailed(_described(exc)) from exc

    def close(self) -> None:
        """Let the producer go, if there is one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.abandon()

    def interrupt(self) -> None:
        """End a waiting `deliver` soon, from another thread."""
        if self._client is not None:
            self._client.interrupt()

    def _connected(self) -> _Producer:
        """The producer; its sockets are closed if there is none, instead of being left to the garbage collector."""
        if self._producer is None:
            try:
                self._producer = _Producer(**self._config)
            except BaseException:
                if self._client is not None:
                    self._client.close()
                raise
        return self._producer

    def _new_client(self, **configs: object) -> _Client:
        self._client = _Client(**configs)
        return self._client

    def _send(self, producer: _Producer, record: Record) -> FutureRecordMetadata:
        key = self._key if record.key is None else record.key
        signature = sign(self._secret, key, record.value)
        headers = [
            ("weir-device", self._key),
            ("weir-signature", signature.encode()),
            ("content-type", record.content_type.encode()),
        ]
        return producer.send(self._topic, record.value, key=key, headers=headers)


def _wait(producer: _Producer, gives_up: Callable[[], bool]) -> None:
    """Until everything sent has an outcome.

    Raises:
        KafkaTimeoutError: the publisher is being closed, or the producer is stuck.
    """
    deadline = time.monotonic() + DELIVERY_TIMEOUT_S + CONNECT_TIMEOUT_S
    while True:
        try:
            producer.flush(timeout=_POLL_S)
        except KafkaTimeoutError:
            if gives_up() or time.monotonic() > deadline:
                raise
        else:
            return


def _described(exc: Exception) -> str:
    return str(exc) if isinstance(exc, KafkaError) else f"{type(exc).__name__}: {exc}"  # the former name themselves


def _check_options(options: Mapping[str, object]) -> None:
    reserved = sorted(set(options) & _RESERVED)
    unknown = sorted(set(options) - set(KafkaProducer.DEFAULT_CONFIG))
    if reserved:
        msg = f"kafka_options must not set {', '.join(reserved)}: order and delivery depend on it"
        raise ValueError(msg)
    if unknown:
        msg = f"kafka_options has {', '.join(unknown)}, which KafkaProducer does not know"
        raise ValueError(msg)
