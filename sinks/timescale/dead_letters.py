"""Dead letters on the reading side: finding what was refused, and sending it to its topic once more.

Works under the operator's or the writer's role through the view `public.dead_letters`; what is written is only
`replayed_at`, after the broker has acknowledged. Writing dead letters is `sinks.dead_letters`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from core.postgres import DatabaseRole, explain_connection_error
from schemas.errors import Misconfigured, Transient

Session = psycopg.Connection[tuple[Any, ...]]

_PAGE_RECORDS = 500
_CHUNK_BYTES = 8 * 1024 * 1024
_COORDINATES = sql.SQL('topic, topic_identity, partition, "offset"')


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused record, or one refused reading of it (`index`)."""

    dead_letter_id: int
    refused_at: datetime
    tenant_id: str | None
    device_id: str | None
    sensor: str | None
    reason: str
    detail: str
    topic: str
    partition: int
    offset: int
    index: int | None
    replayed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Original:
    """The record as it came; several dead letters may stem from it."""

    topic: str
    topic_identity: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    broker_timestamp_ms: int | None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; everything given must hold."""

    ids: tuple[int, ...] = ()
    tenant_id: str | None = None
    device_id: str | None = None
    reason: str | None = None
    since: datetime | None = None
    waiting_only: bool = False
    up_to_id: int | None = None

    def where(self) -> tuple[sql.Composable, list[object]]:
        """The condition and its values."""
        tests: list[tuple[str, object]] = [
            ("dead_letter_id = ANY (%s)", list(self.ids) or None),
            ("tenant_id = %s", self.tenant_id),
            ("device_id = %s", self.device_id),
            ("reason = %s", self.reason),
            ("refused_at >= %s", self.since),
            ("dead_letter_id <= %s", self.up_to_id),
        ]
        given = [(sql.SQL(text), value) for text, value in tests if value is not None]
        conditions = [text for text, _ in given] + ([sql.SQL("replayed_at IS NULL")] if self.waiting_only else [])
        return sql.SQL(" AND ").join(conditions or [sql.SQL("true")]), [value for _, value in given]


def open_session(url: str) -> Session:
    """A connection under whichever of the two roles the login may take.

    Raises:
        Misconfigured: no URL, or a login with neither role.
        Transient: the database cannot be reached.
    """
    if not url:
        msg = "WEIR_DATABASE_URL is not set; expected postgresql://login:password@host:port/database of the operator"
        raise Misconfigured(msg)
    try:
        session = psycopg.connect(url, autocommit=True, connect_timeout=5)
    except psycopg.ProgrammingError as exc:
        msg = "WEIR_DATABASE_URL is no connection URL; expected postgresql://login:password@host:port/database"
        raise Misconfigured(msg) from exc
    except psycopg.OperationalError as exc:
        raise Transient(explain_connection_error(exc, url)) from exc
    try:
        _take_role(session)
    except BaseException:
        session.close()
        raise
    return session


def _take_role(session: Session) -> None:
    roles = [DatabaseRole.OPERATOR.value, DatabaseRole.WRITER.value]
    row = session.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND pg_has_role(oid, 'MEMBER')"
        " ORDER BY array_position(%s, rolname::text) LIMIT 1",
        (roles, roles),
    ).fetchone()
    if row is None:
        msg = f"the login {session.info.user} is a member of neither {roles[0]} nor {roles[1]}; use one that is"
        raise Misconfigured(msg)
    session.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(str(row[0]))))
    if session.execute("SELECT to_regclass('public.dead_letters')").fetchone() == (None,):
        msg = "the database has no Weir schema; run `weir migrate` against it"
        raise Misconfigured(msg)


_LETTER = sql.SQL(
    "SELECT dead_letter_id, refused_at, tenant_id, device_id, sensor, reason, detail,"
    ' topic, partition, "offset", index, replayed_at FROM public.dead_letters WHERE '
)
_ORIGINAL = sql.SQL(
    'SELECT topic, topic_identity, partition, "offset", key, value, headers, broker_timestamp_ms'
    " FROM public.dead_letters WHERE "
)


def list_letters(session: Session, which: Filter, limit: int) -> list[DeadLetter]:
    """The newest ones that match."""
    where, values = which.where()
    query = _LETTER + where + sql.SQL(" ORDER BY refused_at DESC, dead_letter_id DESC LIMIT %s")
    with session.cursor(row_factory=class_row(DeadLetter)) as cursor:
        return cursor.execute(query, [*values, limit]).fetchall()


def find(session: Session, dead_letter_id: int) -> tuple[DeadLetter, Original] | None:
    """One dead letter with its record."""
    letters = list_letters(session, Filter(ids=(dead_letter_id,)), 1)
    if not letters:
        return None
    row = session.execute(_ORIGINAL + sql.SQL("dead_letter_id = %s"), (dead_letter_id,)).fetchone()
    return (letters[0], _original(row)) if row else None


def _original(row: tuple[Any, ...]) -> Original:
    topic, identity, partition, offset, key, value, headers, timestamp_ms = row
    decoded = [(str(name), base64.b64decode(text or "")) for name, text in headers]
    return Original(topic, identity, partition, offset, key, value, decoded, timestamp_ms)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a filter matches.

    Args:
        letters: dead letters.
        records: records they stem from; each is sent once.
        up_to_id: the newest one; what a replay itself gets refused comes after it.
    """

    letters: int
    records: int
    up_to_id: int


