"""Ladders: several severities of one rule, each with its condition and its own episodes."""

from __future__ import annotations

from processors.rules.amend import Amendment, StoredEpisode, amend
from processors.rules.judge import Episode, RuleVersion, look_back_ms
from schemas.rules import Rule
from tests.unit.processors.rules.judging import HOUR, MINUTE, fired, judged, judged_at, rule

WARM = {"type": "threshold", "above": 6}
HOT = [{"severity": "major", "condition": {"type": "threshold", "above": 8, "for": "2m"}}]


def ladder(**fields: object) -> Rule:
    return rule(WARM, **{"severity": "minor", "ladder": HOT, **fields})


def by_severity(found: list[Episode]) -> dict[str, list[tuple[str, float, float | None, float | None]]]:
    return {severity: fired([one for one in found if one.severity == severity]) for severity in ("minor", "major")}


def test_each_rung_has_episodes_of_its_own_by_its_own_condition() -> None:
    found = judged(WARM, [5, 7, 9, 9, 9, 7, 5], severity="minor", ladder=HOT)

    assert by_severity(found) == {"minor": [("resolved", 1, 1, 6)], "major": [("resolved", 2, 4, 5)]}


def test_a_rung_that_a_later_version_lacks_is_resolved_when_that_begins() -> None:
    versions = [RuleVersion(0, ladder()), RuleVersion(5 * MINUTE, ladder(ladder=None))]

    found = judged(versions, [9] * 8)

    assert by_severity(found) == {"minor": [("firing", 0, 0, None)], "major": [("resolved", 0, 2, 5)]}
    assert [one.reason for one in found if one.severity == "major"] == ["rule_changed"]


def test_a_rung_that_a_later_version_adds_begins_there() -> None:
    versions = [RuleVersion(0, ladder(ladder=None)), RuleVersion(3 * MINUTE, ladder())]

    assert by_severity(judged(versions, [9] * 8)) == {
        "minor": [("firing", 0, 0, None)],
        "major": [("firing", 3, 5, None)],
    }


def test_deleting_the_rule_resolves_every_rung() -> None:
    versions = [RuleVersion(0, ladder()), RuleVersion(5 * MINUTE, None)]

    found = judged(versions, [9] * 8)

    assert by_severity(found) == {"minor": [("resolved", 0, 0, 5)], "major": [("resolved", 0, 2, 5)]}
    assert {one.reason for one in found} == {"rule_deleted"}


def test_a_rung_may_be_about_silence() -> None:
    quiet = [{"severity": "major", "condition": {"type": "silence", "after": "10m"}}]

    found = judged_at([RuleVersion(0, ladder(ladder=quiet))], [0, 20 * MINUTE], [7, 5])

    assert by_severity(found) == {"minor": [("resolved", 0, 0, 20)], "major": [("resolved", 0, 10, 20)]}


def test_the_look_back_is_that_of_the_widest_rung() -> None:
    mean = {"severity": "major", "condition": {"type": "aggregate", "function": "mean", "window": "7d", "above": 5}}

    assert look_back_ms(ladder(ladder=[mean])) == (7 + 1) * 24 * HOUR


class TestAmending:
    """Warm from 0 to 9, hot from 2 to 5."""

    FOUND = judged(WARM, [7, 7, 9, 9, 9, 7, 7, 7, 7, 5], severity="minor", ladder=HOT)

    def stored(self, *found: Episode) -> list[StoredEpisode]:
        return [StoredEpisode(one.severity, one) for one in found]

    def test_rungs_are_opened_beside_each_other(self) -> None:
        minor, major = self.FOUND

        assert amend(self.stored(minor), self.FOUND, by_severity=True) == [Amendment(None, major)]
        assert amend(self.stored(major), self.FOUND, by_severity=True) == [Amendment(None, minor)]

    def test_a_rung_that_is_not_found_again_is_taken_back_and_not_merged_into_another(self) -> None:
        minor, major = self.FOUND

        assert amend(self.stored(minor, major), [minor], by_severity=True) == [
            Amendment("major", None, reason="corrected")
        ]

    def test_without_a_ladder_an_episode_changes_its_severity(self) -> None:
        [minor] = judged(WARM, [7, 5], severity="minor")
        [major] = judged(WARM, [7, 5], severity="major")

        assert amend(self.stored(minor), [major]) == [Amendment("minor", major)]
