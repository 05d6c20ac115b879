"""The dashboard for everybody: judged by axe-core on every page, the bell, jobs, what can be edited, forgotten passwords."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import expect

from ops.embedded.lifeline import ON_LINUX, wait_until
from tests.acceptance.browsing import CHROMIUM, NARROW, NEEDS_CHROMIUM, PAGES, PATIENCE_S, WIDE, Visit, until
from tests.acceptance.running import Running, message_code, now, rule, sensor_id

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not ON_LINUX, reason="watches the process tree through /proc"),
    pytest.mark.skipif(CHROMIUM is None, reason=NEEDS_CHROMIUM),
]

NPM = shutil.which("npm")
NEEDS_NPM = "needs Node.js and npm on the PATH (Debian, Ubuntu: apt install nodejs npm)"
AXE = "axe-core@4.14.1"
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core as npm brings it, a script for the page."""
    folder = tmp_path_factory.mktemp("axe")
    install = [str(NPM), "install", "--no-audit", "--no-fund", "--no-package-lock", AXE]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0 and any(sign in done.stderr for sign in ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED")):
        pytest.skip("npm does not reach its registry")
    assert done.returncode == 0, done.stderr
    return Path(folder, "node_modules", "axe-core", "axe.min.js").read_text(encoding="utf-8")


def judged(opened: Visit, axe: str) -> list[str]:
    """What axe finds wrong with the page as it is now."""
    if not opened.page.evaluate("() => 'axe' in globalThis"):
        opened.page.evaluate(axe)
    found: list[str] = opened.page.evaluate(
        "async () => (await axe.run()).violations.flatMap(({ id, nodes }) =>"
        " nodes.map((node) => `${id}: ${node.target.join(' ')}: ${node.failureSummary}`))"
    )
    return found


def furnish(system: Running) -> dict[str, str]:
    """Pages of things that are there: a sensor in a unit at a site, its alert, a rule, a scan."""
    sensor = sensor_id(system, "judged")
    _, site = system.post("/v1/sites", {"name": "Quay", "timezone": "Europe/Berlin", "attributes": {"floor": 1}})
    _, unit = system.post("/v1/units", {"name": "Cold room", "kind": "cold_room", "site_id": site["site_id"]})
    assert system.patch(f"/v1/sensors/{sensor}", {"unit_id": unit["unit_id"]})[0] == 200
    rule_id = rule(system, sensor, "Judged too warm", 8.0)
    _, scan = system.post("/v1/scans", {"name": "Hall"})
    assert system.publish(("judged", now(), 9.0)) == 202
    assert wait_until(lambda: bool(alerts(system, sensor)), PATIENCE_S)
    return {
        f"#/sensors/{sensor}": "judged",
        f"#/alerts/{alerts(system, sensor)[0]['alert_id']}": "Judged too warm",
        f"#/rules/{rule_id}": "",
        f"#/scans/{scan['scan_id']}": "Hall",
    }


def alerts(system: Running, sensor: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = system.get(f"/v1/alerts?status=firing&sensor_id={sensor}")[1]["items"]
    return found


@pytest.mark.skipif(NPM is None, reason=NEEDS_NPM)
def test_axe_finds_nothing_on_any_page_in_either_theme(system: Running, visit: Callable[..., Visit], axe: str) -> None:
    pages = PAGES | furnish(system)
    for scheme, size in (("light", WIDE), ("dark", NARROW)):
        opened = visit(color_scheme=scheme, viewport=size, reduced_motion="reduce")
        for summary in opened.page.locator("summary").all():
            summary.click()
        assert judged(opened, axe) == [], scheme
        opened.page.reload()
        opened.sign_in()
        for where, heading in pages.items():
            opened.go(where, heading)
            assert until(opened, lambda: opened.page.get_by_text("Loading…").count() == 0), where  # noqa: B023
            assert judged(opened, axe) == [], (where, scheme)
            assert opened.barriers() == [], (where, scheme)
        opened.go("#/places", "Places")
        for name in ("Edit Quay", "Edit Cold room", "Edit Cold room · judged"):
            opened.page.get_by_role("button", name=name, exact=True).click()
            assert judged(opened, axe) == [], (name, scheme)
            assert opened.barriers() == [], (name, scheme)
            opened.page.keyboard.press("Escape")
        opened.page.get_by_role("button", name="Notifications").click()
        expect(opened.page.get_by_role("region", name="Notifications").get_by_role("listitem").first).to_be_visible()
        assert judged(opened, axe) == [], scheme
        assert opened.barriers() == [], scheme


def test_the_bell_counts_what_is_new_and_leads_to_it_by_keyboard_alone(
    system: Running, visit: Callable[..., Visit]
) -> None:
    sensor = sensor_id(system, "ringing")
    rule(system, sensor, "Ringing too warm", 8.0)
    opened = visit().sign_in()
    page = opened.page
    bell = page.get_by_role("button", name="Notifications")
    panel = page.get_by_role("region", name="Notifications")
    bell.focus()
    page.keyboard.press("Enter")
    expect(panel).to_be_focused()
    expect(panel).not_to_contain_text("Loading")  # what is told once it is closed is new
    page.keyboard.press("Escape")
    expect(bell).to_be_focused()
    expect(bell).to_have_accessible_name("Notifications")

    assert system.publish(("ringing", now(), 9.0)) == 202

    expect(bell).to_have_accessible_name("Notifications, 1 new")
    page.keyboard.press("Enter")
    newest = panel.get_by_role("listitem").first
    expect(newest).to_contain_text("Critical: Ringing too warm, ")
    expect(newest).to_contain_text("New")
    expect(bell).to_have_accessible_name("Notifications")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Ringing too warm")).to_be_focused()
    expect(panel).to_be_hidden()
    page.reload()
    expect(bell).to_have_accessible_name("Notifications")


def test_a_rule_from_the_past_shows_as_a_job_that_ends_by_itself(system: Running, visit: Callable[..., Visit]) -> None:
    sensor_id(system, "worked on")
    opened = visit().sign_in()
    page = opened.page
    opened.go("#/jobs", "Jobs")
    expect(page.get_by_role("region", name="Jobs")).not_to_contain_text("Loading")

    document = {
        "name": "Looked at again",
        "applies_to": {"all": True},
        "severity": "minor",
        "condition": {"type": "threshold", "above": 90.0},
        "effective_from": "2026-01-01T00:00:00.000Z",
    }
    assert system.post("/v1/rules", document)[0] == 201

    row = page.get_by_role("row", name="Looked at again")
    expect(row).to_contain_text("Succeeded")
    expect(row.get_by_role("progressbar")).to_have_count(0)
    row.get_by_role("link").press("Enter")
    expect(page.get_by_label("Name", exact=True)).to_have_value("Looked at again")


def test_places_and_sensors_are_edited_on_the_page(system: Running, visit: Callable[..., Visit]) -> None:
    sensor = sensor_id(system, "edited")
    _, site = system.post("/v1/sites", {"name": "Depot", "timezone": "UTC"})
    _, unit = system.post("/v1/units", {"name": "Box", "kind": "fridge", "attributes": {"door": "left", "code": "7"}})
    opened = visit().sign_in()
    page = opened.page
    dialog = page.get_by_role("dialog")
    opened.go("#/places", "Places")

    opened.may_refuse = True
    page.get_by_role("button", name="Edit Depot").click()
    dialog.get_by_label("Time zone", exact=True).fill("Europe/Atlantis")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_label("Time zone", exact=True)).to_be_focused()
    expect(dialog).to_contain_text("expected an IANA time zone")
    opened.may_refuse = False
    dialog.get_by_label("Time zone", exact=True).fill("Europe/Lisbon")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("row", name="Depot")).to_contain_text("Europe/Lisbon")

    page.get_by_role("button", name="Edit Box").click()
    dialog.get_by_label("Name", exact=True).fill("Deep box")
    dialog.get_by_label("Kind", exact=True).select_option(label="Freezer")
    dialog.get_by_role("button", name="Remove the attribute door").click()
    dialog.get_by_role("button", name="Add an attribute").click()
    dialog.get_by_label("Name of the attribute").last.fill("max_celsius")
    dialog.get_by_label("Value of the attribute").last.fill("-18.5")
    dialog.get_by_label("Kind and attributes hold since").fill("2026-01-02T03:04")
    dialog.get_by_role("button", name="Save").click()
    expect(page.get_by_role("row", name="Deep box")).to_contain_text("Freezer")
    after = system.get(f"/v1/units/{unit['unit_id']}")[1]
    # What was text stays text; what is typed as a number is one.
    assert (after["kind"], after["attributes"]) == ("freezer", {"code": "7", "max_celsius": -18.5})

    page.get_by_role("button", name="· edited").click()
    dialog.get_by_label("Measures in").fill("percent")
    dialog.get_by_label("Expected every").fill("90s")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="edited").filter(has_text="percent")).to_contain_text("1m30s")
    opened.go(f"#/sensors/{sensor}", "edited")
    page.get_by_role("button", name="Edit", exact=True).click()
    dialog.get_by_label("Expected every").fill("")
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_contain_text("not declared")
    found = system.get(f"/v1/sensors/{sensor}")[1]
    assert (found["unit"], found["expected_interval"]) == ("percent", None)
    assert system.get(f"/v1/sites/{site['site_id']}")[1]["timezone"] == "Europe/Lisbon"


