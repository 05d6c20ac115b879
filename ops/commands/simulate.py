"""`weir simulate`: realistic devices, publishing to a running system; with the scenario room-scan, a phone that scans a room.

Border: options in, lines out. The devices are `ops.simulator`'s; `run_simulation` is also what `weir up` feeds the demo
tenant with.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer
from weir_device import ScanPublisher

from core.clock import SystemClock, monotonic_s
from core.kafka import Topic, topic_name
from core.settings import Settings, load_settings
from ops.embedded import private_json
from ops.scan_files import write_folder
from ops.simulator import room_scan
from ops.simulator.feed import Tally, run_simulation
from ops.simulator.rooms.shapes import Shape
from ops.simulator.roster import Access, Wanted, recruit
from ops.simulator.scenarios import DEFAULT_SCENARIO, SCENARIOS
from schemas.errors import Misconfigured

__all__ = ["Tally", "register", "run_simulation"]

_REPORT_EVERY_S = 3.0
_MS_PER = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def simulate(
        *,
        tenants: Annotated[int, typer.Option(min=1, help="number of tenants")] = 1,
        devices: Annotated[int, typer.Option(min=1, help="devices per tenant, three sensors each")] = 1,
        rate: Annotated[float, typer.Option(help="readings per second of all devices together")] = 10.0,
        seconds: Annotated[float | None, typer.Option(help="stop after so long; default: Ctrl-C")] = None,
        scenario: Annotated[str, typer.Option(help="what goes wrong; see --list-scenarios")] = DEFAULT_SCENARIO,
        seed: Annotated[int, typer.Option(help="the same seed repeats the same readings")] = 1,
        backfill: Annotated[str, typer.Option(help="send so much of the past first, one reading a minute")] = "0s",
        data_dir: Annotated[Path, typer.Option(help="where `weir up` keeps connection.json")] = Path(".weir"),
        own_devices: Annotated[
            bool, typer.Option("--own-devices", help="leave the demo devices alone: make others in their tenants")
        ] = False,
        shape: Annotated[Shape, typer.Option(help="room-scan: the floor's shape")] = Shape.BOX,
        fast: Annotated[bool, typer.Option("--fast", help="room-scan: at once instead of in real time")] = False,
        disorder: Annotated[
            float, typer.Option(min=0, max=1, help="room-scan: share sent twice, share sent late")
        ] = 0.0,
        scan: Annotated[str | None, typer.Option(help="room-scan: the scan's id [default: a new one]")] = None,
        to: Annotated[
            Path | None, typer.Option(help="room-scan: record it in this folder, for `weir scan publish`")
        ] = None,
        list_scenarios: Annotated[bool, typer.Option("--list-scenarios", help="list the scenarios and exit")] = False,
    ) -> None:
        """Publish what realistic devices would: cycles, defrost, doors, failures, late uploads, duplicates."""
        if list_scenarios:
            _list_scenarios()
            return
        _check(scenario, rate, seconds)
        if scenario == room_scan.SCENARIO:
            walk = room_scan.RoomScan(seed, shape, disorder=disorder)
            scan_id = scan or f"scan_{uuid.uuid4().hex}"
            if to is not None:
                _record_room(walk, scan_id, to)
            else:
                _scan_room(data_dir, walk, scan_id, own_devices=own_devices, fast=fast, seconds=seconds)
            return
        run = {"scenario": scenario, "rate": rate, "seconds": seconds, "tenants": tenants, "seed": seed}
        run["backfill_ms"] = parse_duration_ms(backfill)
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a line for each attempt to connect; we say it once
        asyncio.run(_simulate(data_dir, Wanted(tenants, devices, own_devices), run))


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a duration in Prometheus style, such as `24h` or `1h30m`.

    Raises:
        Misconfigured: it is not one.
    """
    if not re.fullmatch(r"(\d+(ms|s|m|h|d))+", text):
        msg = f"{text!r} is not a duration; expected for example 30s, 15m, 24h or 1h30m"
        raise Misconfigured(msg)
    return sum(int(count) * _MS_PER[unit] for count, unit in re.findall(r"(\d+)(ms|s|m|h|d)", text))


def _list_scenarios() -> None:
    summaries = {scenario.name: scenario.summary for scenario in SCENARIOS.values()}
    summaries[room_scan.SCENARIO] = room_scan.SUMMARY
    width = max(map(len, summaries))
    for name, summary in summaries.items():
        print(f"{name:<{width}}  {summary}")


def _check(scenario: str, rate: float, seconds: float | None) -> None:
    known = (*SCENARIOS, room_scan.SCENARIO)
    if scenario not in known:
        msg = f"no scenario is named {scenario!r}; expected one of {', '.join(known)}"
        raise Misconfigured(msg)
    if rate <= 0 or (seconds is not None and seconds <= 0):
        msg = f"--rate and --seconds must be above 0, got {rate:g} and {seconds}"
        raise Misconfigured(msg)


