"""`GET /v1/data-quality`: what was stored, doubled, contradicted, late, refused and missing, by sensor.

Gaps need every reading's time, so they decide what a request costs. A page therefore ends at its limit of sensors or once
it has looked at so many readings, whichever comes first; the cursor goes on from there. Small sensors are read together,
a large one in chunks: memory does not grow with the range.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
import numpy as np
from fastapi import APIRouter, Depends
from numpy.typing import NDArray
from starlette.responses import Response

from api.auth import Principal, Require
from api.errors import Problem
from api.pagination import DEFAULT_LIMIT, Cursor, Cursors, Limit
from api.reading_models import QUALITY_RESPONSES
from api.readings import End, Start
from api.sensors import JSON
from api.services import Services, services_of
from api.times import format_instants, parse_instant, window
from core.postgres import Connection, tenant_transaction
from processors.gaps import WINDOW_MS, find_gaps
from schemas import rfc3339
from sinks.timescale import reader
from sinks.timescale.reader import RefusalCounts, SensorRow

router = APIRouter(prefix="/v1/data-quality", tags=["readings"])

Reader = Annotated[Principal, Depends(Require("readings:read"))]

MAX_LISTED: Final = 10_000
READINGS_PER_PAGE: Final = 2_000_000
CHUNK_READINGS: Final = 200_000
GROUP_SENSORS: Final = 200
_WORTH_A_THREAD: Final = 5_000
_MAX_DEVICE_REFUSALS: Final = 10_000

ServicesOfApp = Annotated[Services, Depends(services_of)]


class Continuation(msgspec.Struct, array_like=True):
    """A range and the sensor after which the next page begins."""

    start_ms: int
    end_ms: int
    after: str = ""


@dataclass(slots=True)
class Spacing:
    """What the times of one sensor's readings tell."""

    accepted: int = 0
    looked_at: int = 0
    gap_count: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)


