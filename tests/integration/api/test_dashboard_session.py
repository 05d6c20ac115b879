"""The page's own door to sessions: the refresh token travels in a cookie and nowhere else, and only for the page itself."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from tests.integration.api_scene import new_tenant
from tests.integration.people_scene import PASSWORD, Person, new_person
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

SESSION = "/dashboard/session"


@pytest.fixture
def person(url: str, database: Database) -> Person:
    return new_person(url, new_tenant(database).api_key, "staff")


@pytest.fixture
def page(url: str) -> Iterator[httpx2.Client]:
    """A browser's side: it keeps cookies and says where it comes from."""
    with httpx2.Client(base_url=url, headers={"Origin": url}, timeout=60) as browser:
        yield browser


def sign_in(page: httpx2.Client, person: Person) -> httpx2.Response:
    return page.post(SESSION, json={"email": person.email, "password": PASSWORD})


def reads(page: httpx2.Client, access_token: str) -> int:
    return page.get("/v1/sensors", headers={"Authorization": f"Bearer {access_token}"}).status_code


def test_the_refresh_token_is_in_a_cookie_that_no_script_reads_and_not_in_the_answer(
    page: httpx2.Client, person: Person
) -> None:
    signed_in = sign_in(page, person)

    assert set(signed_in.json()) == {"access_token", "token_type", "expires_in"}
    cookie = signed_in.headers["set-cookie"]
    assert cookie.startswith("weir_refresh=")
    assert cookie.endswith("; HttpOnly; Max-Age=2592000; Path=/dashboard/session; SameSite=strict")  # 30 days
    assert reads(page, signed_in.json()["access_token"]) == 200


def test_the_cookie_gets_the_next_access_token_and_changes_with_it(page: httpx2.Client, person: Person) -> None:
    sign_in(page, person)
    first = page.cookies["weir_refresh"]

    renewed = page.post(f"{SESSION}/refresh", json={})

    assert reads(page, renewed.json()["access_token"]) == 200
    assert page.cookies["weir_refresh"] != first


def test_signing_out_ends_the_session_and_takes_the_cookie_away(page: httpx2.Client, person: Person) -> None:
    access_token = sign_in(page, person).json()["access_token"]

    assert page.delete(SESSION).status_code == 204

    assert "weir_refresh" not in page.cookies
    assert reads(page, access_token) == 401
    assert page.post(f"{SESSION}/refresh", json={}).status_code == 204


def test_a_cookie_that_does_not_hold_is_taken_away_without_an_error(page: httpx2.Client) -> None:
    answer = page.post(f"{SESSION}/refresh", json={}, headers={"Cookie": "weir_refresh=weir_refresh_nobody"})

    assert answer.status_code == 204
    assert 'weir_refresh=""' in answer.headers["set-cookie"]


@pytest.mark.parametrize("origin", ["http://elsewhere.example", "http://127.0.0.1:1", "null"])
def test_another_page_cannot_use_it_although_the_browser_adds_the_cookie(
    page: httpx2.Client, person: Person, origin: str
) -> None:
    sign_in(page, person)
    foreign = {"Origin": origin}

    refused = [
        page.post(f"{SESSION}/refresh", json={}, headers=foreign),
        page.post(SESSION, json={"email": person.email, "password": PASSWORD}, headers=foreign),
        page.delete(SESSION, headers=foreign),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(403, "foreign_origin")] * 3
    assert page.post(f"{SESSION}/refresh", json={}).status_code == 200


def test_a_wrong_password_is_refused_and_sets_nothing(page: httpx2.Client, person: Person) -> None:
    refused = page.post(SESSION, json={"email": person.email, "password": "not it"})

    assert refused.status_code == 401
    assert "set-cookie" not in refused.headers
