"""`GET /v1/audit`: who changed what, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from accounts import audit
from accounts.audit import AuditFilter, AuditRow
from api.auth import Principal, Require, ServicesOfApp
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.people_models import AUDIT_FOUND
from api.times import parse_instant, shown_moment
from core.postgres import tenant_transaction

router = APIRouter(prefix="/v1/audit", tags=["audit log"])

Reader = Annotated[Principal, Depends(Require("audit:read"))]
Actor = Annotated[str | None, Query(max_length=200, description="by this user or key", examples=["usr_4f6e0b7d2c"])]
Kind = Annotated[str | None, Query(max_length=200, description="of such things", examples=["user"])]
SubjectId = Annotated[str | None, Query(max_length=200, description="of this thing", examples=["usr_b07a91c3f0"])]
Start = Annotated[str | None, Query(max_length=64, description="RFC 3339: then or later")]
End = Annotated[str | None, Query(max_length=64, description="RFC 3339: before it")]
JSON: Final = "application/json"


class BeforeEntry(msgspec.Struct, array_like=True):
    """What is listed and where a page begins: before this entry."""

    query: list[str | None]
    entry_no: int


@router.get("", summary="Read the audit log", responses=AUDIT_FOUND, response_class=Response)
async def list_audit_entries(
    services: ServicesOfApp,
    principal: Reader,
    actor: Actor = None,
    kind: Kind = None,
    subject_id: SubjectId = None,
    start: Start = None,
    end: End = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Changes that people, their keys and the system made; sessions are sign-ins. It only grows."""
    query, before = [actor, kind, subject_id, start, end], None
    cursors = Cursors(services.vault, "audit log")
    if cursor is not None:
        state = cursors.decode(principal.tenant_id, cursor, BeforeEntry)
        if query not in (state.query, [None] * len(query)):
            raise Problem.invalid(parameter="cursor", detail="cursor is of a list with other filters; give the same")
        query, before = state.query, state.entry_no
    wanted = _filter(query)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await audit.list_entries(connection, wanted, before, limit + 1)
    page = rows[:limit]
    following = None
    if len(rows) > limit:
        following = cursors.encode(principal.tenant_id, BeforeEntry(query, page[-1].entry_no))
    return Response(msgspec.json.encode({"items": [_shown(row) for row in page], "next": following}), media_type=JSON)


def _filter(query: list[str | None]) -> AuditFilter:
    actor, kind, subject_id, start, end = query
    for name, value in (("actor", actor), ("kind", kind), ("subject_id", subject_id)):
        if value is not None and "\0" in value:
            raise Problem.invalid(parameter=name, detail=f"{name} has a NUL, which nothing has")
    return AuditFilter(actor, kind, subject_id, _moment(start, "start"), _moment(end, "end"))


def _moment(text: str | None, parameter: str) -> datetime | None:
    return None if text is None else datetime.fromtimestamp(parse_instant(text, parameter) / 1000, UTC)


def _shown(row: AuditRow) -> dict[str, object]:
    return {
        "entry_id": str(row.entry_no),
        "at": shown_moment(row.at),
        "actor": row.actor,
        "action": row.action,
        "kind": row.kind,
        "subject_id": row.subject_id,
        "changes": row.changes,
    }
