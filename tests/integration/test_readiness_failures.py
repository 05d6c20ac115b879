"""/readyz while a worker keeps failing: not ready, in between neither; and ready again once it runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.integration.api_scene import Client, api_settings, client, serving
from tests.integration.conftest import Broker
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, WorkerProcess, create_tenant, wait_until

pytestmark = pytest.mark.integration

BREAK = (
    "CREATE FUNCTION weir.broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'broken'; END $$",
    "CREATE TRIGGER broken BEFORE INSERT ON weir.usage FOR EACH ROW EXECUTE FUNCTION weir.broken()",
)


def answers_of_a_life(api: Client, worker: WorkerProcess) -> set[int]:
    """Every answer of /readyz until the worker ends."""
    answers: set[int] = set()

    def has_ended() -> bool:
        answers.add(api.http.get("/readyz").status_code)
        return not worker.is_alive()

    wait_until(has_ended, 60, "the worker's end")
    return answers


def test_a_worker_that_keeps_failing_is_never_ready_in_between(
    database: Database, broker: Broker, topic_prefix: str, new_worker: Callable[..., WorkerProcess]
) -> None:
    tenant = asyncio.run(create_tenant(database))
    settings = api_settings(database.reader_url, topic_prefix=topic_prefix)
    with serving(settings) as url, client(url, None) as api:
        first = new_worker(WEIR_WORKER_ID="w")
        wait_until(lambda: api.http.get("/readyz").status_code == 200, 60, "readiness")
        for statement in BREAK:
            database.query(statement)
        device = ThirdPartyDevice(broker.bootstrap, f"{topic_prefix}readings")
        device.send_all(tenant.devices[0], [body(reading("2026-10-01T12:00:00.000Z", 4.0))])
        answers_of_a_life(api, first)
        assert "broken" in first.log()
        # An answer holds for half a second.
        wait_until(lambda: api.http.get("/readyz").status_code == 503, 60, "it being unready")

        # Killed lives end without a word, failed ones with one.
        for _ in range(2):
            assert answers_of_a_life(api, new_worker(WEIR_WORKER_ID="w")) == {503}
        killed = new_worker(WEIR_WORKER_ID="w")
        database.query("DROP TRIGGER broken ON weir.usage")
        wait_until(lambda: database.query("SELECT count(*) FROM readings") == [(1,)], 60, "the reading")
        killed.kill()
        assert "run for 15 s" in unready(api)

        new_worker(WEIR_WORKER_ID="w")
        wait_until(lambda: api.http.get("/readyz").status_code == 200, 60, "readiness")


def unready(api: Client) -> str:
    response = api.http.get("/readyz")
    assert response.status_code == 503
    return response.text
