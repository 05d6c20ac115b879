"""A broker that goes away while it is asked for the ends of a topic is one that will be back."""

from __future__ import annotations

import pytest
from kafka.errors import KafkaTimeoutError

from core.kafka import TopicIdentity
from schemas.errors import Transient
from streams import log_ends


@pytest.mark.parametrize("failure", [KafkaTimeoutError("gone"), ConnectionResetError()])
def test_its_going_away_is_transient(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("core.kafka.describe", lambda *_: {"readings": TopicIdentity("readings", "id", 4)})
    monkeypatch.setattr(log_ends, "topic_ends", fail)

    with pytest.raises(Transient, match="the ends of readings could not be read at here: "):
        log_ends.ask_for_ends("here", "readings")
