"""`GET /v1/notifications`: what the tenant's people are told, newest first; the live channel `notifications` tells it at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from accounts import notifications
from accounts.notifications import KINDS
from api.auth import Principal, Require, ServicesOfApp
from api.errors import Problem
from api.models import Model, Responses, answer, problems
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.rule_models import ALERT_EXAMPLE, Alert
from core.postgres import tenant_transaction

router = APIRouter(prefix="/v1/notifications", tags=["alerts"])

Reader = Annotated[Principal, Depends(Require("alerts:read"))]
Kind = Annotated[str | None, Query(description=f"one of {', '.join(KINDS)}", examples=["fired"])]


class AlertNotification(Model):
    """An alert fired, resolved, or was found in late readings; each is told once."""

    kind: Literal["fired", "resolved", "historical"]
    noticed_at: str
    alert_id: str
    sensor_id: str
    alert: Alert


class QuotaNotification(Model):
    """So much of what the plan includes in a month is used."""

    kind: Literal["quota"]
    noticed_at: str
    meter: str
    month: str
    percent: int
    used: int
    included: int


class NotificationPage(Model):
    """Notifications, newest first."""

    items: list[AlertNotification | QuotaNotification]
    next: str | None


_FIRED: Final = {
    "kind": "fired",
    "noticed_at": "2026-11-22T12:40:00.412Z",
    "alert_id": ALERT_EXAMPLE["alert_id"],
    "sensor_id": ALERT_EXAMPLE["sensor_id"],
    "alert": ALERT_EXAMPLE,
}
_NEXT: Final = "kq1zZW5fNGY2ZTBiN2QyYy0"
_QUOTA: Final = {
    "kind": "quota",
    "noticed_at": "2026-11-20T08:00:00.000Z",
    "meter": "readings",
    "month": "2026-11",
    "percent": 80,
    "used": 800_112,
    "included": 1_000_000,
}
_FOUND: Final[Responses] = {
    200: answer(NotificationPage, "A page of notifications.", page={"items": [_FIRED, _QUOTA], "next": _NEXT}),
    **problems(401, 403, 422, 429, 503),
}


class BeforeNotification(msgspec.Struct, array_like=True):
    """What is listed and where a page begins: before what was noticed then, in its place."""

    kind: str | None
    noticed_us: int
    place: str


@router.get("", summary="List notifications", responses=_FOUND, response_class=Response)
async def list_notifications(
    services: ServicesOfApp,
    principal: Reader,
    kind: Kind = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Alerts that fired, resolved or were found later, and quotas of which much is used; nothing is told twice."""
    if kind is not None and kind not in KINDS:
        raise Problem.invalid(parameter="kind", detail=f"kind: expected one of {', '.join(KINDS)}")
    cursors = Cursors(services.vault, "notifications")
    before = None
    if cursor is not None:
        state = cursors.decode(principal.tenant_id, cursor, BeforeNotification)
        if kind not in (state.kind, None):
            raise Problem.invalid(parameter="cursor", detail="cursor is of a list of another kind; give the same")
        kind, before = state.kind, (datetime.fromtimestamp(state.noticed_us / 1_000_000, UTC), state.place)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await notifications.list_notifications(connection, kind, before, limit + 1)
    following = None
    if len(rows) > limit:
        noticed_at, place = rows[limit - 1][0]
        state = BeforeNotification(kind, round(noticed_at.timestamp() * 1_000_000), place)
        following = cursors.encode(principal.tenant_id, state)
    content = {"items": [document for _, document in rows[:limit]], "next": following}
    return Response(msgspec.json.encode(content), media_type="application/json")
