"""A process that does nothing but push usage, over and over, until it is killed: `python -m tests.integration.push_process`."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress

from accounts.billing.pushes import Pusher
from accounts.billing.stripe_adapter import StripeBilling
from core.clock import now_ms
from core.postgres import DatabaseRole, open_pool
from schemas.errors import Transient

HASTE = 200.0


async def push_for_ever(database_url: str, stripe_key: str, stripe_url: str, ahead_ms: int, is_absolute: bool) -> None:
    """Push with a clock that is so much ahead."""
    billing = StripeBilling(stripe_key, stripe_url, is_absolute=is_absolute)
    async with open_pool(database_url, DatabaseRole.WRITER) as pool:
        pusher = Pusher(pool, billing, is_absolute=is_absolute, haste=HASTE)
        while True:
            with suppress(Transient):
                await pusher.run(now_ms() + ahead_ms)


if __name__ == "__main__":
    environment = os.environ
    asyncio.run(
        push_for_ever(
            environment["DATABASE_URL"],
            environment["STRIPE_KEY"],
            environment["STRIPE_URL"],
            int(environment["AHEAD_MS"]),
            environment["MODE"] == "absolute",
        )
    )
