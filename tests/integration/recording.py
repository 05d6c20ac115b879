"""The real recording of ../shared/data, and what the store must show of it, computed with polars from the file alone."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest

from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, Tenant

FILE = Path(__file__).resolve().parents[3] / "shared" / "data" / "machine_temperature.csv"


def require_recording() -> None:
    """Skip, saying why, where the folder with the recordings is absent."""
    if not FILE.exists():
        pytest.skip("the recording machine_temperature.csv is not beside the repository (shared/data)")


@cache
def rows() -> pl.DataFrame:
    """The file's rows in their order: at (UTC), value."""
    return pl.read_csv(FILE).select(
        pl.col("timestamp")
        .str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="ms")
        .dt.replace_time_zone("UTC")
        .alias("at"),
        pl.col("value"),
    )


@cache
def expected_readings() -> list[tuple[Any, ...]]:
    """(at, seq, value): of two values for one time the greater is the reading."""
    return rows().group_by("at").agg(pl.col("value").max()).sort("at").select("at", pl.lit(0), "value").rows()


@cache
def expected_conflicts() -> list[tuple[Any, ...]]:
    """(at, value) of the values that lost."""
    return (
        rows()
        .unique()
        .sort("at", "value")
        .group_by("at", maintain_order=True)
        .agg(pl.col("value").head(pl.len() - 1))
        .explode("value", empty_as_null=False, keep_nulls=False)
        .rows()
    )


@cache
def expected_rollup(every: str) -> list[tuple[Any, ...]]:
    """(bucket_start, count, min, max, first, last) in UTC buckets."""
    return (
        pl.DataFrame(expected_readings(), schema=["at", "seq", "value"], orient="row")
        .sort("at")
        .group_by_dynamic("at", every=every)
        .agg(
            pl.len().cast(pl.Int64).alias("count"),
            pl.col("value").min().alias("min"),
            pl.col("value").max().alias("max"),
            pl.col("value").first().alias("first"),
            pl.col("value").last().alias("last"),
        )
        .rows()
    )


def assert_recording_is_stored(database: Database) -> None:
    """Everything that promise 2 calls exactly equal, for one sensor that published the file."""
    assert database.query("SELECT at, seq, value FROM readings ORDER BY at, seq") == expected_readings()
    assert database.query("SELECT at, value FROM reading_conflicts ORDER BY at, value") == expected_conflicts()
    for view, every in (("readings_1m", "1m"), ("readings_1h", "1h"), ("readings_1d", "1d")):
        statement = _ROLLUPS[view]
        assert database.query(statement) == expected_rollup(every), view
    hours = [(at, count) for at, count, *_ in expected_rollup("1h")]
    assert (
        database.query("SELECT bucket_start, quantity FROM usage_hourly WHERE meter = 'readings' ORDER BY 1") == hours
    )


_ROLLUPS = {
    "readings_1m": "SELECT bucket_start, count, min, max, first, last FROM readings_1m ORDER BY 1",
    "readings_1h": "SELECT bucket_start, count, min, max, first, last FROM readings_1h ORDER BY 1",
    "readings_1d": "SELECT bucket_start, count, min, max, first, last FROM readings_1d ORDER BY 1",
}


def epoch_ms(at: datetime) -> int:
    """Epoch milliseconds of an aware time."""
    return round(at.astimezone(UTC).timestamp() * 1000)


def committed_records(database: Database) -> int:
    """Sum of the positions; -1 while the database is away."""
    try:
        return int(database.query("SELECT coalesce(sum(next_offset), 0) FROM stream_positions")[0][0])
    except psycopg.OperationalError:
        return -1


def publish_rows(device: ThirdPartyDevice, tenant: Tenant, order: list[int], per_record: int) -> int:
    """Publish the file's rows in the order given; returns the number of records."""
    every = rows().rows()
    readings = [reading(epoch_ms(every[n][0]), every[n][1]) for n in order]
    records = [body(*readings[n : n + per_record]) for n in range(0, len(readings), per_record)]
    # Two devices of one tenant would be two sensors; one device stays in one partition, so this uses one key.
    device.send_all(tenant.devices[0], records)
    return len(records)
