"""One world of readings and rules, arranged in every way that comes to mind: the final episodes are always the same.

Shuffled, doubled, split, up to 30 days late, over one partition and four, one worker and several, killed on the way, rules
recorded before and after: a hash of all final episodes is compared with the brute-force reference, which sees all readings at
once.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from core.kafka import ensure_topics
from processors.rules.model import Episode, RuleVersion
from schemas.rules import Silence, parse_rule
from tests.integration.alert_scene import NEW_WORKER, change_rule, record_rule
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body
from tests.integration.servers import Database, Tenant, create_tenant, wait_until
from tests.unit.processors.rules import reference, reference_world

pytestmark = pytest.mark.integration

MINUTE = 60_000
DAY = 1440 * MINUTE
START = 1_790_856_000_000  # 2026-10-01T12:00:00Z
SENSORS = ("air", "core")

Row = tuple[int, int, float]


@dataclass(frozen=True)
class Recorded:
    """A rule and how it changes: (document or None, effective_from) one after the other."""

    name: str
    versions: tuple[tuple[dict[str, Any] | None, int], ...]


def rule(name: str, condition: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "applies_to": {"all": True}, "severity": "major", "condition": condition, **fields}


def hot(**fields: Any) -> dict[str, Any]:
    return {"type": "threshold", "above": 8.0, **fields}


MEAN = {"type": "aggregate", "function": "mean", "window": "1h", "above": 7.0, "for": "10m"}
RANGE = {"type": "aggregate", "function": "range", "window": "30m", "at_or_above": 4.0}
AFTERNOON = {"timezone": "Europe/Berlin", "weekly": [{"from": "13:00", "to": "17:30"}]}
CRITICAL = [{"severity": "critical", "condition": hot(above=9.0, **{"for": "20m"})}]
LONG_AGO = START - 300 * DAY
RULES = (
    Recorded("plain", ((rule("plain", hot()), LONG_AGO),)),
    Recorded("wait", ((rule("wait", hot(**{"for": "15m"}, clear={"below": 6.0, "for": "10m"})), LONG_AGO),)),
    Recorded("flap", ((rule("flap", hot(consecutive=3, keep_firing_for="20m")), LONG_AGO),)),
    Recorded("cold", ((rule("cold", {"type": "threshold", "at_or_below": 2.0, "for": "5m"}), LONG_AGO),)),
    Recorded("mean", ((rule("mean", MEAN), LONG_AGO),)),
    Recorded("range", ((rule("range", RANGE), LONG_AGO),)),
    Recorded("count", ((rule("count", {**RANGE, "function": "count", "at_or_above": 7}), LONG_AGO),)),
    Recorded(
        "budget", ((rule("budget", {"type": "exposure", "above": 8.0, "budget": "1h", "within": "6h"}), LONG_AGO),)
    ),
    Recorded(
        "degrees",
        ((rule("degrees", {"type": "degree_minutes", "above": 8.0, "budget": 60, "within": "1d"}), LONG_AGO),),
    ),
    Recorded(
        "kinetic", ((rule("kinetic", {"type": "mean_kinetic_temperature", "above": 7.0, "window": "3h"}), LONG_AGO),)
    ),
    Recorded("both", ((rule("both", {"type": "all_of", "conditions": [hot(), MEAN]}), LONG_AGO),)),
    Recorded("hours", ((rule("hours", hot(), schedule=AFTERNOON), LONG_AGO),)),
    Recorded("ladder", ((rule("ladder", hot(above=7.0), severity="minor", ladder=CRITICAL), LONG_AGO),)),
    Recorded("silence", ((rule("silence", {"type": "silence", "after": "1h"}), LONG_AGO),)),
    # Changed in the middle of the first day, deleted in the last one.
    Recorded(
        "changed",
        (
            (rule("changed", hot(**{"for": "10m"})), LONG_AGO),
            (rule("changed", hot(above=7.0, **{"for": "20m"}), severity="info"), START + 90 * MINUTE),
            (None, START + 30 * DAY + 3 * 60 * MINUTE),
        ),
    ),
)


def world(seed: int) -> dict[str, list[Row]]:
    """Readings over 30 days: hours of them on the first day, in the middle and on the last, with gaps and repeated times."""
    chance = random.Random(seed)
    return {sensor: sorted(_series(chance)) for sensor in SENSORS}


def _series(chance: random.Random) -> list[Row]:
    found: dict[tuple[int, int], float] = {}
    for day in (0, 14, 30):
        at, value = START + day * DAY + chance.randrange(60) * 1000, 6.0
        for _ in range(45):
            at += chance.choice([MINUTE, 5 * MINUTE, 5 * MINUTE, 5 * MINUTE, 17 * MINUTE, 70 * MINUTE, 0])
            value = min(max(value + chance.choice([-2.0, -0.75, 0.0, 0.5, 0.75, 1.5]), 1.0), 11.0)
            found[at, chance.randrange(2)] = value
    return [(at, seq, value) for (at, seq), value in found.items()]


def expected(rows: Sequence[Row], recorded: Recorded) -> list[Episode]:
    """What the reference says, and the silence that goes on after the last reading."""
    versions = [
        RuleVersion(moment, None if document is None else parse_rule(document))
        for document, moment in recorded.versions
    ]
    found = reference.judge(versions, reference_world.World(rows), 0)
    condition = versions[0].rule.condition if versions[0].rule else None
    if isinstance(condition, Silence):
        last = rows[-1][0]
        found.append(Episode("major", "firing", last, last + condition.after_ms, None, last, float("nan"), 0, 0, None))
    return [one for one in found if one.fired_at_ms is not None]


Line = tuple[Any, ...]


def line(sensor: str, name: str, one: Episode) -> Line:
    times = (one.started_at_ms, one.fired_at_ms, one.resolved_at_ms, one.peak_at_ms)
    peak = None if one.peak_value != one.peak_value else f"{one.peak_value:.6f}"
    return sensor, name, one.severity, one.status, *times, peak, one.proven_ms, one.possible_ms


def hashed(lines: Sequence[Line]) -> str:
    return hashlib.sha256("\n".join(sorted(map(repr, lines))).encode()).hexdigest()


def stored(database: Database, tenant: Tenant) -> list[Line]:
    rows = database.query(
        "SELECT s.name, (SELECT v.document ->> 'name' FROM weir.rule_version v WHERE v.rule_no = e.rule_no AND v.version = 1),"
        " e.severity, e.status, e.started_at, e.fired_at, e.resolved_at, e.peak_at, e.peak_value, e.proven_ms, e.possible_ms"
        " FROM weir.alert_episode e JOIN weir.sensor s USING (sensor_no)"
        " WHERE e.tenant_id = %s AND e.status <> 'retracted' AND e.fired_at IS NOT NULL",
        tenant.tenant_id,
    )
    return [(*row[:4], *map(_ms, row[4:8]), None if row[8] is None else f"{row[8]:.6f}", *row[9:]) for row in rows]


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def record(database: Database, tenant: Tenant, recorded: Recorded) -> None:
    [(first, since), *others] = recorded.versions
    assert first is not None
    rule_id = record_rule(database, tenant, first, _at(since))
    for document, moment in others:
        change_rule(database, tenant, rule_id, document, _at(moment))


def _at(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def records(readings: dict[str, list[Row]], arrangement: str) -> list[bytes]:
    """The world as records of a few readings each, in the order in which they are sent."""
    every = sorted((at, seq, sensor, value) for sensor, rows in readings.items() for at, seq, value in rows)
    chance = random.Random(arrangement)
    size = 7
    if arrangement == "shuffled and doubled":
        # Lesser values of the same identity lose whenever they come.
        every = [*every, *every, *((at, seq, sensor, value - 3.0) for at, seq, sensor, value in every[::5])]
        chance.shuffle(every)
        size = 25
    elif arrangement == "back-filled":
        every = every[::-1]
        size = 31
    elif arrangement == "by days":
        days: defaultdict[int, list[Any]] = defaultdict(list)
        for one in every:
            days[(one[0] - START) // DAY].append(one)
        order = list(days)
        chance.shuffle(order)
        every = [one for day in order for one in days[day]]
        size = 40
    shaped = [{"sensor": sensor, "at": at, "value": value, "seq": seq} for at, seq, sensor, value in every]
    return [body(*shaped[n : n + size]) for n in range(0, len(shaped), size)]


ARRANGEMENTS = ("live", "shuffled and doubled", "back-filled", "by days", "rules afterwards")


def test_the_final_episodes_depend_on_the_readings_and_the_rules_alone(
    database: Database, broker: Broker, topic_prefix: str, new_worker: NEW_WORKER
) -> None:
    readings = world(seed=2)
    tenants = {name: asyncio.run(create_tenant(database, name=name)) for name in (*ARRANGEMENTS, "one partition")}
    for name, tenant in tenants.items():
        if name != "rules afterwards":
            for recorded in RULES:
                record(database, tenant, recorded)
    single = f"{topic_prefix}single-"
    ensure_topics(broker.bootstrap, single, 1)
    victim = new_worker(WEIR_BATCH_MAX_RECORDS="10")
    new_worker(WEIR_BATCH_MAX_RECORDS="4")
    new_worker(WEIR_TOPIC_PREFIX=single)

    several, alone = (ThirdPartyDevice(broker.bootstrap, f"{prefix}readings") for prefix in (topic_prefix, single))
    sent = 0
    for name, tenant in tenants.items():
        arranged = records(readings, "shuffled and doubled" if name == "one partition" else name)
        device = alone if name == "one partition" else several
        for one in arranged:
            device.send(tenant.devices[0], one)
        sent += len(arranged)
    several.flush()
    alone.flush()
    # Killed as it is in the middle of it: what it had begun is taken over.
    victim.kill()
    new_worker()
    _settle(database, sent)
    for recorded in RULES:
        record(database, tenants["rules afterwards"], recorded)
    _settle(database, sent)

    wanted = [
        line(sensor, recorded.name, one)
        for sensor, rows in readings.items()
        for recorded in RULES
        for one in expected(rows, recorded)
    ]
    assert len({name for _, name, *_ in wanted}) == len(RULES)  # every rule found something
    # The silences that go on are found a while after everything is caught up.
    open_silences = len(SENSORS) * len(tenants)
    wait_until(
        lambda: (
            database.query("SELECT count(*) FROM alert_episodes WHERE status = 'firing' AND peak_value IS NULL")
            == [(open_silences,)]
        ),
        60,
        "the silences that go on",
    )
    for name, tenant in tenants.items():
        found = stored(database, tenant)
        assert hashed(found) == hashed(wanted), (name, sorted(set(found) ^ set(wanted), key=repr)[:6])


def _settle(database: Database, sent: int) -> None:
    stand = (
        "SELECT (SELECT coalesce(sum(next_offset), 0) FROM stream_positions),"
        " (SELECT count(*) FROM weir.rule_work WHERE done_at IS NULL)"
    )
    wait_until(lambda: database.query(stand) == [(sent, 0)], 120, "everything committed and judged")
