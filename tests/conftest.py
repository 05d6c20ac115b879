"""For every test."""

from __future__ import annotations

import os
from collections import defaultdict

import pytest
from hypothesis import settings

# Tests run side by side already; read when the library is loaded, so before anything imports it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# How long an example takes says how busy the machine is, and nothing about the law that it tests.
settings.register_profile("weir", deadline=None)
settings.load_profile("weir")

# What a test takes is mostly what it starts: about so many seconds by fixture.
_COST_S = {"chaos": 80.0, "system": 8.0, "own_postgres": 8.0, "new_worker": 5.0, "database": 0.3}
_LEAST_S = 0.05


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of several processes, none is to begin the longest file when the others have ended."""
    if not hasattr(config, "workerinput"):
        return
    cost_s: defaultdict[str, float] = defaultdict(float)
    for item in items:
        cost_s[_file(item)] += _LEAST_S + sum(_COST_S.get(name, 0.0) for name in getattr(item, "fixturenames", ()))
    items.sort(key=lambda item: (-cost_s[_file(item)], _file(item)))


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
