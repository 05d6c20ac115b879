"""Isolation, route by route: with another tenant's ids nobody learns a byte, nor that they are anybody's.

Every operation of the OpenAPI document is walked, later ones by themselves: the ids of a thing that exists elsewhere are
answered as ids of nothing are, and nothing of the other tenant changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.api_processes import api_processes
from tests.integration.api_scene import Client, client, new_tenant
from tests.integration.canary_scene import Furnished, furnish
from tests.integration.live_scene import items, live_client
from tests.integration.route_walk import Answer, Operation, bodies_with, names_an_id, operations, send, untaught
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

# A rule may be for what comes later, so any id will do in it; it finds nothing of another tenant's.
TAKES_ANY_ID = {"POST /v1/rules", "PATCH /v1/rules/{rule_id}", "POST /v1/rules/preview"}
# The texts that a tenant's own answers show; each has been planted.
SHOWN_TEXTS = (
    "assignee",
    "cloud",
    "device",
    "error",
    "file",
    "guest",
    "key",
    "note",
    "organization",
    "owner",
    "reason",
    "rule",
    "scan",
    "sensor",
    "site",
    "staff",
    "unit",
)
_EACH_TIME = re.compile(
    r'"request_id": ?"\w+"|"rul_\w+"|"\d{4}-\d\d-\d\dT[^"]+Z"|"revision":\d+|"version":\d+|retry: \d+'
)
CHANNELS = ("readings", "alerts", "usage", "scans", "jobs", "notifications")
FILTERED = {"readings", "alerts"}


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("walk") / "api0.log"


@pytest.fixture(scope="module")
def url(database: Database, log_file: Path) -> Iterator[str]:
    with api_processes(database, log_file.parent) as (process,):
        yield process.url


@pytest.fixture(scope="module")
def mine(database: Database, url: str) -> Furnished:
    return furnish(database, url, new_tenant(database, "mine", devices=1))


@pytest.fixture(scope="module")
def theirs(database: Database, url: str) -> Furnished:
    return furnish(database, url, new_tenant(database, "theirs", devices=1))


@pytest.fixture(scope="module")
def walked(url: str) -> list[Operation]:
    with client(url, None) as api:
        return [each for each in operations(api.get("/openapi.json")) if each.bearer]


@pytest.fixture
def me(url: str, mine: Furnished) -> Iterator[Client]:
    with client(url, mine.tenant.api_key) as api:
        yield api


@pytest.fixture
def them(url: str, theirs: Furnished) -> Iterator[Client]:
    with client(url, theirs.tenant.api_key) as api:
        yield api


def assert_nothing_of(theirs: Furnished, answer: Answer, where: str, *, named: bool = False) -> None:
    """No text of theirs, and no id but one that was asked for (`named`)."""
    assert theirs.mark not in answer.text, f"{where} shows {theirs.mark}: {answer.text[:500]}"
    for name, value in {} if named else {**theirs.ids, "tenant": theirs.tenant.tenant_id}.items():
        assert value.isdigit() or value not in answer.text, f"{where} shows the {name} of another tenant"


def alike(answer: Answer, *ids: dict[str, str]) -> tuple[int, str]:
    """An answer without the ids that were asked for and what differs each time."""
    text = answer.text
    for value in {value for each in ids for value in each.values() if not value.isdigit()}:
        text = text.replace(value, "ID")
    return answer.status, _EACH_TIME.sub("", text)


def found_nothing(answer: Answer) -> bool:
    """Whether a page, or the snapshot that a stream begins with, is empty."""
    if answer.text.startswith("retry: "):
        return '"op":"snapshot","items":[]' in answer.text
    return bool(json.loads(answer.text)["items"] == [])


def test_the_walk_knows_every_id_that_a_route_takes(walked: list[Operation], theirs: Furnished) -> None:
    assert len(walked) > 50
    assert untaught(walked, theirs.ids) == []


def test_an_id_in_a_path_is_nobodys(
    walked: list[Operation], me: Client, mine: Furnished, theirs: Furnished, database: Database
) -> None:
    before = everything_of(database, theirs)
    for operation in walked:
        for own in range(len(operation.path_ids)):
            # The first ids are mine, the others theirs: /devices/<mine>/secrets/<theirs> too.
            kept = {name: mine.ids[name] for name in operation.path_ids[:own]}
            for body in [*bodies_with(operation, mine.ids)] or [None]:
                answer = send(me, operation, {**theirs.ids, **kept}, body)
                nothing = send(me, operation, {**theirs.nowhere, **kept}, body)
                assert answer.status in {404, 422}, f"{operation.name}: {answer}"
                assert alike(answer, theirs.ids) == alike(nothing, theirs.nowhere), operation.name
                assert_nothing_of(theirs, answer, operation.name, named=True)
    assert everything_of(database, theirs) == before


def test_an_id_in_a_body_is_nobodys(walked: list[Operation], url: str, theirs: Furnished, database: Database) -> None:
    # A tenant of its own: a rule that names an id of theirs is not to be met by the walks over lists.
    intruder = furnish(database, url, new_tenant(database, "intruder"))
    before = everything_of(database, theirs)
    with client(url, intruder.tenant.api_key) as api:
        named = walk_bodies(walked, api, intruder, theirs)
    assert {each.name for each in walked if each.body_ids} <= named
    assert everything_of(database, theirs) == before


def walk_bodies(walked: list[Operation], api: Client, intruder: Furnished, theirs: Furnished) -> set[str]:
    """Name each of their ids in each body; returns the operations that can."""
    named: set[str] = set()
    for operation in walked:
        bodies = zip(bodies_with(operation, theirs.ids), bodies_with(operation, theirs.nowhere), strict=True)
        for body, of_nothing in bodies:
            if not names_an_id(body, theirs.ids):
                continue
            named.add(operation.name)
            answer = send(api, operation, intruder.ids, body)
            nothing = send(api, operation, intruder.ids, of_nothing)
            assert_nothing_of(theirs, answer, operation.name, named=True)
            assert alike(answer, theirs.ids) == alike(nothing, theirs.nowhere), operation.name
            if operation.name not in TAKES_ANY_ID:
                assert answer.status in {404, 422}, f"{operation.name}: {answer}"
    return named


def test_an_id_in_a_query_finds_nothing(
    walked: list[Operation], me: Client, mine: Furnished, theirs: Furnished
) -> None:
    for operation in walked:
        for name in operation.query_ids:
            answer = send(me, operation, mine.ids, **{name: theirs.ids[name]})
            nothing = send(me, operation, mine.ids, **{name: theirs.nowhere[name]})
            assert alike(answer, theirs.ids) == alike(nothing, theirs.nowhere), operation.name
            assert_nothing_of(theirs, answer, operation.name, named=True)
            assert answer.status in {404, 422} or found_nothing(answer), operation.name


def test_a_foreign_cursor_is_refused_wherever_there_are_pages(
    walked: list[Operation], me: Client, them: Client, mine: Furnished, theirs: Furnished
) -> None:
    refused = 0
    for operation in walked:
        if "cursor" not in operation.queries:
            continue
        own = send(them, operation, theirs.ids, limit="1")
        cursor = json.loads(own.text).get("next") if own.status == 200 else None
        if cursor is not None:
            answer = send(me, operation, mine.ids, cursor=cursor)
            assert answer.status == 422, operation.name
            assert_nothing_of(theirs, answer, operation.name)
            refused += 1
    assert refused >= 3  # the log, users and keys have two at least


def test_lists_and_objects_of_one_tenant_show_nothing_of_another_and_all_of_its_own(
    walked: list[Operation], me: Client, them: Client, mine: Furnished, theirs: Furnished
) -> None:
    shown = ""
    for operation in walked:
        if operation.method != "GET":
            continue
        assert_nothing_of(theirs, send(me, operation, mine.ids), operation.name)
        own = send(them, operation, theirs.ids)
        # So a 404 above was not for want of the thing.
        assert own.status == 200, f"{operation.name}: {own}"
        shown += own.text
    assert [text for text in SHOWN_TEXTS if f"{theirs.mark} {text}" not in shown] == []
    assert [name for name, value in theirs.ids.items() if value not in shown and not value.isdigit()] == []


@pytest.mark.parametrize("channel", CHANNELS)
def test_a_live_channel_shows_nothing_of_another_tenant(
    url: str, mine: Furnished, theirs: Furnished, channel: str
) -> None:
    with live_client(url, theirs.tenant.api_key) as viewer:
        frames = viewer.subscribe(channel)
        cursor = frames[-1]["cursor"]
    if channel == "alerts":
        assert [item["alert_id"] for item in items(frames)] == [theirs.ids["alert_id"]]
    with live_client(url, mine.tenant.api_key) as viewer:
        asked: list[dict[str, Any]] = [{}, {"cursor": cursor}]
        if channel in FILTERED:
            asked += [{"filter": {name: [theirs.ids[name]]}} for name in ("sensor_id", "site_id")]
        for number, options in enumerate(asked, 1):
            heard = viewer.subscribe(channel, ref=number, **options)
            assert_nothing_of(theirs, Answer(0, json.dumps(heard)), f"{channel} {options}")
            if "cursor" in options:
                assert heard[0]["op"] == "unrecoverable"


def test_neither_the_log_nor_the_metrics_show_texts_or_secrets(
    walked: list[Operation], url: str, mine: Furnished, theirs: Furnished, log_file: Path
) -> None:
    with client(url, theirs.tenant.api_key) as api:
        for operation in walked:
            if operation.method in {"POST", "PATCH"} and operation.path_ids:
                for body in [*bodies_with(operation, theirs.ids)] or [None]:
                    answer = send(api, operation, theirs.ids, body)
                    # Their own things are found: what was 404 above was so for being theirs.
                    assert answer.status != 404, f"{operation.name}: {answer}"
        api.http.post("/v1/auth/login", json={"email": f"{theirs.mark}@x.example", "password": f"{theirs.mark} word"})
        api.http.get(f"/v1/sensors/{theirs.mark}", params={theirs.mark: theirs.mark})
        metrics = api.http.get("/metrics").text
    log = log_file.read_text(encoding="utf-8", errors="replace")
    assert "api.listening" in log
    assert "weir_" in metrics
    for tenant in (mine, theirs):
        for hidden in (tenant.mark, *tenant.secrets):
            assert hidden not in metrics
            assert hidden not in log, log[max(0, log.find(hidden) - 300) : log.find(hidden) + 300]


def everything_of(database: Database, furnished: Furnished) -> dict[str, list[Any]]:
    """All rows of all tables that are a tenant's."""
    tables = database.query(
        "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'"
        " WHERE c.relnamespace = 'weir'::regnamespace AND c.relkind IN ('r', 'p') AND NOT a.attisdropped"
        " AND c.relname <> 'live_interest' ORDER BY 1"
    )
    assert len(tables) > 10
    return {name: _rows(database, name, furnished.tenant.tenant_id) for (name,) in tables}


def _rows(database: Database, table: str, tenant_id: str) -> list[Any]:
    statement: Any = f"SELECT to_jsonb(t)::text FROM weir.{table} t WHERE tenant_id = %s ORDER BY 1"  # noqa: S608 - a name of the catalogue
    return database.query(statement, tenant_id)
