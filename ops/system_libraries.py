"""The system's libraries that Open3D loads: which are missing, and installing them where that can be done.

`make setup` runs this as a program. It never fails: without Open3D everything but the meshes of scans works, and
`weir doctor` says what to run. Nothing here imports Open3D into this process.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

# What the wheel expects of the system: the library as the loader knows it, and the package of Debian and Ubuntu.
PACKAGES: Final[Mapping[str, str]] = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libidn2.so.0": "libidn2-0",
}
_IMPORT_S: Final = 120.0
_LISTS_S: Final = 300.0
# An installation that is interrupted leaves dpkg in a state that people must mend: only a hanging one is ended.
_INSTALL_S: Final = 1_800.0
_APT: Final = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=30")


def is_wanted() -> bool:
    """Whether Open3D is installed here; there are no wheels of it for some machines."""
    return importlib.util.find_spec("open3d") is not None


def missing(load: Callable[[str], object] = ctypes.CDLL) -> list[str]:
    """Packages whose library cannot be loaded."""
    return [package for library, package in PACKAGES.items() if not _loads(library, load)]


def _loads(library: str, load: Callable[[str], object]) -> bool:
    try:
        load(library)
    except OSError:
        return False
    return True


def remedy(packages: Sequence[str]) -> str:
    """The one command for a person with root's rights."""
    return f"apt-get update && apt-get install -y --no-install-recommends {' '.join(packages)}"


def import_error() -> str:
    """Why `import open3d` fails, tried in a process of its own; empty if it does not."""
    try:
        result = subprocess.run(
            [sys.executable, "-P", "-c", "import open3d"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_IMPORT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it takes longer than {_IMPORT_S:.0f} s"
    if result.returncode == 0:
        return ""
    last = result.stderr.strip().splitlines()[-1:]
    return last[0] if last else f"its process ended with status {result.returncode}"


def install(packages: Sequence[str]) -> bool:
    """Update the lists, then install quietly; whether both went well."""
    environment = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    steps = (
        ((*_APT, "update"), _LISTS_S),
        ((*_APT, "install", "-y", "--no-install-recommends", *packages), _INSTALL_S),
    )
    try:
        for words, seconds in steps:
            subprocess.run(  # noqa: S603 - the words are ours
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                timeout=seconds,
                check=True,
            )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def main() -> None:
    """Install what is missing; otherwise one line says what to run."""
    packages = missing() if is_wanted() else []
    if not packages:
        return
    is_able = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("apt-get") is not None
    if is_able:
        print(f"setup: installing {' '.join(packages)}, which scans need", flush=True)
        if install(packages) and not missing():
            return
    print(f"setup: scans will not work until somebody runs, as root: {remedy(packages)}")


if __name__ == "__main__":
    main()
