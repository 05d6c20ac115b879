"""`POST /v1/billing/checkout`, `/v1/billing/portal`: where people pay; `POST /v1/webhooks/stripe`: what Stripe tells.

A webhook is believed only by its signature, kept once by its id, and answered at once; a job acts on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import structlog
from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from accounts.billing.plans import PLANS
from accounts.billing.signatures import BadSignature, verify
from api.auth import Principal, Require
from api.bodies import Body, described, require_known
from api.errors import Problem
from api.sensors import JSON
from api.services import Services, services_of
from api.usage_models import REDIRECT_RESPONSES
from core.postgres import tenant_transaction
from schemas.errors import Misconfigured, Transient

if TYPE_CHECKING:
    from accounts.billing.stripe_adapter import StripeBilling

router = APIRouter(tags=["billing"])
log = structlog.get_logger()

Writer = Annotated[Principal, Depends(Require("billing:write"))]
ServicesOfApp = Annotated[Services, Depends(services_of)]

_MAX_EVENT_BYTES: Final = 1 << 20
_SOLD: Final = tuple(name for name, plan in PLANS.items() if plan.monthly_cents)
_URL: Final = {"type": "string", "format": "uri"}
_CHECKOUT: Final = described(
    {
        "type": "object",
        "properties": {"plan": {"type": "string", "enum": list(_SOLD)}, "success_url": _URL, "cancel_url": _URL},
    },
    {"plan": "basic", "success_url": "http://kitchen.example/paid"},
    f"the plan ({_SOLD[0]} by default), and where to go afterwards; default: the dashboard",
    required=False,
)
_PORTAL: Final = described(
    {"type": "object", "properties": {"return_url": _URL}},
    {"return_url": "http://kitchen.example/"},
    "where to go afterwards; default: the dashboard",
    required=False,
)


@router.post(
    "/v1/billing/checkout",
    status_code=HTTPStatus.CREATED,
    summary="Subscribe",
    responses=REDIRECT_RESPONSES,
    response_class=Response,
    openapi_extra=_CHECKOUT,
)
async def create_checkout(services: ServicesOfApp, principal: Writer, request: Request, body: Body) -> Response:
    """A page on which somebody subscribes to a plan."""
    require_known(body, "plan", "success_url", "cancel_url")
    plan = body.get("plan", _SOLD[0])
    if plan not in _SOLD:
        raise Problem.invalid(parameter="plan", detail=f"plan is none of {', '.join(_SOLD)}")
    home = str(request.base_url)
    success, cancel = _url(body, "success_url", home), _url(body, "cancel_url", home)
    async with _provider(services) as provider:
        customer_id = await _customer(services, provider, principal.tenant_id)
        url = await provider.checkout_url(customer_id, principal.tenant_id, str(plan), success, cancel)
    return Response(msgspec.json.encode({"url": url}), status_code=HTTPStatus.CREATED, media_type=JSON)


@router.post(
    "/v1/billing/portal",
    status_code=HTTPStatus.CREATED,
    summary="Manage the subscription",
    responses=REDIRECT_RESPONSES,
    response_class=Response,
    openapi_extra=_PORTAL,
)
async def create_portal(services: ServicesOfApp, principal: Writer, request: Request, body: Body) -> Response:
    """A page on which somebody changes cards, reads invoices or cancels."""
    require_known(body, "return_url")
    back = _url(body, "return_url", str(request.base_url))
    async with _provider(services) as provider:
        customer_id = await _customer(services, provider, principal.tenant_id)
        url = await provider.portal_url(customer_id, back)
    return Response(msgspec.json.encode({"url": url}), status_code=HTTPStatus.CREATED, media_type=JSON)


@router.post("/v1/webhooks/stripe", include_in_schema=False)
async def receive_webhook(services: ServicesOfApp, request: Request) -> Response:
    """One of Stripe's events: 200 once it is kept, however often it comes."""
    body = await _bounded(request)
    secrets = services.settings.stripe_webhook_secret.get_secret_value().split(",")
    try:
        verify(body, request.headers.get("stripe-signature", ""), secrets, services.clock.now_ms() / 1000)
    except BadSignature as error:
        log.warning("webhook.refused", why=str(error))
        raise Problem(HTTPStatus.BAD_REQUEST, "bad_signature", str(error)) from None
    event = _event(body)
    async with services.pool.connection() as connection:
        await connection.execute(
            "SELECT weir.receive_billing_event(%s, %s, %s::jsonb)", (event["id"], event["type"], body.decode())
        )
    return Response(b"{}", media_type=JSON)


async def _bounded(request: Request) -> bytes:
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > _MAX_EVENT_BYTES:
            detail = f"an event has at most {_MAX_EVENT_BYTES} bytes"
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", detail, headers={"Connection": "close"})
    return raw


def _event(body: bytes) -> Mapping[str, Any]:
    try:
        event = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        event = None
    if not isinstance(event, dict) or not all(isinstance(event.get(name), str) for name in ("id", "type")):
        raise Problem.invalid(parameter="body", detail="the body is not one of Stripe's events")
    return event


async def _customer(services: Services, provider: StripeBilling, tenant_id: str) -> str:
    """The tenant's customer, made at the first need."""
    query = "SELECT t.name, a.customer_id FROM weir.tenant t LEFT JOIN weir.billing_account a USING (tenant_id)"
    async with tenant_transaction(services.pool, tenant_id) as connection:
        row = await (await connection.execute(query)).fetchone()
    if row is None:
        raise Problem.not_found(what="organization")
    if row[1] is not None:
        return str(row[1])
    made = await provider.create_customer(tenant_id, row[0])
    async with tenant_transaction(services.pool, tenant_id) as connection:
        kept = await (await connection.execute("SELECT weir.remember_customer(%s)", (made,))).fetchone()
    return str(kept[0]) if kept else made


@asynccontextmanager
async def _provider(services: Services) -> AsyncIterator[StripeBilling]:
    # Loading the library takes most of a second, which only an API that sells should pay, and once.
    from accounts.billing.stripe_adapter import from_settings  # noqa: PLC0415

    provider = from_settings(services.settings)
    if provider is None:
        detail = "this system does not sell subscriptions; its operator has to set WEIR_STRIPE_API_KEY"
        raise Problem(HTTPStatus.NOT_FOUND, "not_found", detail)
    try:
        yield provider
    except (Transient, Misconfigured) as error:
        log.warning("billing.provider_failed", error=str(error))
        detail = "the payment provider does not answer as it should; try again"
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "billing_unavailable", detail, headers={"Retry-After": "2"}
        ) from None
    finally:
        await provider.close()


def _url(body: Mapping[str, Any], name: str, default: str) -> str:
    value = body.get(name, default)
    if not isinstance(value, str) or not value.startswith(("https://", "http://")):
        raise Problem.invalid(parameter=name, detail=f"{name} is not an http or https address")
    return value
