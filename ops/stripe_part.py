"""The stand-in for Stripe as a part of `weir up`: started before anything is billed, with both demo tenants subscribed.

A system that has `WEIR_STRIPE_API_KEY` set bills through that account instead, and this part does nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Final

import psycopg

from accounts.billing.stripe_adapter import StripeBilling
from accounts.billing.subscriptions import subscribe_directly
from core.settings import Settings
from ops.embedded.ports import pick_port
from ops.supervisor import Service, Supervisor, command

_STAGE: Final = 1
_START_S: Final = 120.0
_HTTP_S: Final = 5.0
_OK: Final = 200
_PLAN: Final = "enterprise"


class StripePart:
    """The stand-in's process and what it is reached by.

    Args:
        settings: those that the user set.
        data_dir: its file lies there, so that it remembers what the database remembers having told it.
        secret_key: its key and signing secret are made from it, so they stay the same.
        api_url: where its events go.
        relay: takes its output.
    """

    def __init__(
        self, settings: Settings, data_dir: Path, secret_key: str, api_url: str, relay: Callable[[Popen[bytes]], None]
    ) -> None:
        self.is_embedded = not settings.stripe_api_key.get_secret_value()
        self._file = data_dir / "stripe.sqlite"
        self._port = pick_port() if self.is_embedded else 0
        self._key = f"sk_test_{_derived(secret_key, 'stripe key')}"
        self._secret = f"whsec_{_derived(secret_key, 'stripe webhooks')}"
        self._webhook_url = f"{api_url}/v1/webhooks/stripe"
        self._relay = relay

    @property
    def base(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """The settings by which the roles bill through it."""
        if not self.is_embedded:
            return {}
        return {
            "WEIR_STRIPE_API_KEY": self._key,
            "WEIR_STRIPE_API_BASE": self.base,
            "WEIR_STRIPE_WEBHOOK_SECRET": self._secret,
        }

    async def start(self, supervisor: Supervisor) -> None:
        """Start it and have its meters and prices made."""
        if not self.is_embedded:
            return
        words = ["--port", str(self._port), "--file", str(self._file), "--key", self._key]
        words += ["--webhook-url", self._webhook_url, "--webhook-secret", self._secret]
        argv = [sys.executable, "-P", "-m", "ops.fake_stripe.server", *words]
        self._file.touch(mode=0o600)
        spawn = command(argv, {**os.environ, "PYTHONUNBUFFERED": "1"}, self._relay)
        await supervisor.start(Service("stripe", _STAGE, spawn, self._answers), _START_S)

    async def subscribe(self, owner_url: str, tenants: Sequence[str]) -> None:
        """Put tenants on the enterprise plan that are not subscribed yet."""
        if not self.is_embedded:
            return
        provider = StripeBilling(self._key, self.base)
        try:
            await provider.set_up()
            async with await psycopg.AsyncConnection.connect(owner_url, autocommit=True) as connection:
                await connection.execute("SET ROLE weir_owner")
                for tenant_id in tenants:
                    await subscribe_directly(connection, provider, tenant_id, _PLAN)
        finally:
            await provider.close()

    async def _answers(self) -> bool:
        return await asyncio.to_thread(self._status) == _OK

    def _status(self) -> int:
        request = urllib.request.Request(f"{self.base}/v1/prices", headers={"Authorization": f"Bearer {self._key}"})  # noqa: S310 - our own, over http
        try:
            with urllib.request.urlopen(request, timeout=_HTTP_S) as response:  # noqa: S310
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


def _derived(secret_key: str, purpose: str) -> str:
    return hmac.new(secret_key.encode(), purpose.encode(), hashlib.sha256).hexdigest()[:32]
