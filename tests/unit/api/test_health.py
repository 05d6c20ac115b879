"""Readiness: what workers' reports say about partitions and lag."""

from __future__ import annotations

from api.health import assignment_check, lag_check
from sinks.timescale.operations import Heartbeat, Partition


def beat(
    worker: str,
    *partitions: tuple[int, int, int | None],
    age_s: float = 1.0,
    topic: str = "readings",
    up_s: float = 3600.0,
    failed_s: float | None = None,
    ended: bool = False,
) -> Heartbeat:
    held = tuple(Partition(topic, number, position, end) for number, position, end in partitions)
    return Heartbeat(worker, age_s, held, {}, up_s, ended, failed_s)


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


class TestFailures:
    def test_a_worker_that_starts_for_the_first_time_counts_at_once(self) -> None:
        assert assignment_check([beat("a", (0, 5, 5), up_s=0.5)], "readings", {0}).ok

    def test_a_worker_that_failed_counts_again_once_it_has_run_for_15_s(self) -> None:
        early = assignment_check([beat("a", (0, 5, 5), up_s=14.9, failed_s=16.0)], "readings", {0})

        assert not early.ok
        assert early.detail.startswith(
            "a worker failed lately, and the ones that began since count once they have run for 15"
        )
        assert assignment_check([beat("a", (0, 5, 5), up_s=15.0, failed_s=16.0)], "readings", {0}).ok

    def test_a_worker_under_a_new_name_pays_for_one_that_fell_silent(self) -> None:
        silent, fresh = beat("host-17", (0, 5, 5), age_s=10.1), beat("host-18", (0, 5, 5), up_s=3.0)

        assert not assignment_check([silent, fresh], "readings", {0}).ok

    def test_a_failure_two_minutes_ago_is_of_no_account(self) -> None:
        long_gone, fresh = beat("host-17", (0, 5, 5), age_s=121.0), beat("host-18", (0, 5, 5), up_s=3.0)

        assert assignment_check([long_gone, fresh], "readings", {0}).ok

    def test_a_worker_that_ran_through_another_ones_failure_counts(self) -> None:
        steady, failing = beat("a", (0, 5, 5), up_s=60.0), beat("b", (1, 5, 5), up_s=2.0, failed_s=3.0)

        assert assignment_check([steady, failing], "readings", {0}).ok
        assert not assignment_check([steady, failing], "readings", {0, 1}).ok

    def test_a_worker_that_said_that_it_failed_holds_nothing(self) -> None:
        check = assignment_check([beat("a", (0, 5, 5), ended=True, failed_s=0.1)], "readings", {0})

        assert not check.ok
        assert "no worker has reported" in check.detail


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
