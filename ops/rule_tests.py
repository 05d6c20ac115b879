"""Rule tests: series in, expected alerts out, judged by the engine of the stream; close to `promtool test rules`.

Border: a parsed document to failures. Files, printing and the exit code are `ops.commands.rules`'s; the notation of series
is `ops.rule_series`'s; what the fields mean stands in docs/rule-tests.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from ops.rule_series import Samples, expand
from processors.rules.judge import Episode, RuleVersion, SensorContext, judge, open_silences
from processors.rules.places import Place, Whereabouts
from schemas import rfc3339
from schemas.errors import Misconfigured
from schemas.rules import Rule, RuleError, Target, format_duration, parse_duration_ms, parse_rule

DEFAULT_START: Final = "2026-01-01T00:00:00.000Z"
NONE: Final = "none"
STATUSES: Final = ("pending", "firing", "resolved", NONE)

_FILE: Final = ("interval", "start", "rules", "tests")
_TEST: Final = ("name", "series", "interval", "expected_interval", "attributes", "timezone", "changes", "alerts")
_CHANGE: Final = ("at", "attributes", "timezone")
_TIMES: Final = ("started_at", "fired_at", "resolved_at")
_SPANS: Final = ("proven", "possible")
_ALERT: Final = ("at", "rule", "status", "severity", "peak", *_TIMES, *_SPANS)


class BadRuleTest(Misconfigured):
    """A file of rule tests that cannot be used: where, what was found, what was expected."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An expectation that was not met."""

    test: str
    at: str
    rule: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.test}: at {self.at}, rule {self.rule!r}: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a file's tests gave."""

    tests: int
    expectations: int
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class _Test:
    """One series and the sensor that it is of."""

    name: str
    start_ms: int
    samples: Samples
    context: SensorContext

    def state(self, rule: Rule, until_ms: int, severity: str | None) -> Episode | None:
        """The newest episode at that moment, knowing the samples up to it; runs that never fired are forgotten.

        Of a rule with a ladder, that of the rung with the severity.
        """
        count = int(np.searchsorted(self.samples.at_ms, until_ms, side="right"))
        at_ms, value = self.samples.at_ms[:count], self.samples.value[:count]
        from_ms = self.start_ms if rule.effective_from_ms is None else rule.effective_from_ms
        seq = np.zeros(count, np.int64)
        versions = [RuleVersion(from_ms, rule)]
        found = judge(versions, at_ms, seq, value, self.context, from_ms=self.start_ms)
        silent = open_silences(versions, int(at_ms[-1]), until_ms, self.context) if count else []
        known = [one for one in (*found, *silent) if one.status != "retracted"]
        if rule.ladder and severity is not None:
            known = [one for one in known if one.severity == severity]
        return known[-1] if known else None


def run_tests(document: object) -> Outcome:
    """Run the tests of a file.

    Raises:
        BadRuleTest: the file cannot be used.
    """
    fields = _object(document, "the file", _FILE)
    start_ms = _moment(fields.get("start", DEFAULT_START))
    known = _rules(fields.get("rules"))
    tests = _list(fields.get("tests"), "tests")
    failures: list[Failure] = []
    expectations = 0
    for number, entry in enumerate(tests):
        path = f"tests[{number}]"
        one = _object(entry, path, _TEST)
        test = _test(one, path, start_ms, fields.get("interval", "1m"))
        alerts = _list(one.get("alerts"), f"{path}.alerts")
        expectations += len(alerts)
        for place, alert in enumerate(alerts):
            failures += _failures(test, known, alert, f"{path}.alerts[{place}]")
    return Outcome(len(tests), expectations, tuple(failures))


def _rules(documents: object) -> dict[str, Rule]:
    found: dict[str, Rule] = {}
    for number, document in enumerate(_list(documents, "rules")):
        try:
            rule = parse_rule(document)
        except RuleError as exc:
            msg = f"rules[{number}]: {exc}"
            raise BadRuleTest(msg) from exc
        if rule.name in found:
            msg = (
                f"rules[{number}]: a rule named {rule.name!r} stands above; tests tell rules apart by name, rename one"
            )
            raise BadRuleTest(msg)
        found[rule.name] = rule
    return found


def _test(fields: Mapping[str, Any], path: str, start_ms: int, interval: object) -> _Test:
    interval_ms = _duration(fields.get("interval", interval), f"{path}.interval", least_ms=1)
    series = fields.get("series")
    if not isinstance(series, str):
        msg = f"{path}.series: found {series!r}, expected text such as '4x9 9+0.5x3 _ 7'"
        raise BadRuleTest(msg)
    try:
        samples = expand(series, start_ms, interval_ms)
    except ValueError as exc:
        msg = f"{path}.series: {exc}"
        raise BadRuleTest(msg) from exc
    declared = fields.get("expected_interval")
    declared_ms = None if declared is None else _duration(declared, f"{path}.expected_interval", least_ms=1)
    places = _places(fields, path, start_ms)
    name = fields.get("name")
    return _Test(f"{path} {name!r}" if name else path, start_ms, samples, _context(declared_ms, places))


def _places(fields: Mapping[str, Any], path: str, start_ms: int) -> list[Place]:
    """What holds from the beginning on, and each change: what it does not name stays."""
    places = [_changed(Place(), fields, path)]
    for number, entry in enumerate(_list(fields["changes"], f"{path}.changes") if "changes" in fields else ()):
        where = f"{path}.changes[{number}]"
        change = _object(entry, where, _CHANGE)
        from_ms = start_ms + _duration(change.get("at"), f"{where}.at")
        if from_ms <= places[-1].from_ms:
            msg = f"{where}.at: found {change['at']!r}, expected a time after that of the change above"
            raise BadRuleTest(msg)
        places.append(replace(_changed(places[-1], change, where), from_ms=from_ms))
    return places


