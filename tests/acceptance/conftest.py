"""A running system and a browser for the tests of the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from ops.embedded.ports import pick_port
from tests.acceptance.browsing import CHROMIUM, PATIENCE_MS, Visit
from tests.acceptance.running import Running


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One system for all tests of this file; each leaves it running and ready."""
    folder = tmp_path_factory.mktemp("dashboard")
    running = Running(folder / "data", pick_port(), folder / "log")
    running.start("--no-demo").wait_until_ready()
    yield running
    running.end()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def visit(system: Running, browser: Browser) -> Iterator[Callable[..., Visit]]:
    """Opens the dashboard; when the test is over nothing may have been wrong."""
    begun: list[Visit] = []

    def begin(**options: Any) -> Visit:
        begun.append(Visit.begin(browser, system.connection, **options))
        return begun[-1]

    yield begin
    for each in begun:
        each.end()
