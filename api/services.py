"""What the endpoints work with: made once for an app, handed to each request.

Border: holds and hands over; nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import Request

from api.limits import SignInLimits, TokenBuckets
from core.clock import Clock
from core.postgres import Pool
from core.secrets import Vault
from core.settings import Settings

if TYPE_CHECKING:
    from accounts.passwords import Passwords
    from api.auth import Authenticator, DeviceSecrets, UserTokens
    from api.entitled import Entitled
    from api.health import Readiness
    from api.live.service import LiveService
    from api.metrics import Metrics
    from api.publisher import RecordPublisher
    from sinks.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Services:
    """Effects and long-lived state of one app.

    Attributes:
        authenticators: kinds of bearer credentials, asked in this order.
        objects: opens the object store at the first call.
    """

    settings: Settings
    pool: Pool
    vault: Vault
    clock: Clock
    authenticators: tuple[Authenticator, ...]
    users: UserTokens
    devices: DeviceSecrets
    passwords: Passwords
    limiter: TokenBuckets
    sign_ins: SignInLimits
    publisher: RecordPublisher
    readiness: Readiness
    metrics: Metrics
    live: LiveService
    entitled: Entitled
    objects: Callable[[], ObjectStore]


async def services_of(request: Request) -> Services:
    """The services of the app that a request came to."""
    services = request.app.state.services
    assert isinstance(services, Services)  # noqa: S101 - set by create_app
    return services
