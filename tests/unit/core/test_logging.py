"""Logs while a server is away: one line a minute, with the remedy."""

from __future__ import annotations

import logging

import pytest
import structlog

from core.logging import Repeats, SparingLibraries, sparing_events


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Hand:
    return Hand()


def said(filter_: SparingLibraries, name: str, message: str, *arguments: object) -> str | None:
    record = logging.LogRecord(name, logging.WARNING, "file", 1, message, arguments, None)
    return record.getMessage() if filter_.filter(record) else None


def test_a_pool_says_once_a_minute_that_the_database_is_away_and_what_to_do(clock: Hand) -> None:
    filter_ = SparingLibraries(Repeats(clock))

    first = said(filter_, "psycopg.pool", "error connecting in %r: %s", "pool-1", "refused")
    assert first == (
        "error connecting in 'pool-1': refused; the database is away or refuses connections;"
        " start it or correct WEIR_DATABASE_URL"
    )
    assert said(filter_, "psycopg.pool", "reconnection attempt in pool %r failed", "pool-1") is None
    clock.now_s += 59.9
    assert said(filter_, "psycopg.pool", "discarding broken connection: %s", "c") is None
    clock.now_s += 0.1
    again = said(filter_, "psycopg.pool", "error connecting in %r: %s", "pool-1", "refused")
    assert again is not None
    assert again.endswith("(2 more like it since the last)")


def test_different_troubles_of_a_broker_are_each_said(clock: Hand) -> None:
    filter_ = SparingLibraries(Repeats(clock))

    assert "WEIR_KAFKA_BOOTSTRAP" in str(said(filter_, "aiokafka.client", "Unable connect to node with id %s", 1))
    assert said(filter_, "aiokafka.client", "Unable connect to node with id %s", 2) is None
    assert said(filter_, "aiokafka.client", "Unable to update metadata from %s", [1]) is not None


def test_an_embedded_broker_without_producer_identities_is_no_error(clock: Hand) -> None:
    message = "Unexpected error during InitProducerIdRequest: %s"

    assert said(SparingLibraries(Repeats(clock)), "aiokafka.producer.sender", message, "e") is None


def test_what_strangers_make_the_server_say_is_a_warning_without_traceback_once_a_minute(clock: Hand) -> None:
    filter_ = SparingLibraries(Repeats(clock))
    message = "Invalid UTF-8 sequence received from client."
    fault = (ValueError, ValueError("invalid"), None)
    records = [logging.LogRecord("uvicorn.error", logging.ERROR, "file", 1, message, (), fault) for _ in range(2)]

    assert [filter_.filter(record) for record in records] == [True, False]
    assert (records[0].levelname, records[0].exc_info) == ("WARNING", None)
    assert records[0].getMessage() == f"{message}; a client sent it"
    assert said(filter_, "uvicorn.error", "Invalid HTTP request received.") is not None


def test_other_libraries_are_let_through(clock: Hand) -> None:
    filter_ = SparingLibraries(Repeats(clock))

    assert [said(filter_, "procrastinate", "late") for _ in range(2)] == ["late", "late"]


def test_our_own_events_of_something_away_are_said_once_in_the_same_words(clock: Hand) -> None:
    process = sparing_events(Repeats(clock))
    away = {"event": "relay.database_away", "error": "OperationalError"}

    assert process(None, "warning", dict(away)) == away
    with pytest.raises(structlog.DropEvent):
        process(None, "warning", dict(away))
    assert process(None, "warning", away | {"error": "PoolTimeout"}) == away | {"error": "PoolTimeout"}
    assert process(None, "info", {"event": "batch"}) == process(None, "info", {"event": "batch"})
    clock.now_s += 60.0
    assert process(None, "warning", dict(away)) == away | {"unsaid": 1}
