"""The program of a child process that computes for jobs: one request after another on standard input.

Its counterpart is `jobs.children`. A function is named `package.module:function`, takes the request (a document of plain
values) and a way to tell progress, and returns such a document. What happens in here, down to a crash in native code,
happens to one job alone. The process ends with its parent, whatever it is doing.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

import msgspec

from schemas.errors import Rejected, Transient

Document = dict[str, Any]
Work = Callable[[Document, Callable[[float], None]], Document]

_PR_SET_PDEATHSIG: Final = 1
_LENGTH_BYTES: Final = 4


def main(parent: int, address_space: int, niceness: int) -> None:
    """Serve requests until standard input ends.

    Args:
        parent: its process id.
        address_space: bytes that this process may map.
        niceness: added to this process's.
    """
    _tie_to(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    os.nice(niceness)
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # What libraries print must not come between the answers, and none may wait for the requests.
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.enable()
    while (request := _receive(requests)) is not None:
        _send(answers, _answer(request, lambda share: _send(answers, {"progress": share})))


def _tie_to(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def _answer(request: Document, tell: Callable[[float], None]) -> Document:
    used = resource.getrusage(resource.RUSAGE_SELF)
    used_s = used.ru_utime + used.ru_stime
    resource.setrlimit(resource.RLIMIT_CPU, (int(used_s + request["cpu_s"]) + 1, resource.RLIM_INFINITY))
    try:
        return {"result": _function(request["work"])(request["request"], tell)}
    except Rejected as error:
        return {"rejected": [error.reason, error.detail]}
    except Transient as error:
        return {"transient": str(error)}
    except MemoryError:
        return {"memory": True}
    except Exception as error:
        # The traceback is for the operator; what a tenant may read is the class alone.
        sys.excepthook(type(error), error, error.__traceback__)
        return {"failed": type(error).__name__, "text": str(error)[:500]}


def _function(name: str) -> Work:
    module, _, function = name.partition(":")
    found: Work = getattr(importlib.import_module(module), function)
    return found


def _receive(stream: BinaryIO) -> Document | None:
    head = stream.read(_LENGTH_BYTES)
    if len(head) < _LENGTH_BYTES:
        return None
    body = stream.read(int.from_bytes(head))
    return msgspec.msgpack.decode(body, type=Document)


def _send(stream: BinaryIO, message: Document) -> None:
    stream.write(frame(message))
    stream.flush()


def frame(message: Document) -> bytes:
    """A message as it travels: its length in four bytes, then MessagePack."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(_LENGTH_BYTES) + body


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
