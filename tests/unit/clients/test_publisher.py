"""Arguments that cannot work are refused when the publisher is made, and the library stands alone."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import pytest
import weir_device
from weir_device import DevicePublisher


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"device_id": ""}, "device_id"),
        ({"device_id": "a.b"}, "without dots"),
        ({"device_id": "a b"}, "blanks"),
        ({"device_id": "d" * 129}, "128"),
        ({"secret": ""}, "needs its secret"),
        ({"bootstrap_servers": "broker"}, "host:port"),
        ({"bootstrap_servers": []}, "names no broker"),
        ({"bootstrap_servers": "a:1,b:x"}, "'b:x'"),
        ({"max_batch_readings": 0}, "1 to 10000"),
        ({"max_batch_readings": 10_001}, "1 to 10000"),
        ({"linger_ms": -1}, "negative"),
        ({"buffer_max_bytes": 0}, "positive"),
        ({"kafka_options": {"acks": 0}}, "must not set acks"),
        ({"kafka_options": {"ssl_ca": "x"}}, "does not know"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_at_once(changes: dict[str, Any], complaint: str) -> None:
    arguments: dict[str, Any] = {"device_id": "fridge-1", "secret": "s", "bootstrap_servers": "127.0.0.1:1"} | changes

    with pytest.raises(ValueError, match=complaint):
        DevicePublisher(**arguments)


def test_no_message_contains_the_secret() -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is what is asked for
        DevicePublisher(device_id="a.b", secret="hunter2", bootstrap_servers="nonsense")

    assert "hunter2" not in str(refused.value)


def test_the_library_imports_nothing_but_kafka_python_and_msgspec() -> None:
    assert weir_device.__file__ is not None
    imported = set()
    for path in Path(weir_device.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(str(node.module).partition(".")[0])

    assert imported - sys.stdlib_module_names == {"weir_device", "kafka", "msgspec"}