async def _simulate(data_dir: Path, wanted: Wanted, run: Mapping[str, Any]) -> None:
    settings = _settings(data_dir)
    connection = private_json.read(data_dir / "connection.json")
    access = Access(settings.database_url.get_secret_value(), settings.secret_key.get_secret_value())
    credentials = await recruit(data_dir, connection, access, wanted)
    bootstrap = _bootstrap(settings, connection)
    topic = topic_name(settings.topic_prefix, Topic.READINGS)
    print(f"{len(credentials)} devices publish to {topic} at {bootstrap}; scenario {run['scenario']}", flush=True)
    tally, stop = Tally(), _stop_on_signals()
    began = monotonic_s()
    reporter = asyncio.create_task(_report(tally))
    try:
        await run_simulation(credentials, bootstrap, topic, stop=stop, tally=tally, **run)
    finally:
        reporter.cancel()
    print(_summary(tally, monotonic_s() - began), flush=True)


def _scan_room(
    data_dir: Path, walk: room_scan.RoomScan, scan_id: str, *, own_devices: bool, fast: bool, seconds: float | None
) -> None:
    settings = _settings(data_dir)
    connection = private_json.read(data_dir / "connection.json")
    access = Access(settings.database_url.get_secret_value(), settings.secret_key.get_secret_value())
    [device] = asyncio.run(recruit(data_dir, connection, access, Wanted(1, 1, own_devices)))
    bootstrap, topic = _bootstrap(settings, connection), topic_name(settings.topic_prefix, Topic.SCAN_FRAMES)
    print(f"scan {scan_id} of device {device.device_id} to {topic} at {bootstrap}; {_truth(walk)}", flush=True)
    start_ms = SystemClock().now_ms() - (room_scan.longest_ms(walk) if fast else 0)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it retries is said by us, once
    publisher = ScanPublisher(
        device_id=device.device_id, secret=device.secret, bootstrap_servers=bootstrap, topic=topic
    )
    began = monotonic_s()
    try:
        sent = room_scan.publish(publisher, scan_id, room_scan.timed(walk, start_ms), _stop_after(seconds), fast=fast)
    finally:
        publisher.close(timeout_s=0)
    print(f"sent {sent} records in {monotonic_s() - began:.1f} s", flush=True)


def _record_room(walk: room_scan.RoomScan, scan_id: str, folder: Path) -> None:
    start_ms = SystemClock().now_ms() - room_scan.longest_ms(walk)
    count = write_folder(folder, scan_id, (value for _, value in room_scan.timed(walk, start_ms)))
    print(f"scan {scan_id}: {count} records in {folder}; {_truth(walk)}", flush=True)


def _truth(walk: room_scan.RoomScan) -> str:
    room = walk.room
    around, area = f"{room.perimeter:.2f} m around", f"{room.area:.2f} m²"
    return f"in truth the room ({room.shape}) has {area}, is {around} and {room.height:.2f} m high"


def _stop_after(seconds: float | None) -> threading.Event:
    """Set after so long, or by Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if seconds is not None:
        timer = threading.Timer(seconds, stop.set)
        timer.daemon = True
        timer.start()
    return stop


def _settings(data_dir: Path) -> Settings:
    """The settings; what the environment leaves open comes from the system that `weir up` runs in the data dir."""
    running = data_dir / "weir.env"
    if "WEIR_ENV_FILE" in os.environ or not running.exists():
        return load_settings()
    return Settings(_env_file=running)


def _bootstrap(settings: Settings, connection: Mapping[str, Any] | None) -> str:
    if connection is None or "kafka_bootstrap" in settings.model_fields_set:
        return settings.kafka_bootstrap
    return str(connection["kafka_bootstrap"])


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _report(tally: Tally) -> None:
    with suppress(asyncio.CancelledError):
        while True:
            readings, confirmed, since = tally.readings, tally.confirmed, monotonic_s()
            await asyncio.sleep(_REPORT_EVERY_S)
            rate = (tally.readings - readings) / (monotonic_s() - since)
            silent = tally.unconfirmed and tally.confirmed == confirmed
            trouble = f"; the broker confirms nothing, {tally.unconfirmed} records wait for it" if silent else ""
            print(f"{_counts(tally)}, {rate:.1f} readings/s{trouble}", flush=True)


def _counts(tally: Tally) -> str:
    return f"{tally.readings} readings in {tally.records} records, {tally.late} late, {tally.duplicates} duplicates"


def _summary(tally: Tally, took_s: float) -> str:
    text = f"sent {_counts(tally)} in {took_s:.1f} s ({tally.readings / took_s:.1f} readings/s)"
    if tally.retried or tally.unconfirmed:
        text += f"; {tally.retried} records sent again, {tally.unconfirmed} not confirmed by the broker"
    return text
