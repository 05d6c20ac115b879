"""`weir alarms`: what waits for the people who run the system, and saying that it was seen to."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import Annotated, Any

import typer

from core.postgres import DatabaseRole, open_pool, require_connection
from core.settings import load_settings
from schemas import rfc3339
from schemas.errors import Misconfigured

_LIST = """
SELECT alarm_id, kind, subject, detail, opened_at, last_seen_at FROM weir.operator_alarm WHERE closed_at IS NULL
ORDER BY alarm_id
"""
_CLOSE = """
UPDATE weir.operator_alarm SET closed_at = now() WHERE closed_at IS NULL AND (%(all)s OR alarm_id = ANY (%(ids)s))
RETURNING alarm_id
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="List and close operator alarms.")
    group.command("list")(list_command)
    group.command("close")(close_command)
    app.add_typer(group, name="alarms")


def list_command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List the open ones, the oldest first; WEIR_DATABASE_URL names a login that may work as weir_writer."""
    for alarm in _query(_LIST):
        number, kind, subject, detail, opened_at, seen_at = alarm
        if as_json:
            names = ("alarm_id", "kind", "subject", "detail", "opened_at", "last_seen_at")
            shown = (number, kind, subject, detail, _text(opened_at), _text(seen_at))
            print(json.dumps(dict(zip(names, shown, strict=True)), ensure_ascii=False))
        else:
            print(f"{number:>6}  {_text(seen_at)}  {kind} {subject}: {detail}")


def close_command(
    ids: Annotated[list[int] | None, typer.Argument(help="Numbers of alarms.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every open one.")] = False,
) -> None:
    """Close what was seen to; what still holds opens again."""
    if bool(ids) == every:
        msg = "give either the numbers of alarms, or --all"
        raise Misconfigured(msg)
    closed = {number for (number,) in _query(_CLOSE, {"all": every, "ids": ids or []})}
    missing = sorted(set(ids or ()) - closed)
    if missing:
        msg = f"no alarm {', '.join(map(str, missing))} is open; `weir alarms list` shows those that are"
        raise Misconfigured(msg)
    print(f"closed {len(closed)}")


def _query(statement: str, values: dict[str, object] | None = None) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        url = load_settings().database_url.get_secret_value()
        await require_connection(url)
        async with open_pool(url, DatabaseRole.WRITER, size=1) as pool, pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall()

    return asyncio.run(run())


def _text(moment: datetime) -> str:
    return rfc3339.format_ms(int(moment.timestamp() * 1000))
