"""The stand-in for Stripe on a free port of this process, and the adapter that talks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from accounts.billing.stripe_adapter import StripeBilling
from ops.fake_stripe.faults import Fault, Trouble
from ops.fake_stripe.server import make_app
from ops.fake_stripe.service import FakeStripe
from ops.fake_stripe.webhooks import Manners

KEY = "sk_test_weir"
SECRET = "whsec_test_weir"


@dataclass
class StripeScene:
    """A running stand-in."""

    fake: FakeStripe
    url: str
    billing: StripeBilling

    def fail(self, path: str, trouble: Trouble, times: int = 1, skip: int = 0) -> None:
        """Let requests go wrong."""
        self.fake.faults.add(Fault(path, trouble, times, skip))

    def advance(self, seconds: float) -> None:
        """Move Stripe's clock."""
        self.fake.store.advance(seconds)

    def events(self) -> list[tuple[Any, ...]]:
        """Meter events in the order they were taken: name, value, time."""
        return self.fake.store.db.execute("SELECT event_name, value, at FROM meter_event ORDER BY number").fetchall()


@asynccontextmanager
async def stripe_scene(*, is_absolute: bool = True, webhooks: Manners | None = None) -> AsyncIterator[StripeScene]:
    """Serve until the end of the block."""
    fake = FakeStripe(":memory:", KEY, webhooks or Manners())
    runner = web.AppRunner(make_app(fake))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.public_url = f"http://{host}:{port}"
    billing = StripeBilling(KEY, fake.public_url, is_absolute=is_absolute)
    try:
        yield StripeScene(fake, fake.public_url, billing)
    finally:
        await billing.close()
        await runner.cleanup()
