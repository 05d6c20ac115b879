"""Run as a program by test_imports: imports the modules named on standard input, prints what they did as JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from types import FrameType

_WATCHED = ("socket.", "subprocess.", "shutil.", "tempfile.", "ftplib.", "smtplib.", "urllib.")
_WATCHED_CALLS = {
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.fork",
    "os.exec",
    "os.system",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    """Import everything, then tell."""
    order = json.load(sys.stdin)
    sys.path[:0] = order["path"]
    effects: list[str] = []
    failed = []
    sys.addaudithook(lambda event, arguments: _watch(effects, tuple(order["path"]), event, arguments))
    for name in order["modules"]:
        try:
            importlib.import_module(name)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
    threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    sys.stdout.write(json.dumps({"failed": failed, "effects": effects, "threads": threads}))


def _watch(effects: list[str], roots: tuple[str, ...], event: str, arguments: tuple[object, ...]) -> None:
    if _is_effect(event, arguments) and (module := _importing_module(sys._getframe(2), roots)):
        effects.append(f"{event} in {module}")


def _is_effect(event: str, arguments: tuple[object, ...]) -> bool:
    if event == "open":
        flags = arguments[2]
        return isinstance(flags, int) and bool(flags & _WRITING)
    return event in _WATCHED_CALLS or event.startswith(_WATCHED)


def _importing_module(frame: FrameType | None, roots: tuple[str, ...]) -> str | None:
    """The module of ours that is being imported innermost, None where a library is."""
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            ours = frame.f_code.co_filename.startswith(roots) and "site-packages" not in frame.f_code.co_filename
            return frame.f_globals.get("__name__") if ours else None
        frame = frame.f_back
    return None


if __name__ == "__main__":
    main()
