"""What the doctor says of what it saw."""

from __future__ import annotations

import pytest

from core.kafka import TopicIdentity
from core.postgres import DatabaseRole
from ops.findings import (
    Finding,
    Stand,
    judge_alarms,
    judge_clock,
    judge_objects,
    judge_positions,
    judge_roles,
    judge_secret_key,
    judge_server,
    judge_topics,
    judge_workers,
)

READINGS = TopicIdentity("readings", "id-1", 2)


def stand(partition: int, next_offset: int, identity: str = "id-1") -> Stand:
    return Stand("readings", partition, next_offset, identity)


def lines(findings: list[Finding]) -> list[str]:
    return [str(finding) for finding in findings]


def test_a_line_says_at_its_start_whether_something_is_to_be_done() -> None:
    assert str(judge_secret_key("k" * 32)) == "ok   settings   WEIR_SECRET_KEY is set"
    assert str(judge_secret_key("")).startswith("BAD  settings   WEIR_SECRET_KEY is not set; set it to a random text")


def test_a_short_secret_key_is_refused_without_showing_it() -> None:
    finding = judge_secret_key("hunter2")

    assert not finding.ok
    assert finding.sentence == "WEIR_SECRET_KEY has 7 characters; expected at least 32"


@pytest.mark.parametrize(
    ("version", "extension", "ok", "sentence"),
    [
        (180006, None, True, "PostgreSQL 18.6 without TimescaleDB answers at h:1/d"),
        (170002, "2.29.2", True, "PostgreSQL 17.2 with TimescaleDB 2.29.2 answers at h:1/d"),
        (
            150018,
            None,
            False,
            "PostgreSQL 15.18 without TimescaleDB answers at h:1/d; expected PostgreSQL 16 or newer: upgrade it",
        ),
    ],
)
def test_the_server_s_version(version: int, extension: str | None, ok: bool, sentence: str) -> None:
    assert judge_server(version, extension, "h:1/d") == Finding(ok, "database", sentence)


def test_a_login_without_a_role_is_told_how_to_get_one() -> None:
    assert judge_roles("app", [DatabaseRole.WRITER, DatabaseRole.READER]) == Finding(
        True, "login", "app may work as weir_writer, weir_reader"
    )
    assert judge_roles("app", []) == Finding(
        False, "login", "app is a member of no role of Weir's; run `weir migrate`, then GRANT weir_writer TO app"
    )


@pytest.mark.parametrize(
    ("skew_ms", "uncertain_ms", "ok"),
    [(0, 1, True), (1000, 0, True), (-1001, 0, False), (1001, 1, True), (1500, 400, False)],
)
def test_clocks_may_differ_by_a_second_beyond_what_asking_took(skew_ms: float, uncertain_ms: float, ok: bool) -> None:
    assert judge_clock(skew_ms, uncertain_ms).ok is ok


def test_missing_topics_are_named() -> None:
    found = {"readings": READINGS}

    assert judge_topics(["readings"], found) == Finding(True, "topics", "readings (2) exist (partitions)")
    assert judge_topics(["readings", "alerts", "usage"], found) == Finding(
        False, "topics", "alerts, usage are missing; start `weir worker`, which makes them, or make them yourself"
    )


class TestPositions:
    def test_lag_is_the_distance_to_the_end_of_the_log(self) -> None:
        found = judge_positions([stand(0, 90), stand(1, 40)], READINGS, {0: 100, 1: 70}, max_lag=30)

        # 100 - 90 = 10 and 70 - 40 = 30
        assert lines(found) == [
            "ok   lag        40 records are waiting in 2 partitions of readings, most of them 30 in partition 1"
        ]

    def test_a_partition_too_far_behind_is_bad(self) -> None:
        (lag,) = judge_positions([stand(0, 0)], READINGS, {0: 31}, max_lag=30)

        assert not lag.ok
        assert lag.sentence.endswith("most of them 31 in partition 0; expected at most 30: start more workers")

    def test_a_topic_that_was_made_anew_is_noticed(self) -> None:
        found = judge_positions([stand(0, 5, "id-0")], READINGS, {0: 9}, max_lag=30)

        assert lines(found) == [
            "BAD  positions  partition 0 of readings: the topic was made anew since; start `weir worker`, which begins it at 0",
            "BAD  lag        unknown: no position fits readings; start `weir worker`",
        ]

    def test_a_log_that_ends_before_the_position_has_lost_data(self) -> None:
        first, *_ = judge_positions([stand(0, 12)], READINGS, {0: 9}, max_lag=30)

        assert not first.ok
        assert "the log ends 3 records before the position" in first.sentence  # 12 - 9

    def test_no_position_at_all_asks_for_a_worker(self) -> None:
        (only,) = judge_positions([], READINGS, {0: 0}, max_lag=30)

        assert only == Finding(False, "positions", "no worker ever took up readings; start `weir worker`")

    def test_without_the_topic_there_is_nothing_to_compare(self) -> None:
        assert judge_positions([stand(0, 5)], None, {}, max_lag=30) == []


def test_only_workers_that_reported_lately_count() -> None:
    assert judge_workers({"w2": 9.9, "w1": 0.1, "old": 11.0}) == Finding(True, "workers", "w1, w2 reported within 10 s")
    assert judge_workers({"old": 11.0}) == Finding(False, "workers", "none has reported for 10 s; start `weir worker`")


def test_open_alarms_are_counted_by_kind() -> None:
    assert judge_alarms({}).ok
    assert judge_alarms({"refusals": 2, "gap": 1}) == Finding(
        False, "alarms", "open: 1 gap, 2 refusals; `weir alarms list` says what to look at"
    )


def test_an_object_store_without_room_for_the_next_scans() -> None:
    assert str(judge_objects("/data", 5 << 30)) == (
        "ok   objects    /data takes, gives and removes objects, 5.0 GiB of its disk are free"
    )
    assert judge_objects("s3://bucket", None).ok
    full = judge_objects("/data", (2 << 30) - 1)
    assert not full.ok
    assert full.sentence.endswith("2.0 GiB of its disk are free; expected 2: make room, or move it to a larger disk")