def test_a_forgotten_password_is_set_anew_by_a_code_and_changed_on_the_page(
    system: Running, visit: Callable[..., Visit]
) -> None:
    email = "forgetful@people.example"
    assert system.post("/v1/users", {"email": email, "role": "staff", "password": PASSWORD})[0] == 201
    elsewhere = visit()
    elsewhere.connection = elsewhere.connection | {"email": email, "password": PASSWORD}
    elsewhere.sign_in()
    opened = visit()
    page = opened.page

    page.get_by_text("I forgot my password").click()
    page.get_by_label("Your e-mail").fill(email)
    page.keyboard.press("Enter")
    expect(page.get_by_text("If somebody has this address, a message with a code goes there.").last).to_be_visible()
    page.get_by_text("I have a code from a message").click()
    page.get_by_label("Code").fill(message_code(system, email))
    page.get_by_label("New password").fill("another horse entirely")
    page.get_by_role("button", name="Set the password").click()
    expect(page.get_by_text("Your password is set. Sign in with it above.")).to_be_visible()
    # Whoever was signed in with the old one is out.
    elsewhere.may_refuse = elsewhere.may_lose = True
    expect(elsewhere.page.get_by_role("heading", name="Sign in to Weir")).to_be_visible()

    opened.connection = opened.connection | {"email": email, "password": "another horse entirely"}
    opened.sign_in()
    opened.go("#/access", "Access")
    page.get_by_text("Change your password").click()
    opened.may_refuse = True
    page.get_by_label("Your password now").fill("wrong")
    page.get_by_label("The new one").fill("the last horse of all")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_label("Your password now")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Your password now")).to_be_focused()
    page.get_by_label("Your password now").fill("another horse entirely")
    page.get_by_role("button", name="Change password").click()
    expect(page.locator("#announce")).to_contain_text("Your password is changed.")
    page.get_by_role("button", name="Sign out").click()
    opened.connection = opened.connection | {"password": "the last horse of all"}
    page.evaluate("location.hash = '#/'")
    opened.sign_in()


