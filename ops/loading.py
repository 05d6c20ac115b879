"""Loading a program's modules, of which nothing is garbage: looking for cycles among them takes a seventh of a start."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Look for no cycles meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
