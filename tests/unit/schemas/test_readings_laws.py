"""Laws of decoding, over arbitrary bytes and almost right records."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.readings import decode_batch, encode_record
from schemas.rfc3339 import MAX_MS, MIN_MS
from tests.unit.schemas.decoding import JSON, MSGPACK, READING, SENML, Refused, Row, decode, refusals, rows

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-8"), max_size=6)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)
times = st.integers(MIN_MS, MAX_MS)
names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=1, max_size=8)
values = st.floats(allow_nan=False, allow_infinity=False)
good_readings = st.tuples(names, times, values, st.integers(0, 2**31 - 1))

almost_readings = st.fixed_dictionaries(
    {},
    optional={
        "sensor": st.sampled_from(["air", "door", "", "\0"]) | anything,
        "at": st.sampled_from(["2026-11-22T20:00:00Z", "2026-11-22T20:00:00", 0, 10**30]) | anything,
        "value": st.sampled_from([3.8, 0, 10**400]) | anything,
        "seq": st.sampled_from([0, 1, 2**31]) | anything,
        "battery": anything,
    },
)
readings = almost_readings | st.builds(lambda changed: READING | changed, almost_readings) | st.just(READING) | anything
records = st.fixed_dictionaries(
    {"readings": st.lists(readings, max_size=5)}, optional={"sent_at": anything, "x": anything}
)

bases = st.fixed_dictionaries(
    {},
    optional={
        "bn": st.just("dev:"),
        "bt": st.just(2e9),
        "bu": st.sampled_from(["K", "V"]),
        "bv": st.just(1),
        "bver": st.just(10),
    },
)
regulars = st.fixed_dictionaries(
    {},
    optional={
        "n": st.sampled_from(["air", ""]) | anything,
        "u": st.sampled_from(["Cel", "degF"]),
        "v": values | anything,
        "t": st.just(2e9),
        "vs": st.just("x"),
    },
)
entries = st.builds(lambda base, regular: base | regular, bases, regulars) | anything
packs = st.lists(entries, max_size=5)


def as_json(document: Any) -> bytes:
    """With NaN as null: JSON that says NaN is refused whole, which other tests show."""
    return json.dumps(_finite(document)).encode()


def _finite(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _finite(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_finite(value) for value in document]
    return None if isinstance(document, float) and not math.isfinite(document) else document


def as_msgpack(document: Any) -> bytes:
    return msgspec.msgpack.encode(_short(document))


def _short(document: Any) -> Any:
    """MessagePack has integers of 64 bits."""
    if isinstance(document, dict):
        return {key: _short(value) for key, value in document.items()}
    if isinstance(document, list):
        return [_short(value) for value in document]
    is_long = isinstance(document, int) and not -(2**63) <= document < 2**64
    return 2**63 if is_long else document


wire_records = (
    st.tuples(records.map(as_json), st.sampled_from([None, JSON, "Application/JSON;x=y"]))
    | st.tuples(records.map(as_msgpack), st.just(MSGPACK))
    | st.tuples(packs.map(as_json), st.just(SENML))
    | st.tuples(st.lists(good_readings, min_size=1, max_size=3).map(encode_record), st.none())
    | st.tuples(st.binary(max_size=40) | anything.map(as_json), st.sampled_from([None, MSGPACK, SENML, "x"]))
)


@given(st.binary(max_size=200), st.sampled_from([None, JSON, MSGPACK, SENML]))
def test_no_bytes_make_a_decoder_fail(value: bytes, content_type: str | None) -> None:
    batch = decode(value, content_type)

    assert rows(batch) or refusals(batch)


@given(st.binary(min_size=1, max_size=8), st.integers(0, 200), st.sampled_from([JSON, MSGPACK, SENML]))
def test_no_damage_to_a_good_record_makes_a_decoder_fail(damage: bytes, place: int, content_type: str) -> None:
    document: Any = [{"bn": "air", "bt": 2e9, "v": 3.8}] if content_type == SENML else {"readings": [READING, READING]}
    value = as_msgpack(document) if content_type == MSGPACK else as_json(document)
    batch = decode(value[: place % len(value)] + damage + value[place % len(value) + len(damage) :], content_type)

    assert rows(batch) or refusals(batch)


@given(records, st.sampled_from([JSON, MSGPACK]))
def test_every_reading_is_either_read_or_refused_and_that_once(record: dict[str, Any], content_type: str) -> None:
    batch = decode(as_msgpack(record) if content_type == MSGPACK else as_json(record), content_type)

    places = [row.reading for row in rows(batch)] + [refusal.index for refusal in batch.reading_refusals]
    whole = 1 if batch.record_refusals else 0
    assert sorted(places) == ([] if whole else list(range(len(record["readings"]))))
    assert whole == (not record["readings"])


@given(packs)
def test_every_entry_of_a_pack_with_a_regular_field_is_read_or_refused_once(pack: list[Any]) -> None:
    batch = decode(as_json(pack), SENML)

    places = [row.reading for row in rows(batch)] + [refusal.index for refusal in batch.reading_refusals]
    expected = {
        i for i, entry in enumerate(pack) if not isinstance(entry, dict) or entry.keys() & {"n", "u", "v", "t", "vs"}
    }
    assert len(places) == len(set(places))
    assert batch.record_refusals or expected <= set(places)


@given(st.lists(wire_records, max_size=6))
def test_a_record_decodes_alike_in_any_batch(sent: list[tuple[bytes, str | None]]) -> None:
    batch = decode_batch([value for value, _ in sent], [content_type for _, content_type in sent])

    alone = [decode(value, content_type) for value, content_type in sent]
    assert rows(batch) == [row._replace(record=record) for record, one in enumerate(alone) for row in rows(one)]
    expected = [refusal._replace(record=record) for record, one in enumerate(alone) for refusal in refusals(one)]
    assert sorted(refusals(batch), key=_place) == sorted(expected, key=_place)


@given(st.lists(good_readings, min_size=1, max_size=5), st.none() | times)
def test_what_is_encoded_is_decoded_again(sent: list[tuple[str, int, float, int]], sent_at_ms: int | None) -> None:
    batch = decode(encode_record(sent, sent_at_ms))

    assert rows(batch) == [Row(0, index, *reading) for index, reading in enumerate(sent)]
    assert refusals(batch) == []


@given(records)
def test_a_further_field_changes_nothing(record: dict[str, Any]) -> None:
    """It sends a record the careful way, which must read as the strict one does."""
    strict, careful = decode(as_json(record)), decode(as_json(record | {"further": 1}))

    assert rows(strict) == rows(careful)
    assert refusals(strict) == refusals(careful)


@given(st.lists(good_readings, min_size=1, max_size=5))
def test_json_and_message_pack_say_the_same(sent: list[tuple[str, int, float, int]]) -> None:
    value = encode_record(sent)

    assert rows(decode(value)) == rows(decode(msgspec.msgpack.encode(msgspec.json.decode(value)), MSGPACK))


def _place(refusal: Refused) -> tuple[int, int]:
    return refusal.record, -1 if refusal.reading is None else refusal.reading
