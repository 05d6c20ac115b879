"""Topics for a broker that has just started, before any other client can reach it.

The embedded broker forgets its topics when it ends, but the devices' clients do not: they reconnect to its port at any
moment and send records for topics that it does not have. It acknowledges those, loses them, and from then on serves
that partition no more. So the topics are made by the very first request on the very first connection, 2 ms after the
port opens; every client asks for the broker's version before it sends records and comes too late. That it was early
enough is checked afterwards.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from schemas.errors import Transient

_POLL_S = 0.0003
_TIMEOUT_S = 5.0
_READ_MS = 1_000
# The Kafka protocol: CreateTopics is request 19; version 2 has no tagged fields. 36 is TOPIC_ALREADY_EXISTS.
_CREATE_TOPICS, _VERSION = 19, 2
_FINE = {0, 36}


def create_first(host: str, port: int, topics: Mapping[str, int]) -> None:
    """Connect as soon as the port opens and make the topics.

    Args:
        host: of the broker.
        port: of the broker.
        topics: partitions by name.

    Raises:
        Transient: the broker did not open its port in time or made not all of them.
    """
    try:
        with _first_connection(host, port) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.sendall(_request(topics))
            errors = _errors(_response(connection))
    except (OSError, struct.error) as error:
        msg = f"the embedded broker did not make its topics ({type(error).__name__}); it is started again"
        raise Transient(msg) from error
    refused = {name: code for name, code in errors.items() if code not in _FINE}
    if refused:
        msg = f"the embedded broker refused topics (Kafka error codes {refused}); it is started again"
        raise Transient(msg)


def require_sound(bootstrap: str, topics: Mapping[str, int]) -> None:
    """Make sure that no partition took a record before its topic was there: it would never serve it.

    Raises:
        Transient: one did; the broker has to be started again.
    """
    partitions = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
    try:
        consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    except KafkaError as error:
        msg = f"no Kafka broker answers at {bootstrap} ({type(error).__name__})"
        raise Transient(msg) from error
    try:
        ends = consumer.end_offsets(partitions)
        for partition in (each for each in partitions if ends[each] > 0):
            consumer.assign([partition])
            consumer.seek(partition, 0)
            if not consumer.poll(timeout_ms=_READ_MS):
                msg = f"partition {partition.partition} of {partition.topic} took a record too early; starting again"
                raise Transient(msg)
    except KafkaError as error:
        msg = f"the embedded broker's partitions could not be read ({type(error).__name__})"
        raise Transient(msg) from error
    finally:
        consumer.close()


def _first_connection(host: str, port: int) -> socket.socket:
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            return socket.create_connection((host, port), timeout=_TIMEOUT_S)
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)


def _request(topics: Mapping[str, int]) -> bytes:
    header = struct.pack(">hhi", _CREATE_TOPICS, _VERSION, 1) + _string("weir")
    each = [_string(name) + struct.pack(">ihii", count, 1, 0, 0) for name, count in topics.items()]
    body = struct.pack(">i", len(each)) + b"".join(each) + struct.pack(">i?", int(_TIMEOUT_S * 1000), False)
    return struct.pack(">i", len(header) + len(body)) + header + body


def _string(text: str) -> bytes:
    return struct.pack(">h", len(text.encode())) + text.encode()


def _response(connection: socket.socket) -> bytes:
    (size,) = struct.unpack(">i", _exactly(connection, 4))
    return _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        if not (more := connection.recv(size - len(received))):
            msg = "the broker closed the connection"
            raise ConnectionError(msg)
        received += more
    return received


def _errors(response: bytes) -> dict[str, int]:
    """Error codes by topic: correlation id, throttle time, then name, code and message of each."""
    (count,), at = struct.unpack_from(">i", response, 8), 12
    errors = {}
    for _ in range(count):
        (length,) = struct.unpack_from(">h", response, at)
        name = response[at + 2 : at + 2 + length].decode()
        code, message = struct.unpack_from(">hh", response, at + 2 + length)
        errors[name] = code
        at += 2 + length + 4 + max(message, 0)
    return errors
