"""What `weir up` runs and in which order; INTERFACES §2 says what people can rely on.

Without settings, the database and the broker are embedded. With `WEIR_DATABASE_URL` or `WEIR_KAFKA_BOOTSTRAP` set,
`weir up` uses those servers instead and leaves their life to others.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import psycopg

from core.postgres import DatabaseRole
from core.secrets import Vault
from core.settings import Settings, load_settings
from core.tasks import Queue
from ops import demo
from ops.broker_part import BrokerPart
from ops.commands.migrate import login_name
from ops.connection_file import Connection, State, load_state, save_state, write_connection, write_environment
from ops.console import Console
from ops.embedded.folder import take_folder
from ops.embedded.logins import DATABASE, TOOLS, create_database, create_logins
from ops.embedded.ports import pick_port, require_free
from ops.embedded.postgres import EmbeddedPostgres
from ops.last_run import forgive_workers, note_drained, tell_of_last_run
from ops.stripe_part import StripePart
from ops.supervisor import Service, Supervisor, command
from schemas.errors import Misconfigured
from sinks.timescale.migrate import migrate

# The broker's stage is 1.
_DATABASE_STAGE, _ROLE_STAGE = 0, 2
_START_S = 300.0
_READY_S = 120.0
_POLL_S = 0.05
_HTTP_S = 5.0
_OK = 200
# Running jobs are put back after this; the supervisor is less patient with its services than the default.
_DRAIN_S = "5"
_SCANS = (Queue.SCANS, Queue.SCAN_PREVIEWS)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Options:
    """What `weir up` was asked for."""

    data_dir: Path
    host: str
    port: int
    workers: int
    demo: bool
    broker_memory_mib: int


def run(options: Options) -> None:
    """Run the system until SIGINT, SIGTERM or SIGHUP; when it returns no process is left.

    Raises:
        WeirError: it cannot start; one sentence says why and what to do.
    """
    settings = load_settings()
    require_free(options.port, options.host, f"stop what uses it or choose another: weir up --port {pick_port()}")
    chosen = options if options.port else replace(options, port=pick_port())
    folder = take_folder(options.data_dir)
    console = Console()
    try:
        asyncio.run(_until_stopped(System(chosen, settings, console)))
    finally:
        console.close()
        os.close(folder)


async def _until_stopped(system: System) -> None:
    stop = asyncio.Event()
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(sig, stop.set)
    stopping = asyncio.create_task(stop.wait())
    try:
        for work in (system.start, system.watch):
            task = asyncio.create_task(work())
            await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                return
            task.result()
    finally:
        stopping.cancel()
        await system.stop()


class System:
    """The services of `weir up`.

    Args:
        options: what was asked for; the port is settled.
        settings: those that the user set.
        console: for progress and the output of the services.
    """

    def __init__(self, options: Options, settings: Settings, console: Console) -> None:
        self._options = options
        self._settings = settings
        self._console = console
        self._supervisor = Supervisor(console.say)
        self._is_ready = False
        self._state = load_state(options.data_dir)
        self._secret_key = settings.secret_key.get_secret_value() or self._state.secret_key
        self._database: EmbeddedPostgres | None = None
        if not settings.database_url.get_secret_value():
            self._database = EmbeddedPostgres(options.data_dir / "postgres")
        self._broker = BrokerPart(
            settings,
            options.data_dir,
            self._state.broker_port,
            options.broker_memory_mib,
            say=console.say,
            restarted=self._broker_restarted,
        )

        self._stripe = StripePart(
            settings,
            options.data_dir,
            self._secret_key,
            self.api_url,
            lambda process: console.relay("stripe", process),
        )

    @property
    def api_url(self) -> str:
        """Where this machine reaches the API."""
        host = self._options.host
        reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        return f"http://{reachable}:{self._options.port}"

    async def start(self) -> None:
        """Start everything in its order; returns when `/readyz` says so."""
        await self._timed("database", self._start_database())
        await self._timed("schema", self._bring_schema())
        await self._timed("stripe", self._stripe.start(self._supervisor))
        await self._timed("tenants", self._bring_tenants())
        await self._timed("broker", self._start_broker())
        self._write_files()
        for number in range(1, self._options.workers + 1):
            await self._supervisor.start(self._role(f"worker-{number}", ["worker"], DatabaseRole.WRITER))
        await self._supervisor.start(self._jobs("jobs", [queue for queue in Queue if queue not in _SCANS]))
        await self._timed("api", self._supervisor.start(self._api(), _START_S))
        await self._timed("readiness", self._until_ready())
        await self._supervisor.start(self._jobs("scans", _SCANS))
        if self._options.demo:
            await self._start_demo()
        self._is_ready = True
        self._console.say(f"ready {self.api_url}")

    async def watch(self) -> None:
        """Look after the running system; ends only by raising what went wrong in the supervision, a bug."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._supervisor.broken())
            tasks.create_task(self._broker.keep_small(self._supervisor, self._url(login_name(DatabaseRole.OPERATOR))))

    async def stop(self) -> None:
        """Stop everything in reverse order."""
        self._console.say("stopping")
        started_s = time.monotonic()
        if self._is_ready and await self._broker.drain(self._url(login_name(DatabaseRole.OPERATOR))):
            note_drained(self._options.data_dir)
        await self._supervisor.stop()
        self._console.say(f"stopped in {time.monotonic() - started_s:.1f} s")

    async def _timed(self, what: str, work: Awaitable[_T]) -> _T:
        self._console.say(f"{what:<10} starting")
        started_s = time.monotonic()
        result = await work
        self._console.say(f"{what:<10} done in {time.monotonic() - started_s:.1f} s")
        return result

    # --- database ---

    async def _start_database(self) -> None:
        if (server := self._database) is None:
            return

        def spawn() -> subprocess.Popen[bytes]:
            server.prepare()
            return server.spawn()

        async def is_ready() -> bool:
            return server.is_ready()

        # Creating a cluster takes a while, so not in the thread that must notice Ctrl-C.
        await asyncio.to_thread(server.prepare)
        service = Service("database", _DATABASE_STAGE, spawn, is_ready, end=lambda _: server.stop())
        await self._supervisor.start(service, _START_S)

    def _admin_url(self) -> str:
        if self._database is None:
            return self._settings.database_url.get_secret_value()
        superuser = self._database.superuser_url
        return f"{superuser.rpartition('/')[0]}/{DATABASE}"

    def _url(self, login: str) -> str:
        if self._database is None:
            return self._settings.database_url.get_secret_value()
        return self._database.url(login, self._state.passwords[login], DATABASE)

    async def _bring_schema(self) -> None:
        if self._database is not None:
            await asyncio.to_thread(create_database, self._database.superuser_url)
        report = await asyncio.to_thread(migrate, self._admin_url())
        if report.applied:
            self._console.say(f"schema     {len(report.applied)} migrations applied, now at {report.version}")
        if self._database is not None:
            await asyncio.to_thread(create_logins, self._database.superuser_url, self._state.passwords)
            await asyncio.to_thread(tell_of_last_run, self._options.data_dir, self._admin_url())
            save_state(self._options.data_dir, self._state)

    async def _bring_tenants(self) -> None:
        owner_url = self._url(login_name(DatabaseRole.OWNER))
        vault = Vault.from_secret(self._secret_key)
        if not await demo.still_there(owner_url, self._state.tenants):
            self._remember(replace(self._state, tenants=await demo.make(owner_url, vault)))
        await demo.open_doors(owner_url, vault, self._state.tenants)
        await self._stripe.subscribe(owner_url, [tenant.tenant_id for tenant in self._state.tenants])
        if self._options.demo:
            await demo.furnish(owner_url, self._state.tenants)

    def _remember(self, state: State) -> None:
        self._state = state
        save_state(self._options.data_dir, state)

    # --- broker ---

    async def _start_broker(self) -> None:
        await self._broker.start(self._supervisor)
        self._remember(replace(self._state, broker_port=self._broker.port))

    def _broker_restarted(self) -> None:
        """The embedded broker has forgotten everything, its groups too: have the workers begin anew at once."""
        for number in range(1, self._options.workers + 1):
            self._supervisor.restart(f"worker-{number}")
        with suppress(psycopg.Error):  # without this they count as failed, and /readyz waits until they look steady
            forgive_workers(self._admin_url())

    # --- roles ---

    def _write_files(self) -> None:
        tenant, other = self._state.tenants
        operator_url = self._url(login_name(DatabaseRole.OPERATOR))
        connection = Connection(self.api_url, self._broker.bootstrap, operator_url, tenant, other)
        write_environment(self._options.data_dir, self._environment(self._url(TOOLS)))
        write_connection(self._options.data_dir, connection)

    def _environment(self, database_url: str) -> dict[str, str]:
        """The settings of a role, and of people's own commands."""
        objects = (self._options.data_dir / "objects").absolute()
        is_chosen = "objects_url" in self._settings.model_fields_set
        return {
            "WEIR_DATABASE_URL": database_url,
            "WEIR_KAFKA_BOOTSTRAP": self._broker.bootstrap,
            "WEIR_SECRET_KEY": self._secret_key,
            "WEIR_API_HOST": self._options.host,
            "WEIR_API_PORT": str(self._options.port),
            "WEIR_OBJECTS_URL": self._settings.objects_url if is_chosen else str(objects),
            **self._stripe.environment,
        }

    def _defaults(self) -> dict[str, str]:
        """Settings that suit one machine, unless the user has set them."""
        wanted = {"log_format": "console", "log_level": "WARNING"}
        if self._broker.is_embedded:
            # The embedded broker lets a group wait for half of this before its first member gets partitions.
            wanted["consumer_session_timeout_s"] = "3"
        unset = {name: value for name, value in wanted.items() if name not in self._settings.model_fields_set}
        return {f"WEIR_{name.upper()}": value for name, value in unset.items()} | {"PYTHONUNBUFFERED": "1"}

    def _role(
        self,
        name: str,
        words: list[str],
        role: DatabaseRole,
        is_ready: Callable[[], Awaitable[bool]] | None = None,
    ) -> Service:
        own = self._environment(self._url(login_name(role))) | {"WEIR_WORKER_ID": name}
        # -P: a folder of the user's that is called like one of our packages must not be imported instead.
        argv = [sys.executable, "-P", "-m", "ops.cli", *words]
        spawn = command(
            argv, dict(os.environ) | self._defaults() | own, lambda process: self._console.relay(name, process)
        )
        service = Service(name, _ROLE_STAGE, spawn)
        return service if is_ready is None else replace(service, is_ready=is_ready)

    def _api(self) -> Service:
        async def answers() -> bool:
            return (await asyncio.to_thread(_get, f"{self.api_url}/livez"))[0] == _OK

        return self._role("api", ["api"], DatabaseRole.READER, answers)

    def _jobs(self, name: str, queues: Sequence[Queue]) -> Service:
        words = ["jobs", "--queues", ",".join(queues), "--drain-seconds", _DRAIN_S]
        if Queue.SCANS in queues:  # a result for each processor, and a place for previews that none of them takes
            words += ["--concurrency", str(max(2, os.cpu_count() or 1) + 1)]
        return self._role(name, words, DatabaseRole.WRITER)

    async def _start_demo(self) -> None:
        await self._supervisor.start(self._simulator())
        if not await demo.has_scan(self._url(login_name(DatabaseRole.OWNER)), self._state.tenants[0].tenant_id):
            words = ["simulate", "--scenario", "room-scan", "--own-devices", "--data-dir", str(self._options.data_dir)]
            await self._supervisor.start(replace(self._role("room-scan", words, DatabaseRole.OWNER), once=True))

    def _simulator(self) -> Service:
        # Devices of its own: what a person publishes as the demo device stays apart. One reading every ten seconds and
        # sensor, on a fixed grid: the day that is published again at each start are duplicates, which nobody is billed for.
        words = ["simulate", "--data-dir", str(self._options.data_dir), "--own-devices"]
        words += ["--devices", "6", "--rate", "1.8", "--backfill", "24h"]
        return self._role("simulator", words, DatabaseRole.OWNER)

    async def _until_ready(self) -> None:
        deadline_s = time.monotonic() + _READY_S
        while (answer := await asyncio.to_thread(_get, f"{self.api_url}/readyz"))[0] != _OK:
            if time.monotonic() > deadline_s:
                msg = f"the system is not ready after {_READY_S:.0f} s: {self.api_url}/readyz says {answer[1]!r}"
                raise Misconfigured(msg)
            await asyncio.sleep(_POLL_S)


def _get(url: str) -> tuple[int, str]:
    """Status and the beginning of the body; status 0 if nothing answers."""
    try:
        with urllib.request.urlopen(url, timeout=_HTTP_S) as response:  # noqa: S310 - our own API over http
            return response.status, response.read(500).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read(500).decode(errors="replace")
    except OSError as error:
        return 0, str(error)
