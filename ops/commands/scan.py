"""`weir scan`: room scans from files, and their exports.

Border: options, messages and the exit code. What a file holds is `ops.scan_files`' affair, delivery the device library's.
"""

from __future__ import annotations

import logging
import sys
import uuid
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from weir_device import BufferFull, ScanPublisher

from core.clock import monotonic_s
from core.kafka import Topic
from ops.device_publishers import AsDevice, Undelivered
from ops.scan_export import export_command
from ops.scan_files import Planned, plan
from schemas.errors import Misconfigured

_PROGRESS_INTERVAL_S = 2.0


class Form(StrEnum):
    """How a cloud travels."""

    PARTS = "parts"
    POINTS = "points"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Publish room scans, fetch what came of them.")
    group.callback()(_scan)
    group.command("publish")(publish)
    group.command("export")(export_command)
    app.add_typer(group, name="scan")


def _scan() -> None:
    """Publish room scans from files, fetch what came of them."""


def publish(
    path: Annotated[Path, typer.Argument(help="PLY, PCD or RoomPlan JSON, or a folder of recorded frames")],
    *,
    device: Annotated[str, typer.Option(help="device id to publish as")],
    secret: Annotated[str, typer.Option(envvar="WEIR_DEVICE_SECRET", show_default=False, help="its secret")] = "",
    scan: Annotated[str | None, typer.Option(help="the scan's id [default: the folder's, else a new one]")] = None,
    form: Annotated[Form, typer.Option("--as", help="a cloud as a file in parts, or as frames of points")] = Form.PARTS,
    no_end: Annotated[
        bool, typer.Option("--no-end", help="more of the scan will follow: a folder's own end is left out too")
    ] = False,
    bootstrap: Annotated[str | None, typer.Option(help="Kafka, host:port [default: WEIR_KAFKA_BOOTSTRAP]")] = None,
    topic: Annotated[str | None, typer.Option(help="[default: scan-frames, with WEIR_TOPIC_PREFIX]")] = None,
    buffer_dir: Annotated[Path | None, typer.Option(help="keeps what could not be delivered for next time")] = None,
    timeout: Annotated[float, typer.Option(min=0, help="seconds that Kafka may take nothing")] = 30.0,
) -> None:
    """Publish a scan as a device would: signed, in order, recognised if published again under the same id.

    Everything is checked before the first record is sent. Exit code 1 if anything could not be delivered.
    """
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it retries is said by us, once
    planned = plan(path, as_points=form is Form.POINTS, end=not no_end)
    scan_id = scan or planned.scan_id or f"scan_{uuid.uuid4().hex}"
    publisher = AsDevice(device, secret, bootstrap, topic, buffer_dir).open(ScanPublisher, Topic.SCAN_FRAMES)
    print(f"scan {scan_id}: {planned.records} records", flush=True)
    began = monotonic_s()
    try:
        size = _Upload(publisher, scan_id, timeout).run(planned)
    finally:
        publisher.close(timeout_s=0)
        done = f"{publisher.stats.delivered} of {planned.records} records in {monotonic_s() - began:.1f} s"
        print(f"published {done}", flush=True)
    print(f"{size / 1_000_000:.2f} MB; see it at /v1/scans/{scan_id}", flush=True)


class _Upload:
    """One scan on its way."""

    def __init__(self, publisher: ScanPublisher, scan_id: str, patience_s: float) -> None:
        self._publisher = publisher
        self._scan_id = scan_id
        self._patience_s = patience_s
        self._next_progress_s = monotonic_s() + _PROGRESS_INTERVAL_S

    def run(self, planned: Planned) -> int:
        """Publish everything and wait until the broker has it; how many bytes that was.

        Raises:
            Undelivered: it took nothing for too long.
        """
        size = 0
        for value in planned.values():
            self._accept(value)
            size += len(value)
            self._show_progress(planned.records)
        while self._publisher.stats.buffered:
            self._wait_for_progress()
        return size

    def _accept(self, value: bytes) -> None:
        while True:
            try:
                return self._publisher.publish(self._scan_id, value)
            except BufferFull:
                self._wait_for_progress()
            except ValueError as exc:
                raise Misconfigured(str(exc)) from exc

    def _wait_for_progress(self) -> None:
        before = self._publisher.stats.delivered
        report = self._publisher.flush(self._patience_s)
        if report.buffered and report.delivered == before:
            reason = self._publisher.stats.last_error or "no broker answered"
            msg = (
                f"Kafka took nothing for {self._patience_s:g} s ({reason}); start it, or correct --bootstrap or "
                f"WEIR_KAFKA_BOOTSTRAP, and publish again with --scan {self._scan_id}: what is there already is recognised"
            )
            raise Undelivered(msg)

    def _show_progress(self, records: int) -> None:
        if monotonic_s() >= self._next_progress_s:
            self._next_progress_s = monotonic_s() + _PROGRESS_INTERVAL_S
            print(f"{self._publisher.stats.delivered} of {records} records delivered", file=sys.stderr, flush=True)
