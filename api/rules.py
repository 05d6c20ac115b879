"""`/v1/rules`: rules as versioned data. A document that cannot be used is refused with where, what, expected and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path
from starlette.responses import Response

from accounts import rules
from accounts.rules import ChangedMeanwhile, RuleRow
from api import preview
from api.auth import Principal, Require
from api.bodies import Body, described
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.rule_checks import check, require_room, understood
from api.rule_models import (
    PATCH_SCHEMA,
    RULE_CHANGED,
    RULE_CREATED,
    RULE_DELETED,
    RULE_EXAMPLE,
    RULE_FOUND,
    RULE_SCHEMA,
    RULES_FOUND,
)
from api.sensors import ServicesOfApp
from core.postgres import Connection, tenant_transaction
from schemas import rfc3339

router = APIRouter(prefix="/v1/rules", tags=["rules"])
router.include_router(preview.router)

Reader = Annotated[Principal, Depends(Require("rules:read"))]
Writer = Annotated[Principal, Depends(Require("rules:write"))]

JSON: Final = "application/json"
MAX_VERSIONS: Final = 1_000
RuleId = Annotated[str, Path(max_length=200, description="as `/v1/rules` lists it", examples=["rul_4f6e0b7d2c"])]

_CREATED_BODY = described(RULE_SCHEMA, RULE_EXAMPLE, "The rule; docs/rules.md tells its conditions.")
_CHANGED_BODY = described(
    PATCH_SCHEMA,
    {"severity": "major"},
    "The fields that change, each replaced whole; null takes one away (RFC 7396, one level deep).",
)


class AfterRule(msgspec.Struct, array_like=True):
    """Where a page of rules begins: after this id."""

    rule_id: str


@router.post(
    "",
    summary="Create a rule",
    status_code=201,
    responses=RULE_CREATED,
    response_class=Response,
    openapi_extra=_CREATED_BODY,
)
async def create_rule(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Records a rule. It judges readings from `effective_from` on, stored ones too; by default from now."""
    rule = understood(body)
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        await require_room(connection)
        warnings = await check(connection, rule, body)
        rule_id = await rules.create_rule(connection, _kept(body), _moment(rule.effective_from_ms), principal.subject)
        row = await _require_rule(connection, rule_id)
    return _recorded(row, warnings, HTTPStatus.CREATED)


@router.get("", summary="List rules", responses=RULES_FOUND, response_class=Response)
async def list_rules(
    services: ServicesOfApp, principal: Reader, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Response:
    """The tenant's rules in the order of their ids, deleted ones left out."""
    cursors = Cursors(services.vault, "rules")
    after = "" if cursor is None else cursors.decode(principal.tenant_id, cursor, AfterRule).rule_id
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await rules.list_rules(connection, after, limit + 1)
    page = rows[:limit]
    following = cursors.encode(principal.tenant_id, AfterRule(page[-1].rule_id)) if len(rows) > limit else None
    content = msgspec.json.encode({"items": [shown(row) for row in page], "next": following})
    return Response(content, media_type=JSON)


@router.get("/{rule_id}", summary="Read a rule", responses=RULE_FOUND, response_class=Response)
async def read_rule(services: ServicesOfApp, principal: Reader, rule_id: RuleId) -> Response:
    """One rule, and how far judging stored readings by it has come (`progress`, 1.0 when all are judged)."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await _require_rule(connection, rule_id)
    return Response(msgspec.json.encode(shown(row)), media_type=JSON)


@router.patch(
    "/{rule_id}",
    summary="Change a rule",
    responses=RULE_CHANGED,
    response_class=Response,
    openapi_extra=_CHANGED_BODY,
)
async def change_rule(services: ServicesOfApp, principal: Writer, rule_id: RuleId, body: Body) -> Response:
    """Records the next version: it judges from `effective_from` on, by default from now. Nothing changed, nothing recorded."""
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        row = await _require_rule(connection, rule_id)
        document = _merged(row.document, body)
        rule = understood(document)
        warnings = await check(connection, rule, document)
        if _kept(document) != row.document or rule.effective_from_ms is not None:
            await _record(connection, principal, row, _kept(document), _moment(rule.effective_from_ms))
            row = await _require_rule(connection, rule_id)
    return _recorded(row, warnings, HTTPStatus.OK)


@router.delete("/{rule_id}", summary="Delete a rule", status_code=204, responses=RULE_DELETED, response_class=Response)
async def delete_rule(services: ServicesOfApp, principal: Writer, rule_id: RuleId) -> Response:
    """Judges no further readings by it; its open episodes resolve at this moment. What it found stays."""
    async with tenant_transaction(services.pool, principal.tenant_id, principal.subject) as connection:
        row = await _require_rule(connection, rule_id)
        await _record(connection, principal, row, None, None)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _require_rule(connection: Connection, rule_id: str) -> RuleRow:
    row = None if "\0" in rule_id else await rules.find_rule(connection, rule_id)
    if row is None:
        raise Problem.not_found(what="rule")
    return row


async def _record(
    connection: Connection,
    principal: Principal,
    row: RuleRow,
    document: Mapping[str, Any] | None,
    effective_from: datetime | None,
) -> None:
    if document is not None and row.version >= MAX_VERSIONS:
        detail = f"the rule has {MAX_VERSIONS} versions, the most kept; delete it and create it anew"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many_versions", detail)
    try:
        await rules.change_rule(connection, row, document, effective_from, principal.subject)
    except ChangedMeanwhile as exc:
        detail = "the rule was changed at the same time; read it and try again"
        raise Problem(HTTPStatus.CONFLICT, "changed_meanwhile", detail) from exc


def _merged(document: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """RFC 7396, one level deep: half a condition of one kind and half of another would be nobody's rule."""
    return {name: value for name, value in {**document, **body}.items() if value is not None}


def _kept(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without its moment, which is the version's own."""
    return {name: value for name, value in document.items() if name != "effective_from" and value is not None}


def _moment(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, UTC)


def shown(row: RuleRow) -> dict[str, object]:
    """A rule as the API shows it."""
    return {
        "rule_id": row.rule_id,
        "name": row.document["name"],
        "applies_to": row.document.get("applies_to", {"all": True}),
        "severity": row.document["severity"],
        "condition": row.document["condition"],
        "schedule": row.document.get("schedule"),
        "ladder": row.document.get("ladder"),
        "effective_from": _instant(row.effective_from),
        "version": row.version,
        "progress": row.progress,
        "created_at": _instant(row.created_at),
        "updated_at": _instant(row.recorded_at),
    }


def _instant(moment: datetime) -> str:
    return rfc3339.format_ms(int(moment.timestamp() * 1000))


def _recorded(row: RuleRow, warnings: list[str], status: HTTPStatus) -> Response:
    return Response(msgspec.json.encode({**shown(row), "warnings": warnings}), status, media_type=JSON)
