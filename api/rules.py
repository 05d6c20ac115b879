"""`/v1/rules`: rules as versioned data. A document that cannot be used is refused with where, what, expected and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from accounts import rules
from accounts.rules import RuleRow
from api.auth import Reader, Writer
from api.errors import Problem
from api.models import problems
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.sensors import ServicesOfApp
from core.postgres import Connection, tenant_transaction
from schemas import rfc3339
from schemas.rules import Attribute, Rule, RuleError, parse_rule

router = APIRouter(prefix="/v1/rules", tags=["rules"])

JSON: Final = "application/json"
MAX_RULES_PER_TENANT: Final = 10_000
_MAX_BODY_BYTES: Final = 65_536
RuleId = Annotated[str, Path(max_length=200, examples=["rul_4f6e0b7d2c"])]


class AfterRule(msgspec.Struct, array_like=True):
    """Where a page of rules begins: after this id."""

    rule_id: str


async def json_body(request: Request) -> Mapping[str, Any]:
    """The request's body as a JSON object.

    Raises:
        Problem: 422, it is none.
    """
    body = await request.body()
    if len(body) > _MAX_BODY_BYTES:
        raise Problem.invalid(parameter="body", detail=f"has {len(body)} bytes, at most {_MAX_BODY_BYTES} are read")
    try:
        document = msgspec.json.decode(body)
    except ValueError as exc:
        raise Problem.invalid(parameter="body", detail="is not valid JSON; send one object") from exc
    if not isinstance(document, dict):
        raise Problem.invalid(parameter="body", detail="is not a JSON object")
    return document


Body = Annotated[Mapping[str, Any], Depends(json_body)]


def understood(document: object) -> Rule:
    """The parsed rule.

    Raises:
        Problem: 422, with the part of the document that is wrong.
    """
    try:
        return parse_rule(document)
    except RuleError as exc:
        raise Problem.invalid(parameter=exc.path, detail=str(exc)) from exc


@router.post(
    "", summary="Create a rule", status_code=201, responses=problems(401, 403, 422, 429), response_class=Response
)
async def create_rule(services: ServicesOfApp, principal: Writer, body: Body) -> Response:
    """Record a rule; it judges readings from `effective_from` on, by default from now."""
    rule = understood(body)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        await _require_room(connection)
        await _require_target(connection, rule)
        rule_id = await rules.create_rule(
            connection, principal.tenant_id, _kept(body), _moment(rule.effective_from_ms), principal.subject
        )
        row = await rules.find_rule(connection, rule_id)
    assert row is not None  # noqa: S101 - created in the same transaction
    return _answer(row, HTTPStatus.CREATED)


@router.get("", summary="List rules", responses=problems(401, 403, 422, 429), response_class=Response)
async def list_rules(
    services: ServicesOfApp, principal: Reader, cursor: Cursor = None, limit: Limit = DEFAULT_LIMIT
) -> Response:
    """The tenant's rules, deleted ones left out."""
    cursors = Cursors(services.vault, "rules")
    after = "" if cursor is None else cursors.decode(principal.tenant_id, cursor, AfterRule).rule_id
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await rules.list_rules(connection, after, limit + 1)
    page = rows[:limit]
    following = cursors.encode(principal.tenant_id, AfterRule(page[-1].rule_id)) if len(rows) > limit else None
    content = msgspec.json.encode({"items": [shown(row) for row in page], "next": following})
    return Response(content, media_type=JSON)


@router.get("/{rule_id}", summary="Read a rule", responses=problems(401, 403, 404, 429), response_class=Response)
async def read_rule(services: ServicesOfApp, principal: Reader, rule_id: RuleId) -> Response:
    """One rule and how far judging stored readings by it has come."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        return _answer(await _require_rule(connection, rule_id))


@router.patch(
    "/{rule_id}", summary="Change a rule", responses=problems(401, 403, 404, 422, 429), response_class=Response
)
async def change_rule(services: ServicesOfApp, principal: Writer, rule_id: RuleId, body: Body) -> Response:
    """Record the next version: the fields given replace those of the last one, from `effective_from` on, by default now."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await _require_rule(connection, rule_id)
        document = {**(row.document or {}), **body}
        rule = understood(document)
        await _require_target(connection, rule)
        await rules.change_rule(
            connection,
            principal.tenant_id,
            row,
            _kept(document),
            _moment(rule.effective_from_ms),
            principal.subject,
        )
        return _answer(await _require_rule(connection, rule_id))


@router.delete("/{rule_id}", summary="Delete a rule", status_code=204, responses=problems(401, 403, 404, 429))
async def delete_rule(services: ServicesOfApp, principal: Writer, rule_id: RuleId) -> Response:
    """Judge no further readings by it; its open episodes resolve at this moment."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        row = await _require_rule(connection, rule_id)
        await rules.change_rule(connection, principal.tenant_id, row, None, None, principal.subject)
    return Response(status_code=HTTPStatus.NO_CONTENT)


async def _require_rule(connection: Connection, rule_id: str) -> RuleRow:
    row = await rules.find_rule(connection, rule_id)
    if row is None:
        raise Problem.not_found(what="rule")
    return row


async def _require_room(connection: Connection) -> None:
    if await rules.count_rules(connection) >= MAX_RULES_PER_TENANT:
        detail = f"the tenant has {MAX_RULES_PER_TENANT} rules, the most allowed; let one rule apply to several sensors"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many_rules", detail)


async def _require_target(connection: Connection, rule: Rule) -> None:
    """A rule for a sensor that is not there would never judge anything: say so now."""
    target = rule.applies_to
    if target.kind == "sensor_id":
        cursor = await connection.execute("SELECT 1 FROM weir.sensor WHERE sensor_id = %s", (target.value,))
        if await cursor.fetchone() is None:
            detail = f"applies_to.sensor_id: there is no sensor {target.value}; /v1/sensors lists them"
            raise Problem.invalid(parameter="applies_to.sensor_id", detail=detail)
    attribute = next(iter(_attributes(rule)), None)
    if attribute is not None:
        detail = (
            f"attribute {attribute.name} of the {attribute.of} is not set for any sensor of this rule; set it first"
        )
        raise Problem.invalid(parameter="condition", detail=detail)


def _attributes(rule: Rule) -> list[Attribute]:
    found: list[Attribute] = []
    pending: list[object] = [rule.condition]
    while pending:
        condition = pending.pop()
        pending.extend(getattr(condition, "members", ()))
        for bound in (getattr(condition, "bound", None), getattr(getattr(condition, "clear", None), "bound", None)):
            if bound is not None and isinstance(bound.number, Attribute):
                found.append(bound.number)
    return found


def _kept(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document without its moment, which is the version's own."""
    return {name: value for name, value in document.items() if name != "effective_from"}


def _moment(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, UTC)


def shown(row: RuleRow) -> dict[str, object]:
    """A rule as the API shows it."""
    document = dict(row.document or {})
    return {
        "rule_id": row.rule_id,
        "name": document.get("name"),
        "applies_to": document.get("applies_to", {"all": True}),
        "severity": document.get("severity"),
        "condition": document.get("condition"),
        "schedule": document.get("schedule"),
        "effective_from": rfc3339.format_ms(round(row.effective_from.timestamp() * 1000)),
        "version": row.version,
        "progress": row.progress,
        "created_at": rfc3339.format_ms(int(row.created_at.timestamp() * 1000)),
        "updated_at": rfc3339.format_ms(int(row.recorded_at.timestamp() * 1000)),
    }


def _answer(row: RuleRow, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(msgspec.json.encode(shown(row)), status, media_type=JSON)
