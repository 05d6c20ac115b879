"""`/livez` and `/readyz`: is this process alive, and is the system of which it is a part in working order.

Liveness asks nothing of anyone: a database that is away is no reason to kill the API. Readiness asks for the database, its
schema, and the stream: every partition of `readings` held by a worker that reports, and not too far behind. Sentences name
no host and no tenant; the log has the details.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
import psycopg
import structlog
from fastapi import APIRouter, Depends
from starlette.responses import Response

from api.health_models import LIVENESS_RESPONSES, METRICS_RESPONSES, READINESS_RESPONSES
from api.metrics import CONTENT_TYPE, StreamState, lags_of, read_stream_state
from api.services import Services, services_of
from core.postgres import Pool, explain_connection_error, is_transient
from schemas.errors import Misconfigured
from sinks.timescale import operations
from sinks.timescale.schema_version import require_schema

log = structlog.get_logger()

FRESH_S: Final = 10.0
"""A worker that has not reported for longer holds nothing."""

STEADY_S: Final = 15.0
"""After a failure a worker counts once it has run for so long: one that keeps failing is not ready in between."""

RECENT_S: Final = 120.0
"""A failure that lies further back has nothing to do with a worker that starts now."""

_CACHE_S: Final = 0.5
_STATE_CACHE_S: Final = 2.0
_CHECK_TIMEOUT_S: Final = 4.0
_OK, _UNAVAILABLE = 200, 503

router = APIRouter(tags=["operations"])


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and a sentence about it."""

    name: str
    ok: bool
    detail: str


class Readiness:
    """Looks at the system, at most twice a second however many ask.

    Args:
        pool: under the reader role.
        url: of the same database, to find out why the pool waits in vain.
        topic: the broker's name of the readings topic.
        max_lag: records that a partition may be behind.
        monotonic_s: a clock that never goes back.
    """

    def __init__(self, pool: Pool, url: str, topic: str, max_lag: int, monotonic_s: Callable[[], float]) -> None:
        self._pool = pool
        self._url = url
        self._topic = topic
        self._max_lag = max_lag
        self._now = monotonic_s
        self._lock = asyncio.Lock()
        self._checks: tuple[float, list[Check]] | None = None
        self._state: tuple[float, StreamState | None] | None = None

    async def checks(self) -> list[Check]:
        """Every check, never an exception that passes by itself."""
        async with self._lock:
            if self._checks is None or self._now() >= self._checks[0]:
                found = await self._look()
                self._checks = (self._now() + _CACHE_S, found)
            return self._checks[1]

    async def stream_state(self) -> StreamState | None:
        """For /metrics; None while the database does not answer as it should."""
        async with self._lock:
            if self._state is None or self._now() >= self._state[0]:
                found = await self._read_state()
                self._state = (self._now() + _STATE_CACHE_S, found)
            return self._state[1]

    async def _read_state(self) -> StreamState | None:
        try:
            return await asyncio.wait_for(read_stream_state(self._pool), _CHECK_TIMEOUT_S)
        except (psycopg.Error, OSError, TimeoutError) as error:
            log.warning("metrics.database_unread", error=type(error).__name__)
            return None

    async def _look(self) -> list[Check]:
        try:
            return await asyncio.wait_for(self._look_at_database(), _CHECK_TIMEOUT_S)
        except (psycopg.Error, OSError, TimeoutError) as error:
            if not is_transient(error):
                log.exception("readiness.failed")
            return [Check("database", False, await self._why_away(error)), *_unknown("the database does not answer")]

    async def _look_at_database(self) -> list[Check]:
        async with self._pool.connection() as connection:
            try:
                await require_schema(connection)
            except Misconfigured as error:
                return [_ANSWERS, Check("migrations", False, str(error)), *_unknown_stream("the schema is another")]
            heartbeats = await operations.heartbeats(connection)
            positions = await operations.positions(connection)
        known = {position.partition for position in positions if position.topic == self._topic}
        schema = Check("migrations", True, "the schema is the one this program was written for")
        return [
            _ANSWERS,
            schema,
            assignment_check(heartbeats, self._topic, known),
            lag_check(alive_workers(heartbeats), self._topic, self._max_lag),
        ]

    async def _why_away(self, error: BaseException) -> str:
        """Ask once without the pool, which only says that it waited in vain."""
        try:
            connection = await psycopg.AsyncConnection.connect(self._url, connect_timeout=2)
            await connection.close()
        except psycopg.Error as cause:
            error = cause
        log.warning("readiness.database_away", problem=explain_connection_error(error, self._url))
        return _in_words(error)


_ANSWERS = Check("database", True, "the database answers")


