"""`weir reconcile`: every difference between stored rows, metered usage, pushes and what Stripe has."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from core.postgres import DatabaseRole, open_pool, require_connection
from core.settings import load_settings
from schemas import rfc3339
from schemas.errors import Misconfigured
from sinks.timescale.usage_reader import Difference, all_differences, touched_differences

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DIFFERENT = 1
_STATEMENT_MS = 600_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("reconcile")(reconcile_command)


def reconcile_command(
    from_: Annotated[
        str | None,
        typer.Option("--from", help="From this time on (2026-11-01T00:00:00Z, or a date), floored to the hour."),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", help="Before this time, raised to the hour.")] = None,
    is_touched: Annotated[
        bool,
        typer.Option("--touched", help="Only days that changed since the last nightly proof, or did not agree then."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print every difference between readings, usage, pushes and Stripe.

    Exit code 1 if there is any.
    """
    if is_touched and (from_ or to):
        msg = "--touched takes no --from and --to: which days changed is known"
        raise Misconfigured(msg)
    start, end = _hour(from_, "--from", timedelta()), _hour(to, "--to", timedelta(hours=1) - timedelta.resolution)
    found = asyncio.run(
        _differences(load_settings().database_url.get_secret_value(), start, end, is_touched=is_touched)
    )
    if as_json:
        for one in found:
            print(json.dumps(asdict(one), default=lambda at: rfc3339.format_ms(round(at.timestamp() * 1000))))
    else:
        _print(found)
    if found:
        raise typer.Exit(_DIFFERENT)


async def _differences(
    url: str, start: datetime | None, end: datetime | None, *, is_touched: bool
) -> Sequence[Difference]:
    await require_connection(url)
    pool = open_pool(url, DatabaseRole.OPERATOR, size=1, statement_timeout_ms=_STATEMENT_MS)
    async with pool, pool.connection() as connection:
        if is_touched:
            return await touched_differences(connection)
        return await all_differences(connection, start, end)


def _hour(text: str | None, option: str, round_up: timedelta) -> datetime | None:
    if text is None:
        return None
    at_ms, valid = rfc3339.parse([f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text])
    if not valid[0]:
        msg = f"{option} {text} is neither a time with an offset nor a date; expected the like of 2026-11-01T00:00:00Z"
        raise Misconfigured(msg)
    at = datetime.fromisoformat(rfc3339.format_ms(int(at_ms[0]))) + round_up
    return at.replace(minute=0, second=0, microsecond=0)


def _print(found: Sequence[Difference]) -> None:
    if not found:
        print("all agree")
        return
    table = Table("tenant", "meter", "hour", "stored", "metered", "pushed", "adjusted", "stripe", "difference", "why")
    for one in found:
        counts = (one.stored, one.metered, one.pushed, one.adjusted, one.stripe)
        shown = ["-" if count is None else str(count) for count in counts]
        hour = one.bucket_start.strftime("%Y-%m-%dT%H:%MZ")
        table.add_row(one.tenant_id, one.meter, hour, *shown, f"{one.difference:+d}", one.explanation)
    Console().print(table)