def test_corrections_of_the_bill_tell_why_and_what_becomes_of_them(
    system: Running, visit: Callable[..., Visit]
) -> None:
    with psycopg.connect(system.superuser_url, autocommit=True) as superuser:
        superuser.execute(
            "WITH charge AS (INSERT INTO weir.usage_charge (tenant_id, meter, month, starts_at, ends_at, quantity, state)"
            " VALUES (%(tenant)s, 'readings', '2026-10-01Z', '2026-10-30T07:00Z', '2026-10-30T08:00Z', 12345, 'acknowledged')"
            " RETURNING charge_id)"
            " INSERT INTO weir.usage_adjustment (tenant_id, meter, bucket_start, quantity, reason, charge_id)"
            " SELECT %(tenant)s, v.* FROM (VALUES"
            " ('readings', timestamptz '2026-10-30T07:00Z', 12345, 'the invoice of the period is final', (TABLE charge)),"
            " ('scans', '2026-10-02T10:00Z', -1, 'the hour is too old to be pushed', NULL)) AS v",
            {"tenant": system.connection["tenant_id"]},
        )
    opened = visit().sign_in()
    opened.go("#/usage", "Usage")

    table = opened.page.get_by_role("table", name="Corrections")
    late = table.get_by_role("row", name="the invoice of the period is final")
    for shown in ("Readings", "Oct 30, 2026", "12,345", "on the invoice that follows"):
        expect(late).to_contain_text(shown)
    old = table.get_by_role("row", name="the hour is too old to be pushed")
    for shown in ("Scans", "Oct 2, 2026", "-1", "on a coming invoice"):
        expect(old).to_contain_text(shown)
    assert opened.barriers() == []
