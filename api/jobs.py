"""`/v1/jobs`: what is worked on for the tenant in the background; the live channel `jobs` tells every change at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from accounts import jobs
from accounts.jobs import KINDS, STATUSES
from api import place_bodies
from api.auth import Principal, Require, ServicesOfApp
from api.errors import Problem
from api.fields import require_one_of
from api.models import NEXT_EXAMPLE, Model, Responses, answer, problems
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit, continued
from core.postgres import tenant_transaction

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Reader = Annotated[Principal, Depends(Require("jobs:read"))]
JobId = Annotated[
    str, Path(max_length=200, description="as `/v1/jobs` lists it", examples=["job_0b7e3f5a8c1d4e6f9a2b3c4d5e6f7081"])
]
Status = Annotated[str | None, Query(description=f"one of {', '.join(STATUSES)}", examples=["running"])]
Kind = Annotated[str | None, Query(description=f"one of {', '.join(KINDS)}", examples=["rule_evaluation"])]


class Job(Model):
    """One piece of background work, about one rule, sensor, unit, site or scan."""

    job_id: str
    tenant_id: str
    kind: Literal["rule_evaluation", "place_evaluation", "scan_processing"] = Field(
        description="rule_evaluation: a rule's version judges stored readings; place_evaluation: readings are judged again"
        " because a sensor, unit or site changed; scan_processing: a scan that has ended is measured, its files are made"
    )
    rule_id: str | None = None
    scan_id: str | None = None
    sensor_id: str | None = None
    unit_id: str | None = None
    site_id: str | None = None
    name: str = Field(description="of what it is about, when the job began")
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: int = Field(ge=0, le=100, description="percent")
    attempts: int = Field(description="how often it was begun")
    created_at: str
    started_at: str | None = Field(None, description="of the first attempt")
    finished_at: str | None = None
    error: str | None = Field(None, description="why it failed")


class JobPage(Model):
    """Jobs, newest first."""

    items: list[Job]
    next: str | None


# FastAPI drops nulls from examples.
_RUNNING: Final = {
    "job_id": "job_0b7e3f5a8c1d4e6f9a2b3c4d5e6f7081",
    "tenant_id": "ten_2f9c4b1a",
    "kind": "rule_evaluation",
    "rule_id": "rul_8d1f0c",
    "name": "fridge too warm",
    "status": "running",
    "progress": 42,
    "attempts": 1,
    "created_at": "2026-11-22T20:00:00.000Z",
    "started_at": "2026-11-22T20:00:00.300Z",
}
_READ: Final = problems(401, 403, 422, 429, 503)
_FOUND: Final[Responses] = {
    200: answer(JobPage, "A page of jobs.", page={"items": [_RUNNING], "next": NEXT_EXAMPLE}),
    **_READ,
}
_FOUND_ONE: Final[Responses] = {200: answer(Job, "The job.", job=_RUNNING), **_READ, **problems(404)}


class BeforeJob(msgspec.Struct, array_like=True):
    """Which jobs are listed and where a page begins: before this time and number."""

    query: list[str | None]
    created_us: int
    job_no: int


@router.get("", summary="List jobs", responses=_FOUND, response_class=Response)
async def list_jobs(
    services: ServicesOfApp,
    principal: Reader,
    status: Status = None,
    kind: Kind = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Background work of the last 30 days, and what is unfinished."""
    require_one_of("status", status, STATUSES)
    require_one_of("kind", kind, KINDS)
    query, before = [status, kind], None
    cursors = Cursors(services.vault, "jobs")
    if cursor is not None:
        state = cursors.decode(principal.tenant_id, cursor, BeforeJob)
        query = continued(state.query, query)
        before = (datetime.fromtimestamp(state.created_us / 1_000_000, UTC), state.job_no)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        rows = await jobs.list_jobs(connection, query[0], query[1], before, limit + 1)
    following = None
    if len(rows) > limit:
        created_at, number = rows[limit - 1][0]
        state = BeforeJob(query, round(created_at.timestamp() * 1_000_000), number)
        following = cursors.encode(principal.tenant_id, state)
    return place_bodies.answer({"items": [document for _, document in rows[:limit]], "next": following})


@router.get("/{job_id}", summary="Read a job", responses=_FOUND_ONE, response_class=Response)
async def read_job(services: ServicesOfApp, principal: Reader, job_id: JobId) -> Response:
    """One job, how far it is and what came of it."""
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        document = None if "\0" in job_id else await jobs.find_job(connection, job_id)
    if document is None:
        raise Problem.not_found(what="job")
    return place_bodies.answer(document)
