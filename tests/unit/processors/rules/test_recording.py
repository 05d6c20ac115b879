"""A real machine's temperature, three months of it with a shutdown and a failure: the judge equals the reference."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from processors.rules.judge import RuleVersion
from tests.unit.processors.rules import reference, reference_world
from tests.unit.processors.rules.judging import judged_at, rule

RECORDING = Path(__file__).parents[5] / "shared" / "data" / "machine_temperature.csv"


@pytest.fixture(scope="module")
def recording() -> list[tuple[int, int, float]]:
    """Sorted by time, in file order where two readings have one time."""
    if not RECORDING.exists():
        pytest.skip(f"the recording is not at {RECORDING}")
    with RECORDING.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    times = [datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC) for row in rows]
    return sorted(
        (round(at.timestamp() * 1000), n, float(row["value"]))
        for n, (at, row) in enumerate(zip(times, rows, strict=True))
    )


@pytest.mark.parametrize(
    "condition",
    [
        {"type": "threshold", "below": 60.0, "for": "30m", "clear": {"above": 65.0, "for": "15m"}},
        {"type": "threshold", "below": 75.0, "consecutive": 3, "keep_firing_for": "1h"},
    ],
    ids=["hysteresis", "flapping"],
)
def test_episodes_of_a_recorded_machine(recording: list[tuple[int, int, float]], condition: dict[str, object]) -> None:
    versions = [RuleVersion(0, rule(condition))]

    found = judged_at(versions, [row[0] for row in recording], [row[2] for row in recording])

    assert found == reference.judge(versions, reference_world.World(recording), 0)
    assert any(one.status == "resolved" for one in found)
