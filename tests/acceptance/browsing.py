"""A headless Chromium over the running dashboard: it collects what the page complains about, and knows its way around.

Border: for tests. The browser is the system's (Debian's package `chromium`); Playwright brings none of its own here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, ConsoleMessage, Page, ViewportSize

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
NEEDS_CHROMIUM = "needs Chromium on the PATH (Debian, Ubuntu: apt install chromium)"
PATIENCE_MS = 60_000
PATIENCE_S = PATIENCE_MS / 1000
WIDE: Final[ViewportSize] = {"width": 1280, "height": 900}
NARROW: Final[ViewportSize] = {"width": 390, "height": 844}
PAGES: Final = {
    "#/": "Overview",
    "#/alerts?status=all": "Alerts",
    "#/rules": "Rules",
    "#/rules/new": "New rule",
    "#/quality": "Data quality",
    "#/scans": "Scans",
    "#/places": "Places",
    "#/devices": "Devices",
    "#/jobs": "Jobs",
    "#/usage": "Usage",
    "#/access": "Access",
}
"""Addresses of what everybody with all rights finds in the navigation, with the headings there."""

_ACCESSIBLE = (Path(__file__).parent / "accessible.js").read_text(encoding="utf-8")
_WATCH_POLICY = """
globalThis.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
"""
# What the browser itself says of a server that is away; the page's own errors read differently.
_LOST = ("net::ERR_CONNECTION", "WebSocket connection to", "net::ERR_EMPTY_RESPONSE", "status of 503")
# What Chromium's driver says of drawing without a graphics card; no page can change it.
_DRIVER = "GL Driver Message"


@dataclass
class Visit:
    """One browser profile on the dashboard.

    Attributes:
        complaints: errors of the console and of scripts.
        may_lose: the server goes away in this test; what the browser says of that is no complaint.
        may_refuse: the server refuses something in this test; the browser says so too.
    """

    page: Page
    connection: dict[str, Any]
    complaints: list[str] = field(default_factory=list)
    may_lose: bool = False
    may_refuse: bool = False

    @classmethod
    def begin(cls, browser: Browser, connection: dict[str, Any], **options: Any) -> Visit:
        """Open the dashboard in a fresh profile."""
        context = browser.new_context(**{"viewport": WIDE, **options})
        context.set_default_timeout(PATIENCE_MS)
        visit = cls(context.new_page(), connection)
        visit.page.add_init_script(_WATCH_POLICY)
        visit.page.on("console", visit._heard)
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.goto(connection["dashboard_url"])
        visit.page.get_by_role("heading", level=1).wait_for()
        return visit

    def end(self) -> None:
        """Close the profile; nothing may have been wrong."""
        violations = self.page.evaluate("violations")
        self.page.context.close()
        assert self.complaints == []
        assert violations == []

    def sign_in(self) -> Visit:
        """As the owner of the demo tenant."""
        self.page.get_by_label("E-mail").fill(self.connection["email"])
        self.page.get_by_label("Password").fill(self.connection["password"])
        self.page.get_by_role("button", name="Sign in", exact=True).click()
        self.page.get_by_role("heading", name="Overview").wait_for()
        return self

    def sign_in_with_key(self) -> Visit:
        """As a program's key."""
        self.page.get_by_text("Use an API key instead").click()
        self.page.get_by_label("API key").fill(self.connection["api_key"])
        self.page.get_by_role("button", name="Sign in with the key").click()
        self.page.get_by_role("heading", name="Overview").wait_for()
        return self

    def go(self, where: str, heading: str) -> None:
        """Show the view of an address and wait for its heading."""
        self.page.evaluate("where => { location.hash = where }", where)
        self.page.get_by_role("heading", level=1, name=heading).wait_for()

    def eventually(self, condition: str, argument: object = None) -> Any:
        """What a JavaScript function gives once it is true."""
        return self.page.wait_for_function(condition, arg=argument).json_value()

    def barriers(self) -> list[str]:
        """What keeps people from using the page as it is now."""
        found: list[str] = self.page.evaluate(_ACCESSIBLE)
        return found

    def link_state(self) -> str:
        """How the page says that it stands with the server."""
        return self.page.locator("#link").inner_text()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"} or _DRIVER in message.text:
            return
        if self.may_lose and any(sign in message.text for sign in _LOST):
            return
        if self.may_refuse and "Failed to load resource: the server responded with a status of 4" in message.text:
            return
        self.complaints.append(message.text)


def until(visit: Visit, condition: Callable[[], bool]) -> bool:
    """Whether a condition holds in time; the page goes on meanwhile."""
    for _ in range(PATIENCE_MS // 100):
        if condition():
            return True
        visit.page.wait_for_timeout(100)
    return False
