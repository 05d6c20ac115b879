"""`weir doctor`: looks at settings, database, broker, stream and object store, and says what to do.

It changes nothing: the object that it writes it removes again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Annotated

import psycopg
import typer
from kafka.errors import KafkaError
from psycopg import sql

from core.clock import now_ms
from core.kafka import Topic, TopicIdentity, describe, topic_name
from core.log_ends import topic_ends
from core.postgres import Connection, DatabaseRole, explain_connection_error
from core.settings import Settings, load_settings
from ops import findings, system_libraries
from ops.findings import Finding, Stand, bad, good
from ops.object_check import examine_objects
from schemas.errors import Misconfigured, WeirError
from sinks.timescale import operations
from sinks.timescale.schema_version import require_schema

_CONNECT_S = 5
# The first of these that the login may take: they see the most of the stream's books, and can change the least.
_PREFERRED = (DatabaseRole.READER, DatabaseRole.WRITER, DatabaseRole.OWNER)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def doctor(
        *,
        settings: Annotated[
            bool, typer.Option("--settings", help="List every setting and its value, then exit.")
        ] = False,
    ) -> None:
        """Check settings, servers, versions, positions and lag; exit 1 if anything is bad."""
        loaded = load_settings()
        if settings:
            for line in describe_settings(loaded):
                print(line)
            return
        found = asyncio.run(examine(loaded))
        for finding in found:
            print(finding)
        if not all(finding.ok for finding in found):
            raise typer.Exit(1)


def describe_settings(settings: Settings) -> Iterator[str]:
    """Name, value (secrets as stars) and meaning of every setting, a line each."""
    for name, field in type(settings).model_fields.items():
        origin = "set" if name in settings.model_fields_set else "default"
        yield f"WEIR_{name.upper()}={getattr(settings, name)}  ({origin}) {field.description}"


async def examine(settings: Settings) -> list[Finding]:
    """Every finding, in the order in which things depend on each other."""
    found = [*_settings_file(), findings.judge_secret_key(settings.secret_key.get_secret_value())]
    topic, ends, of_broker = await asyncio.to_thread(_examine_broker, settings)
    of_database, stands = await _examine_database(settings)
    found += [*of_database, *of_broker]
    if stands is not None:
        found += findings.judge_positions(stands, topic, ends, settings.readiness_max_lag)
    return [*found, await examine_objects(settings), await asyncio.to_thread(_examine_open3d)]


def _settings_file() -> list[Finding]:
    name = os.environ.get("WEIR_ENV_FILE")
    if name is None or os.access(name, os.R_OK):
        return []
    return [bad("settings", f"WEIR_ENV_FILE names {name}, which cannot be read; correct the name or the file's mode")]


def _examine_open3d() -> Finding:
    if not system_libraries.is_wanted():
        return findings.judge_open3d(None, [])
    return findings.judge_open3d(system_libraries.import_error(), system_libraries.missing())


def _examine_broker(settings: Settings) -> tuple[TopicIdentity | None, dict[int, int], list[Finding]]:
    names = [topic_name(settings.topic_prefix, topic) for topic in Topic]
    try:
        found = describe(settings.kafka_bootstrap, names)
        readings = found.get(topic_name(settings.topic_prefix, Topic.READINGS))
        ends = {} if readings is None else _ends(settings.kafka_bootstrap, readings)
    except WeirError as error:
        return None, {}, [bad("broker", str(error))]
    answers = good("broker", f"a broker answers at {settings.kafka_bootstrap}")
    return readings, ends, [answers, findings.judge_topics(names, found)]


def _ends(bootstrap: str, topic: TopicIdentity) -> dict[int, int]:
    try:
        return topic_ends(bootstrap, topic.name, topic.partitions)
    except KafkaError as error:
        msg = f"the broker at {bootstrap} does not tell the ends of {topic.name} ({type(error).__name__})"
        raise Misconfigured(msg) from error


async def _examine_database(settings: Settings) -> tuple[list[Finding], list[Stand] | None]:
    """Findings, and the stored positions where the login may read them."""
    url = settings.database_url.get_secret_value()
    if not url:
        remedy = "expected postgresql://login:password@host:port/database"
        return [bad("database", f"WEIR_DATABASE_URL is not set; {remedy}")], None
    try:
        connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=_CONNECT_S)
    except psycopg.Error as error:
        return [bad("database", explain_connection_error(error, url))], None
    async with connection:
        return await _examine_connected(connection, settings)


async def _examine_connected(connection: Connection, settings: Settings) -> tuple[list[Finding], list[Stand] | None]:
    info = connection.info
    where = f"{info.host}:{info.port}/{info.dbname}"
    found = [findings.judge_server(info.server_version, await _extension(connection), where)]
    roles = await _roles(connection)
    found += [findings.judge_roles(info.user, roles), await _clock(connection)]
    role = next((role for role in _PREFERRED if role in roles), None)
    if role is None:
        if roles:
            found.append(
                good("login", "positions, workers and alarms were not looked at: only a reader sees all of them")
            )
        return found, None
    await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(role.value)))
    try:
        engine = await require_schema(connection)
    except Misconfigured as error:
        return [*found, bad("schema", str(error))], None
    found.append(good("schema", f"the schema is the one this program was written for, {engine} engine"))
    beats = await operations.heartbeats(connection)
    found.append(findings.judge_workers({beat.worker_id: beat.age_s for beat in beats}))
    found.append(findings.judge_alarms(await operations.open_alarms(connection)))
    return found, await _stands(connection, topic_name(settings.topic_prefix, Topic.READINGS))


async def _extension(connection: Connection) -> str | None:
    cursor = await connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    row = await cursor.fetchone()
    return None if row is None else str(row[0])


async def _roles(connection: Connection) -> list[DatabaseRole]:
    names = [role.value for role in DatabaseRole]
    cursor = await connection.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) AND pg_has_role(rolname, 'SET')", (names,)
    )
    able = {str(name) for (name,) in await cursor.fetchall()}
    return [role for role in DatabaseRole if role.value in able]


async def _clock(connection: Connection) -> Finding:
    before_ms = now_ms()
    cursor = await connection.execute("SELECT extract(epoch FROM clock_timestamp()) * 1000")
    row = await cursor.fetchone()
    after_ms = now_ms()
    uncertain_ms = (after_ms - before_ms) / 2
    theirs_ms = float(row[0]) if row is not None else float(after_ms)
    return findings.judge_clock(theirs_ms - before_ms - uncertain_ms, uncertain_ms)


async def _stands(connection: Connection, topic: str) -> list[Stand]:
    cursor = await connection.execute(
        "SELECT topic, partition, next_offset, topic_identity FROM weir.stream_position WHERE topic = %s", (topic,)
    )
    return [Stand(*row) for row in await cursor.fetchall()]
