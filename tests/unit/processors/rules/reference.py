"""A second judge of rules, for tests: INTERFACES §6 read literally, reading by reading, nothing vectorised.

It shares no code with `processors.rules` but the plain data going in and out. Everything but gaps is worked out from all
readings each time it is needed, so it is slow and meant to be.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from processors.rules.model import Episode, RuleVersion
from schemas.rules import (
    SEVERITIES,
    Aggregate,
    Attribute,
    Bound,
    Combination,
    Condition,
    DegreeMinutes,
    Exposure,
    MeanKineticTemperature,
    Rule,
    Schedule,
    Silence,
    Target,
    Threshold,
)

DAY = 86_400_000


@dataclass
class World:
    """Everything there is to know: readings as (at, seq, value) in order, and the sensor's surroundings."""

    readings: Sequence[tuple[int, int, float]]
    declared_ms: int | None = None
    applies: Callable[[Target, int], bool] = lambda target, at: True
    attribute: Callable[[Attribute, int], float] = lambda attribute, at: math.nan
    timezone: Callable[[int], str] = lambda at: "UTC"

    def at(self, i: int) -> int:
        return self.readings[i][0]

    def value(self, i: int) -> float:
        return self.readings[i][2]

    def __post_init__(self) -> None:
        self.times = [at for at, _, _ in self.readings]
        self.gaps: dict[int, bool] = {}

    def gap(self, i: int) -> bool:
        """Whether the pair (i - 1, i) is a gap; asked for so often that the answer is kept."""
        if i not in self.gaps:
            self.gaps[i] = i > 0 and self.at(i) - self.at(i - 1) > 3 * self.expected(i)
        return self.gaps[i]

    def expected(self, i: int) -> float:
        """The expected interval in the 24 h that end at reading i, all readings of its moment included."""
        if self.declared_ms is not None:
            return self.declared_ms
        recent = self.times[bisect_right(self.times, self.at(i) - DAY) : bisect_right(self.times, self.at(i))]
        if len(recent) < 4:
            return 300_000
        spacings = [b - a for a, b in pairwise(recent)]
        return statistics.median(spacings) or statistics.median([s for s in spacings if s] or [300_000])

    def judges(self, rule: Rule, moment: int) -> bool:
        return in_schedule(rule.schedule, moment, self.timezone(moment)) and self.applies(rule.applies_to, moment)

    def beyond(self, bound: Bound, value: float, moment: int) -> bool:
        number = bound.number if isinstance(bound.number, float) else self.attribute(bound.number, moment)
        if bound.kind == "above":
            return value > number
        if bound.kind == "at_or_above":
            return value >= number
        if bound.kind == "below":
            return value < number
        return value <= number

    def window(self, i: int, width: int) -> list[int]:
        return [j for j in range(i + 1) if self.at(j) > self.at(i) - width]


def in_schedule(schedule: Schedule | None, moment: int, site_zone: str) -> bool:
    if schedule is None:
        return True
    zone = ZoneInfo(schedule.timezone or site_zone)
    local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=moment)).astimezone(zone)
    minute = local.hour * 60 + local.minute
    for span in schedule.weekly:
        starts_today, started_yesterday = local.weekday() in span.days, (local.weekday() - 1) % 7 in span.days
        if span.start < span.end and starts_today and span.start <= minute < span.end:
            return True
        if span.start >= span.end and (
            (starts_today and minute >= span.start) or (started_yesterday and minute < span.end)
        ):
            return True
    return False


def judged_value(world: World, condition: Condition, i: int) -> float:
    """What a level condition compares, and an episode's peak shows."""
    if isinstance(condition, Aggregate):
        inside = world.window(i, condition.window_ms)
        values = [world.value(j) for j in inside]
        hours = (world.at(inside[-1]) - world.at(inside[0])) / 3_600_000
        return {
            "mean": lambda: sum(values) / len(values),
            "min": lambda: min(values),
            "max": lambda: max(values),
            "count": lambda: float(len(values)),
            "range": lambda: max(values) - min(values),
            "rate_per_hour": lambda: (values[-1] - values[0]) / hours if hours else math.nan,
        }[condition.function]()
    if isinstance(condition, MeanKineticTemperature):
        return kinetic(world, i, condition.window_ms)
    return world.value(i)


def kinetic(world: World, i: int, width: int) -> float:
    """Each reading for the time since the one before it, as far as that is inside the window and no gap."""
    inside = world.window(i, width)
    weights = [clipped(world, j, i, width) if j and not world.gap(j) else 0 for j in inside]
    if not sum(weights):
        return math.nan
    terms = [w * math.exp(-10_000 / (world.value(j) + 273.15)) for w, j in zip(weights, inside, strict=True)]
    celsius = 10_000 / -math.log(sum(terms) / sum(weights)) - 273.15
    values = [world.value(j) for j in inside]
    return min(max(celsius, min(values)), max(values))


def clipped(world: World, j: int, i: int, width: int) -> int:
    """The part of the pair (j - 1, j) inside the window that ends with reading i."""
    return world.at(j) - max(world.at(j - 1), world.at(i) - width)


def violates(world: World, rule: Rule, condition: Condition, i: int) -> bool:
    """Whether reading i violates, as pairs are counted by."""
    if isinstance(condition, Combination):
        return (all if condition.every else any)(violates(world, rule, one, i) for one in condition.members)
    assert not isinstance(condition, Silence)
    beyond = world.beyond(condition.bound, judged_value(world, condition, i), world.at(i))
    return beyond and world.judges(rule, world.at(i))


def is_clear(world: World, rule: Rule, condition: Condition, i: int) -> bool:
    if violates(world, rule, condition, i):
        return False
    bound = condition.clear.bound if isinstance(condition, Threshold | Aggregate) else None
    if bound is None or not world.judges(rule, world.at(i)):
        return True
    if isinstance(bound.number, Attribute) and math.isnan(world.attribute(bound.number, world.at(i))):
        return True
    return world.beyond(bound, judged_value(world, condition, i), world.at(i))


def contributing(world: World, rule: Rule, condition: Exposure | DegreeMinutes, i: int) -> list[int]:
    """The later readings of pairs that count towards a budget at reading i."""
    return [
        j
        for j in world.window(i, condition.within_ms)
        if j and not world.gap(j) and all(violates(world, rule, condition, k) for k in (j - 1, j))
    ]


def spent(world: World, rule: Rule, condition: Exposure | DegreeMinutes, i: int) -> float:
    pairs = contributing(world, rule, condition, i)
    if isinstance(condition, Exposure):
        return sum(clipped(world, j, i, condition.within_ms) for j in pairs)
    total = 0.0
    for j in pairs:
        excess = [abs(world.value(k) - number(world, condition.bound, k)) for k in (j - 1, j)]
        total += sum(excess) / 2 * clipped(world, j, i, condition.within_ms) / 60_000
    return round(total, 6)


def number(world: World, bound: Bound, i: int) -> float:
    return bound.number if isinstance(bound.number, float) else world.attribute(bound.number, world.at(i))


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


def shown(world: World, rule: Rule, j: int) -> float:
    return judged_value(world, rule.condition, j)


def is_upper(condition: Condition) -> bool:
    if isinstance(condition, Combination):
        return is_upper(condition.members[0])
    assert not isinstance(condition, Silence)
    return condition.bound.kind in {"above", "at_or_above"}


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