def _in_words(error: BaseException) -> str:
    """The kind of trouble, without the server's address or login: anybody may read this."""
    text = str(error)
    if "password authentication failed" in text or "no password supplied" in text:
        return "the database refuses the login; correct WEIR_DATABASE_URL"
    if "does not exist" in text:
        return "the database or its roles do not exist; correct WEIR_DATABASE_URL or run `weir migrate`"
    return "the database cannot be reached; start it or correct WEIR_DATABASE_URL"


def _unknown(why: str) -> list[Check]:
    return [Check("migrations", False, f"unknown: {why}"), *_unknown_stream(why)]


def _unknown_stream(why: str) -> list[Check]:
    return [Check("partitions", False, f"unknown: {why}"), Check("lag", False, f"unknown: {why}")]


def alive_workers(heartbeats: Sequence[operations.Heartbeat]) -> list[operations.Heartbeat]:
    """Workers that reported lately and have not ended."""
    return [beat for beat in heartbeats if beat.age_s <= FRESH_S and not beat.ended]


def steady_workers(heartbeats: Sequence[operations.Heartbeat]) -> list[operations.Heartbeat]:
    """Of these the ones that count: when any worker has failed lately, only those that have run for a while.

    A record that ends one worker ends the next one that gets its partition, so the failure may be another worker's.
    """
    alive = alive_workers(heartbeats)
    failed_s = [_failed_s(beat) for beat in heartbeats]
    if min(failed_s, default=math.inf) > RECENT_S:
        return alive
    return [beat for beat in alive if beat.up_s >= STEADY_S]


def _failed_s(beat: operations.Heartbeat) -> float:
    """Since a worker failed: as it said or as its next life found, or since it fell silent without a word."""
    silent_s = beat.age_s if beat.age_s > FRESH_S and not beat.ended else math.inf
    return min(silent_s, math.inf if beat.failed_s is None else beat.failed_s)


def assignment_check(heartbeats: Sequence[operations.Heartbeat], topic: str, known: set[int]) -> Check:
    """Whether workers hold every partition.

    Args:
        heartbeats: of all workers.
        topic: the broker's name.
        known: partitions that have a position; a worker makes one for each it is given.
    """
    alive, steady = alive_workers(heartbeats), steady_workers(heartbeats)
    held = {each.partition for beat in steady for each in beat.partitions if each.topic == topic}
    missing = sorted(known - held)
    if not alive:
        return Check("partitions", False, f"no worker has reported for {FRESH_S:.0f} s; start `weir worker`")
    if held and not missing:
        return Check("partitions", True, f"all partitions are held: {len(held)} by {len(steady)} worker(s)")
    if len(steady) < len(alive):
        return Check("partitions", False, _UNSTEADY)
    if missing:
        return Check("partitions", False, f"partitions {', '.join(map(str, missing))} of {topic} are held by no worker")
    return Check("partitions", False, "workers are there, but none holds a partition yet")


_UNSTEADY = (
    f"a worker failed lately, and the ones that began since count once they have run for {STEADY_S:.0f} s;"
    " if they keep failing, their log says why"
)


def lag_check(fresh: list[operations.Heartbeat], topic: str, max_lag: int) -> Check:
    """Whether no partition is too far behind the end of its log."""
    lags = {partition: lag for (name, partition), lag in lags_of(fresh).items() if name == topic}
    if not lags:
        return Check("lag", False, "unknown: no worker reports a partition's end")
    worst = max(lags, key=lags.__getitem__)
    sentence = f"partition {worst} is {lags[worst]} records behind, at most {max_lag} are fine"
    return Check("lag", lags[worst] <= max_lag, sentence)


ServicesOfApp = Annotated[Services, Depends(services_of)]


@router.get("/livez", summary="Is this process alive", responses=LIVENESS_RESPONSES, response_class=Response)
async def livez() -> Response:
    """Answers as long as the process can; asks neither database nor broker."""
    return Response(b'{"status":"alive"}', media_type="application/json")


@router.get("/readyz", summary="Is the system ready", responses=READINESS_RESPONSES, response_class=Response)
async def readyz(services: ServicesOfApp) -> Response:
    """Every check with a sentence; 503 if any fails."""
    checks = await services.readiness.checks()
    ready = all(check.ok for check in checks)
    body = {"status": "ready" if ready else "not ready", "checks": checks}
    return Response(msgspec.json.encode(body), _OK if ready else _UNAVAILABLE, media_type="application/json")


@router.get("/metrics", summary="Metrics for Prometheus", responses=METRICS_RESPONSES, response_class=Response)
async def metrics(services: ServicesOfApp) -> Response:
    """This process, the workers, positions, lag, refusals and alarms; nothing of any tenant."""
    text = services.metrics.expose(await services.readiness.stream_state())
    return Response(text, media_type=CONTENT_TYPE)
