"""Which waiting entries share a record, and which records a batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from weir_device.buffer import Position
from weir_device.grouping import GROUP_BYTES, RECORD_OVERHEAD, Group, next_group
from weir_device.wire import MAX_RECORD_BYTES, Entry, reading_entry, record_entry


def positioned(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Position]]:
    return ((entry, (0, number)) for number, entry in enumerate(entries, start=1))


def grouped(entries: Iterable[Entry], max_batch_readings: int = 100) -> Group:
    group = next_group(positioned(entries), max_batch_readings, sent_at_ms=7)
    assert group is not None
    return group


def reading(number: int, sensor: str = "air") -> Entry:
    return reading_entry(sensor, float(number), number, 0)


def values(group: Group) -> list[list[float]]:
    return [[found["value"] for found in json.loads(record.value)["readings"]] for record in group.records]


def test_nothing_waiting_is_no_group() -> None:
    assert next_group(iter(()), 100, 0) is None


def test_readings_are_cut_into_records_of_the_wanted_size() -> None:
    group = grouped((reading(number) for number in range(5)), max_batch_readings=2)

    assert values(group) == [[0.0, 1.0], [2.0, 3.0], [4.0]]
    assert (group.readings, group.end) == (5, (0, 5))


def test_a_whole_record_keeps_its_place_between_readings() -> None:
    whole = record_entry(b"[]", "application/senml+json", 3)

    group = grouped([reading(0), whole, reading(1)])

    assert [record.content_type for record in group.records] == [
        "application/json",
        "application/senml+json",
        "application/json",
    ]
    assert group.records[1].value == b"[]"
    assert group.readings == 5  # 1 + 3 + 1


def test_a_group_never_exceeds_what_one_batch_holds() -> None:
    waiting = [reading(number, sensor="s" * 128) for number in range(20_000)]  # about 3.3 MB
    sizes, count = [], 0
    while count < len(waiting):
        group = grouped(waiting[count:], max_batch_readings=10_000)
        sizes.append(sum(len(record.value) + RECORD_OVERHEAD for record in group.records))
        count += group.readings

    assert count == 20_000
    assert max(sizes) <= GROUP_BYTES + RECORD_OVERHEAD
    assert min(sizes[:-1]) > GROUP_BYTES - 1_000  # and is filled


def test_the_greatest_record_travels_alone() -> None:
    greatest = record_entry(b"x" * MAX_RECORD_BYTES, "application/json", 1)

    assert len(grouped([greatest, reading(1)]).records) == 1
    assert len(grouped([reading(1), greatest]).records) == 1
    assert grouped([reading(1), greatest]).end == (0, 1)
