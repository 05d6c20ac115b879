"""What the endpoints of sites and of units do alike: find, list, change, archive and show a place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Generic

from starlette.responses import Response

from accounts.place_states import Doing, Place, doing
from accounts.places import PlaceRow, S
from api import place_bodies
from api.auth import Principal
from api.bodies import Body, require_known
from api.errors import Problem
from api.place_bodies import Paging, changing, checked, instant, moment, patience, require_seen
from api.services import Services
from core.postgres import Connection, tenant_transaction

Check = Callable[[Connection, S, S], Awaitable[None]]
"""Refuses a change of a place into another that it may not become."""


async def anything(_connection: Connection, _before: S, _after: S) -> None:
    """Refuses nothing."""


@dataclass(frozen=True, slots=True)
class PlaceKind(Generic[S]):
    """Sites, or units.

    Args:
        what: one of them, in problems.
        place: what sensors are grouped by.
        fields: that a body may have.
        find: one of the transaction's tenant.
        changed: what a body makes of one.
        record: its next revision.
        shown: what people say of one, as the API shows it.
    """

    what: str
    place: Place
    fields: tuple[str, ...]
    find: Callable[[Connection, str], Awaitable[PlaceRow[S] | None]]
    changed: Callable[[S, Mapping[str, Any]], S]
    record: Callable[[Connection, PlaceRow[S], S, datetime | None], Awaitable[None]]
    shown: Callable[[S], dict[str, object]]

    async def require(self, connection: Connection, place_id: str) -> PlaceRow[S]:
        """A place of the transaction's tenant.

        Raises:
            Problem: 404.
        """
        row = None if "\0" in place_id else await self.find(connection, place_id)
        if row is None:
            raise Problem.not_found(what=self.what)
        return row

    async def read(self, services: Services, principal: Principal, place_id: str) -> Response:
        """One place, archived or not."""
        async with tenant_transaction(services.pool, principal.tenant_id) as connection:
            return await self.answer(services, connection, await self.require(connection, place_id))

    async def page(
        self, services: Services, connection: Connection, rows: Sequence[PlaceRow[S]], page: Paging
    ) -> Response:
        """Places in the order of their ids, of one more than fits."""
        ids = [row.place_id for row in rows]
        states = await doing(connection, self.place, ids[: page.limit], patience(services.clock))
        items = [self._item(row, states.get(row.place_id, Doing())) for row in rows[: page.limit]]
        return place_bodies.answer({"items": items, "next": page.following(ids)})

    async def change(
        self, services: Services, principal: Principal, place_id: str, body: Body, check: Check[S]
    ) -> Response:
        """Record what a body changes; nothing changed, nothing recorded."""
        require_known(body, *self.fields, "archived", "effective_from", "revision")
        effective_from = moment(body, services.clock)
        async with changing(services, principal.tenant_id, principal.subject) as connection:
            row = await self.require(connection, place_id)
            require_seen(body, row.revision)
            after = checked(lambda: self.changed(row.held, body))
            await check(connection, row.held, after)
            if after != row.held or effective_from is not None:
                await self.record(connection, row, after, effective_from)
                row = await self.require(connection, place_id)
            return await self.answer(services, connection, row)

    async def archive(self, services: Services, principal: Principal, place_id: str) -> Response:
        """Take it out of the lists."""
        async with changing(services, principal.tenant_id, principal.subject) as connection:
            row = await self.require(connection, place_id)
            if row.archived_at is None:
                await self.record(connection, row, self.changed(row.held, {"archived": True}), None)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def answer(
        self, services: Services, connection: Connection, row: PlaceRow[S], status: HTTPStatus = HTTPStatus.OK
    ) -> Response:
        """A place, with how its sensors are doing."""
        states = await doing(connection, self.place, [row.place_id], patience(services.clock))
        return place_bodies.answer(self._item(row, states.get(row.place_id, Doing())), status)

    def _item(self, row: PlaceRow[S], state: Doing) -> dict[str, object]:
        return {
            self.place.value: row.place_id,
            **self.shown(row.held),
            **place_bodies.shown_doing(state),
            "revision": row.revision,
            "created_at": instant(row.created_at),
            "updated_at": instant(row.updated_at),
            "archived_at": instant(row.archived_at),
        }
