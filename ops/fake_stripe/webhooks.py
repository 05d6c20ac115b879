"""Events and their delivery: signed, at least once, in no promised order; late, doubled or shuffled when told to."""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import stripe

from ops.fake_stripe.store import Object, Store

API_VERSION: Final = "2026-10-28.endive"
_IDLE_S: Final = 0.1
_RETRY_S: Final = 1.0
_LONGEST_RETRY_S: Final = 60.0
_OK: Final = range(200, 300)


@dataclass(slots=True)
class Manners:
    """How deliveries behave.

    Args:
        url: where events go; nowhere if empty.
        secret: that signs them.
        copies: how often each is delivered.
        shuffle_s: each delivery waits a random time up to this.
        delay_s: and this on top.
        skew_s: added to the time in the signature.
    """

    url: str = ""
    secret: str = ""
    copies: int = 1
    shuffle_s: float = 0.0
    delay_s: float = 0.0
    skew_s: int = 0


class Deliveries:
    """Makes events and sends them until they are answered with 2xx."""

    def __init__(self, store: Store, manners: Manners) -> None:
        self._store = store
        self.manners = manners

    def emit(self, kind: str, thing: Object, previous: Object | None = None) -> Object:
        """An event about an object as it is now."""
        data: dict[str, Any] = {"object": thing} | ({"previous_attributes": previous} if previous else {})
        body = {"object": "event", "api_version": API_VERSION, "type": kind, "data": data}
        return self._queue({**body, "livemode": False, "pending_webhooks": 1, "request": {"id": None}})

    def emit_thin(self, kind: str, meter_id: str, reason: Object) -> Object:
        """A thin event: what it is about must be fetched."""
        related = {"id": meter_id, "type": "billing.meter", "url": f"/v1/billing/meters/{meter_id}"}
        return self._queue({"object": "v2.core.event", "type": kind, "related_object": related, "data": reason})

    def _queue(self, body: Object) -> Object:
        event = {"id": self._store.new_id("evt"), "created": int(self._store.now()), **body}
        self._store.put("event", event)
        for _ in range(self.manners.copies if self.manners.url else 0):
            due = time.time() + self.manners.delay_s + random.uniform(0, self.manners.shuffle_s)  # noqa: S311 - no secret
            self._store.db.execute("INSERT INTO delivery (event, due) VALUES (?, ?)", (event["id"], due))
        return event

    async def run(self) -> None:
        """Deliver for ever."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:
            while True:
                row = self._store.db.execute(
                    "SELECT number, event, attempts FROM delivery WHERE due <= ? ORDER BY due LIMIT 1", (time.time(),)
                ).fetchone()
                if row is None:
                    await asyncio.sleep(_IDLE_S)
                else:
                    await self._deliver(session, *row)

    async def _deliver(self, session: aiohttp.ClientSession, number: int, event_id: str, attempts: int) -> None:
        body = json.dumps(self._store.find(event_id))
        headers = {"Stripe-Signature": self.sign(body), "Content-Type": "application/json; charset=utf-8"}
        try:
            async with session.post(self.manners.url, data=body, headers=headers) as response:
                delivered = response.status in _OK
        except (aiohttp.ClientError, TimeoutError):
            delivered = False
        if delivered:
            self._store.db.execute("DELETE FROM delivery WHERE number = ?", (number,))
            return
        wait_s = min(_LONGEST_RETRY_S, _RETRY_S * 2.0 ** min(attempts, 10))
        self._store.db.execute(
            "UPDATE delivery SET attempts = attempts + 1, due = ? WHERE number = ?", (time.time() + wait_s, number)
        )

    def sign(self, body: str) -> str:
        """The header `Stripe-Signature`."""
        at = int(time.time()) + self.manners.skew_s
        signature = stripe.WebhookSignature._compute_signature(f"{at}.{body}", self.manners.secret)  # noqa: SLF001
        return f"t={at},v1={signature}"