def _changed(place: Place, fields: Mapping[str, Any], path: str) -> Place:
    zone = fields.get("timezone", place.timezone)
    try:
        ZoneInfo(str(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        msg = f"{path}.timezone: found {zone!r}, expected a zone such as Europe/Berlin"
        raise BadRuleTest(msg) from exc
    held = _attributes(fields.get("attributes", {}), f"{path}.attributes")
    return replace(
        place,
        timezone=str(zone),
        unit_attributes={**place.unit_attributes, **held.get("unit", {})},
        site_attributes={**place.site_attributes, **held.get("site", {})},
    )


def _context(declared_ms: int | None, places: Sequence[Place]) -> SensorContext:
    """A sensor that every rule applies to."""

    def applies(_target: Target, at_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.ones(len(at_ms), np.bool_)

    return replace(Whereabouts("", places).context(declared_ms), applies=applies)


def _attributes(document: object, path: str) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for of, held in _object(document, path, ("unit", "site")).items():
        if not isinstance(held, Mapping):
            msg = f"{path}.{of}: found {held!r}, expected attributes and their numbers"
            raise BadRuleTest(msg)
        for name, value in held.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                msg = f"{path}.{of}.{name}: found {value!r}, expected a number"
                raise BadRuleTest(msg)
            found.setdefault(of, {})[name] = float(value)
    return found


def _failures(test: _Test, known: Mapping[str, Rule], alert: object, path: str) -> Iterator[Failure]:
    fields = _object(alert, path, _ALERT)
    rule = known.get(str(fields.get("rule")))
    if rule is None:
        msg = f"{path}.rule: found {fields.get('rule')!r}, expected one of {', '.join(map(repr, known))}"
        raise BadRuleTest(msg)
    at_ms = _duration(fields.get("at"), f"{path}.at")
    expected = _expected(fields, path)
    severity = expected.get("severity")
    found = _found(test, test.state(rule, test.start_ms + at_ms, None if severity is None else str(severity)))
    if expected["status"] == found["status"] == NONE:
        return
    wrong = [name for name in expected if expected[name] != found[name]]
    if wrong:
        shown = [", ".join(f"{name} {_shown(part[name])}" for name in wrong) for part in (expected, found)]
        yield Failure(test.name, format_duration(at_ms), rule.name, *shown)


def _expected(fields: Mapping[str, Any], path: str) -> dict[str, object]:
    """What is asked for, in the terms of `_found`."""
    if fields.get("status") not in STATUSES:
        msg = f"{path}.status: found {fields.get('status')!r}, expected one of {', '.join(STATUSES)}"
        raise BadRuleTest(msg)
    expected: dict[str, object] = {name: fields[name] for name in ("status", "severity", "peak") if name in fields}
    for name in (*_TIMES, *_SPANS):
        if name in fields:
            text = fields[name]
            expected[name] = None if text in {None, NONE} else _Duration(_duration(text, f"{path}.{name}"))
    return expected


class _Duration(int):
    """Milliseconds that show themselves as they are written in a file."""

    def __str__(self) -> str:
        return format_duration(int(self))


def _found(test: _Test, episode: Episode | None) -> dict[str, object]:
    """An episode in the terms of a file: times are durations since the series' start."""
    if episode is None:
        return {"status": NONE, "severity": None, "peak": None, **dict.fromkeys((*_TIMES, *_SPANS))}
    times = (episode.started_at_ms, episode.fired_at_ms, episode.resolved_at_ms)
    since = [None if at_ms is None else _Duration(at_ms - test.start_ms) for at_ms in times]
    return {
        "status": episode.status,
        "severity": episode.severity,
        "peak": None if np.isnan(episode.peak_value) else episode.peak_value,
        **dict(zip(_TIMES, since, strict=True)),
        "proven": _Duration(episode.proven_ms),
        "possible": _Duration(episode.possible_ms),
    }


def _shown(value: object) -> str:
    return NONE if value is None else str(value)


def _object(document: object, path: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(document, Mapping):
        msg = f"{path}: found {document!r:.60}, expected an object with {', '.join(known)}"
        raise BadRuleTest(msg)
    unknown = sorted(set(document) - set(known))
    if unknown:
        msg = f"{path}: unknown field {unknown[0]!r}, known are {', '.join(known)}; correct or remove it"
        raise BadRuleTest(msg)
    return document


def _list(value: object, path: str) -> Sequence[object]:
    if not isinstance(value, list) or not value:
        msg = f"{path}: expected a list that is not empty"
        raise BadRuleTest(msg)
    return value


def _moment(value: object) -> int:
    text = value.isoformat() if isinstance(value, datetime) else value  # TOML has times of its own
    at_ms, valid = rfc3339.parse([str(text)])
    if not valid[0]:
        msg = f"start: found {text!r}, expected an RFC 3339 time with an offset such as {DEFAULT_START}"
        raise BadRuleTest(msg)
    return int(at_ms[0])


def _duration(text: object, path: str, *, least_ms: int = 0) -> int:
    try:
        return parse_duration_ms(text, path, least_ms=least_ms)
    except RuleError as exc:
        raise BadRuleTest(str(exc)) from exc
