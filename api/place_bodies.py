"""What the endpoints of sites, units, devices and sensors share: bodies checked, moments, refusals in the same words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Final, TypeVar

import msgspec
import psycopg
from fastapi import Query
from starlette.responses import Response

from accounts import place_fields
from accounts.place_fields import FieldError
from accounts.place_states import Doing, Patience
from accounts.places import ChangedMeanwhile, TooMany, take_turn
from api.bodies import Body
from api.errors import Problem
from api.pagination import Cursors, continued
from api.services import Services
from core.clock import Clock
from core.postgres import Connection, tenant_transaction
from processors.gaps import DEFAULT_INTERVAL_MS, GAP_INTERVALS
from schemas import rfc3339

MAX_SITES: Final = 10_000
MAX_UNITS: Final = 100_000
MAX_DEVICES: Final = 100_000

Archived = Annotated[bool, Query(description="list archived ones too")]

T = TypeVar("T")


class After(msgspec.Struct, array_like=True):
    """Which things are listed and where a page begins: after this id."""

    query: list[str | None]
    after: str


@dataclass(frozen=True, slots=True)
class Paging:
    """One page of a list in the order of ids.

    Attributes:
        query: what the list is narrowed to.
        after: the id before the page; empty at first.
        limit: most items on the page; ask for one more, to know whether there is a next one.
    """

    cursors: Cursors
    tenant_id: str
    query: list[str | None]
    after: str
    limit: int

    @classmethod
    def begin(cls, cursors: Cursors, tenant_id: str, query: list[str | None], cursor: str | None, limit: int) -> Paging:
        """The page that a request asks for: a cursor continues its own query, which may be repeated or left out.

        Raises:
            Problem: 422, the cursor is another list's or query's, or an id has a NUL character.
        """
        if any(value is not None and "\0" in value for value in query):
            raise Problem.invalid(parameter="query", detail="a parameter has a NUL character, which no id has")
        if cursor is None:
            return cls(cursors, tenant_id, query, "", limit)
        known = cursors.decode(tenant_id, cursor, After)
        return cls(cursors, tenant_id, continued(known.query, query), known.after, limit)

    def following(self, ids: Sequence[str]) -> str | None:
        """The cursor of the next page; None if the ids, of one more than fits, end here."""
        if len(ids) <= self.limit:
            return None
        return self.cursors.encode(self.tenant_id, After(self.query, ids[self.limit - 1]))


def checked(check: Callable[[], T]) -> T:
    """What a check of fields gives.

    Raises:
        Problem: 422, the field that cannot be used.
    """
    try:
        return check()
    except FieldError as exc:
        raise Problem.invalid(parameter=exc.path, detail=str(exc)) from exc


def moment(body: Body, clock: Clock) -> datetime | None:
    """`effective_from` of a body; None for now.

    Raises:
        Problem: 422.
    """
    return checked(lambda: place_fields.effective_from(body.get("effective_from"), "effective_from", clock.now_ms()))


def require_seen(body: Body, revision: int) -> None:
    """Whoever sends the `revision` that they have read changes no other one.

    Raises:
        Problem: 409, or 422 if it is none.
    """
    seen = body.get("revision")
    if seen is not None and checked(lambda: place_fields.revision(seen, "revision")) != revision:
        raise _changed_meanwhile(why=f"its revision is {revision}")


def _changed_meanwhile(why: str) -> Problem:
    return Problem(HTTPStatus.CONFLICT, "changed_meanwhile", f"it was changed meanwhile, {why}; read it and try again")


def is_archived(what: str) -> Problem:
    """Nothing new is put where nobody looks."""
    detail = f"the {what} is archived; bring it back first (PATCH, archived: false) or choose another"
    return Problem(HTTPStatus.CONFLICT, "archived", detail)


@asynccontextmanager
async def changing(services: Services, tenant_id: str, subject: str) -> AsyncIterator[Connection]:
    """A transaction that records changes, one at a time for a tenant; what the database refuses is told as a problem.

    Raises:
        Problem: 404, 409 or 422.
    """
    with _told():
        async with tenant_transaction(services.pool, tenant_id, subject) as connection:
            await take_turn(connection)
            yield connection


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ChangedMeanwhile as exc:
        raise _changed_meanwhile(why="by somebody who was faster") from exc
    except TooMany as exc:
        detail = f"there are {exc.most} {exc.what}, the most allowed; archive some, or change less often"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "too_many", detail) from exc
    except psycopg.errors.ForeignKeyViolation as exc:  # it was looked for before, so it went meanwhile
        raise Problem.not_found(what="site") from exc


def patience(clock: Clock) -> Patience:
    """When sensors count as silent now, as `/v1/sensors` tells it."""
    return Patience(datetime.fromtimestamp(clock.now_ms() / 1_000, UTC), GAP_INTERVALS, DEFAULT_INTERVAL_MS)


def instant(at: datetime | None) -> str | None:
    """A time as the API shows it."""
    return None if at is None else rfc3339.format_ms(int(at.timestamp() * 1_000))


def shown_doing(doing: Doing) -> dict[str, object]:
    """How sensors are doing, as the API shows it."""
    return {
        "state": doing.state,
        "sensors": doing.sensors,
        "silent": doing.silent,
        "alerts": doing.alerts,
        "unacknowledged": doing.unacknowledged,
        "severity": doing.severity,
        "last_at": instant(doing.last_at),
    }


def answer(content: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
