"""Packs are cut between entries, keep their bytes and mean what the whole meant."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import senml_files
from ops.reading_files import BadLine
from ops.senml_files import Pack, senml_packs
from schemas import senml


def packs(text: str) -> list[Pack | BadLine]:
    return list(senml_packs(io.StringIO(text, newline="")))


def meaning(values: list[bytes]) -> list[object]:
    """What the worker would read from these records."""
    found: list[object] = []
    for value in values:
        decoded = senml.decode(value)
        assert isinstance(decoded, list)
        found += [resolved for _, resolved in senml.resolve(decoded)]
    return found


def problems(found: list[Pack | BadLine]) -> list[str]:
    return [f"{bad.line}: {bad.problem}" for bad in found if isinstance(bad, BadLine)]


def test_a_pack_that_fits_keeps_every_byte() -> None:
    text = '\n[ {"bn":"air","bt":1.795377600e9,"v":3.80},\r\n{"t":1 , "v":4}]  '

    assert packs(text) == [Pack(text.encode(), 2)]


def test_entries_without_a_value_are_not_counted() -> None:
    assert packs('[{"bn":"a","bt":2e9},{"v":1}]')[0] == Pack(b'[{"bn":"a","bt":2e9},{"v":1}]', 1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "1: not a SenML pack: expected ["),
        ("{}", "1: not a SenML pack: expected ["),
        ("[]", "1: not a SenML pack: expected an object"),
        ("[1]", "1: not a SenML pack: expected an object"),
        ('[{"v":1}\n{"v":2}]', "2: not a SenML pack: expected ,"),
        ('[{"v":1},\n]', "2: not a SenML pack: expected an object"),
        ('[{"v":1}] x', "1: not a SenML pack: something follows"),
        ('[\n{"v":NaN}]', "2: not a SenML pack: the object that begins here"),
        ('[{"n":"\udcff","v":1}]', "1: not a SenML pack: the object that begins here"),
        ('[{"v":1', "1: not a SenML pack: the object that begins here"),
        ('[{"v":1},{"bn":"a"}]', "1: the pack ends without a value"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, complaint: str) -> None:
    [found] = problems(packs(text))

    assert found.startswith(complaint)


def test_what_came_before_a_mistake_is_given_out() -> None:
    found = packs('[{"n":"a","v":1},{"n":"a","v":2},oops]')

    assert found[0] == Pack(b'[{"n":"a","v":1},{"n":"a","v":2}]', 2)
    assert len(problems(found)) == 1


def test_a_pack_with_more_readings_than_a_record_takes_is_cut() -> None:
    text = json.dumps([{"n": "a", "t": 1_795_377_600 + number, "v": number} for number in range(10_001)])

    assert [pack.readings for pack in packs(text) if isinstance(pack, Pack)] == [10_000, 1]


def test_a_pack_larger_than_the_window_is_read_piece_by_piece() -> None:
    entries = [{"bn": "a", "bt": 1_795_377_600, "v": 0}] + [{"n": "x" * 100, "t": i, "v": i} for i in range(20_000)]
    text = json.dumps(entries, indent=1)  # some 3 MB

    found = packs(text)

    values = [pack.value for pack in found if isinstance(pack, Pack)]
    assert len(values) == len(found) >= 3
    assert all(len(value) <= senml_files.MAX_PACK_BYTES for value in values)
    assert meaning(values) == meaning([text.encode()])


def test_lines_are_counted_through_a_large_file() -> None:
    lines = [f'{{"n":"a","t":1795377600,"v":{number}}}' for number in range(60_000)]  # some 2 MB
    lines[50_000] = "oops"  # on line 50 002, after the one of the bracket

    [found] = problems(packs("[\n" + ",\n".join(lines) + "]"))

    assert found.startswith("50002: ")


field = st.fixed_dictionaries(
    {},
    optional={
        "bn": st.sampled_from(["a", "b:"]),
        "bt": st.sampled_from([1_795_377_600, 1_795_377_600.5]),
        "bv": st.integers(-3, 3),
        "bu": st.sampled_from(["Cel", "K"]),
        "n": st.sampled_from(["x", "y"]),
        "t": st.integers(0, 9),
        "v": st.integers(-9, 9),
    },
)


@given(st.lists(field, min_size=1, max_size=12), st.integers(1, 4))
def test_wherever_it_is_cut_it_means_the_same(entries: list[dict[str, Any]], readings: int) -> None:
    entries = [*entries, {"v": 1}]  # nothing dangles
    entries = [entry for entry in entries if "v" in entry or entry.keys() & {"bn", "bt", "bv", "bu"}]
    entries = [entry if "v" in entry else {k: v for k, v in entry.items() if k[0] == "b"} for entry in entries]
    text = json.dumps(entries)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(senml_files, "MAX_PACK_READINGS", readings)
        values = [pack.value for pack in packs(text) if isinstance(pack, Pack)]

    count = sum("v" in entry for entry in entries)
    assert len(values) == -(-count // readings)  # rounded up
    assert [str(found) for found in meaning(values)] == [str(found) for found in meaning([text.encode()])]
