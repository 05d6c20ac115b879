"""Readiness: what workers' reports say about partitions and lag."""

from __future__ import annotations

from api.health import assignment_check, lag_check
from sinks.timescale.operations import Heartbeat, Partition


def beat(
    worker: str, *partitions: tuple[int, int, int | None], age_s: float = 1.0, topic: str = "readings"
) -> Heartbeat:
    held = tuple(Partition(topic, number, position, end) for number, position, end in partitions)
    return Heartbeat(worker, age_s, held, {})


class TestAssignment:
    def test_two_workers_hold_all_four(self) -> None:
        fresh = [beat("a", (0, 5, 5), (2, 5, 5)), beat("b", (1, 5, 5), (3, 5, 5))]

        check = assignment_check(fresh, "readings", {0, 1, 2, 3})

        assert check.ok
        assert check.detail == "all partitions are held: 4 by 2 worker(s)"

    def test_a_partition_that_once_had_a_position_and_is_held_by_nobody_is_named(self) -> None:
        check = assignment_check([beat("a", (0, 5, 5))], "readings", {0, 1, 3})

        assert not check.ok
        assert "partitions 1, 3 of readings" in check.detail

    def test_no_worker_says_so_and_what_to_do(self) -> None:
        check = assignment_check([], "readings", set())

        assert not check.ok
        assert "start `weir worker`" in check.detail

    def test_a_worker_that_holds_nothing_yet_is_not_ready(self) -> None:
        assert not assignment_check([beat("a")], "readings", set()).ok

    def test_another_topics_partitions_do_not_count(self) -> None:
        assert not assignment_check([beat("a", (0, 5, 5), topic="scan-frames")], "readings", {0}).ok


class TestLag:
    def test_the_worst_partition_decides(self) -> None:
        fresh = [beat("a", (0, 90, 100)), beat("b", (1, 0, 101))]

        assert lag_check(fresh, "readings", 101).ok
        behind = lag_check(fresh, "readings", 100)
        assert not behind.ok
        assert behind.detail == "partition 1 is 101 records behind, at most 100 are fine"

    def test_of_two_reports_on_a_partition_the_fresher_counts(self) -> None:
        fresh = [beat("new", (0, 100, 100), age_s=1.0), beat("old", (0, 0, 100), age_s=8.0)]

        assert lag_check(fresh, "readings", 10).ok

    def test_unknown_is_not_ready(self) -> None:
        assert not lag_check([beat("a", (0, 5, None))], "readings", 10).ok
