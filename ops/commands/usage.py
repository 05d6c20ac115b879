"""`weir usage`: receipts of a month's readings that prove themselves, and the check that needs nothing but the file."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from core.clock import now_ms
from core.postgres import DatabaseRole, open_pool, require_connection
from core.settings import load_settings
from processors.seals import Fault, check_receipt, check_together
from schemas.errors import Misconfigured
from schemas.receipts import Receipt
from sinks.timescale.usage_receipts import make_receipt

_DOES_NOT_HOLD = 1
_DECEMBER = 12
_STATEMENT_MS = 600_000


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Write and verify receipts of usage.")
    group.command("receipt")(receipt_command)
    group.command("verify")(verify_command)
    app.add_typer(group, name="usage")


def receipt_command(
    tenant: Annotated[str, typer.Option(help="Whose.")],
    month: Annotated[str, typer.Option(help="Such as 2026-11, UTC.")],
    out: Annotated[Path | None, typer.Option(help="Where to write it; default: receipt-TENANT-MONTH.json.")] = None,
) -> None:
    """Seal a month's hours that are over, and write what was stored and billed of each to a file."""
    start, end = _month(month)
    receipt = asyncio.run(_receipt(load_settings().database_url.get_secret_value(), tenant, start, end))
    file = out or Path(f"receipt-{tenant}-{month}.json")
    file.write_bytes(msgspec.json.format(msgspec.json.encode(receipt), indent=1) + b"\n")
    print(f"{file}: {len(receipt.hours)} hours, {receipt.readings} readings")


def verify_command(
    files: Annotated[list[Path], typer.Argument(help="Receipts; several of a tenant must also agree with each other.")],
) -> None:
    """Check receipts alone, without a database; name every hour that does not hold.

    Exit code 1 if there is any.
    """
    receipts = [_read(file) for file in files]
    faults = [fault for receipt in receipts for fault in check_receipt(receipt)] + check_together(receipts)
    for fault in faults:
        _print(fault)
    if faults:
        raise typer.Exit(_DOES_NOT_HOLD)
    for receipt in receipts:
        chain = f"seals {receipt.seals[0].seal_no} to {receipt.seals[-1].seal_no}" if receipt.seals else "no seals"
        print(
            f"holds: {receipt.tenant_id} {receipt.month}, {len(receipt.hours)} hours, {receipt.readings} readings, {chain}"
        )


async def _receipt(url: str, tenant_id: str, start: datetime, end: datetime) -> Receipt:
    await require_connection(url)
    pool = open_pool(url, DatabaseRole.OPERATOR, size=1, statement_timeout_ms=_STATEMENT_MS)
    async with pool, pool.connection() as connection:
        found = await connection.execute("SELECT 1 FROM public.usage_hourly WHERE tenant_id = %s LIMIT 1", (tenant_id,))
        if await found.fetchone() is None:
            msg = f"tenant {tenant_id} has no usage; see `weir tenant` for who there is"
            raise Misconfigured(msg)
        return await make_receipt(connection, tenant_id, start, end, datetime.fromtimestamp(now_ms() / 1000, UTC))


def _read(file: Path) -> Receipt:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Receipt)
    except OSError as error:
        msg = f"{file} cannot be read ({error.strerror})"
        raise Misconfigured(msg) from error
    except msgspec.MsgspecError as error:
        msg = f"{file} is no receipt: {error}"
        raise Misconfigured(msg) from error


def _print(fault: Fault) -> None:
    print(f"{fault.hour or 'receipt'}: {fault.why}")


def _month(text: str) -> tuple[datetime, datetime]:
    try:
        start = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        msg = f"--month {text} is not a month; expected the like of 2026-11"
        raise Misconfigured(msg) from None
    is_last = start.month == _DECEMBER
    return start, start.replace(year=start.year + is_last, month=1 if is_last else start.month + 1)
