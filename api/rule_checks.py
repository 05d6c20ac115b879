"""Whether a rule can be used: its document, and what is known of the tenant's sensors that it is for.

A rule that can never judge anything rightly is refused; one that is merely odd is taken, with a warning in the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

from accounts import rules
from api.errors import Problem
from core.postgres import Connection
from processors.gaps import WINDOW_MS
from processors.rules.judge import look_back_ms
from schemas import rfc3339
from schemas.rules import (
    Attribute,
    Combination,
    Condition,
    MeanKineticTemperature,
    Rule,
    RuleError,
    format_duration,
    parse_rule,
)

MAX_RULES: Final = 10_000
MAX_RULES_EVER: Final = 100_000
CELSIUS: Final = "celsius"


def understood(document: object) -> Rule:
    """The parsed rule.

    Raises:
        Problem: 422, with the part of the document that is wrong.
    """
    try:
        rule = parse_rule(document)
    except RuleError as exc:
        raise Problem.invalid(parameter=exc.path, detail=str(exc)) from exc
    except (ArithmeticError, OSError, TypeError, ValueError) as exc:  # numbers and names beyond all measure
        detail = "rule: has a value of a kind or size that no rule has; compare it with the examples of /docs"
        raise Problem.invalid(parameter="rule", detail=detail) from exc
    moment = rule.effective_from_ms
    if moment is not None and not rfc3339.MIN_MS <= moment <= rfc3339.MAX_MS:
        detail = "effective_from: found a time outside of the years 1 to 9999 UTC; leave it out for now"
        raise Problem.invalid(parameter="effective_from", detail=detail)
    if "\0" in rule.applies_to.value:
        detail = f"applies_to.{rule.applies_to.kind}: has a NUL character, which no id has; remove it"
        raise Problem.invalid(parameter=f"applies_to.{rule.applies_to.kind}", detail=detail)
    return rule


async def require_room(connection: Connection) -> None:
    """A tenant's rules are bounded: every worker holds all of them.

    Raises:
        Problem: 422, there is no room for one more.
    """
    count = await rules.count_rules(connection)
    if count.live >= MAX_RULES:
        detail = f"the tenant has {MAX_RULES} rules, the most allowed; let one apply to several sensors, or delete some"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many_rules", detail)
    if count.ever >= MAX_RULES_EVER:
        detail = f"the tenant has made {MAX_RULES_EVER} rules, the most kept; change one that exists instead"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many_rules", detail)


async def check(connection: Connection, rule: Rule, document: Mapping[str, Any]) -> list[str]:
    """Hold a rule against the tenant's sensors and retention.

    Returns:
        Warnings: what is odd, and what to do about it.

    Raises:
        Problem: 422, the rule could never judge anything rightly.
    """
    await _require_window(connection, rule)
    return [
        *await _target_warnings(connection, rule),
        *await _attribute_warnings(connection, rule),
        *await _unit_warnings(connection, rule, document),
    ]


async def _attribute_warnings(connection: Connection, rule: Rule) -> list[str]:
    """A number that is taken from where it is not: without it nothing violates."""
    warnings, target = [], rule.applies_to
    wanted = {(one.name, one.of) for rung in rule.rungs for one in _attributes(rung.condition)}
    for name, of in sorted(wanted):
        # No text of the database has a NUL, so no attribute's name.
        found = await rules.count_attribute(connection, target.kind, target.value, name.replace("\0", ""), of)
        what = f"condition: attribute {name[:100]} of the {of} is not set"
        if not found.having and (found.sensors or target.kind in {"all", "sensor_id"}):
            detail = f"{what} for any sensor of this rule; set it first, or write the number"
            raise Problem.invalid(parameter="condition", detail=detail)
        if found.having < found.sensors:
            warnings.append(
                f"{what} for {found.sensors - found.having} of {found.sensors} sensors, which nothing violates"
            )
    return warnings


def _attributes(condition: Condition) -> Iterator[Attribute]:
    if isinstance(condition, Combination):
        for member in condition.members:
            yield from _attributes(member)
    for bound in (getattr(condition, "bound", None), getattr(getattr(condition, "clear", None), "bound", None)):
        if bound is not None and isinstance(bound.number, Attribute):
            yield bound.number


async def _require_window(connection: Connection, rule: Rule) -> None:
    """Readings that are gone cannot be in a window."""
    window_ms = look_back_ms(rule) - WINDOW_MS
    kept_ms = await rules.raw_retention_ms(connection)
    if kept_ms is not None and window_ms > kept_ms:
        detail = (
            f"condition: looks back {format_duration(window_ms)}, but raw readings are kept {format_duration(kept_ms)};"
            " shorten the window, or have readings kept longer"
        )
        raise Problem.invalid(parameter="condition", detail=detail)


async def _target_warnings(connection: Connection, rule: Rule) -> list[str]:
    target = rule.applies_to
    if target.kind == "all" or await rules.watched_sensors(connection, target.kind, target.value, 1):
        return []
    if target.kind == "sensor_id":
        detail = f"applies_to.sensor_id: there is no sensor {target.value[:100]}; /v1/sensors lists them"
        raise Problem.invalid(parameter="applies_to.sensor_id", detail=detail)
    return [f"no sensor has {target.kind} {target.value[:100]} yet; the rule judges nothing until one has"]


async def _unit_warnings(connection: Connection, rule: Rule, document: Mapping[str, Any]) -> list[str]:
    """Presets and mean kinetic temperature are numbers in °C; of a sensor of another unit they say nothing."""
    said = [document["condition"], *(rung["condition"] for rung in document.get("ladder") or ())]
    if not any(one.get("type") == "preset" for one in said) and not any(
        _is_kinetic(one.condition) for one in rule.rungs
    ):
        return []
    target = rule.applies_to
    others = await rules.other_units(connection, target.kind, target.value, CELSIUS)
    if not others:
        return []
    detail = f"condition: is about °C, but sensors that the rule applies to measure {', '.join(others)}"
    if target.kind == "sensor_id":
        raise Problem.invalid(parameter="condition", detail=f"{detail}; use a threshold or aggregate in that unit")
    return [f"{detail}; name the sensors in °C in applies_to"]


def _is_kinetic(condition: Condition) -> bool:
    if isinstance(condition, Combination):
        return any(_is_kinetic(member) for member in condition.members)
    return isinstance(condition, MeanKineticTemperature)
