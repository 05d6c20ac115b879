"""Apache Kafka for the integration tests: one KRaft node on loopback, from the jars that Maven resolves.

The stand-in for `ops.embedded.broker.EmbeddedBroker` where the real server is wanted: the same methods, the same port
across restarts, and its data too. Needs Java 17 or newer, and Maven for the first run; the jars stay in `.cache/`.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
import weakref
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from ops.embedded.lifeline import tied, wait_until
from ops.embedded.ports import LOOPBACK, accepts_connections, pick_port

_REPOSITORY = Path(__file__).resolve().parents[2]
_POM = Path(__file__).parent / "maven" / "pom.xml"
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 30.0
_LOG_TAIL_BYTES = 4_000
# After a crash the controller refuses the new incarnation until the old one's session is over: 9 s by default.
_SESSION_TIMEOUT_MS = 3_000
# The embedded broker takes records of any size, and so must this one: judging sizes is Weir's part. Default: 1 MiB.
_MESSAGE_MAX_BYTES = 8 * 1024 * 1024

_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs={data}
auto.create.topics.enable=false
message.max.bytes={message_max_bytes}
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms={session_timeout_ms}
broker.heartbeat.interval.ms=500
"""

_LOG4J_PROPERTIES = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d %p %c{1} %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
"""


class ApacheKafka:
    """A broker that keeps its port and its data while it is stopped, killed and started again.

    Args:
        folder: for its configuration, log and data; None: a temporary one that goes when the object does.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.mkdtemp(prefix="weir-kafka-"))
        if folder is None:
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._port = pick_port()
        self._controller_port = pick_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect, `host:port`."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            RuntimeError: it does not run.
        """
        if self._process is None:
            msg = f"the Kafka server in {self._folder} does not run; call start() first"
            raise RuntimeError(msg)
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers a metadata request.

        Raises:
            RuntimeError: it ended, or did not answer in time; the message ends with its log.
        """
        if self._process is not None:
            msg = f"the Kafka server in {self._folder} already runs as process {self._process.pid}"
            raise RuntimeError(msg)
        libraries = kafka_libraries()
        if not (self._folder / "data" / "meta.properties").exists():
            self._format_storage(libraries)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                tied([*self._java(libraries), "kafka.Kafka", str(self._properties)], signal.SIGKILL),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Shut the server down in order; nothing happens if it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); the data stays as it is."""
        self._end(signal.SIGKILL)

    @property
    def _properties(self) -> Path:
        return self._folder / "server.properties"

    @property
    def _log(self) -> Path:
        return self._folder / "kafka.log"

    def _java(self, libraries: Path) -> list[str]:
        log4j = self._folder / "log4j2.properties"
        # The first compiler tier only: a node that lives for minutes starts sooner and leaves the cores to the tests.
        options = ["-Xms512m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [_program("java"), *options, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{libraries}/*"]

    def _format_storage(self, libraries: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / "log4j2.properties").write_text(_LOG4J_PROPERTIES)
        self._properties.write_text(
            _SERVER_PROPERTIES.format(
                host=LOOPBACK,
                port=self._port,
                controller_port=self._controller_port,
                data=self._folder / "data",
                session_timeout_ms=_SESSION_TIMEOUT_MS,
                message_max_bytes=_MESSAGE_MAX_BYTES,
            )
        )
        # `=`, because an id may begin with a dash.
        tool = ["kafka.tools.StorageTool", "format", f"--cluster-id={_cluster_id()}", "--config", str(self._properties)]
        _run([*self._java(libraries), *tool])

    def _wait_until_ready(self) -> None:
        process = self._process
        assert process is not None
        # Short of an answer: ended, which no further waiting cures.
        wait_until(lambda: process.poll() is not None or _answers(self._port), _START_TIMEOUT_S)
        if process.poll() is None and _answers(self._port):
            return
        self.kill()
        tail = self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
        msg = f"Apache Kafka did not answer at {self.bootstrap} within {_START_TIMEOUT_S:.0f} s; its log ends:\n{tail}"
        raise RuntimeError(msg)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def kafka_libraries() -> Path:
    """The folder with the broker's jars, filled by Maven at the first call for this pom.

    Raises:
        RuntimeError: a program is missing or Maven failed.
    """
    cache = Path(os.environ.get("WEIR_TEST_CACHE", _REPOSITORY / ".cache"))
    folder = cache / f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _resolve(folder)
    return folder


def _resolve(folder: Path) -> None:
    """Copy the jars beside `folder` first: it appears whole or not at all."""
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    maven = [_program("mvn"), "--quiet", "--batch-mode", "--no-transfer-progress", "--file", str(_POM)]
    _run([*maven, "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"])
    partial.rename(folder)


def _answers(port: int) -> bool:
    """Whether a broker names itself in the cluster's metadata."""
    if not accepts_connections(port):  # the client would try for seconds, and leave its sockets open
        return False
    try:
        client = KafkaAdminClient(bootstrap_servers=f"{LOOPBACK}:{port}", request_timeout_ms=5_000)
    except (KafkaError, OSError):
        return False
    try:
        return bool(client.describe_cluster()["brokers"])
    except (KafkaError, OSError):
        return False
    finally:
        client.close()


def _cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        msg = f"{name} is not installed; Apache Kafka needs Java 17+ and Maven (Debian: default-jre-headless, maven)"
        raise RuntimeError(msg)
    return path


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()[-_LOG_TAIL_BYTES:]
        msg = f"{Path(command[0]).name} ended with status {done.returncode}:\n{output}"
        raise RuntimeError(msg)
