"""The HTTP API as an ASGI app. Nothing happens on import: `create_app` wires, the app's lifespan opens and closes.

The database and the broker may be away when the app starts and at any time after: what needs them answers 503 meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic.json_schema import models_json_schema
from starlette.routing import Mount, WebSocketRoute

from accounts.passwords import Passwords
from api import (
    alerts,
    api_keys,
    audit,
    billing,
    billing_statement,
    dashboard,
    dashboard_session,
    data_quality,
    devices,
    documentation,
    health,
    ingest,
    invitations,
    jobs,
    notifications,
    organization,
    readings,
    rules,
    scan_exports,
    scan_files,
    scans,
    sensor_changes,
    sensors,
    sign_in,
    sites,
    tus,
    units,
    usage,
    users,
)
from api.auth import ApiKeys, DeviceSecrets, Require, UserTokens
from api.entitled import Entitled
from api.errors import install_handlers
from api.health import Readiness
from api.limits import SignInLimits, TokenBuckets
from api.live import sse
from api.live.service import LiveService
from api.live.socketio import PATH as SOCKETIO_PATH
from api.live.socketio import SocketIoDoor
from api.live.websocket import LiveSocket
from api.metrics import Metrics
from api.middleware import Guard
from api.models import ProblemDetails
from api.publisher import RecordPublisher
from api.services import Services
from core.clock import Clock, SystemClock, monotonic_s
from core.kafka import Topic, topic_name
from core.postgres import DatabaseRole, open_pool
from core.secrets import Vault
from core.settings import Settings
from sinks.objects import open_object_store

_POOL_TIMEOUT_S: Final = 2.0
_ENDPOINTS: Final = (
    sensors,
    sensor_changes,
    readings,
    data_quality,
    sites,
    units,
    devices,
    organization,
    rules,
    alerts,
    notifications,
    jobs,
    usage,
    billing,
    billing_statement,
    ingest,
    scans,
    scan_exports,
    scan_files,
    sign_in,
    invitations,
    users,
    api_keys,
    audit,
    sse,
    health,
    documentation,
    dashboard,
    dashboard_session,
)
_LOOPBACK_ORIGINS: Final = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?"
_DESCRIPTION: Final = (
    "Readings of a tenant's sensors. Times are RFC 3339 UTC with milliseconds; lists are pages, followed by `cursor` until"
    " `next` is null; errors are RFC 9457 problem details."
)


def create_app(settings: Settings, *, clock: Clock | None = None, now_s: Callable[[], float] = monotonic_s) -> FastAPI:
    """The app of these settings.

    Args:
        settings: `database_url` must be a login that may take the role weir_reader.
        clock: tells what "now" is; the machine's by default.
        now_s: a clock that never goes back, for caches and rates.

    Raises:
        Misconfigured: the database's URL or the secret key is missing.
    """
    services = _services(settings, clock or SystemClock(), now_s)
    app = FastAPI(
        title="Weir",
        version=_version(),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        generate_unique_id_function=_operation_id,
    )
    app.state.services = services
    for module in _ENDPOINTS:
        app.include_router(module.router)
    app.router.routes.append(WebSocketRoute("/v1/live", LiveSocket(), name="live"))
    door = SocketIoDoor(services.live, settings.live_message_bytes)
    app.router.routes.append(Mount(SOCKETIO_PATH, door.app, name="socketio"))
    install_handlers(app)
    app.add_middleware(Guard, metrics=services.metrics)
    # Outside of the guard, so that a page also sees the errors.
    app.add_middleware(
        CORSMiddleware,
        allow_origin_regex=_LOOPBACK_ORIGINS,
        allow_methods=["GET", "POST", "PATCH", "DELETE", "HEAD"],
        allow_headers=["Authorization", "Content-Type", "X-Request-Id", *tus.REQUEST_HEADERS],
        expose_headers=["X-Request-Id", "Retry-After", *tus.RESPONSE_HEADERS],
    )
    _complete_document(app)
    return app


def _services(settings: Settings, clock: Clock, now_s: Callable[[], float]) -> Services:
    url = settings.database_url.get_secret_value()
    pool = open_pool(
        url,
        DatabaseRole.READER,
        size=settings.database_pool_size,
        statement_timeout_ms=settings.database_statement_timeout_ms,
    )
    # A request waits no longer for a database that is away; the pool tries again with the next one.
    pool.timeout = _POOL_TIMEOUT_S
    vault = Vault.from_secret(settings.secret_key.get_secret_value())
    topic = topic_name(settings.topic_prefix, Topic.READINGS)
    users = UserTokens(pool, vault, clock, now_s)
    authenticators = (ApiKeys(pool, vault, now_s), users)
    return Services(
        settings=settings,
        pool=pool,
        vault=vault,
        clock=clock,
        authenticators=authenticators,
        users=users,
        devices=DeviceSecrets(pool, vault, now_s),
        passwords=Passwords(),
        sign_ins=SignInLimits(settings.sign_in_failures_per_email, settings.sign_in_failures_per_address, now_s),
        limiter=TokenBuckets(settings.api_requests_per_s, settings.api_request_burst, now_s),
        publisher=RecordPublisher(
            settings.kafka_bootstrap, settings.topic_prefix, settings.topic_partitions, settings.api_ingest_timeout_s
        ),
        readiness=Readiness(pool, url, topic, settings.readiness_max_lag, now_s),
        metrics=Metrics(),
        live=LiveService(settings, pool, vault, clock, authenticators),
        entitled=Entitled(),
        objects=cache(lambda: open_object_store(settings)),
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    await services.pool.open(wait=False)
    await services.live.start()
    try:
        yield
    finally:
        await services.live.stop()
        services.passwords.close()
        await services.publisher.close()
        await services.pool.close()


def _version() -> str:
    try:
        return version("weir-telemetry")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "0"


def _operation_id(route: APIRoute) -> str:
    """Stable, and readable in generated clients: `list_sensors`."""
    return route.name


def _complete_document(app: FastAPI) -> None:
    """Add to the generated document the problem's schema, to which all responses refer, and each operation's permission."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        _, problem = models_json_schema(
            [(ProblemDetails, "serialization")], ref_template="#/components/schemas/{model}"
        )
        document.setdefault("components", {}).setdefault("schemas", {}).update(problem["$defs"])
        for route in iter_route_contexts(app.routes):
            wanted = _permission(route.dependant) if isinstance(route.original_route, APIRoute) else None
            for method in (route.methods or ()) if wanted and route.include_in_schema else ():
                document["paths"][route.path][method.lower()]["x-permission"] = wanted
        # JSON has no tuples and no NaN: what goes out is what a parser gets back.
        parsed: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
        return parsed

    app.openapi = openapi  # type: ignore[method-assign] # FastAPI's documented way to extend the document


def _permission(dependant: Dependant) -> str | None:
    """What a route asks of its principal."""
    if isinstance(dependant.call, Require):
        return dependant.call.permission
    return next(filter(None, map(_permission, dependant.dependencies)), None)
