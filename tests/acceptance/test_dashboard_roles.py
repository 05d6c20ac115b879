"""What people of different roles find on the dashboard, and how they come in and change."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import TimeoutError as LateError
from playwright.sync_api import expect

from ops.embedded.lifeline import ON_LINUX, wait_until
from tests.acceptance.browsing import CHROMIUM, NARROW, NEEDS_CHROMIUM, PATIENCE_S, WIDE, Visit, until
from tests.acceptance.running import Running, message_code, now, rule, sensor_id

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not ON_LINUX, reason="watches the process tree through /proc"),
    pytest.mark.skipif(CHROMIUM is None, reason=NEEDS_CHROMIUM),
]

PASSWORD = "correct horse battery"
PAGES = {
    "#/": "Overview",
    "#/alerts?status=all": "Alerts",
    "#/rules": "Rules",
    "#/quality": "Data quality",
    "#/scans": "Scans",
    "#/places": "Places",
    "#/devices": "Devices",
    "#/access": "Access",
}
# Buttons that only change what is shown, or one's own password.
LOOKING = re.compile(r"All|Alert|Silent|OK|\d+ (h|d|y|hour|day|year)s?|Last .*|Form|JSON|Preview|Change password")


def person(system: Running, role: str) -> tuple[str, str]:
    """A user of the demo tenant with this role: id and e-mail."""
    email = f"{role}-{now().replace(':', '-')}@people.example"
    status, user = system.post("/v1/users", {"email": email, "role": role, "password": PASSWORD})
    assert status == 201, user
    return user["user_id"], email


def as_person(opened: Visit, email: str) -> Visit:
    opened.connection = opened.connection | {"email": email, "password": PASSWORD}
    return opened.sign_in()


def test_who_may_only_look_finds_nothing_to_change_and_nothing_that_is_refused(
    system: Running, visit: Callable[..., Visit]
) -> None:
    sensor = sensor_id(system, "looked at")
    rule(system, sensor, "Looked at too warm", 8.0)
    assert system.publish(("looked at", now(), 9.0)) == 202
    alerts = f"/v1/alerts?status=firing&sensor_id={sensor}"
    assert wait_until(lambda: bool(system.get(alerts)[1]["items"]), PATIENCE_S)
    alert = system.get(alerts)[1]["items"][0]["alert_id"]
    _, email = person(system, "inspector")
    opened = as_person(visit(), email)
    page = opened.page

    expect(page.get_by_role("link", name="Usage")).to_have_count(0)
    rule_id = system.get("/v1/rules")[1]["items"][0]["rule_id"]
    pages = PAGES | {
        f"#/alerts/{alert}": "Looked at too warm",
        f"#/rules/{rule_id}": "",
        f"#/sensors/{sensor}": "looked at",
    }
    for where, heading in pages.items():
        opened.go(where, heading)
        assert until(opened, lambda: page.get_by_text("Loading…").count() == 0), where
        buttons = page.locator("main button").all_text_contents()
        assert [text for text in buttons if not LOOKING.fullmatch(text.strip())] == [], where
        if where != "#/access":
            assert page.locator("main textarea").count() == 0, where
        for size in (NARROW, WIDE):
            page.set_viewport_size(size)
            assert until(opened, lambda: opened.barriers() == []), (where, size, opened.barriers())
    expect(page.get_by_text("Your role, inspector, may look at rules")).to_have_count(0)
    opened.go("#/rules", "Rules")
    expect(page.get_by_text("Your role, inspector, may look at rules, not change them.")).to_be_visible()


def test_somebody_is_invited_from_the_page_and_comes_in_with_the_code(
    system: Running, visit: Callable[..., Visit]
) -> None:
    opened = visit().sign_in()
    page = opened.page
    opened.go("#/access", "Access")
    page.get_by_label("E-mail of whom you invite").fill("ben@people.example")
    page.get_by_label("Name (may be left out)").fill("Ben")
    page.get_by_role("button", name="Invite").click()
    expect(page.locator("#announce")).to_contain_text("ben@people.example is invited")
    expect(page.get_by_role("row", name="Ben ben@people.example")).to_contain_text("Staff")

    guest = visit()
    guest.page.get_by_text("I have a code from a message").click()
    guest.page.get_by_label("Code").fill(message_code(system, "ben@people.example"))
    guest.page.get_by_label("New password").fill(PASSWORD)
    guest.page.get_by_role("button", name="Set the password").click()

    expect(guest.page.get_by_role("heading", name="Overview")).to_be_visible()
    guest.go("#/access", "Access")
    expect(guest.page.get_by_role("region", name="You")).to_contain_text("ben@people.example")
    expect(guest.page.get_by_role("button", name="Invite")).to_have_count(0)
    assert guest.page.evaluate("document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })") == "{}"

    opened.go("#/", "Overview")
    opened.go("#/access", "Access")
    page.get_by_label("Role of Ben").select_option(label="Viewer")
    expect(page.locator("#announce")).to_have_text("Ben has another role.")
    page.get_by_role("button", name="Remove Ben").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("row", name="Ben ben@people.example")).to_have_count(0)
    guest.may_lose = guest.may_refuse = True
    expect(guest.page.get_by_role("heading", name="Sign in to Weir")).to_be_visible()


def test_a_role_that_is_changed_while_the_page_is_open_takes_the_buttons_away(
    system: Running, visit: Callable[..., Visit]
) -> None:
    user_id, email = person(system, "manager")
    opened = as_person(visit(), email)
    page = opened.page
    opened.go("#/devices", "Devices")
    assert system.patch(f"/v1/users/{user_id}", {"role": "viewer"})[0] == 200
    opened.may_refuse = True

    def refused() -> bool:
        # Within the two seconds for which the server remembers the old role it still works.
        with contextlib.suppress(LateError):
            page.get_by_label("Name of the new device").fill("Not to be", timeout=1_000)
            page.get_by_role("button", name="Create device").click(timeout=1_000)
        return page.get_by_text("may look at devices, not change them").count() == 1

    assert until(opened, refused)
    expect(page.get_by_role("button", name="Create device")).to_have_count(0)


def test_devices_and_places_are_renamed_and_taken_away_and_keys_replaced(
    system: Running, visit: Callable[..., Visit]
) -> None:
    opened = visit().sign_in()
    page = opened.page
    for where, heading, label, name, button in (
        ("#/devices", "Devices", "Name of the new device", "Old logger", "Create device"),
        ("#/places", "Places", "Name of the new site", "Old quay", "Create site"),
    ):
        opened.go(where, heading)
        page.get_by_label(label).fill(name)
        page.get_by_role("button", name=button).click()
        edit = "Rename" if heading == "Devices" else "Edit"
        page.get_by_role("button", name=f"{edit} {name}").click()
        new = name.replace("Old", "New")
        page.get_by_role("dialog").get_by_label("Name", exact=True).fill(new)
        page.keyboard.press("Enter")
        expect(page.get_by_role("row", name=new)).to_be_visible()
        verb = "Revoke" if heading == "Devices" else "Archive"
        page.get_by_role("button", name=f"{verb} {new}").click()
        page.keyboard.press("Escape")
        expect(page.get_by_role("row", name=new)).to_be_visible()
        page.get_by_role("button", name=f"{verb} {new}").click()
        page.get_by_role("dialog").get_by_role("button", name=verb).click()
        expect(page.locator("#announce")).to_have_text(f"{verb}d." if verb != "Archive" else "Archived.")

    opened.go("#/access", "Access")
    page.get_by_label("Name of the new key").fill("nightly report")
    page.get_by_label("Last day (may be left out)").fill("2099-12-31")
    page.get_by_role("button", name="Create key").click()
    first = page.locator(".secret").inner_text()
    page.get_by_role("button", name="Replace nightly report").click()
    page.get_by_role("dialog").get_by_role("button", name="Make its successor").click()
    expect(page.locator(".secret")).not_to_have_text(first)
    expect(page.get_by_role("row", name="nightly report")).to_have_count(2)
    expect(page.get_by_role("row", name="nightly report").filter(has_text="Dec 31, 2099")).to_have_count(1)
