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


def test_the_library_imports_nothing_but_kafka_python_and_msgspec_and_numpy_in_one_place_that_may_fail() -> None:
    assert weir_device.__file__ is not None
    paths = set(Path(weir_device.__file__).parent.glob("*.py"))
    with_arrays = {path for path in paths if path.name == "scan_arrays.py"}

    assert imported_by(with_arrays) == {"numpy", "zstandard"}
    assert imported_by(paths - with_arrays) == {"weir_device", "kafka", "msgspec"}


def imported_by(paths: set[Path]) -> set[str]:
    """Packages, without the standard library's and those that only a type checker sees."""
    imported = set()
    for path in paths:
        tree = ast.parse(path.read_text())
        for_types = {id(node) for guard in ast.walk(tree) if is_for_types(guard) for node in ast.walk(guard)}
        for node in ast.walk(tree):
            if id(node) in for_types:
                continue
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(str(node.module).partition(".")[0])
    return imported - sys.stdlib_module_names


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
