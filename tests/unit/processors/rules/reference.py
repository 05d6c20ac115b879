"""A second judge of rules, for tests: INTERFACES §6 read literally, reading by reading, nothing vectorised.

It shares no code with `processors.rules` but the plain data going in and out. Everything but gaps is worked out from all
readings each time it is needed, so it is slow and meant to be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from processors.rules.model import Episode, RuleVersion
from schemas.rules import (
    SEVERITIES,
    Aggregate,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    Rule,
    Silence,
    Threshold,
)
from tests.unit.processors.rules.reference_world import (
    World,
    contributing,
    is_clear,
    is_upper,
    shown,
    spent,
    violates,
)


@dataclass
class State:
    """Where one condition stands after a reading: idle (start is None), pending or fired."""

    start: int | None = None
    fired: int | None = None
    clear_start: int | None = None
    members: list[State] = field(default_factory=list)
    ended: list[tuple[int, int | None]] = field(default_factory=list)

    def end(self) -> None:
        assert self.start is not None
        self.ended.append((self.start, self.fired))
        self.start = self.fired = self.clear_start = None


def step(world: World, rule: Rule, condition: Condition, state: State, i: int) -> None:
    """Let reading i change the state."""
    if isinstance(condition, Combination):
        return step_combination(world, rule, condition, state, i)
    if isinstance(condition, Exposure | DegreeMinutes):
        return step_budget(world, rule, condition, state, i)
    return step_level(world, rule, condition, state, i)


def step_level(world: World, rule: Rule, condition: Condition, state: State, i: int) -> None:
    for_ms = condition.for_ms if isinstance(condition, Threshold | Aggregate) else 0
    consecutive = condition.consecutive if isinstance(condition, Threshold) else 1
    clear_ms = 0
    if isinstance(condition, Threshold | Aggregate):
        clear_ms = condition.clear.for_ms + condition.keep_firing_ms
    is_violating = violates(world, rule, condition, i)
    if state.start is not None and state.fired is None and (world.gap(i) or not is_violating):
        state.end()
    if is_violating:
        state.clear_start = None
        state.start = i if state.start is None else state.start
        proven = sum(world.at(j) - world.at(j - 1) for j in range(state.start + 1, i + 1))
        if state.fired is None and proven >= for_ms and i - state.start + 1 >= consecutive:
            state.fired = i
    elif state.fired is not None:
        if not is_clear(world, rule, condition, i):
            state.clear_start = None
            return
        if state.clear_start is None or world.gap(i):
            state.clear_start = i
        if world.at(i) - world.at(state.clear_start) >= clear_ms:
            state.end()


def step_budget(world: World, rule: Rule, condition: Exposure | DegreeMinutes, state: State, i: int) -> None:
    budget = condition.budget_ms if isinstance(condition, Exposure) else condition.budget
    holds = spent(world, rule, condition, i) >= budget and world.judges(rule, world.at(i))
    if state.fired is not None and not holds:
        state.end()
    elif state.fired is None and holds:
        inside = world.window(i, condition.within_ms)
        ends = {k for j in contributing(world, rule, condition, i) for k in (j - 1, j)}
        state.start, state.fired = min(ends & set(inside)), i


def step_combination(world: World, rule: Rule, condition: Combination, state: State, i: int) -> None:
    for member, one in zip(state.members, condition.members, strict=True):
        step(world, rule, one, member, i)
    holds = (all if condition.every else any)(member.fired is not None for member in state.members)
    earliest = min((member.start for member in state.members if member.start is not None), default=None)
    if (state.fired is not None and not holds) or (
        state.start is not None and state.fired is None and state.start != earliest
    ):
        state.end()
    if state.start is None:
        state.start = earliest
    if holds and state.fired is None:
        state.fired = i


def fresh(condition: Condition, carried: State | None) -> State:
    """The state at the start of a version: idle, or what has fired, for every member alike."""
    state = State(carried.start, carried.fired) if carried and carried.fired is not None else State()
    if isinstance(condition, Combination):
        state.members = [fresh(one, carried) for one in condition.members]
    return state


def in_force(versions: Sequence[RuleVersion], moment: int) -> RuleVersion | None:
    return next((one for one in reversed(versions) if one.effective_from_ms <= moment), None)


def judge(versions: Sequence[RuleVersion], world: World, from_ms: int) -> list[Episode]:
    """All episodes, by (started_at, fired_at), those that are open last."""
    found = []
    ladder = {rung.severity for one in versions if one.rule for rung in one.rule.ladder}
    for severity in [None, *ladder]:
        alone = [rung(one, severity) for one in versions]
        found += runs(alone, world, from_ms) + silences(alone, world, from_ms)
    return sorted(found, key=order)


def rung(version: RuleVersion, severity: str | None) -> RuleVersion:
    """What a version says of one rung; the rule's own is not named."""
    if version.rule is None or severity is None:
        return version
    found = [one for one in version.rule.ladder if one.severity == severity]
    rule = replace(version.rule, severity=severity, condition=found[0].condition) if found else None
    return RuleVersion(version.effective_from_ms, rule, "rule_changed")


def order(one: Episode) -> tuple[bool, int, float, int]:
    fired = math.inf if one.fired_at_ms is None else one.fired_at_ms
    return one.status in {"pending", "firing"}, one.started_at_ms, fired, SEVERITIES.index(one.severity)


