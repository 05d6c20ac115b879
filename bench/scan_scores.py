"""What measurements of synthetic rooms are worth: shares of errors, worst cases, coverage of the error bars, openings."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from ops.simulator.rooms.shapes import Room
from processors.scans.result import FoundOpening, Mistake, ScanResult, Verdict

_LENGTHS = ("length", "width", "height")
# Where an opening is found: its middle lies so near to the true one. An object likewise.
_SAME_OPENING_M = 0.35
_SAME_OBJECT_M = 0.3
_SAME_WALL_M = 0.3


@dataclass(slots=True)
class Tally:
    """Of any number of rooms."""

    errors_m: list[float] = field(default_factory=list)
    area_errors: list[float] = field(default_factory=list)
    covered: list[bool] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    silent_errors: int = 0
    true_openings: int = 0
    found_openings: int = 0
    width_errors_m: list[float] = field(default_factory=list)
    true_walls: int = 0
    found_walls: int = 0
    wall_errors_m: list[float] = field(default_factory=list)
    true_objects: int = 0
    found_objects: int = 0
    object_errors_m: list[float] = field(default_factory=list)
    mirrors: int = 0
    named_mirrors: int = 0
    measure_s: float = 0.0

    def add(self, other: Tally) -> None:
        """Take in another one's rooms."""
        for one in fields(Tally):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def compare(tally: Tally, result: ScanResult, room: Room, truth: dict[str, float]) -> None:
    """Add a room: every number that was given counts, whatever the verdict; what stands in it if it was measured."""
    tally.verdicts.append(result.verdict)
    tally.mirrors += len(room.mirrors)
    tally.named_mirrors += bool(room.mirrors) and Mistake.MIRROR in result.warnings
    _compare_dimensions(tally, result, truth)
    if result.verdict is not Verdict.INCOMPLETE:
        _compare_walls(tally, result, room)
        _compare_openings(tally, result, room)
        _compare_objects(tally, result, room)


def _compare_dimensions(tally: Tally, result: ScanResult, truth: dict[str, float]) -> None:
    for name, true in truth.items():
        value, sigma = getattr(result.room_dimensions, name), getattr(result.uncertainty, name)
        if value is None or sigma is None:
            continue
        error = abs(value - true)
        tally.covered.append(error <= 1.96 * sigma)
        if name in _LENGTHS:
            tally.errors_m.append(error)
            tally.silent_errors += error > 0.05  # whatever its error bar: so wrong a number must not be given
        if name == "area":
            tally.area_errors.append(error / true)


def _placed(result: ScanResult, at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places on the true plan, shape (2,), in the result's coordinates."""
    turn, shift = np.array(result.placement.rotation), np.array(result.placement.translation)
    placed: NDArray[np.float64] = (turn @ np.array([*at, 0.0]) + shift)[:2]
    return placed


def _compare_walls(tally: Tally, result: ScanResult, room: Room) -> None:
    tally.true_walls += len(room.corners)
    tally.found_walls += len(result.walls)
    for number in range(len(room.corners)):
        first, last = (_placed(result, corner) for corner in room.wall(number))
        near = [
            wall
            for wall in result.walls
            if max(np.linalg.norm(wall.start - first), np.linalg.norm(wall.end - last)) < _SAME_WALL_M
        ]
        if near:
            tally.wall_errors_m.append(abs(near[0].length - float(np.linalg.norm(last - first))))


def _compare_openings(tally: Tally, result: ScanResult, room: Room) -> None:
    found = {number: _middle(result, one) for number, one in enumerate(result.openings)}
    tally.true_openings += len(room.openings)
    tally.found_openings += len(found)
    for opening in room.openings:
        first, last = room.wall(opening.wall)
        along = (last - first) / np.linalg.norm(last - first)
        true = _placed(result, first + along * (opening.offset + opening.width / 2))
        near = [number for number, middle in found.items() if np.linalg.norm(middle - true) < _SAME_OPENING_M]
        if near:
            tally.width_errors_m.append(abs(result.openings[near[0]].width - opening.width))
            found.pop(near[0])


def _compare_objects(tally: Tally, result: ScanResult, room: Room) -> None:
    found = list(result.objects)
    tally.true_objects += len(room.furniture)
    tally.found_objects += len(found)
    for box in room.furniture:
        true = _placed(result, np.array(box.center))
        near = [one for one in found if np.linalg.norm(one.center[:2] - true) < _SAME_OBJECT_M]
        if near:
            found.remove(near[0])
            size = (*sorted(box.size[:2], reverse=True), box.size[2] + box.bottom)
            tally.object_errors_m += [abs(one - other) for one, other in zip(near[0].size, size, strict=True)]


def _middle(result: ScanResult, opening: FoundOpening) -> NDArray[np.float64]:
    wall = result.walls[opening.wall]
    along = (np.array(wall.end) - np.array(wall.start)) / wall.length
    middle: NDArray[np.float64] = np.array(wall.start) + along * (opening.offset + opening.width / 2)
    return middle


def summary(tally: Tally) -> dict[str, object]:
    """One line of figures."""
    count = len(tally.verdicts)
    figures: dict[str, object] = {
        "rooms": count,
        "incomplete": tally.verdicts.count(Verdict.INCOMPLETE),
        "estimates": tally.verdicts.count(Verdict.ESTIMATE),
        "cpu_s_a_scan": round(tally.measure_s / count, 2),
    }
    if tally.errors_m:
        figures |= _of_dimensions(tally) | _of_parts(tally)
    if tally.mirrors:
        figures["mirrors_named"] = round(tally.named_mirrors / tally.mirrors, 3)
    return figures


def _of_dimensions(tally: Tally) -> dict[str, object]:
    errors = np.array(tally.errors_m)
    figures: dict[str, object] = {
        "within_1_cm": round(float((errors <= 0.01).mean()), 3),
        "within_2_cm": round(float((errors <= 0.02).mean()), 3),
        "worst_cm": round(float(errors.max()) * 100, 2),
        "interval_coverage": round(float(np.mean(tally.covered)), 3),
        "silent_errors_above_5_cm": tally.silent_errors,
    }
    if tally.area_errors:
        figures["area_error_median_percent"] = round(float(np.median(tally.area_errors)) * 100, 3)
        figures["area_error_worst_percent"] = round(float(np.max(tally.area_errors)) * 100, 2)
    return figures


def _of_parts(tally: Tally) -> dict[str, object]:
    openings, walls, objects = len(tally.width_errors_m), len(tally.wall_errors_m), len(tally.object_errors_m) // 3
    return {
        "wall_recall": _share(walls, tally.true_walls),
        "wall_precision": _share(walls, tally.found_walls),
        "wall_length_error_median_cm": _median_cm(tally.wall_errors_m),
        "opening_recall": _share(openings, tally.true_openings),
        "opening_precision": _share(openings, tally.found_openings),
        "opening_width_error_median_cm": _median_cm(tally.width_errors_m),
        "object_recall": _share(objects, tally.true_objects),
        "object_precision": _share(objects, tally.found_objects),
        "object_size_error_median_cm": _median_cm(tally.object_errors_m),
    }


def _share(part: int, whole: int) -> float:
    return round(part / max(whole, 1), 3)


def _median_cm(errors_m: list[float]) -> float | None:
    return round(float(np.median(errors_m)) * 100, 1) if errors_m else None
