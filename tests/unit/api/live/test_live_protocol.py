"""The live protocol: frames as INTERFACES §9 shows them, filters, pages."""

from __future__ import annotations

import json

import pytest

from api.live import protocol
from api.live.protocol import BadMessage, Code, Criteria, Filter, Subscribe, decode


def test_frames_are_those_of_the_contract_and_are_built_once_for_an_id() -> None:
    event = protocol.event("abc", ['{"a":1}', '{"a":2}'])
    assert json.loads(event.frame("1")) == {"op": "event", "id": 1, "cursor": "abc", "items": [{"a": 1}, {"a": 2}]}
    assert event.frame("1") is event.frame("1")
    assert json.loads(event.frame('"x"'))["id"] == "x"
    assert json.loads(protocol.snapshot([], more=False).frame("1")) == {
        "op": "snapshot",
        "id": 1,
        "items": [],
        "more": False,
    }
    assert json.loads(protocol.sync("abc").content()) == {"op": "sync", "cursor": "abc"}
    assert json.loads(protocol.unrecoverable("too old").frame("1")) == {
        "op": "unrecoverable",
        "id": 1,
        "reason": "too old",
    }
    assert json.loads(protocol.ready("ten_1", 500)) == {"op": "ready", "tenant_id": "ten_1", "retry_ms": 500}
    assert json.loads(protocol.failure("bad", 'say "please"', "7", 9)) == {
        "op": "error",
        "id": 7,
        "code": "bad",
        "message": 'say "please"',
        "retry_ms": 9,
    }


def test_a_subscription_may_name_one_id_or_several() -> None:
    operation = decode(
        '{"op": "subscribe", "id": 1, "channel": "alerts", "filter": {"site_id": "a", "sensor_id": ["b"]}}'
    )
    assert isinstance(operation, Subscribe)
    assert Criteria(operation.filter).narrows == {"sensor_id": ["b"], "site_id": ["a"]}


@pytest.mark.parametrize(
    ("text", "code", "ref"),
    [
        ("", Code.MALFORMED, "null"),
        ("{", Code.MALFORMED, "null"),
        ("7", Code.MALFORMED, "null"),
        ('{"op": "fly", "id": "a"}', Code.UNKNOWN_OP, '"a"'),
        ('{"op": "auth", "token": 7}', Code.INVALID_MESSAGE, "null"),
        ('{"op": "auth", "token": "' + "x" * 4_097 + '"}', Code.INVALID_MESSAGE, "null"),
        ('{"op": "unsubscribe", "id": "' + "x" * 65 + '"}', Code.INVALID_MESSAGE, "null"),
        ('{"op": "unsubscribe", "id": 1e300}', Code.INVALID_MESSAGE, "null"),
        ('{"op": "subscribe", "id": 1, "channel": "jobs", "filter": {"unit_id": "u"}}', Code.INVALID_FILTER, "1"),
        (
            json.dumps({"op": "subscribe", "id": 1, "channel": "alerts", "filter": {"unit_id": ["u"] * 1_001}}),
            Code.INVALID_FILTER,
            "1",
        ),
    ],
)
def test_what_cannot_be_taken_says_why_and_to_which_id_it_belongs(text: str, code: Code, ref: str) -> None:
    with pytest.raises(BadMessage) as refused:
        decode(text)
    assert (refused.value.code, refused.value.ref) == (code, ref)


def test_fields_of_a_filter_narrow_together_and_ids_within_one_widen() -> None:
    wanted = Criteria(Filter(sensor_id=("a", "b"), site_id="s"))
    assert wanted.passes("a", "s", None)
    assert wanted.passes("b", "s", "u")
    assert not wanted.passes("c", "s", None)
    assert not wanted.passes("a", None, None)
    assert Criteria().passes(None, None, None)
    assert Criteria(Filter(sensor_id=("b", "a"), site_id=("s",))) == wanted
    assert hash(Criteria(Filter())) == hash(Criteria())


def test_pages_are_bounded_but_for_a_single_large_item() -> None:
    assert list(protocol.pages([], 10)) == [[]]
    assert list(protocol.pages(["x" * 4] * 5, 10)) == [["xxxx"] * 2, ["xxxx"] * 2, ["xxxx"]]
    assert list(protocol.pages(["x" * 40, "y"], 10)) == [["x" * 40], ["y"]]
