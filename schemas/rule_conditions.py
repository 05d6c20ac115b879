"""Conditions of rule documents (INTERFACES §6): one parser for each type, and presets expanded.

`schemas.rules` puts them together with what else a rule says; import from there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from schemas.rule_model import (
    BOUNDS,
    FUNCTIONS,
    Aggregate,
    Attribute,
    Bound,
    Clear,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    MeanKineticTemperature,
    Number,
    RuleError,
    Silence,
    Threshold,
    format_duration,
    parse_duration_ms,
    shown,
)
from schemas.rule_presets import PRESETS

_MAX_MEMBERS: Final = 20


def parse_condition(document: object, path: str) -> Condition:
    """Understand a condition.

    Raises:
        RuleError: the first part that cannot be used.
    """
    if not isinstance(document, Mapping):
        raise RuleError(path, f"found {shown(document)}, expected an object with a type")
    kind = document.get("type")
    parse = _CONDITIONS.get(kind) if isinstance(kind, str) else None
    if parse is None:
        raise RuleError(path=f"{path}.type", detail=f"found {shown(kind)}, expected one of {', '.join(_CONDITIONS)}")
    return parse(document, path)


def parse_object(document: object, path: str, known: set[str]) -> Mapping[str, Any]:
    """A document with no other fields than the known ones.

    Raises:
        RuleError: it is none.
    """
    if not isinstance(document, Mapping):
        raise RuleError(path, f"found {shown(document)}, expected an object")
    unknown = sorted(set(document) - known)
    if unknown:
        raise RuleError(
            path, f"unknown field {unknown[0]!r}, known are {', '.join(sorted(known))}; correct or remove it"
        )
    return document


def _number(value: object, path: str) -> Number:
    if isinstance(value, Mapping):
        fields = parse_object(value, path, {"attribute", "of"})
        name, of = fields.get("attribute"), fields.get("of", "unit")
        if not isinstance(name, str) or not name or of not in ("unit", "site"):
            raise RuleError(path, 'expected {"attribute": "<name>", "of": "unit" or "site"}')
        return Attribute(name, str(of))
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise RuleError(path, f"found {shown(value)}, expected a finite number or an attribute")
    return float(value)


def _bound(document: Mapping[str, Any], path: str) -> Bound:
    present = [kind for kind in BOUNDS if kind in document]
    if len(present) != 1:
        raise RuleError(path, f"has {len(present)} bounds, expected exactly one of {', '.join(BOUNDS)}")
    return Bound(present[0], _number(document[present[0]], f"{path}.{present[0]}"))


def _for_ms(document: Mapping[str, Any], path: str, field: str = "for") -> int:
    return parse_duration_ms(document[field], f"{path}.{field}") if field in document else 0


def _clear(document: Mapping[str, Any], path: str, bound: Bound) -> Clear:
    if "clear" not in document:
        return Clear()
    path = f"{path}.clear"
    fields = parse_object(document["clear"], path, {*BOUNDS, "for"})
    for_ms = _for_ms(fields, path)
    if not any(kind in fields for kind in BOUNDS):
        return Clear(None, for_ms)
    clear = _bound(fields, path)
    _require_other_side(clear, bound, path)
    return Clear(clear, for_ms)


def _require_other_side(clear: Bound, bound: Bound, path: str) -> None:
    """Clearing must lie on the good side: a clear bound that also violates would resolve what it fires."""
    side = "below or at_or_below" if bound.is_upper else "above or at_or_above"
    if clear.is_upper == bound.is_upper:
        raise RuleError(path, f"clears {clear.kind} but the rule fires {bound.kind}; use {side}")
    if isinstance(clear.number, float) and isinstance(bound.number, float):
        beyond = clear.number > bound.number if bound.is_upper else clear.number < bound.number
        if beyond:
            wrong = f"clears {clear.kind} {clear.number}, which is on the wrong side of {bound.kind} {bound.number}"
            most = "most" if bound.is_upper else "least"
            raise RuleError(path, f"{wrong}; use a number of at {most} {bound.number}")


def _threshold(document: Mapping[str, Any], path: str) -> Threshold:
    fields = parse_object(document, path, {"type", *BOUNDS, "for", "consecutive", "clear", "keep_firing_for"})
    consecutive = fields.get("consecutive", 1)
    if isinstance(consecutive, bool) or not isinstance(consecutive, int) or not 1 <= consecutive <= 10_000:  # noqa: PLR2004
        raise RuleError(path=f"{path}.consecutive", detail=f"found {shown(consecutive)}, expected 1 to 10000 readings")
    bound = _bound(fields, path)
    return Threshold(
        bound, _for_ms(fields, path), consecutive, _clear(fields, path, bound), _for_ms(fields, path, "keep_firing_for")
    )


def _aggregate(document: Mapping[str, Any], path: str) -> Aggregate:
    fields = parse_object(document, path, {"type", "function", "window", *BOUNDS, "for", "clear", "keep_firing_for"})
    function = fields.get("function")
    if function not in FUNCTIONS:
        raise RuleError(
            path=f"{path}.function", detail=f"found {shown(function)}, expected one of {', '.join(FUNCTIONS)}"
        )
    bound = _bound(fields, path)
    return Aggregate(
        str(function),
        parse_duration_ms(fields.get("window"), f"{path}.window", least_ms=1000),
        bound,
        _for_ms(fields, path),
        _clear(fields, path, bound),
        _for_ms(fields, path, "keep_firing_for"),
    )


def _budget_and_within(fields: Mapping[str, Any], path: str) -> tuple[int, int]:
    budget = parse_duration_ms(fields.get("budget"), f"{path}.budget", least_ms=1)
    within = parse_duration_ms(fields.get("within", "30d"), f"{path}.within", least_ms=1000)
    if budget > within:
        unfit = f"{format_duration(budget)} does not fit into {format_duration(within)}"
        raise RuleError(path=f"{path}.budget", detail=f"{unfit}; shorten the budget or widen within")
    return budget, within


def _exposure(document: Mapping[str, Any], path: str) -> Exposure:
    fields = parse_object(document, path, {"type", *BOUNDS, "budget", "within"})
    return Exposure(_bound(fields, path), *_budget_and_within(fields, path))


def _degree_minutes(document: Mapping[str, Any], path: str) -> DegreeMinutes:
    fields = parse_object(document, path, {"type", *BOUNDS, "budget", "within"})
    budget = _number(fields.get("budget"), f"{path}.budget")
    if isinstance(budget, Attribute) or budget <= 0:
        raise RuleError(
            path=f"{path}.budget", detail=f"found {shown(fields.get('budget'))}, expected degree-minutes above 0"
        )
    within = parse_duration_ms(fields.get("within", "30d"), f"{path}.within", least_ms=1000)
    return DegreeMinutes(_bound(fields, path), budget, within)


def _mean_kinetic(document: Mapping[str, Any], path: str) -> MeanKineticTemperature:
    fields = parse_object(document, path, {"type", *BOUNDS, "window"})
    window = parse_duration_ms(fields.get("window"), f"{path}.window", least_ms=1000)
    return MeanKineticTemperature(_bound(fields, path), window)


def _silence(document: Mapping[str, Any], path: str) -> Silence:
    fields = parse_object(document, path, {"type", "after"})
    return Silence(parse_duration_ms(fields.get("after"), f"{path}.after", least_ms=1000))


def _combination(document: Mapping[str, Any], path: str) -> Combination:
    fields = parse_object(document, path, {"type", "conditions"})
    members = fields.get("conditions")
    if not isinstance(members, list) or not 1 <= len(members) <= _MAX_MEMBERS:
        raise RuleError(path=f"{path}.conditions", detail=f"expected a list of 1 to {_MAX_MEMBERS} conditions")
    return Combination(
        fields["type"] == "all_of", tuple(_member(one, f"{path}.conditions[{n}]") for n, one in enumerate(members))
    )


def _member(document: object, path: str) -> Condition:
    """A condition that may be part of a combination; asked before parsing it, so that nesting ends at the first."""
    kind = document.get("type") if isinstance(document, Mapping) else None
    nested = kind in ("any_of", "all_of", "silence")
    condition = None if nested else parse_condition(document, path)
    if condition is None or isinstance(condition, Combination):
        raise RuleError(path, "silence and combinations cannot be members; make a rule of its own for it")
    return condition


def _preset(document: Mapping[str, Any], path: str) -> Condition:
    fields = parse_object(document, path, {"type", "name"})
    name = fields.get("name")
    expanded = PRESETS.get(name) if isinstance(name, str) else None
    if expanded is None:
        raise RuleError(path=f"{path}.name", detail=f"found {shown(name)}, expected one of {', '.join(PRESETS)}")
    return parse_condition(expanded, path)


_CONDITIONS: Final[dict[str, Callable[[Mapping[str, Any], str], Condition]]] = {
    "threshold": _threshold,
    "aggregate": _aggregate,
    "exposure": _exposure,
    "degree_minutes": _degree_minutes,
    "mean_kinetic_temperature": _mean_kinetic,
    "silence": _silence,
    "any_of": _combination,
    "all_of": _combination,
    "preset": _preset,
}
