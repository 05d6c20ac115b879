"""`weir publish`: a file's readings, published as a device would.

Border: options, messages and the exit code. Files are read by `ops.reading_files` and `ops.senml_files`, delivery is
the device library's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TextIO, TypeAlias

import typer
from weir_device import BufferFull, DevicePublisher

from core.clock import monotonic_s
from core.kafka import Topic
from ops.device_publishers import AsDevice, Undelivered
from ops.reading_files import (
    BadLine,
    FileReading,
    Format,
    TimeReading,
    TimeUnit,
    csv_readings,
    format_of,
    ndjson_readings,
)
from ops.senml_files import CONTENT_TYPE, Pack, senml_packs
from schemas.errors import Misconfigured
from schemas.readings import EARLIEST_MS

_PROGRESS_INTERVAL_S = 2.0
_SHOWN_BAD_LINES = 10

_Item: TypeAlias = FileReading | Pack | BadLine


@dataclass(slots=True)
class Upload:
    """One file on its way: what was bad about it, and how far it is.

    Args:
        publisher: takes the readings.
        patience_s: how long the broker may take nothing before the upload is given up.
        say: prints a line for people.
    """

    publisher: DevicePublisher
    patience_s: float
    say: Callable[[str], None]
    bad_lines: int = 0
    accepted: int = 0
    _next_progress_s: float = field(default_factory=lambda: monotonic_s() + _PROGRESS_INTERVAL_S)
    _warned_of_old_times: bool = False

    def run(self, items: Iterator[_Item]) -> None:
        """Publish everything and wait until the broker has it.

        Raises:
            Undelivered: it took nothing for too long; what it has not is not counted as published.
        """
        for item in items:
            problem = item if isinstance(item, BadLine) else self._accept(item)
            if problem is not None:
                self._report(problem)
            self._show_progress()
        while self.publisher.stats.buffered:
            self._wait_for_progress()

    def _accept(self, item: FileReading | Pack) -> BadLine | None:
        while True:
            try:
                return self._publish(item)
            except BufferFull:
                self._wait_for_progress()

    def _publish(self, item: FileReading | Pack) -> BadLine | None:
        if isinstance(item, Pack):
            self.publisher.publish_record(item.value, CONTENT_TYPE, item.readings)
            self.accepted += item.readings
            return None
        try:
            self.publisher.publish(item.sensor, item.value, item.at_ms, item.seq)
        except ValueError as exc:
            return BadLine(item.line, str(exc))
        self.accepted += 1
        self._warn_of_old_times(item)
        return None

    def _wait_for_progress(self) -> None:
        before = self.publisher.stats.delivered
        report = self.publisher.flush(self.patience_s)
        if report.buffered and report.delivered == before:
            reason = self.publisher.stats.last_error or "no broker answered"
            msg = (
                f"{count(report.buffered, 'reading')} not delivered: Kafka took nothing for {self.patience_s:g} s ({reason}); "
                "start it, or correct --bootstrap or WEIR_KAFKA_BOOTSTRAP, and publish the file again: what is there "
                "already is recognised"
            )
            raise Undelivered(msg)

    def _report(self, bad: BadLine) -> None:
        self.bad_lines += 1
        if self.bad_lines <= _SHOWN_BAD_LINES:
            self.say(f"line {bad.line}: {bad.problem}")
        elif self.bad_lines == _SHOWN_BAD_LINES + 1:
            self.say("more bad lines follow; they are counted only")

    def _warn_of_old_times(self, reading: FileReading) -> None:
        if reading.at_ms < EARLIEST_MS and not self._warned_of_old_times:
            self._warned_of_old_times = True
            self.say(
                f"line {reading.line}: note: the time is before 2010, such readings are put in quarantine; "
                "if the file's times are numbers of another unit, pass --unit-time"
            )

    def _show_progress(self) -> None:
        if monotonic_s() >= self._next_progress_s:
            self._next_progress_s = monotonic_s() + _PROGRESS_INTERVAL_S
            self.say(f"{count(self.accepted, 'reading')} read, {self.publisher.stats.delivered} delivered")


def count(number: int, noun: str) -> str:
    """`1 reading`, `2 readings`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def publish(
        file: Annotated[str, typer.Argument(help="CSV, NDJSON or SenML file; - is standard input")],
        *,
        device: Annotated[str, typer.Option(help="device id to publish as")],
        secret: Annotated[str, typer.Option(envvar="WEIR_DEVICE_SECRET", show_default=False, help="its secret")] = "",
        sensor: Annotated[str | None, typer.Option(help="sensor of lines that name none; SenML names its own")] = None,
        bootstrap: Annotated[str | None, typer.Option(help="Kafka, host:port [default: WEIR_KAFKA_BOOTSTRAP]")] = None,
        topic: Annotated[str | None, typer.Option(help="[default: readings, with WEIR_TOPIC_PREFIX]")] = None,
        format_: Annotated[Format | None, typer.Option("--format", help="[default: by the file's suffix]")] = None,
        assume_utc: Annotated[bool, typer.Option("--assume-utc", help="times without an offset are UTC")] = False,
        unit_time: Annotated[TimeUnit, typer.Option(help="what times that are numbers count")] = TimeUnit.MILLISECONDS,
        batch: Annotated[int, typer.Option(min=1, max=10_000, help="readings in one record")] = 1_000,
        buffer_dir: Annotated[Path | None, typer.Option(help="keeps what could not be delivered for next time")] = None,
        timeout: Annotated[float, typer.Option(min=0, help="seconds that Kafka may take nothing")] = 30.0,
    ) -> None:
        """Publish a file's readings as a device would: signed, in order, recognised if published again.

        Exit code 1 if a line was bad or anything could not be delivered; all the rest is published nevertheless.
        """
        logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it retries is said by us, once
        chosen = format_of(file, format_)
        where = AsDevice(device, secret, bootstrap, topic, buffer_dir)
        publisher = where.open(DevicePublisher, Topic.READINGS, max_batch_readings=batch)
        upload = Upload(publisher, timeout, _say)
        try:
            with _opened(file) as stream:
                upload.run(_items(stream, chosen, sensor, TimeReading(assume_utc, unit_time)))
        finally:
            publisher.close(timeout_s=0)
            stats = publisher.stats
            done = f"{count(stats.delivered, 'reading')} in {count(stats.delivered_records, 'record')}"
            print(f"published {done}", flush=True)
        if upload.bad_lines:
            _say(f"{count(upload.bad_lines, 'bad line')} {'was' if upload.bad_lines == 1 else 'were'} left out")
            raise typer.Exit(1)


def _items(stream: TextIO, chosen: Format, sensor: str | None, times: TimeReading) -> Iterator[_Item]:
    match chosen:
        case Format.CSV:
            return csv_readings(stream, sensor, times, _say)
        case Format.NDJSON:
            return ndjson_readings(stream, sensor, times)
        case Format.SENML:
            return senml_packs(stream)


@contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    """The file's text. Bytes that are not UTF-8 are kept apart, so that the line they stand on can be named."""
    if file == "-":
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="surrogateescape", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with _open(file) as stream:
        yield stream


def _open(file: str) -> TextIO:
    try:
        return Path(file).open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as exc:
        msg = f"{file} cannot be read: {exc.strerror}"
        raise Misconfigured(msg) from exc


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
