"""Three bridges, each a process of its own, behind a balancer: whoever is cut lands on another and misses nothing."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from threading import Event

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed

from tests.integration.api_processes import api_processes
from tests.integration.api_scene import new_tenant
from tests.integration.live_scene import WAIT_S, Frame, Switch, emit, event_stream, live_client
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

TOTAL = 300
EACH_VISIT = 25
Visit = Callable[[str, str, str | None], Generator[Frame, None, None]]


def by_websocket(url: str, token: str, cursor: str | None) -> Generator[Frame, None, None]:
    with live_client(url, token) as viewer:
        viewer.say(op="subscribe", id=1, channel="alerts", **({} if cursor is None else {"cursor": cursor}))
        while True:
            yield viewer.hear()


def by_events(url: str, token: str, cursor: str | None) -> Generator[Frame, None, None]:
    return event_stream(url, token, "alerts", cursor)


class Viewer:
    """Comes, sees some events, goes without a goodbye and comes again, until it has seen all."""

    def __init__(self, visit: Visit, url: str, token: str) -> None:
        self._visit = visit
        self._url = url
        self._token = token
        self._cursor: str | None = None
        self.seen: list[int] = []
        self.landings = 0
        self.is_following = Event()
        self.is_over = Event()

    def watch(self) -> None:
        """Until everything was seen, or it is over."""
        while len(self.seen) < TOTAL and not self.is_over.is_set():
            with suppress(ConnectionClosed, OSError, httpx2.TransportError):
                self._visit_once(len(self.seen) + EACH_VISIT)

    def _visit_once(self, enough: int) -> None:
        with closing(self._visit(self._url, self._token, self._cursor)) as frames:
            for frame in frames:
                # A snapshot belongs to the first visit alone: later ones go on where they were.
                assert frame["op"] in {"event", "sync"} or (frame["op"] == "snapshot" and self._cursor is None), frame
                if frame["op"] == "sync":
                    self.landings += 1
                    self.is_following.set()
                elif frame["op"] == "event":
                    self.seen += [item["number"] for item in frame["items"]]
                self._cursor = frame.get("cursor", self._cursor)
                if len(self.seen) >= min(enough, TOTAL):
                    return


def test_viewers_that_are_cut_land_on_another_process_and_get_every_event_once_though_one_is_killed(
    database: Database, tmp_path: Path
) -> None:
    tenant = new_tenant(database)
    with api_processes(database, tmp_path, 3) as bridges, ThreadPoolExecutor() as threads:
        switch = Switch([bridge.port for bridge in bridges])
        viewers = [Viewer(visit, switch.url, tenant.api_key) for visit in (by_websocket, by_events)]
        watching = [threads.submit(viewer.watch) for viewer in viewers]
        try:
            assert all(viewer.is_following.wait(WAIT_S) for viewer in viewers)
            for number in range(0, TOTAL, 3):
                emit(database, tenant, *({"number": number + n} for n in range(3)))
                if number == 150:
                    bridges[0].kill()
                if number % 90 == 60:
                    switch.cut()
            for each in watching:
                each.result(WAIT_S)
        finally:
            for viewer in viewers:
                viewer.is_over.set()
            switch.close()
        for viewer in viewers:
            assert viewer.seen == list(range(TOTAL))
            assert viewer.landings > 3
        log = (tmp_path / "api1.log").read_text(), (tmp_path / "api2.log").read_text()
        assert all("Traceback" not in text for text in log)
