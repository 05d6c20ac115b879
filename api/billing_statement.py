"""`GET /v1/billing`: plan, period, what Stripe has of it, quotas, corrections. Border: HTTP; the numbers are the accounts'."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends
from starlette.responses import Response

from accounts.billing.statements import Quota, Statement, read_statement
from api.auth import Principal, Require
from api.errors import Problem
from api.sensors import JSON
from api.services import Services, services_of
from api.usage_models import STATEMENT_RESPONSES
from core.postgres import tenant_transaction
from schemas import rfc3339

router = APIRouter(tags=["billing"])

Reader = Annotated[Principal, Depends(Require("billing:read"))]
ServicesOfApp = Annotated[Services, Depends(services_of)]


@router.get("/v1/billing", summary="Read the bill", responses=STATEMENT_RESPONSES, response_class=Response)
async def read_billing(services: ServicesOfApp, principal: Reader) -> Response:
    """The bill as it stands: this period's usage, what the payment provider has of it, quotas and corrections."""
    now = datetime.fromtimestamp(services.clock.now_ms() / 1000, UTC)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        statement = await read_statement(connection, now)
    if statement is None:
        raise Problem.not_found(what="organization")
    is_sold = bool(services.settings.stripe_api_key.get_secret_value())
    return Response(msgspec.json.encode(shown(statement, is_sold)), media_type=JSON)


def shown(statement: Statement, is_sold: bool) -> dict[str, object]:
    """The bill as the API shows it."""
    plan = statement.plan
    return {
        "plan": plan.name,
        "monthly_cents": plan.monthly_cents,
        "status": statement.status,
        "is_subscribed": statement.is_subscribed,
        "is_sold": is_sold,
        "cancel_at_period_end": statement.cancel_at_period_end,
        "period": {"start": _instant(statement.period_start), "end": _instant(statement.period_end)},
        "refused": {feature.value: why.value for feature, why in statement.refused.items()},
        "meters": [{name: getattr(one, name) for name in one.__slots__} for one in statement.meters],
        "quotas": [_quota(one) for one in statement.quotas],
        "corrections": [
            {
                "meter": one.meter,
                "bucket_start": _instant(one.bucket_start),
                "quantity": one.quantity,
                "reason": one.reason,
                "created_at": _instant(one.created_at),
                "charge": one.charge,
            }
            for one in statement.corrections
        ],
    }


def _quota(one: Quota) -> dict[str, object]:
    percent = one.used * 100 // one.included
    return {
        "meter": one.meter,
        "included": one.included,
        "used": one.used,
        "percent": percent,
        "warning": "over" if percent >= 100 else "near" if percent >= 80 else None,  # noqa: PLR2004 - as people are told
        "noticed_at": {str(level): _instant(at) for level, at in one.noticed.items()},
        "grace_end": None if one.grace_end is None else _instant(one.grace_end),
    }


def _instant(at: datetime) -> str:
    return rfc3339.format_ms(round(at.timestamp() * 1000))
