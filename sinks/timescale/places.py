"""Where sensors were when, and what units and sites held then: the versions as they are stored.

Border: rows in, rows out; `processors.rules.places` makes timelines of them. Serves workers and, within its tenant, the API.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import numpy as np

from core.postgres import Connection
from sinks.timescale import binary

_ASSIGNMENTS: Final = (
    "SELECT sensor_no, (extract(epoch FROM effective_from) * 1000)::bigint, unit_id, site_id FROM weir.sensor_assignment"
    " WHERE sensor_no = ANY (%s) ORDER BY sensor_no, effective_from"
)
_UNIT_VERSIONS: Final = (
    "SELECT unit_id, (extract(epoch FROM effective_from) * 1000)::bigint, kind, attributes FROM weir.unit_version"
    " WHERE unit_id = ANY (%s) ORDER BY unit_id, effective_from"
)
_SITE_VERSIONS: Final = (
    "SELECT site_id, (extract(epoch FROM effective_from) * 1000)::bigint, timezone, attributes FROM weir.site_version"
    " WHERE site_id = ANY (%s) ORDER BY site_id, effective_from"
)


@dataclass(frozen=True, slots=True)
class PlaceRows:
    """Versions by `effective_from` in epoch milliseconds, ascending.

    Args:
        assignments: per sensor number, (from, unit_id, site_id).
        units: per unit, (from, kind, attributes).
        sites: per site, (from, timezone, attributes).
    """

    assignments: Mapping[int, Sequence[tuple[int, str | None, str | None]]]
    units: Mapping[str, Sequence[tuple[int, str, Mapping[str, Any]]]]
    sites: Mapping[str, Sequence[tuple[int, str, Mapping[str, Any]]]]


async def read_places(connection: Connection, sensor_nos: Collection[int]) -> PlaceRows:
    """All versions that ever concerned these sensors."""
    binary.register(connection)
    numbers = binary.Int4Array(np.array(sorted(sensor_nos), dtype=np.int32))
    cursor = await connection.execute(_ASSIGNMENTS, (numbers,))
    assignments = _grouped(await cursor.fetchall())
    held = [place for rows in assignments.values() for place in rows]
    if not held:
        return PlaceRows({}, {}, {})
    units, sites = (sorted({one[n] for one in held if one[n] is not None}) for n in (1, 2))
    return PlaceRows(
        assignments,
        await _versions(connection, _UNIT_VERSIONS, units),
        await _versions(connection, _SITE_VERSIONS, sites),
    )


async def _versions(connection: Connection, statement: LiteralString, ids: list[str]) -> dict[Any, list[Any]]:
    cursor = await connection.execute(statement, (ids,))
    return _grouped(await cursor.fetchall())


def _grouped(rows: Sequence[tuple[Any, ...]]) -> dict[Any, list[Any]]:
    found: dict[Any, list[Any]] = defaultdict(list)
    for key, *values in rows:
        found[key].append(tuple(values))
    return dict(found)
