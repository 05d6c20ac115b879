"""Nothing happens on import: every module loads in an empty environment and touches nothing.

One fresh interpreter imports them all under an audit hook. What a library does while *it* is imported is its own
affair, so an event counts only if one of our modules is the innermost importer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.architecture.tree import PACKAGES, modules

PROBE = Path(__file__).parent / "import_probe.py"


def effects_of_importing(names: list[str], search_path: list[Path], folder: Path) -> dict[str, list[str]]:
    result = subprocess.run(
        [sys.executable, "-B", str(PROBE)],
        input=json.dumps({"modules": names, "path": [str(path) for path in search_path]}),
        env={},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, list[str]] = json.loads(result.stdout)
    return found


def test_importing_every_module_touches_nothing(tmp_path: Path) -> None:
    search_path = sorted({path.parent for path in PACKAGES.values()})
    names = modules()

    assert len(names) > 50
    assert effects_of_importing(names, search_path, tmp_path) == {"failed": [], "effects": [], "threads": []}
    assert list(tmp_path.iterdir()) == []


def test_an_effect_of_a_seeded_module_is_seen(tmp_path: Path) -> None:
    for name, line in {
        "seeded_file": "open('left', 'w').close()",
        "seeded_socket": "import socket; socket.socket().close()",
        "seeded_process": "import subprocess; subprocess.run(['true'])",
        "seeded_setting": "import os; os.environ['WEIR_DATABASE_URL']",
        "seeded_thread": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "harmless": "import socket, threading",
    }.items():
        (tmp_path / f"{name}.py").write_text(line + "\n")

    names = sorted(path.stem for path in tmp_path.glob("*.py"))
    seen = effects_of_importing(names, [tmp_path], tmp_path)

    assert [effect.split()[0] for effect in seen["effects"]] == ["open", "subprocess.Popen", "socket.__new__"]
    assert [failure.split(":")[0] for failure in seen["failed"]] == ["seeded_setting"]
    assert len(seen["threads"]) == 1