def measure(session: Session, which: Filter) -> Extent:
    """Count what matches."""
    where, values = which.where()
    query = sql.SQL(
        "SELECT count(*), count(DISTINCT ({})), coalesce(max(dead_letter_id), 0) FROM public.dead_letters WHERE "
    )
    row = session.execute(query.format(_COORDINATES) + where, values).fetchone()
    return Extent(*row) if row else Extent(0, 0, 0)


def originals(session: Session, which: Filter) -> Iterator[list[Original]]:
    """The distinct records that match, by coordinates, in lists of bounded size in bytes.

    Give a filter with `up_to_id`, or records refused again while this runs are found again.
    """
    where, values = which.where()
    query = sql.SQL(
        "SELECT DISTINCT {at}, coalesce(octet_length(value), 0) FROM public.dead_letters"
        " WHERE ({at}) > (%s, %s, %s, %s) AND {where} ORDER BY {at} LIMIT %s"
    ).format(at=_COORDINATES, where=where)
    last: tuple[object, ...] = ("", "", -1, -1)
    while page := session.execute(query, [*last, *values, _PAGE_RECORDS]).fetchall():
        last = page[-1][:4]
        for chunk in _by_size(page):
            yield _fetch(session, chunk)


def _by_size(page: Sequence[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    chunk: list[tuple[Any, ...]] = []
    size = 0
    for *coordinates, length in page:
        if chunk and size + length > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(tuple(coordinates))
        size += length
    if chunk:
        yield chunk


def _fetch(session: Session, coordinates: list[tuple[Any, ...]]) -> list[Original]:
    query = sql.SQL(
        'SELECT DISTINCT ON ({at}) topic, topic_identity, partition, "offset", key, value, headers, broker_timestamp_ms'
        " FROM public.dead_letters JOIN unnest(%s::text[], %s::text[], %s::integer[], %s::bigint[])"
        ' AS q (topic, topic_identity, partition, "offset") USING ({at}) ORDER BY {at}'
    ).format(at=_COORDINATES)
    return [
        _original(row) for row in session.execute(query, [list(column) for column in zip(*coordinates, strict=True)])
    ]


def mark_replayed(session: Session, records: Sequence[Original]) -> int:
    """Note that records were sent again; returns the number of dead letters that stem from them."""
    columns = zip(*((r.topic, r.topic_identity, r.partition, r.offset) for r in records), strict=True)
    row = session.execute(
        "SELECT public.mark_dead_letters_replayed(%s, %s, %s, %s)", [list(column) for column in columns]
    ).fetchone()
    return int(row[0]) if row else 0
