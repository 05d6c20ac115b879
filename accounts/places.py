"""Sites and units as a tenant's people handle them: what they are now, and since when.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant. What is recorded here makes
workers judge stored readings again (`weir.place_work`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, LiteralString, TypeVar

from psycopg.types.json import Jsonb

from accounts.place_fields import Site, Unit
from accounts.provisioning import new_id
from core.postgres import Connection

MAX_VERSIONS: Final = 1_000
"""The most versions of one site, unit or assignment: every worker holds them."""


class ChangedMeanwhile(Exception):
    """Somebody else recorded the next revision first."""


class TooMany(Exception):
    """There is no room for one more.

    Args:
        what: of these.
        most: that there may be.
    """

    def __init__(self, what: str, most: int) -> None:
        super().__init__(f"{most} {what}")
        self.what = what
        self.most = most


S = TypeVar("S", Site, Unit)


@dataclass(frozen=True, slots=True)
class PlaceRow(Generic[S]):
    """A site or unit as it is now.

    Attributes:
        place_id: its id.
        held: what people say of it.
    """

    place_id: str
    held: S
    revision: int
    created_at: datetime
    updated_at: datetime
    archived_at: datetime | None


SiteRow = PlaceRow[Site]
UnitRow = PlaceRow[Unit]


@dataclass(frozen=True, slots=True)
class UnitFilter:
    """What a list of units is narrowed to; None: not at all."""

    site_id: str | None = None
    kind: str | None = None
    archived: bool = False


async def take_turn(connection: Connection) -> None:
    """Wait for other changes of the tenant's places and devices: what is read from here on stays so until the commit.

    They touch each other's rows (a unit that moves, sensors that come into it) and would lock them in any order.
    """
    await connection.execute("SELECT FROM weir.tenant WHERE tenant_id = weir.current_tenant() FOR NO KEY UPDATE")


_SITE: Final = (
    "SELECT site_id, name, timezone, attributes, revision, created_at, updated_at, archived_at FROM weir.site WHERE "
)
_UNIT: Final = (
    "SELECT unit_id, name, kind, site_id, attributes, revision, created_at, updated_at, archived_at"
    " FROM weir.unit WHERE "
)


async def list_sites(connection: Connection, after: str, limit: int, *, archived: bool) -> list[SiteRow]:
    """Sites in the order of their ids; archived ones only if wanted."""
    cursor = await connection.execute(
        f"{_SITE} site_id > %s AND (archived_at IS NULL OR %s) ORDER BY site_id LIMIT %s", (after, archived, limit)
    )
    return [_site(row) for row in await cursor.fetchall()]


async def find_site(connection: Connection, site_id: str) -> SiteRow | None:
    """One site of the tenant, archived or not."""
    cursor = await connection.execute(f"{_SITE} site_id = %s", (site_id,))
    row = await cursor.fetchone()
    return None if row is None else _site(row)


def _site(row: tuple[Any, ...]) -> SiteRow:
    site_id, name, timezone, attributes, *rest = row
    return PlaceRow(site_id, Site(name, timezone, attributes, archived=rest[-1] is not None), *rest)


async def list_units(connection: Connection, wanted: UnitFilter, after: str, limit: int) -> list[UnitRow]:
    """Units in the order of their ids."""
    conditions: list[LiteralString] = ["unit_id > %(after)s"]
    conditions += ["site_id = %(site_id)s"] if wanted.site_id is not None else []
    conditions += ["kind = %(kind)s"] if wanted.kind is not None else []
    conditions += [] if wanted.archived else ["archived_at IS NULL"]
    parameters = {"after": after, "limit": limit, "site_id": wanted.site_id, "kind": wanted.kind}
    statement: LiteralString = _UNIT + " AND ".join(conditions) + " ORDER BY unit_id LIMIT %(limit)s"
    return [_unit(row) for row in await (await connection.execute(statement, parameters)).fetchall()]


async def find_unit(connection: Connection, unit_id: str) -> UnitRow | None:
    """One unit of the tenant, archived or not."""
    cursor = await connection.execute(f"{_UNIT} unit_id = %s", (unit_id,))
    row = await cursor.fetchone()
    return None if row is None else _unit(row)


def _unit(row: tuple[Any, ...]) -> UnitRow:
    unit_id, name, kind, site_id, attributes, *rest = row
    return PlaceRow(unit_id, Unit(name, kind, site_id, attributes, archived=rest[-1] is not None), *rest)


async def create_site(connection: Connection, site: Site) -> str:
    """Record a site; it has always been so."""
    site_id = new_id("sit")
    await record_site(connection, site_id, 1, site)
    return site_id


async def change_site(connection: Connection, row: SiteRow, site: Site, effective_from: datetime | None) -> None:
    """Record the next revision of a site.

    Args:
        connection: in a transaction of the tenant.
        row: the site as it was read.
        site: as it is to be.
        effective_from: since when its time zone and attributes are so; None: now.

    Raises:
        ChangedMeanwhile: `row` is not the newest revision any more.
        TooMany: it has had too many versions.
    """
    await require_versions_left(connection, "SELECT count(*) FROM weir.site_version WHERE site_id = %s", row.place_id)
    if not await record_site(connection, row.place_id, row.revision + 1, site, effective_from):
        raise ChangedMeanwhile(row.place_id)


async def record_site(
    connection: Connection, site_id: str, revision: int, site: Site, effective_from: datetime | None = None
) -> bool:
    """Record this revision of a site; False if it is not the next one. Revision 1 makes it, and has always been so."""
    held = (site.name, site.timezone, Jsonb(site.attributes), site.archived, effective_from)
    statement: LiteralString = "SELECT weir.record_site(%s, %s, %s, %s, %s, %s, %s) IS NOT NULL"
    return await _is_recorded(connection, statement, site_id, revision, *held)


async def create_unit(connection: Connection, unit: Unit) -> str:
    """Record a unit; it has always been so."""
    unit_id = new_id("uni")
    await record_unit(connection, unit_id, 1, unit)
    return unit_id


async def change_unit(connection: Connection, row: UnitRow, unit: Unit, effective_from: datetime | None) -> None:
    """Record the next revision of a unit; to another site its sensors come along.

    Args:
        connection: in a transaction of the tenant.
        row: the unit as it was read.
        unit: as it is to be.
        effective_from: since when its site, kind and attributes are so; None: now.

    Raises:
        ChangedMeanwhile: `row` is not the newest revision any more.
        TooMany: it has had too many versions.
    """
    await require_versions_left(connection, "SELECT count(*) FROM weir.unit_version WHERE unit_id = %s", row.place_id)
    if not await record_unit(connection, row.place_id, row.revision + 1, unit, effective_from):
        raise ChangedMeanwhile(row.place_id)


async def record_unit(
    connection: Connection, unit_id: str, revision: int, unit: Unit, effective_from: datetime | None = None
) -> bool:
    """Record this revision of a unit; False if it is not the next one. Revision 1 makes it, and has always been so."""
    held = (unit.name, unit.kind, unit.site_id, Jsonb(unit.attributes), unit.archived, effective_from)
    statement: LiteralString = "SELECT weir.record_unit(%s, %s, %s, %s, %s, %s, %s, %s) IS NOT NULL"
    return await _is_recorded(connection, statement, unit_id, revision, *held)


async def require_versions_left(connection: Connection, statement: LiteralString, key: str) -> None:
    """A thing's versions are bounded; the statement counts those of the key.

    Raises:
        TooMany: there are `MAX_VERSIONS`.
    """
    row = await (await connection.execute(statement, (key,))).fetchone()
    if row is not None and row[0] >= MAX_VERSIONS:
        raise TooMany(what="versions", most=MAX_VERSIONS)


async def _is_recorded(connection: Connection, statement: LiteralString, *parameters: object) -> bool:
    row = await (await connection.execute(statement, parameters)).fetchone()
    return row is not None and bool(row[0])


async def require_room_for(connection: Connection, table: str, what: str, most: int) -> None:
    """A tenant's things are bounded.

    Raises:
        TooMany: it has `most` of them that are not archived.
    """
    counts: dict[str, LiteralString] = {
        "site": "SELECT count(*) FROM weir.site WHERE archived_at IS NULL",
        "unit": "SELECT count(*) FROM weir.unit WHERE archived_at IS NULL",
        "device": "SELECT count(*) FROM weir.device WHERE revoked_at IS NULL",
    }
    row = await (await connection.execute(counts[table])).fetchone()
    if row is not None and row[0] >= most:
        raise TooMany(what, most)