def runs(versions: Sequence[RuleVersion], world: World, from_ms: int) -> list[Episode]:
    told = Teller(versions, world)
    state, judging = State(), None
    for i in range(len(world.readings)):
        if world.at(i) < from_ms:
            continue
        version = in_force(versions, world.at(i))
        stop = told.stop_before(i)
        if state.start is not None and stop:
            told.tell(state.start, state.fired, None, i - 1, stop)
            state, judging = State(), None
        elif version is not judging and state.start is not None and state.fired is None:
            told.tell(state.start, None, None, i - 1, ended=True)
            state = State()
        if version is None or version.rule is None or isinstance(version.rule.condition, Silence):
            continue
        if version is not judging:
            state, judging = fresh(version.rule.condition, state), version
        step(world, version.rule, version.rule.condition, state, i)
        for start, fired in state.ended:
            told.tell(start, fired, i, i, ended=True)
        state.ended.clear()
    if state.start is not None:
        told.tell(state.start, state.fired, None, len(world.readings) - 1, told.stop_before(len(world.readings)))
    return told.episodes


@dataclass
class Teller:
    """Writes episodes down."""

    versions: Sequence[RuleVersion]
    world: World
    episodes: list[Episode] = field(default_factory=list)

    def stop_before(self, i: int) -> tuple[int, str] | None:
        """When and why the rule ended after reading i - 1 and not after reading i."""
        known = range(len(self.world.readings))
        after = self.world.at(i - 1) if i - 1 in known else -math.inf
        until = self.world.at(i) if i in known else math.inf
        for moment in sorted(one.effective_from_ms for one in self.versions):
            version = in_force(self.versions, moment)
            if after < moment <= until and version and version.rule is None:
                return moment, version.gone
        version = in_force(self.versions, self.world.at(i)) if i in known else None
        if version and version.rule and isinstance(version.rule.condition, Silence):
            return version.effective_from_ms, "rule_changed"
        return None

    def tell(
        self,
        start: int,
        fired: int | None,
        end: int | None,
        last: int,
        stop: tuple[int, str] | None = None,
        *,
        ended: bool = False,
    ) -> None:
        world = self.world
        home = self.version(last if fired is None else fired)

        def rule(j: int) -> Rule:
            found = (home if fired is None or j <= fired else self.version(j)).rule
            assert found
            return found

        def bad(j: int) -> bool:
            return violates(world, rule(j), rule(j).condition, j)

        pairs = range(start + 1, last + 1)
        proven = sum(world.at(j) - world.at(j - 1) for j in pairs if bad(j) and bad(j - 1) and not world.gap(j))
        possible = sum(world.at(j) - world.at(j - 1) for j in pairs if bad(j) or bad(j - 1))
        if start > 0 and bad(start):
            looked_back = world.at(start) < home.effective_from_ms
            since = world.at(start - 1) if looked_back else max(world.at(start - 1), home.effective_from_ms)
            possible += world.at(start) - since
        candidates = range(start, max(last if end is None else last - 1, start) + 1)
        peak = self.worst([j for j in candidates if bad(j)] or list(candidates), rule)
        ended = ended or stop is not None
        status = ("retracted" if fired is None else "resolved") if ended else "pending" if fired is None else "firing"
        resolved = None if fired is None else stop[0] if stop else world.at(end) if end is not None else None
        self.episodes.append(
            Episode(
                rule(last).severity,
                status,
                world.at(start),
                None if fired is None else world.at(fired),
                resolved,
                world.at(peak),
                shown(world, rule(peak), peak),
                proven,
                possible,
                stop[1] if stop else None,
            )
        )

    def version(self, j: int) -> RuleVersion:
        found = in_force(self.versions, self.world.at(j))
        assert found
        return found

    def worst(self, among: list[int], rule: Callable[[int], Rule]) -> int:
        def badness(j: int) -> float:
            value = shown(self.world, rule(j), j)
            return -math.inf if math.isnan(value) else value if is_upper(rule(j).condition) else -value

        return max(among, key=badness)


def silences(versions: Sequence[RuleVersion], world: World, from_ms: int) -> list[Episode]:
    """Per gap the earliest deadline whose version is in force then; durations start at a version's effective_from."""
    found = []
    for a, b in pairwise(world.readings):
        fired = [
            (deadline, rule)
            for one in versions
            if (rule := one.rule) and isinstance(rule.condition, Silence)
            if b[0] > (deadline := max(a[0], one.effective_from_ms) + rule.condition.after_ms)
            if in_force(versions, deadline) is one
            if world.judges(rule, deadline)
        ]
        if fired and b[0] > from_ms:
            deadline, rule = min(fired, key=lambda one: one[0])
            end, reason = silence_end(versions, deadline, b[0])
            found.append(Episode(rule.severity, "resolved", a[0], deadline, end, a[0], math.nan, 0, 0, reason))
    return found


def silence_end(versions: Sequence[RuleVersion], deadline: int, heard: int) -> tuple[int, str | None]:
    for moment in sorted(one.effective_from_ms for one in versions):
        version = in_force(versions, moment)
        if deadline < moment < heard and version:
            if version.rule is None:
                return moment, version.gone
            if not isinstance(version.rule.condition, Silence):
                return moment, "rule_changed"
    return heard, None
