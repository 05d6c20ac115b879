"""The dashboard as people use it: a real Chromium on a running `weir up`, from signing in to losing the server.

Every test ends with a look at what the browser complained about: no error on the console, no violation of the policy.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from ops.embedded.lifeline import ON_LINUX, wait_until
from tests.acceptance.browsing import CHROMIUM, NARROW, NEEDS_CHROMIUM, PAGES, PATIENCE_S, WIDE, Visit, until
from tests.acceptance.running import Running, now, rule, sensor_id

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not ON_LINUX, reason="watches the process tree through /proc"),
    pytest.mark.skipif(CHROMIUM is None, reason=NEEDS_CHROMIUM),
]


def test_a_wrong_key_is_told_at_the_field_and_the_right_one_lets_in(visit: Callable[..., Visit]) -> None:
    opened = visit()
    opened.may_refuse = True
    page = opened.page

    page.get_by_text("Use an API key instead").click()
    page.get_by_label("API key").fill("romo_live_nobody")
    page.get_by_label("API key").press("Enter")

    expect(page.get_by_label("API key")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill(opened.connection["api_key"])
    page.get_by_label("API key").press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_wrong_password_is_told_and_a_session_outlives_the_page_but_not_signing_out(
    visit: Callable[..., Visit],
) -> None:
    opened = visit()
    opened.may_refuse = True
    page = opened.page
    page.get_by_label("E-mail").fill(opened.connection["email"])
    page.get_by_label("Password").fill("not it")
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_label("Password")).to_have_attribute("aria-invalid", "true")
    opened.may_refuse = False

    opened.sign_in()
    page.reload()

    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    [cookie] = page.context.cookies(f"{opened.connection['api_url']}/dashboard/session")
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("weir_refresh", True, "Strict")
    assert page.evaluate("document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })") == "{}"

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in to Weir")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Sign in to Weir")).to_be_visible()
    assert page.context.cookies(f"{opened.connection['api_url']}/dashboard/session") == []


def test_a_published_reading_appears_by_itself(
    system: Running, visit: Callable[..., Visit], record_property: Callable[[str, object], None]
) -> None:
    sensor = sensor_id(system, "air")
    opened = visit().sign_in()
    opened.go(f"#/sensors/{sensor}?range=1h", "air")
    opened.eventually("() => document.getElementById('now').dataset.at")
    opened.eventually(
        "() => document.querySelector('.chart .scatterlayer path.js-line, .chart .scatterlayer path.point')"
    )
    waited_ms = []

    for value in (3.5, 7.2, 5.5):
        at, published_ms = now(), time.time() * 1000
        assert system.publish(("air", at, value)) == 202
        shown_ms = opened.eventually(
            "at => { const now = document.getElementById('now'); return now.dataset.at === at && now.dataset.shownMs }",
            at,
        )
        waited_ms.append(round(float(shown_ms) - published_ms))
        assert opened.page.locator("#now").inner_text().replace("\u2212", "-").startswith(f"{value:.1f}"[:3])

    record_property("publish_to_visible_ms", waited_ms)
    print("publish to visible, ms:", waited_ms)  # noqa: T201


def test_an_alert_fires_is_told_and_is_acknowledged(system: Running, visit: Callable[..., Visit]) -> None:
    sensor = sensor_id(system, "fridge")
    rule(system, sensor, "Fridge far too warm", 8.0)
    opened = visit().sign_in()
    page = opened.page

    assert system.publish(("fridge", now(), 9.5)) == 202

    expect(page.locator("#announce-now")).to_contain_text("Critical: Fridge far too warm")
    expect(page.locator("#alert-count")).to_contain_text("1")
    expect(page.locator("article", has_text="fridge").get_by_text("Alert").first).to_be_visible()
    page.get_by_role("link", name="Alerts").click()
    row = page.get_by_role("row", name="Fridge far too warm")
    expect(row).to_contain_text("Firing")
    row.get_by_role("button", name="Acknowledge").click()
    expect(row).to_contain_text("Acknowledged")
    row.get_by_role("link").click()
    page.get_by_label("Comment").fill("<b>door</b> was open")
    page.get_by_role("button", name="Comment").click()
    expect(page.get_by_role("list").get_by_text("<b>door</b> was open")).to_be_visible()

    alert = system.get(f"/v1/alerts?sensor_id={sensor}")[1]["items"][0]
    assert alert["status"] == "firing"
    assert alert["acknowledged_at"] is not None


def test_a_rule_is_checked_at_the_field_previewed_and_created(system: Running, visit: Callable[..., Visit]) -> None:
    sensor = sensor_id(system, "freezer", 12.0)
    opened = visit().sign_in()
    page = opened.page
    opened.go("#/rules/new", "New rule")
    page.get_by_label("Name").fill("Freezer too warm")
    page.get_by_label("Applies to").select_option(label="One sensor")
    page.get_by_label("Which", exact=True).select_option(value=sensor)

    opened.may_refuse = True
    page.get_by_label("For at least").fill("soon")
    page.get_by_role("button", name="Create rule").click()
    expect(page.get_by_label("For at least")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("For at least")).to_be_focused()

    opened.may_refuse = False
    page.get_by_label("For at least").fill("")
    page.get_by_role("button", name="Preview").click()
    expect(page.get_by_role("status").filter(has_text="1 alert on 1 of 1 sensors")).to_be_visible()
    expect(page.locator(".chart .shapelayer path").first).to_be_attached()
    page.get_by_role("button", name="Create rule").click()

    expect(page.get_by_role("row", name="Freezer too warm")).to_contain_text("Above 8.0")


def test_a_device_is_made_with_a_secret_shown_once_and_its_sensor_put_into_a_new_unit(
    system: Running, visit: Callable[..., Visit]
) -> None:
    opened = visit().sign_in()
    page = opened.page
    opened.go("#/devices", "Devices")
    page.get_by_label("Name of the new device").fill("Walk-in logger")
    page.get_by_role("button", name="Create device").click()
    secret = page.locator(".secret").inner_text()
    device = page.get_by_role("row", name="Walk-in logger").locator("code").inner_text()

    published = system.publish(("probe", now(), 2.5), device=f"{device}.{secret}")

    assert published == 202
    opened.go("#/places", "Places")
    page.get_by_label("Name of the new site").fill("Harbour")
    page.get_by_role("button", name="Create site").click()
    page.get_by_label("Name of the new unit").fill("Walk-in fridge")
    page.get_by_label("At", exact=True).select_option(label="Harbour")
    page.get_by_role("button", name="Create unit").click()
    page.get_by_role("row", name="Walk-in logger").get_by_role("combobox").select_option(
        label="Harbour \u203a Walk-in fridge"
    )
    opened.go("#/", "Overview")
    expect(page.get_by_role("region", name="Harbour").locator("article")).to_contain_text("probe")
    page.get_by_role("link", name="probe").click()
    expect(page.get_by_role("heading", level=1, name="Walk-in fridge · probe")).to_be_visible()


def test_names_from_devices_are_text_and_nothing_else(system: Running, visit: Callable[..., Visit]) -> None:
    name = "<img src=x onerror=alert(1)><b>"
    sensor = sensor_id(system, name)
    opened = visit().sign_in()

    expect(opened.page.get_by_text(name)).to_be_visible()
    opened.go(f"#/sensors/{sensor}", name)

    assert opened.page.locator("main img, main b").count() == 0


def test_a_blocked_websocket_is_replaced_by_asking(system: Running, visit: Callable[..., Visit]) -> None:
    sensor = sensor_id(system, "asked")
    opened = visit()
    opened.may_lose = True
    opened.page.add_init_script("globalThis.WebSocket = class { constructor() { throw new Error('blocked') } }")
    opened.page.reload()
    opened.sign_in()
    expect(opened.page.locator("#link")).to_have_text("Updating every 2 s")
    opened.go(f"#/sensors/{sensor}?range=1h", "asked")
    at = now()

    assert system.publish(("asked", at, 6.5)) == 202

    opened.eventually("at => document.getElementById('now').dataset.at === at", at)


def test_everything_can_be_done_with_the_keyboard_and_the_focus_shows(
    system: Running, visit: Callable[..., Visit]
) -> None:
    sensor_id(system, "keyboard")
    opened = visit().sign_in()
    page = opened.page
    page.evaluate("document.getElementById('skip').focus()")
    focused = """() => {
      const element = document.activeElement, style = getComputedStyle(element);
      return { text: element.textContent.trim(), isSeen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 };
    }"""
    passed = [page.evaluate(focused)["text"]]
    for _ in range(30):
        page.keyboard.press("Tab")
        at = page.evaluate(focused)
        assert at["isSeen"], at
        passed.append(at["text"])
        if at["text"].startswith("Rules"):
            break

    assert passed[:3] == ["Skip to content", "Weir", "Overview"]
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Rules")).to_be_focused()
    page.keyboard.press("Tab")
    assert page.evaluate(focused)["text"] == "New rule"
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="New rule")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type("By keyboard")
    expect(page.get_by_label("Name")).to_have_value("By keyboard")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_keeps_anybody_out(system: Running, visit: Callable[..., Visit], scheme: str) -> None:
    sensor = sensor_id(system, "seen")
    opened = visit(color_scheme=scheme, reduced_motion="reduce")
    assert opened.barriers() == []
    opened.sign_in()
    alerts = system.get("/v1/alerts")[1]["items"]
    pages = PAGES | {f"#/sensors/{sensor}": "seen"} | {f"#/alerts/{each['alert_id']}": "" for each in alerts[:1]}

    for where, heading in pages.items():
        opened.go(where, heading)
        assert until(opened, lambda: opened.page.get_by_text("Loading…").count() == 0), where
        for size in (NARROW, WIDE):
            opened.page.set_viewport_size(size)
            assert until(opened, lambda: opened.barriers() == []), (where, scheme, size, opened.barriers())


def test_the_theme_is_kept_and_the_charts_follow(system: Running, visit: Callable[..., Visit]) -> None:
    opened = visit(color_scheme="light").sign_in()
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = opened.page.evaluate(ground)

    opened.page.get_by_role("button", name="Dark theme").click()

    assert opened.page.evaluate(ground) != light
    opened.page.reload()
    expect(opened.page.get_by_role("button", name="Light theme")).to_be_visible()


def test_a_lost_server_is_said_and_everything_goes_on_when_it_is_back(
    system: Running, visit: Callable[..., Visit]
) -> None:
    sensor = sensor_id(system, "patient")
    opened = visit().sign_in()
    opened.go(f"#/sensors/{sensor}?range=1h", "patient")
    opened.eventually("() => document.getElementById('now').dataset.at")
    opened.may_lose = True

    system.interrupt()

    expect(opened.page.locator("#link")).to_contain_text("Reconnecting \u2013 last update at ")
    assert opened.page.locator("#now").inner_text().startswith("4")

    system.start("--no-demo").wait_until_ready()

    expect(opened.page.locator("#link")).not_to_contain_text("Reconnecting")
    at = now()
    assert wait_until(lambda: system.publish(("patient", at, 5.5)) == 202, PATIENCE_S)
    opened.eventually("at => document.getElementById('now').dataset.at === at", at)
