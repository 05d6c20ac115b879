"""Rule documents: what is understood, and how refusals say what to mend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.rules import (
    PRESETS,
    SEVERITIES,
    Attribute,
    Bound,
    Clear,
    Combination,
    Exposure,
    Rule,
    RuleError,
    Silence,
    Span,
    Target,
    Threshold,
    format_duration,
    parse_condition,
    parse_duration_ms,
    parse_rule,
)

MINUTE = 60_000
DAY = 86_400_000
HOT = {"type": "threshold", "above": 30}


def document(**changes: object) -> dict[str, Any]:
    """The document of INTERFACES §6, with changes."""
    return {
        "name": "fridge too warm",
        "applies_to": {"sensor_id": "s1"},
        "severity": "critical",
        "effective_from": "2026-11-01T00:00:00.000Z",
        "condition": {"type": "threshold", "above": 8.0, "for": "30m", "clear": {"below": 7.5, "for": "5m"}},
        "schedule": {"timezone": "Europe/Berlin", "weekly": [{"days": ["mon"], "from": "06:00", "to": "22:00"}]},
        **changes,
    }


def refusal(**changes: object) -> RuleError:
    with pytest.raises(RuleError) as refused:
        parse_rule(document(**changes))
    return refused.value


def refused_condition(**fields: object) -> str:
    return str(refusal(condition=fields))


class TestUnderstanding:
    def test_the_document_of_the_interfaces(self) -> None:
        rule = parse_rule(document())

        assert isinstance(rule, Rule)
        assert rule.condition == Threshold(
            Bound("above", 8.0), 30 * MINUTE, 1, Clear(Bound("below", 7.5), 5 * MINUTE), 0
        )
        assert rule.applies_to == Target("sensor_id", "s1")
        assert rule.effective_from_ms == 1_793_491_200_000
        assert rule.schedule is not None
        assert rule.schedule.weekly == (Span(frozenset({0}), 360, 1320),)

    def test_each_rung_of_a_ladder_is_a_rule_of_its_own(self) -> None:
        rule = parse_rule(document(ladder=[{"severity": "info", "condition": HOT}]))

        first, second = rule.rungs
        assert (first.severity, first.condition, first.ladder) == ("critical", rule.condition, ())
        assert (second.severity, second.condition, second.ladder) == ("info", Threshold(Bound("above", 30.0)), ())
        assert (second.applies_to, second.schedule) == (rule.applies_to, rule.schedule)
        assert parse_rule(document(ladder=[])).rungs == (parse_rule(document()),)

    def test_what_may_be_left_out(self) -> None:
        rule = parse_rule({"name": "r", "severity": "info", "condition": {"type": "silence", "after": "10m"}})

        assert (rule.applies_to, rule.schedule, rule.effective_from_ms) == (Target("all"), None, None)
        assert rule.condition == Silence(10 * MINUTE)

    def test_a_number_may_be_an_attribute_of_the_unit_by_default(self) -> None:
        assert parse_condition({"type": "threshold", "above": {"attribute": "max"}}, "c") == Threshold(
            Bound("above", Attribute("max", "unit"))
        )

    def test_a_span_without_days_is_daily_and_may_pass_midnight(self) -> None:
        rule = parse_rule(
            document(schedule={"weekly": [{"from": "22:00", "to": "06:00"}, {"from": "00:00", "to": "24:00"}]})
        )

        assert rule.schedule is not None
        assert [(span.start, span.end) for span in rule.schedule.weekly] == [(1320, 360), (0, 1440)]
        assert rule.schedule.weekly[0].days == frozenset(range(7))

    @pytest.mark.parametrize("severity", SEVERITIES)
    def test_every_severity(self, severity: str) -> None:
        assert parse_rule(document(severity=severity)).severity == severity

    @pytest.mark.parametrize("name", PRESETS)
    def test_every_preset_is_a_plain_condition(self, name: str) -> None:
        condition = parse_condition({"type": "preset", "name": name}, "condition")

        assert condition == parse_condition(PRESETS[name], "condition")

    def test_the_food_code_and_shipping_presets_say_their_numbers(self) -> None:
        shipping = parse_condition({"type": "preset", "name": "who-shipping-type-1"}, "condition")

        assert isinstance(shipping, Combination)
        assert shipping.members[1] == Exposure(Bound("at_or_above", 30.0), 10 * 60 * MINUTE, 60 * DAY)
        assert parse_condition({"type": "preset", "name": "food-code-4h"}, "condition") == Threshold(
            Bound("above", 5.0), 240 * MINUTE
        )


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "ms"),
        [
            ("0", 0),
            ("1ms", 1),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("30d", 30 * DAY),
            ("1w", 7 * DAY),
            ("1y", 365 * DAY),
        ],
    )
    def test_prometheus_style(self, text: str, ms: int) -> None:
        assert parse_duration_ms(text, "for") == ms

    @pytest.mark.parametrize("text", ["", "-5m", "5", "5 m", "1.5h", "m", "5min", 5, None, "٣m", "1y36d"])
    def test_anything_else_is_refused(self, text: object) -> None:
        with pytest.raises(RuleError, match="for: found"):
            parse_duration_ms(text, "for")

    @pytest.mark.parametrize(("ms", "text"), [(0, "0s"), (5_400_000, "1h30m"), (8 * DAY + 1, "8d1ms")])
    def test_the_text_of_a_duration_parses_to_it(self, ms: int, text: str) -> None:
        assert format_duration(ms) == text
        assert parse_duration_ms(text, "for") == ms


class TestRefusals:
    """Each says where, what was found, what was expected."""

    def test_an_unknown_type_names_the_known_ones(self) -> None:
        assert refused_condition(type="treshold") == (
            "condition.type: found 'treshold', expected one of threshold, aggregate, exposure, degree_minutes, "
            "mean_kinetic_temperature, silence, any_of, all_of, preset"
        )

    def test_a_negative_duration(self) -> None:
        assert refused_condition(type="threshold", above=8, **{"for": "-5m"}) == (
            "condition.for: found '-5m', expected a duration such as 30s, 15m, 4h or 30d, never negative"
        )

    @pytest.mark.parametrize("clear", [{"above": 7}, {"at_or_above": 7}])
    def test_clearing_in_the_direction_that_fires(self, clear: dict[str, float]) -> None:
        assert "use below or at_or_below" in refused_condition(type="threshold", above=8, clear=clear)

    def test_clearing_on_the_wrong_side(self) -> None:
        assert refused_condition(type="threshold", above=8, clear={"below": 9}) == (
            "condition.clear: clears below 9.0, which is on the wrong side of above 8.0; use a number of at most 8.0"
        )
        assert "use a number of at least 2.0" in refused_condition(type="threshold", below=2, clear={"above": 1})

    def test_a_window_past_what_is_kept(self) -> None:
        assert refused_condition(type="aggregate", function="mean", window="500d", above=8) == (
            "condition.window: found 500d, expected 1s to 400d"
        )

    def test_a_budget_that_does_not_fit(self) -> None:
        assert refused_condition(type="exposure", above=8, budget="10h", within="1h") == (
            "condition.budget: 10h does not fit into 1h; shorten the budget or widen within"
        )

    @pytest.mark.parametrize(
        ("condition", "path"),
        [
            ({"type": "threshold"}, "condition"),
            ({"type": "threshold", "above": 8, "below": 2}, "condition"),
            ({"type": "threshold", "above": "8"}, "condition.above"),
            ({"type": "threshold", "above": True}, "condition.above"),
            ({"type": "threshold", "above": float("nan")}, "condition.above"),
            ({"type": "threshold", "above": 10**400}, "condition.above"),
            ({"type": "threshold", "above": {"attribute": ""}}, "condition.above"),
            ({"type": "threshold", "above": {"attribute": "a", "of": []}}, "condition.above"),
            ({"type": "threshold", "above": 8, "four": "5m"}, "condition"),
            ({"type": "threshold", "above": 8, "consecutive": 0}, "condition.consecutive"),
            ({"type": "threshold", "above": 8, "consecutive": 2.5}, "condition.consecutive"),
            ({"type": "threshold", "above": 8, "clear": "7"}, "condition.clear"),
            ({"type": "aggregate", "function": "median", "window": "1h", "above": 8}, "condition.function"),
            ({"type": "aggregate", "function": ["mean"], "window": "1h", "above": 8}, "condition.function"),
            ({"type": "aggregate", "function": "mean", "above": 8}, "condition.window"),
            ({"type": "exposure", "above": 8}, "condition.budget"),
            ({"type": "degree_minutes", "above": 8, "budget": -1}, "condition.budget"),
            ({"type": "degree_minutes", "above": 8, "budget": {"attribute": "b"}}, "condition.budget"),
            ({"type": "mean_kinetic_temperature", "above": 8}, "condition.window"),
            ({"type": "silence"}, "condition.after"),
            ({"type": "any_of", "conditions": []}, "condition.conditions"),
            ({"type": "any_of", "conditions": [{"type": "silence", "after": "5m"}]}, "condition.conditions[0]"),
            ({"type": "any_of", "conditions": [{"type": "threshold"}]}, "condition.conditions[0]"),
            ({"type": "preset", "name": "who-frige"}, "condition.name"),
            ({"type": ["threshold"]}, "condition.type"),
            ("hot", "condition"),
            (None, "condition"),
        ],
    )
    def test_where_a_condition_is_wrong(self, condition: object, path: str) -> None:
        assert refusal(condition=condition).path == path

    @pytest.mark.parametrize(
        ("changes", "path"),
        [
            ({"name": ""}, "name"),
            ({"name": "a\x00b"}, "name"),
            ({"severity": "fatal"}, "severity"),
            ({"severity": ["critical"]}, "severity"),
            ({"colour": "red"}, "rule"),
            ({"applies_to": {}}, "applies_to"),
            ({"applies_to": {"all": True, "unit_id": "u"}}, "applies_to"),
            ({"applies_to": {"all": 1}}, "applies_to.all"),
            ({"applies_to": {"unit_kind": 7}}, "applies_to.unit_kind"),
            ({"effective_from": "yesterday"}, "effective_from"),
            ({"effective_from": "2026-11-01T00:00:00"}, "effective_from"),
            ({"effective_from": 1_793_491_200_000}, "effective_from"),
            (
                {"schedule": {"timezone": "Mars/Olympus", "weekly": [{"from": "06:00", "to": "07:00"}]}},
                "schedule.timezone",
            ),
            ({"schedule": {"timezone": "../etc", "weekly": [{"from": "06:00", "to": "07:00"}]}}, "schedule.timezone"),
            ({"schedule": {"timezone": "Europe", "weekly": [{"from": "06:00", "to": "07:00"}]}}, "schedule.timezone"),
            ({"schedule": {"timezone": "Europe/Berlin", "weekly": []}}, "schedule.weekly"),
            ({"schedule": {"weekly": [{"days": ["mo"], "from": "06:00", "to": "07:00"}]}}, "schedule.weekly[0].days"),
            ({"schedule": {"weekly": [{"days": [[]], "from": "06:00", "to": "07:00"}]}}, "schedule.weekly[0].days"),
            ({"schedule": {"weekly": [{"from": "6:00", "to": "07:00"}]}}, "schedule.weekly[0].from"),
            ({"schedule": {"weekly": [{"from": "24:00", "to": "07:00"}]}}, "schedule.weekly[0].from"),
            ({"schedule": {"weekly": [{"from": "06:00"}]}}, "schedule.weekly[0].to"),
            ({"ladder": {"severity": "info"}}, "ladder"),
            ({"ladder": ["info"]}, "ladder[0]"),
            ({"ladder": [{"severity": "fatal", "condition": HOT}]}, "ladder[0].severity"),
            ({"ladder": [{"severity": "critical", "condition": HOT}]}, "ladder[0].severity"),
            ({"ladder": [{"severity": "info", "condition": HOT}] * 2}, "ladder[1].severity"),
            ({"ladder": [{"severity": "info", "condition": {"type": "threshold"}}]}, "ladder[0].condition"),
            ({"ladder": [{"severity": "info"}]}, "ladder[0].condition"),
        ],
    )
    def test_where_a_document_is_wrong(self, changes: dict[str, object], path: str) -> None:
        assert refusal(**changes).path == path

    @pytest.mark.parametrize("wrong", [None, [], "rule", 7])
    def test_what_is_no_object(self, wrong: object) -> None:
        with pytest.raises(RuleError, match="expected an object"):
            parse_rule(wrong)

    def test_what_was_found_is_shown_shortened(self) -> None:
        assert len(str(refusal(severity="x" * 10_000))) < 200


def test_deep_nesting_is_refused_and_does_not_end_the_process() -> None:
    condition: dict[str, Any] = {"type": "threshold", "above": 8}
    for _ in range(5_000):
        condition = {"type": "any_of", "conditions": [condition]}

    assert refusal(condition=condition).path.startswith("condition.conditions")


def test_the_presets_are_plain_json() -> None:
    assert json.loads(json.dumps(PRESETS)) == PRESETS


def test_every_preset_is_in_the_table_of_the_documentation() -> None:
    table = (Path(__file__).parents[3] / "docs" / "presets.md").read_text(encoding="utf-8")

    assert [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")] == list(PRESETS)
