"""What judging again changes in stored episodes: which stay the same episode, which merge, which are taken back."""

from __future__ import annotations

import math
from dataclasses import replace

from processors.rules.amend import Amendment, StoredEpisode, amend
from processors.rules.model import Episode


def episode(started: int, fired: int | None, resolved: int | None, **fields: object) -> Episode:
    status = "pending" if fired is None else "firing" if resolved is None else "resolved"
    plain = Episode("major", status, started, fired, resolved, started, 9.0, 10, 20, None)
    return replace(plain, **fields)  # type: ignore[arg-type]


def stored(name: str, *times: int | None) -> StoredEpisode:
    started, fired, resolved = times
    assert started is not None
    return StoredEpisode(name, episode(started, fired, resolved))


def test_what_is_judged_as_it_is_stored_changes_nothing() -> None:
    assert amend([stored("a", 0, 5, 10)], [episode(0, 5, 10)]) == []
    silence = episode(0, 5, 10, peak_value=math.nan)
    assert amend([StoredEpisode("a", silence)], [replace(silence)]) == []
    # A peak where there was none is a change.
    assert amend([StoredEpisode("a", silence)], [episode(0, 5, 10)]) == [Amendment("a", episode(0, 5, 10))]


def test_runs_that_never_fired_and_have_ended_are_not_stored() -> None:
    ended = episode(0, None, None, status="retracted")

    assert amend([], [ended, episode(20, 25, None)]) == [Amendment(None, episode(20, 25, None))]


def test_episodes_that_touch_in_one_moment_are_the_same_one() -> None:
    for found in (episode(10, 15, 20), episode(0, 2, 4)):
        assert amend([stored("a", 4, 8, 10)], [found]) == [Amendment("a", found)]
    for found in (episode(11, 15, 20), episode(0, 2, 3)):
        assert amend([stored("a", 4, 8, 10)], [found]) == [
            Amendment(None, found),
            Amendment("a", None, reason="corrected"),
        ]


def test_silences_on_both_sides_of_a_reading_are_two() -> None:
    def silence(*times: int | None) -> Episode:
        return replace(episode(*times), peak_value=math.nan)  # type: ignore[arg-type]

    before, after = silence(20, 40, 60), silence(60, 80, None)

    # The first one's gap is filled.
    assert amend([StoredEpisode("a", before), StoredEpisode("b", after)], [after], "data_recovered") == [
        Amendment("a", None, reason="data_recovered")
    ]


def test_a_run_that_ended_without_firing_is_not_the_one_that_begins_after_it() -> None:
    ended, next_run = episode(0, None, None, status="retracted"), episode(60, None, None)

    assert amend([stored("a", 0, None, None)], [ended, next_run]) == [
        Amendment(None, next_run),
        Amendment("a", None, reason="not_confirmed"),
    ]
    # Its start may have moved meanwhile: then it is the same run.
    assert amend([stored("a", 5, None, None)], [ended, next_run]) == [Amendment("a", next_run)]


def test_an_open_episode_lasts_for_ever() -> None:
    later = episode(1_000, 1_005, None)

    assert amend([stored("a", 0, 5, None)], [later]) == [Amendment("a", later)]
    assert amend([stored("a", 1_000, 1_005, 1_010)], [episode(0, 5, None)]) == [Amendment("a", episode(0, 5, None))]


def test_of_those_that_merge_the_one_that_fired_first_survives() -> None:
    late_start, early_start = stored("a", 3, 4, 6), stored("b", 0, 5, 6)
    merged = episode(0, 4, 12)

    assert amend([early_start, late_start, stored("c", 8, None, None)], [merged]) == [
        Amendment("a", merged),
        Amendment("b", None, merged_into="a", reason="merged"),
        Amendment("c", None, merged_into="a", reason="merged"),
    ]


def test_one_merges_into_the_one_that_covers_it() -> None:
    first, second = episode(0, 1, 2), episode(10, 11, 14)

    assert amend([stored("a", 0, 1, 2), stored("b", 10, 11, 12), stored("c", 12, 13, 14)], [first, second]) == [
        Amendment("b", second),
        Amendment("c", None, merged_into="b", reason="merged"),
    ]


def test_of_those_into_which_one_splits_the_fired_one_keeps_it() -> None:
    fired, pending = episode(0, 5, 7), episode(9, None, None)

    assert amend([stored("a", 0, 5, None)], [fired, pending]) == [Amendment("a", fired), Amendment(None, pending)]
    # Also where the one that has not fired would come first.
    before = episode(0, None, None, resolved_at_ms=2)
    assert amend([stored("a", 0, 5, None)], [before, episode(3, 6, 7)]) == [
        Amendment(None, before),
        Amendment("a", episode(3, 6, 7)),
    ]


def test_what_is_not_found_again_is_taken_back_with_a_reason() -> None:
    assert amend([stored("a", 0, 5, 9), stored("b", 20, None, None)], [], "data_recovered") == [
        Amendment("a", None, reason="data_recovered"),
        Amendment("b", None, reason="not_confirmed"),
    ]


def test_an_open_episode_that_only_adds_up_to_more_grows() -> None:
    more = {"peak_value": 11.0, "peak_at_ms": 7, "proven_ms": 12, "possible_ms": 25}

    def is_growth(before: Episode, after: Episode) -> bool:
        [change] = amend([StoredEpisode("a", before)], [after])
        return change.is_growth

    assert is_growth(episode(0, 5, None), episode(0, 5, None, **more))
    assert is_growth(episode(0, None, None), episode(0, None, None, **more))
    assert not is_growth(episode(0, 5, 9), episode(0, 5, 9, **more))
    assert not is_growth(episode(0, None, None), episode(0, 5, None, **more))
    assert not is_growth(episode(0, 5, None), episode(0, 5, None, severity="info", **more))
