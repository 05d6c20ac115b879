"""Reads the lanes' JUnit reports and says whether each ran what it is there to run; the last line counts the tests.

A lane that collects nothing, skips everything or skips for a reason that does not belong to it has failed, however
green it looks. Usage: lanes.py EMBEDDED.xml KAFKA.xml
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree  # reports that pytest wrote a moment ago

_RECORDINGS = Path(__file__).resolve().parents[2] / "shared" / "data"


@dataclass(frozen=True)
class Lane:
    """What a lane must have run, and what it may leave out."""

    name: str
    must_run: tuple[str, ...]
    may_skip: tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """One test of a report."""

    module: str
    name: str
    outcome: str
    reason: str = ""


EMBEDDED = Lane(
    "make test",
    must_run=(
        *("tests.unit.", "tests.rooms.", "tests.architecture.", "tests.deployment.", "tests.integration."),
        # Skipped where there is no Chromium or no Node; here both are.
        *("tests.acceptance.test_dashboard", "tests.acceptance.test_typescript"),
    ),
    # Not every sandbox lets root mount a disk.
    may_skip=("Apache Kafka lane", "Timescale", "Docker", "mounting a small disk"),
)
KAFKA = Lane(
    "Apache Kafka",
    # The launcher's own tests run in this lane only: without them, no Kafka was started.
    must_run=("tests.integration.test_kafka_server", "tests.integration.stream."),
    may_skip=("Timescale", "Docker"),
)


def main(arguments: list[str]) -> int:
    """Print a line a lane and every complaint; 0 if there is none."""
    complaints: list[str] = []
    everything: list[Case] = []
    for lane, report in zip((EMBEDDED, KAFKA), arguments, strict=True):
        cases = read(Path(report))
        everything += cases
        print(f"{lane.name}: {tally(cases)}")
        complaints += [f"{lane.name}: {complaint}" for complaint in judge(lane, cases)]
    for complaint in complaints:
        print(complaint)
    print(tally(everything))
    return 1 if complaints else 0


def read(report: Path) -> list[Case]:
    """The tests of a report; none if it was not written or is torn."""
    try:
        tree = ElementTree.parse(report)  # noqa: S314
    except (OSError, ElementTree.ParseError):
        return []
    return [_case(element) for element in tree.iter("testcase")]


def _case(element: ElementTree.Element) -> Case:
    outcomes = {child.tag: child.get("message", "") for child in element}
    for outcome in ("error", "failure", "skipped"):
        if outcome in outcomes:
            break
    else:
        outcome = "passed"
    return Case(element.get("classname", ""), element.get("name", ""), outcome, outcomes.get(outcome, ""))


def judge(lane: Lane, cases: list[Case]) -> Iterator[str]:
    """Why the lane has failed; nothing if it has not."""
    if not cases:
        yield "no test ran"
        return
    for case in cases:
        where = f"{case.module}::{case.name}"
        if case.outcome in {"error", "failure"}:
            yield f"{case.outcome} in {where}"
        if case.outcome == "skipped" and not _may_be_skipped(lane, case.reason):
            yield f"skipped {where}: {case.reason}"
    for prefix in lane.must_run:
        if not any(case.outcome == "passed" and f"{case.module}.".startswith(prefix) for case in cases):
            yield f"nothing of {prefix} ran"


def _may_be_skipped(lane: Lane, reason: str) -> bool:
    # The recordings come with the workplace, not with the repository; where they are, their tests run.
    absent = () if _RECORDINGS.is_dir() else ("recording",)
    return any(re.search(allowed, reason) for allowed in (*lane.may_skip, *absent))


def tally(cases: list[Case]) -> str:
    """`N passed, N failed, N skipped`."""
    counted = {outcome: sum(case.outcome == outcome for case in cases) for outcome in ("passed", "skipped")}
    failed = len(cases) - sum(counted.values())
    return f"{counted['passed']} passed, {failed} failed, {counted['skipped']} skipped"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
