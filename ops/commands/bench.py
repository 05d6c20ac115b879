"""`weir bench`: the benchmarks, as JSON lines with ratios from one run on one machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

PgRoot = Annotated[Path | None, typer.Option(help="Another PostgreSQL tree, such as one with TimescaleDB.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    bench = typer.Typer(help="Measure; every server is started for the run and thrown away.", no_args_is_help=True)
    app.add_typer(bench, name="bench")

    @bench.command()
    def ingest(
        messages: Annotated[int, typer.Option(help="One-reading messages.")] = 600_000,
        workers: Annotated[int, typer.Option(help="Worker processes.")] = 1,
        devices: Annotated[int, typer.Option(help="Devices, one sensor each.")] = 1000,
        pg_root: PgRoot = None,
    ) -> None:
        """From signed Kafka records to committed rows, beside the database's own limit."""
        from bench import ingest as ingest_bench

        _print(ingest_bench.run(messages, messages // 50, devices, workers, pg_root))

    @bench.command()
    def growth(
        largest: Annotated[int, typer.Option(help="Stored rows at the end.")] = 10_000_000, pg_root: PgRoot = None
    ) -> None:
        """What a reading costs while the table grows a hundredfold."""
        from bench import growth as growth_bench

        _print(growth_bench.run((largest // 100, largest // 10, largest), pg_root))

    @bench.command()
    def metering(
        tenants: Annotated[int, typer.Option(help="Tenants, in each batch and in each proof.")] = 1_000,
        days: Annotated[int, typer.Option(help="Days of readings to prove: 288 a tenant and day.")] = 30,
        batches: Annotated[int, typer.Option(help="Batches of 20 000 messages that are timed.")] = 20,
    ) -> None:
        """Metering's share of ingest, proofs over a month, the pushes of an hour."""
        from bench import metering as metering_bench

        _print(metering_bench.run(tenants, days, batches))

    @bench.command()
    def rules(
        messages: Annotated[int, typer.Option(help="One-reading messages per drained backlog.")] = 300_000,
        latency_seconds: Annotated[int, typer.Option(help="How long the paced stream lasts.")] = 60,
        pg_root: PgRoot = None,
    ) -> None:
        """What rules cost beside the same readings without, what many rules need, how soon an episode is committed."""
        from bench import rules as rules_bench

        _print(rules_bench.run(messages, latency_seconds, pg_root))

    @bench.command()
    def scans(
        rooms: Annotated[int, typer.Option(min=0, help="Rooms of each shape and case; 0: speed only.")] = 2,
        at_once: Annotated[int, typer.Option(help="Instead: so many scans at once, and how soon they are seen.")] = 0,
        seconds: Annotated[int, typer.Option(help="How long those last.")] = 30,
        frames: Annotated[float, typer.Option(help="Frames a second of each of those.")] = 0.5,
    ) -> None:
        """What scans cost in bytes and time, how well synthetic rooms are measured, what their error bars are worth."""
        if at_once:
            from bench import scan_load

            _print(scan_load.run(at_once, seconds, frames))
            return
        from bench import scan_speed
        from bench import scans as scans_bench

        _print(scan_speed.run())
        if rooms:
            _print(scans_bench.run(rooms))

    @bench.command()
    def live(
        seconds: Annotated[int, typer.Option(help="How long each paced stream is measured.")] = 20,
        rate: Annotated[int, typer.Option(help="Readings a second.")] = 5_000,
        sensors: Annotated[int, typer.Option(help="Devices, one sensor each.")] = 1_000,
        pg_root: PgRoot = None,
    ) -> None:
        """From producing a reading to its frame at a viewer, fan-out, idle memory, everybody coming back at once."""
        from bench import live as live_bench

        _print(live_bench.run(seconds, rate, sensors, pg_root))


def _print(lines: Iterable[dict[str, object]]) -> None:
    for line in lines:
        typer.echo(json.dumps(line))