@router.get("", summary="Read data quality", responses=QUALITY_RESPONSES, response_class=Response)
async def read_data_quality(
    services: ServicesOfApp,
    principal: Reader,
    start: Start = None,
    end: End = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    """Counts, conflicts and gaps of each sensor for start <= at < end; by default the last 24 h."""
    cursors = Cursors(services.vault, "data-quality")
    if cursor is None:
        query = Continuation(*window(start, end, services.clock.now_ms()))
    else:
        query = cursors.decode(principal.tenant_id, cursor, Continuation)
        _require_same(query, start, end)
    async with tenant_transaction(services.pool, principal.tenant_id) as connection:
        page, more = await _page(connection, query, limit)
        items = await _items(connection, query, page)
        refusals = await reader.device_refusals(connection, query.start_ms, query.end_ms, _MAX_DEVICE_REFUSALS)
    following = msgspec.structs.replace(query, after=page[-1][0].sensor_id) if more else None
    body = {
        "start": rfc3339.format_ms(query.start_ms),
        "end": rfc3339.format_ms(query.end_ms),
        "items": items,
        "refusals": [
            {"device_id": device_id, "reason": reason, "refused": refused, "kept": kept}
            for device_id, reason, refused, kept in refusals
        ],
        "next": None if following is None else cursors.encode(principal.tenant_id, following),
    }
    return Response(msgspec.json.encode(body), media_type=JSON)


def _require_same(query: Continuation, start: str | None, end: str | None) -> None:
    given_start = query.start_ms if start is None else parse_instant(start, "start")
    given_end = query.end_ms if end is None else parse_instant(end, "end")
    if (given_start, given_end) != (query.start_ms, query.end_ms):
        detail = "cursor belongs to another range; repeat that one's start and end or leave them out"
        raise Problem.invalid(parameter="cursor", detail=detail)


async def _page(
    connection: Connection, query: Continuation, limit: int
) -> tuple[list[tuple[SensorRow, Spacing]], bool]:
    """Sensors of a page with what their times tell, and whether more follow."""
    sensors = await reader.list_sensors(connection, query.after, limit + 1)
    page: list[tuple[SensorRow, Spacing]] = []
    looked_at = 0
    while len(page) < min(limit, len(sensors)) and looked_at < READINGS_PER_PAGE:
        group = sensors[len(page) : min(limit, len(page) + GROUP_SENSORS)]
        for sensor, spacing in await spacings_of(connection, group, query.start_ms, query.end_ms):
            page.append((sensor, spacing))
            looked_at += spacing.looked_at
    return page, len(page) < len(sensors)


async def spacings_of(
    connection: Connection, sensors: Sequence[SensorRow], start_ms: int, end_ms: int, chunk: int = CHUNK_READINGS
) -> list[tuple[SensorRow, Spacing]]:
    """Count readings in the range and find the gaps that overlap it, for the first of these sensors, at least one.

    A gap's later neighbour is judged by the 24 h before it, and the neighbours of the range's ends lie outside of it: so
    reading starts 24 h early, at the newest reading before that, and ends with the first reading after the range. At most
    `chunk` readings are held at once, besides those of 24 h: sensors that fit are read together, one that does not alone.
    """
    numbers = [sensor.sensor_no for sensor in sensors]
    history_ms = max(start_ms - WINDOW_MS, rfc3339.MIN_MS)
    neighbours = await reader.reading_neighbours(connection, numbers, history_ms, end_ms)
    rows = np.array(await reader.reading_times(connection, numbers, history_ms, end_ms, chunk), np.int64).reshape(-1, 2)
    # The chunk may have ended within its last sensor.
    complete = numbers if len(rows) < chunk else numbers[: numbers.index(int(rows[-1, 0]))]
    found = []
    for sensor in sensors[: max(len(complete), 1)]:
        before, following = neighbours[sensor.sensor_no]
        walk = _GapWalk(sensor.expected_interval_ms, start_ms, end_ms, before)
        if complete:
            await walk.add(rows[rows[:, 0] == sensor.sensor_no, 1] // 1_000)
        else:
            await _walk_in_chunks(connection, walk, sensor.sensor_no, history_ms, end_ms, chunk)
        await walk.finish(following)
        found.append((sensor, walk.found))
    return found


async def _walk_in_chunks(
    connection: Connection, walk: _GapWalk, sensor_no: int, start_ms: int, end_ms: int, chunk: int
) -> None:
    after: tuple[int, int] | None = None
    while True:
        rows = await reader.time_page(connection, sensor_no, start_ms, end_ms, after, chunk)
        await walk.add(np.array([at_us for at_us, _ in rows], np.int64) // 1_000)
        if len(rows) < chunk:
            return
        after = rows[-1]


class _GapWalk:
    """Finds gaps chunk by chunk, each pair of neighbours judged once.

    The readings of a chunk's last instant wait for the next chunk: more of that instant may follow, and they count in the
    24 h that end with it.
    """

    def __init__(self, declared_ms: int | None, start_ms: int, end_ms: int, before: int | None) -> None:
        self.found = Spacing()
        self._declared_ms = declared_ms
        self._start_ms = start_ms
        self._end_ms = end_ms
        self._judged = _times(before)
        self._waiting = _times(None)

    async def add(self, arrived: NDArray[np.int64]) -> None:
        """Take the next readings' times."""
        self.found.looked_at += len(arrived)
        self.found.accepted += int(np.count_nonzero(arrived >= self._start_ms))
        known = np.concatenate((self._waiting, arrived))
        complete = np.searchsorted(known, known[-1]) if len(known) else 0
        self._waiting = known[complete:]
        await self._judge(known[:complete])

    async def finish(self, following: int | None) -> None:
        """Judge the rest, up to the first reading after the range."""
        await self._judge(np.concatenate((self._waiting, _times(following))))

    async def _judge(self, fresh: NDArray[np.int64]) -> None:
        if not len(fresh):
            return
        at_ms = np.concatenate((self._judged, fresh))
        if len(at_ms) < _WORTH_A_THREAD:
            gaps = find_gaps(at_ms, self._declared_ms)
        else:  # other requests go on while a large sensor is looked at
            gaps = await asyncio.to_thread(find_gaps, at_ms, self._declared_ms)
        is_new = gaps[:, 1] >= fresh[0]
        # An empty interval overlaps with nothing, not even inside a gap.
        overlaps = (gaps[:, 1] > self._start_ms) & (gaps[:, 0] < self._end_ms) & (self._start_ms < self._end_ms)
        chosen = gaps[is_new & overlaps]
        self.found.gap_count += len(chosen)
        room = MAX_LISTED - len(self.found.gaps)
        self.found.gaps += [(int(a), int(b)) for a, b in chosen[:room].tolist()]
        # What the next pair may need: 24 h, and always the last reading.
        first = min(int(np.searchsorted(at_ms, at_ms[-1] - WINDOW_MS)), len(at_ms) - 1)
        self._judged = at_ms[first:]


def _times(at_ms: int | None) -> NDArray[np.int64]:
    return np.array([] if at_ms is None else [at_ms], np.int64)


async def _items(
    connection: Connection, query: Continuation, page: Sequence[tuple[SensorRow, Spacing]]
) -> list[dict[str, object]]:
    numbers = [sensor.sensor_no for sensor, _ in page]
    counts = await reader.quality_counts(connection, numbers, query.start_ms, query.end_ms)
    conflict_counts = await reader.conflict_counts(connection, numbers, query.start_ms, query.end_ms)
    refusals = await reader.sensor_refusals(connection, numbers, query.start_ms, query.end_ms)
    items = []
    for sensor, spacing in page:
        number = sensor.sensor_no
        duplicates, late = counts.get(number, (0, 0))
        refused = refusals.get(number, RefusalCounts())
        items.append(
            {
                "sensor_id": sensor.sensor_id,
                "device_id": sensor.device_id,
                "name": sensor.name,
                "accepted": spacing.accepted,
                "duplicates": duplicates,
                "late": late,
                "conflict_count": conflict_counts.get(number, 0),
                "conflicts": await _conflicts(connection, number, query) if number in conflict_counts else [],
                "quarantined": refused.quarantined,
                "rejected": refused.rejected,
                "gap_count": spacing.gap_count,
                "gaps": _gap_items(spacing.gaps),
            }
        )
    return items


async def _conflicts(connection: Connection, sensor_no: int, query: Continuation) -> list[dict[str, object]]:
    found = await reader.conflicts(connection, sensor_no, query.start_ms, query.end_ms, MAX_LISTED)
    times = format_instants([each.at_ms for each in found])
    return [
        {"at": at, "seq": each.seq, "value": each.value, "others": each.others}
        for at, each in zip(times, found, strict=True)
    ]


def _gap_items(gaps: Sequence[tuple[int, int]]) -> list[dict[str, str]]:
    starts, ends = format_instants([a for a, _ in gaps]), format_instants([b for _, b in gaps])
    return [{"from": a, "to": b} for a, b in zip(starts, ends, strict=True)]
