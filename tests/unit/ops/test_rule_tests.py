"""`weir rules test`: the notation of series, the states at given times, failures that say what was found."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ops.cli import main
from ops.rule_series import expand
from ops.rule_tests import BadRuleTest, run_tests
from schemas.rules import parse_rule

TOO_WARM = {"name": "too warm", "severity": "critical", "condition": {"type": "threshold", "above": 8.0, "for": "30m"}}
# Warm from minute 10 to 40, cold at 45: fired at 40.
SERIES = "4x1 9x6 7 4"


def document(
    *alerts: dict[str, Any], series: str = SERIES, rule: dict[str, Any] = TOO_WARM, **test: Any
) -> dict[str, Any]:
    expected = [{"rule": rule["name"], **alert} for alert in alerts]
    return {"interval": "5m", "rules": [rule], "tests": [{"series": series, "alerts": expected, **test}]}


def failures(*alerts: dict[str, Any], **others: Any) -> list[str]:
    return [str(failure) for failure in run_tests(document(*alerts, **others)).failures]


class TestSeries:
    @pytest.mark.parametrize(
        ("series", "expected"),
        [
            ("1+2x3", [(0, 1.0), (1, 3.0), (2, 5.0), (3, 7.0)]),
            ("-2-0.5x2", [(0, -2.0), (1, -2.5), (2, -3.0)]),
            ("5x2", [(0, 5.0), (1, 5.0), (2, 5.0)]),
            ("1 _ 2 _x3 3", [(0, 1.0), (2, 2.0), (6, 3.0)]),
            ("1 stale 2", [(0, 1.0), (2, 2.0)]),
            ("1e1 .5 +3", [(0, 10.0), (1, 0.5), (2, 3.0)]),
            ("7x0", [(0, 7.0)]),
            ("", []),
        ],
    )
    def test_a_word_becomes_one_sample_and_n_more(self, series: str, expected: list[tuple[int, float]]) -> None:
        samples = expand(series, 1_000, 60_000)

        assert list(zip(samples.at_ms.tolist(), samples.value.tolist(), strict=True)) == [
            (1_000 + place * 60_000, value) for place, value in expected
        ]

    @pytest.mark.parametrize(
        "series", ["warm", "1+2", "1,2", "x5", "1+2x-3", "nan", "1e999", "1x9999999", "1x999999 1x1"]
    )
    def test_a_word_of_another_notation_is_refused(self, series: str) -> None:
        with pytest.raises(ValueError, match=r"expected|beyond|more than"):
            expand(series, 0, 60_000)


class TestStates:
    @pytest.mark.parametrize(
        ("at", "status"),
        [
            ("5m", "none"),
            ("10m", "pending"),
            ("39m", "pending"),
            ("40m", "firing"),
            ("44m", "firing"),
            ("45m", "resolved"),
        ],
    )
    def test_a_state_is_what_was_known_then(self, at: str, status: str) -> None:
        assert failures({"at": at, "status": status}) == []
        for other in {"none", "pending", "firing", "resolved"} - {status}:
            assert failures({"at": at, "status": other}) == [
                f"tests[0]: at {at}, rule 'too warm': expected status {other}, found status {status}"
            ]

    def test_every_field_of_an_alert_can_be_expected(self) -> None:
        right = {
            "at": "50m",
            "status": "resolved",
            "severity": "critical",
            "started_at": "10m",
            "fired_at": "40m",
            "resolved_at": "45m",
            "proven": "30m",
            "possible": "40m",  # 5 to 45
            "peak": 9,
        }
        wrong = {"severity": "info", "peak": 9.5, "fired_at": "none"} | dict.fromkeys(
            ("started_at", "resolved_at", "proven", "possible"), "1m"
        )

        assert failures(right) == []
        for name, value in wrong.items():
            [failure] = failures(right | {name: value})
            assert re.search(f"expected {name} {value}, found {name} ", failure)

    def test_a_run_that_ended_without_firing_is_forgotten(self) -> None:
        assert failures({"at": "10m", "status": "pending"}, {"at": "20m", "status": "none"}, series="4 4 9 9 4") == []

    def test_silence_is_judged_at_the_moment_that_is_asked_for(self) -> None:
        silence = {"name": "silent", "severity": "major", "condition": {"type": "silence", "after": "20m"}}

        assert (
            failures(
                {"at": "25m", "status": "none"},
                {"at": "26m", "status": "firing", "started_at": "5m", "fired_at": "25m"},
                {"at": "40m", "status": "resolved", "resolved_at": "40m"},
                series="4x1 _x6 4",
                rule=silence,
            )
            == []
        )

    def test_the_declared_interval_decides_what_is_a_gap(self) -> None:
        # 20 min between neighbours: a gap of a sensor expected every 5 min, none of one expected every 10 min.
        series = "9x3 _x3 9x3"
        firing = {"at": "50m", "status": "firing"}

        assert failures(firing, series=series, expected_interval="10m") == []
        assert len(failures(firing, series=series, expected_interval="5m")) == 1

    def test_changes_take_effect_at_their_time(self) -> None:
        limit = {"type": "threshold", "above": {"attribute": "max_celsius"}}
        rule = {"name": "limit", "severity": "major", "condition": limit}
        changes = [{"at": "20m", "attributes": {"unit": {"max_celsius": 20}}}]
        attributes = {"unit": {"max_celsius": 8}}
        shown = [
            {"at": "15m", "status": "firing", "started_at": "10m"},
            {"at": "20m", "status": "resolved", "resolved_at": "20m"},
            {"at": "45m", "status": "resolved"},
        ]

        assert failures(*shown, rule=rule, attributes=attributes, changes=changes) == []

    def test_hours_without_a_time_zone_are_those_of_the_tests(self) -> None:
        rule = {
            **TOO_WARM,
            "schedule": {"weekly": [{"from": "01:00", "to": "02:00"}]},
        }  # the series begins at 00:00 UTC
        fires, does_not = {"at": "40m", "status": "firing"}, {"at": "40m", "status": "none"}

        assert failures(fires, rule=rule, timezone="Europe/Berlin") == []
        assert failures(does_not, rule=rule) == []
        assert failures(does_not, rule=rule, changes=[{"at": "45m", "timezone": "Europe/Berlin"}]) == []

    def test_rungs_are_told_apart_by_their_severity(self) -> None:
        hot = {"type": "threshold", "above": 8.0, "for": "1h"}
        rule = {**TOO_WARM, "ladder": [{"severity": "info", "condition": hot}]}

        assert failures({"at": "40m", "status": "firing", "severity": "critical"}, rule=rule) == []
        assert failures({"at": "40m", "status": "pending", "severity": "info"}, rule=rule) == []
        assert failures({"at": "40m", "status": "none", "severity": "major"}, rule=rule) == []

    @pytest.mark.parametrize(
        ("test", "part"),
        [
            ({"timezone": "Mars/Olympus"}, "tests[0].timezone"),
            ({"changes": [{"at": "0s", "timezone": "UTC"}, {"at": "0s"}]}, "tests[0].changes[1].at"),
            ({"changes": [{"timezone": "UTC"}]}, "tests[0].changes[0].at"),
            ({"changes": [{"at": "5m", "attributes": {"unit": {"a": "b"}}}]}, "tests[0].changes[0].attributes.unit.a"),
            ({"changes": [{"at": "5m", "unit_id": "u"}]}, "tests[0].changes[0]"),
            ({"changes": []}, "tests[0].changes"),
        ],
    )
    def test_surroundings_that_cannot_be_used_are_named(self, test: dict[str, Any], part: str) -> None:
        with pytest.raises(BadRuleTest, match=re.escape(part)):
            failures({"at": "0s", "status": "none"}, **test)

    def test_attributes_stand_in_for_those_of_the_unit(self) -> None:
        bound = {"attribute": "max_celsius", "of": "unit"}
        rule = {**TOO_WARM, "condition": {"type": "threshold", "above": bound}}

        assert failures({"at": "10m", "status": "firing"}, rule=rule, attributes={"unit": {"max_celsius": 8}}) == []
        assert failures({"at": "10m", "status": "none"}, rule=rule, attributes={"unit": {"max_celsius": 10}}) == []

    def test_a_schedule_is_read_at_the_series_own_times(self) -> None:
        weekly = [{"days": ["thu"], "from": "00:20", "to": "24:00"}]
        rule = {**TOO_WARM, "condition": {"type": "threshold", "above": 8.0}, "schedule": {"weekly": weekly}}
        # 2026-01-01 is a Thursday.
        assert failures({"at": "15m", "status": "none"}, {"at": "20m", "status": "firing"}, rule=rule) == []


class TestRefusals:
    @pytest.mark.parametrize(
        ("spoil", "sentence"),
        [
            ({"tests": []}, "tests: expected a list that is not empty"),
            ({"rules": [TOO_WARM, TOO_WARM]}, "rename one"),
            ({"rules": [{**TOO_WARM, "severity": "bad"}]}, r"rules\[0\]: severity: found 'bad'"),
            ({"interval": "0s"}, r"tests\[0\].interval: found 0s"),
            ({"start": "yesterday"}, "start: found 'yesterday'"),
            ({"colour": 1}, "unknown field 'colour'"),
        ],
    )
    def test_a_file_that_cannot_be_used_says_where(self, spoil: dict[str, Any], sentence: str) -> None:
        with pytest.raises(BadRuleTest, match=sentence):
            run_tests({**document({"at": "5m", "status": "none"}), **spoil})

    @pytest.mark.parametrize(
        ("alert", "sentence"),
        [
            (
                {"at": "5m", "status": "ringing"},
                r"tests\[0\].alerts\[0\].status: found 'ringing', expected one of pending",
            ),
            ({"at": "soon", "status": "none"}, r"tests\[0\].alerts\[0\].at: found 'soon'"),
            ({"at": "5m", "status": "none", "rule": "other"}, "rule: found 'other', expected one of 'too warm'"),
        ],
    )
    def test_an_expectation_that_cannot_be_used_says_where(self, alert: dict[str, Any], sentence: str) -> None:
        with pytest.raises(BadRuleTest, match=sentence):
            failures(alert)


class TestCommand:
    def run(self, *files: Path) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["rules", "test", *map(str, files)])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def test_json_that_is_met_ends_with_0(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "tests.json"
        file.write_text(json.dumps(document({"at": "40m", "status": "firing"})))

        assert self.run(file) == 0
        assert capsys.readouterr().out == f"{file}: 1 of 1 expectations met in 1 tests\n"

    def test_a_failure_is_printed_and_ends_with_1(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "tests.json"
        file.write_text(json.dumps(document({"at": "35m", "status": "firing"}, name="opening")))

        assert self.run(file) == 1
        assert capsys.readouterr().out.splitlines() == [
            f"FAIL {file}: tests[0] 'opening': at 35m, rule 'too warm': expected status firing, found status pending",
            f"{file}: 0 of 1 expectations met in 1 tests",
        ]

    def test_toml_is_read_too(self, tmp_path: Path) -> None:
        file = tmp_path / "tests.toml"
        file.write_text(
            'interval = "5m"\nstart = 2026-01-01T00:00:00Z\n'
            '[[rules]]\nname = "too warm"\nseverity = "critical"\n'
            'condition = { type = "threshold", above = 8.0, for = "30m" }\n'
            f'[[tests]]\nseries = "{SERIES}"\n'
            '[[tests.alerts]]\nat = "40m"\nrule = "too warm"\nstatus = "firing"\n'
        )

        assert self.run(file) == 0

    @pytest.mark.parametrize(
        ("name", "text", "sentence"),
        [
            ("a.yaml", "", "YAML is not read"),
            ("a.json", "{", "is not valid JSON"),
            ("a.toml", "=", "is not valid TOML"),
            ("a.json", "{}", "a.json: start|a.json: rules: expected"),
        ],
    )
    def test_a_file_that_cannot_be_used_ends_with_2_and_a_sentence(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, sentence: str
    ) -> None:
        file = tmp_path / name
        file.write_text(text)

        assert self.run(file) == 2
        assert re.search(sentence, capsys.readouterr().err)

    def test_a_file_that_is_not_there_ends_with_2(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.run(tmp_path / "none.json") == 2
        assert "cannot be read" in capsys.readouterr().err

    def test_the_examples_of_the_documentation_are_met(self) -> None:
        def example(page: str) -> dict[str, Any]:
            text = (Path(__file__).parents[3] / "docs" / page).read_text()
            (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
            return json.loads(block)  # type: ignore[no-any-return]

        parse_rule(example("rules.md"))
        outcome = run_tests(example("rule-tests.md"))
        assert outcome.failures == ()
        assert outcome.expectations > 3
