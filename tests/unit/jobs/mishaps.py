"""What computations do to themselves; each function runs in a child process."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from schemas.errors import Reason, Rejected, Transient

Document = dict[str, Any]
Tell = Callable[[float], None]


def double(request: Document, tell: Tell) -> Document:
    tell(0.5)
    sys.stdout.write("a library talks\n")
    sys.stdout.flush()
    return {"twice": request["number"] * 2, "pid": os.getpid()}


def segfault(_request: Document, _tell: Tell) -> Document:
    ctypes.string_at(0)
    return {}


def loop_for_ever(request: Document, _tell: Tell) -> Document:
    if "mark" in request:
        Path(request["mark"]).write_text(str(os.getpid()), encoding="ascii")
    while True:
        pass


def hoard(request: Document, _tell: Tell) -> Document:
    kept = []
    for _ in range(request["pieces"]):
        kept.append(b"x" * (request["mib"] << 20))
        _ = sum(range(200_000))  # slow enough to be watched
    return {"held": len(kept)}


def refuse(_request: Document, _tell: Tell) -> Document:
    raise Rejected(Reason.EMPTY, "nothing in it")


def be_patient(_request: Document, _tell: Tell) -> Document:
    msg = "the store is away"
    raise Transient(msg)


def fail(_request: Document, _tell: Tell) -> Document:
    msg = "secret detail"
    raise KeyError(msg)


def tell_environment(_request: Document, _tell: Tell) -> Document:
    return {"names": sorted(os.environ), "nice": os.nice(0), "threads": os.environ["OPENBLAS_NUM_THREADS"]}


def leave(_request: Document, _tell: Tell) -> Document:
    sys.stdout.flush()
    os._exit(3)


def tell_much_for_ever(_request: Document, tell: Callable[[Any], None]) -> Document:
    while True:
        tell("x" * (1 << 20))
