"""The broker that `weir up` and the tests bring along."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.kafka import describe, ensure_topics
from ops.embedded.broker import EmbeddedBroker
from ops.embedded.lifeline import processes_marked, wait_until
from ops.embedded.ports import accepts_connections

pytestmark = pytest.mark.integration


def test_it_answers_kafka_clients_and_forgets_its_topics_when_it_dies(tmp_path: Path) -> None:
    with EmbeddedBroker(log_file=tmp_path / "broker.log") as broker:
        ensure_topics(broker.bootstrap, "", 4)
        before = describe(broker.bootstrap, ["readings"])["readings"]

        broker.kill()
        broker.start()

        assert describe(broker.bootstrap, ["readings"]) == {}
        ensure_topics(broker.bootstrap, "", 4)
        after = describe(broker.bootstrap, ["readings"])["readings"]
    assert before.partitions == after.partitions == 4
    assert before.identity != after.identity


def test_it_keeps_its_port_across_restarts() -> None:
    broker = EmbeddedBroker()
    broker.start()
    first = broker.bootstrap
    broker.stop()
    assert not accepts_connections(broker.port)

    with broker:
        assert broker.bootstrap == first
    with EmbeddedBroker(port=broker.port) as another:
        assert another.bootstrap == first


def test_it_takes_another_port_when_its_own_is_taken() -> None:
    with EmbeddedBroker() as one, EmbeddedBroker(port=one.port) as other:
        assert one.port != other.port


def test_its_port_lies_below_those_that_clients_are_given() -> None:
    broker = EmbeddedBroker()
    broker.prepare()

    # 32768 is where Linux begins to hand out ports to connecting clients.
    assert 15_000 <= broker.port < 32_768


def test_nothing_is_left_of_it_after_stop() -> None:
    with EmbeddedBroker() as broker:
        url = f"tcp://{broker.bootstrap}"
        assert processes_marked(url)

    assert wait_until(lambda: not processes_marked(url), 5.0)
