"""Signing in, refreshing, signing out: whose tokens hold, for how long, and what ends them at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from accounts import sessions
from accounts.tokens import AccessTokens
from core.postgres import DatabaseRole, open_pool
from tests.integration.api_scene import api_settings, client, new_tenant, serving
from tests.integration.people_scene import PASSWORD, Person, as_person, new_address, new_person, post, sign_in
from tests.integration.servers import VAULT, Database, Tenant, wait_until

pytestmark = pytest.mark.integration

ACTS_WITHIN_S = 60  # generous: two seconds, and whatever the machine does besides


@pytest.fixture(scope="module")
def other_url(database: Database) -> Iterator[str]:
    """A second process of the same API, which was told nothing."""
    with serving(api_settings(database.reader_url)) as url:
        yield url


@pytest.fixture(scope="module")
def tenant(database: Database) -> Tenant:
    return new_tenant(database)


@pytest.fixture
def anna(url: str, tenant: Tenant) -> Person:
    return new_person(url, tenant.api_key, "owner")


def status(url: str, token: str, path: str = "/v1/auth/me") -> int:
    with client(url, token) as api:
        return int(api.http.get(path).status_code)


def refresh(url: str, token: str) -> Any:
    with client(url, None) as api:
        return api.http.post("/v1/auth/refresh", json={"refresh_token": token})


class TestLogin:
    def test_the_tokens_are_of_the_users_tenant_and_role(self, url: str, tenant: Tenant, anna: Person) -> None:
        tokens = sign_in(url, anna.email.upper())

        assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 900)
        with client(url, tokens["access_token"]) as api:
            me = api.get("/v1/auth/me")
        assert (me["kind"], me["subject_id"], me["role"]) == ("user", anna.user_id, "owner")
        assert me["tenant_id"] == tenant.tenant_id

    def test_a_wrong_password_and_an_unknown_address_are_answered_alike(self, url: str, anna: Person) -> None:
        wrong = sign_in(url, anna.email, "wrong horse battery", 401)
        unknown = sign_in(url, new_address(), PASSWORD, 401)

        assert {**wrong, "request_id": ""} == {**unknown, "request_id": ""}

    def test_a_user_without_a_password_cannot_sign_in(self, url: str, tenant: Tenant) -> None:
        email = new_address()
        with client(url, tenant.api_key) as api:
            assert post(api, "/v1/users", {"email": email, "role": "staff"}, 201)["active"] is False
        for tried in ("", "None", "null", PASSWORD):
            sign_in(url, email, tried, 401)

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"email": "a@b"},
            {"email": 1, "password": "x"},
            {"email": "a\0@b", "password": "x"},
            {"email": "a@b", "password": ["x"]},
        ],
        ids=["nothing", "no password", "number", "NUL", "list"],
    )
    def test_a_body_of_another_shape_is_422(self, url: str, body: Any) -> None:
        with client(url, None) as api:
            post(api, "/v1/auth/login", body, 422)

    def test_guessing_is_stopped_for_the_address_and_told_how_long(self, url: str, anna: Person) -> None:
        with client(url, None) as api:
            answers = [
                api.http.post("/v1/auth/login", json={"email": anna.email, "password": f"wrong horse {n}"})
                for n in range(11)
            ]
            assert [answer.status_code for answer in answers] == [401] * 10 + [429]
            assert 1 <= int(answers[-1].headers["retry-after"]) <= 6  # ten a minute
            right = api.http.post("/v1/auth/login", json={"email": anna.email, "password": PASSWORD})
        assert right.status_code == 429

    def test_a_machine_that_tries_many_addresses_is_stopped(self, database: Database) -> None:
        settings = api_settings(database.reader_url, sign_in_failures_per_address=3)
        with serving(settings) as own, client(own, None) as api:
            answers = [
                api.http.post("/v1/auth/login", json={"email": new_address(), "password": PASSWORD}).status_code
                for _ in range(4)
            ]
        assert answers == [401, 401, 401, 429]

    def test_ten_at_once_all_sign_in(self, url: str, anna: Person) -> None:
        with ThreadPoolExecutor(10) as threads:
            tokens = list(threads.map(lambda _: sign_in(url, anna.email), range(10)))

        assert len({each["refresh_token"] for each in tokens}) == 10


class TestAccess:
    def test_no_other_kind_of_secret_is_an_access_token(self, url: str, anna: Person) -> None:
        for wrong in (anna.refresh_token, f"{anna.access_token}x", anna.access_token[:-2], anna.user_id):
            assert status(url, wrong) == 401
        now_s = int(time.time())
        assert status(url, AccessTokens(b"x" * 32).issue(anna.user_id, "ses_x", now_s)) == 401
        assert status(url, AccessTokens(VAULT.digest_key).issue(anna.user_id, "ses_x", now_s)) == 401
        assert refresh(url, anna.access_token).status_code == 401

    def test_a_genuine_token_of_no_session_or_of_anothers_is_nobody(
        self, url: str, tenant: Tenant, anna: Person, database: Database
    ) -> None:
        ben = new_person(url, tenant.api_key, "viewer")
        ((session,),) = database.query("SELECT session_id FROM weir.user_session WHERE user_id = %s", ben.user_id)
        genuine = AccessTokens(VAULT.token_key)
        now_s = int(time.time())

        assert status(url, genuine.issue(ben.user_id, session, now_s)) == 200
        assert status(url, genuine.issue(anna.user_id, session, now_s)) == 401
        assert status(url, genuine.issue(anna.user_id, "ses_none", now_s)) == 401
        assert status(url, genuine.issue(ben.user_id, session, now_s - 901)) == 401

    def test_signing_out_ends_the_session_here_at_once_and_elsewhere_within_seconds(
        self, url: str, other_url: str, anna: Person
    ) -> None:
        assert status(other_url, anna.access_token) == 200
        with as_person(url, anna) as api:
            assert api.http.post("/v1/auth/logout").status_code == 204
            assert api.http.get("/v1/auth/me").status_code == 401
        wait_until(lambda: status(other_url, anna.access_token) == 401, ACTS_WITHIN_S, "the end of the session")
        assert refresh(url, anna.refresh_token).status_code == 401

    def test_another_role_and_a_removal_act_elsewhere_within_seconds(
        self, url: str, other_url: str, tenant: Tenant, anna: Person
    ) -> None:
        ben = new_person(url, tenant.api_key, "manager")
        path = "/v1/audit"
        assert status(other_url, ben.access_token, path) == 200
        with as_person(url, anna) as api:
            assert api.http.patch(f"/v1/users/{ben.user_id}", json={"role": "viewer"}).status_code == 200
            wait_until(lambda: status(other_url, ben.access_token, path) == 403, ACTS_WITHIN_S, "the new role")
            assert api.http.delete(f"/v1/users/{ben.user_id}").status_code == 204
        wait_until(lambda: status(other_url, ben.access_token) == 401, ACTS_WITHIN_S, "the removal")
        assert refresh(url, ben.refresh_token).status_code == 401

    def test_a_key_has_no_session_to_end(self, url: str, tenant: Tenant) -> None:
        with client(url, tenant.api_key) as api:
            assert post(api, "/v1/auth/logout", None, 403)["code"] == "not_signed_in"


class TestRefresh:
    def test_each_refresh_gives_the_next_token_of_the_session(self, url: str, anna: Person) -> None:
        token = anna.refresh_token
        for _ in range(3):
            answer = refresh(url, token)
            assert answer.status_code == 200
            assert status(url, answer.json()["access_token"]) == 200
            assert answer.json()["refresh_token"] != token
            token = answer.json()["refresh_token"]

    def test_two_that_cross_both_go_on_and_the_one_used_later_retires_the_other(self, url: str, anna: Person) -> None:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: refresh(url, anna.refresh_token), range(4)))
        assert [answer.status_code for answer in answers] == [200] * 4

        tokens = [answer.json()["refresh_token"] for answer in answers]
        following = refresh(url, tokens[0]).json()["refresh_token"]
        following = refresh(url, following).json()["refresh_token"]
        # Two generations on, the others are as old as stolen ones: the session ends, the newest token too.
        assert refresh(url, tokens[1]).status_code == 401
        assert refresh(url, following).status_code == 401
        assert status(url, anna.access_token) == 401

    def test_a_token_that_comes_again_after_the_grace_ends_its_session(
        self, url: str, anna: Person, database: Database
    ) -> None:
        stolen = anna.refresh_token
        answer = refresh(url, stolen).json()
        elsewhere = sign_in(url, anna.email)
        database.query(
            "UPDATE weir.user_session SET rotated_at = rotated_at - interval '10 s' WHERE user_id = %s", anna.user_id
        )

        assert refresh(url, stolen).status_code == 401
        assert status(url, answer["access_token"]) == 401
        assert refresh(url, answer["refresh_token"]).status_code == 401
        assert status(url, elsewhere["access_token"]) == 200
        with client(url, elsewhere["access_token"]) as api:
            ended = api.walk("/v1/audit", kind="session")[0]
        assert ended["changes"]["end_reason"] == {"to": "token_reused"}

    def test_an_idle_session_ends_after_thirty_days(self, url: str, anna: Person, database: Database) -> None:
        ((left,),) = database.query("SELECT expires_at - now() FROM weir.user_session WHERE user_id = %s", anna.user_id)
        assert timedelta(days=29, hours=23) < left <= timedelta(days=30)

        database.query("UPDATE weir.user_session SET expires_at = now() WHERE user_id = %s", anna.user_id)
        assert refresh(url, anna.refresh_token).status_code == 401
        wait_until(lambda: status(url, anna.access_token) == 401, ACTS_WITHIN_S, "the end of the session")

    def test_no_session_outlives_half_a_year_however_often_it_is_refreshed(
        self, url: str, anna: Person, database: Database
    ) -> None:
        database.query(
            "UPDATE weir.user_session SET created_at = now() - interval '179 days' WHERE user_id = %s", anna.user_id
        )
        assert refresh(url, anna.refresh_token).status_code == 200
        ((left,),) = database.query("SELECT expires_at - now() FROM weir.user_session WHERE user_id = %s", anna.user_id)
        assert timedelta(0) < left <= timedelta(days=1)

    def test_tokens_are_kept_as_keyed_digests_only(self, anna: Person, database: Database) -> None:
        rows = database.query(
            "SELECT r.digest FROM weir.refresh_token r JOIN weir.user_session s USING (session_id) WHERE s.user_id = %s",
            anna.user_id,
        )
        assert [bytes(digest) for (digest,) in rows] == [VAULT.digest(anna.refresh_token)]


class TestPassword:
    def test_changing_it_takes_the_old_one_and_ends_the_other_sessions(self, url: str, anna: Person) -> None:
        elsewhere = sign_in(url, anna.email)
        with as_person(url, anna) as api:
            wrong = {"old_password": "wrong horse battery", "new_password": "another good one"}
            assert post(api, "/v1/auth/password", wrong, 422)["errors"][0]["parameter"] == "old_password"
            post(api, "/v1/auth/password", {**wrong, "old_password": PASSWORD}, 204)
            assert api.http.get("/v1/auth/me").status_code == 200
        sign_in(url, anna.email, PASSWORD, 401)
        sign_in(url, anna.email, "another good one")
        assert refresh(url, elsewhere["refresh_token"]).status_code == 401

    def test_a_session_cannot_start_on_a_password_that_was_changed_while_it_was_checked(
        self, anna: Person, database: Database
    ) -> None:
        async def go() -> tuple[object, object]:
            async with open_pool(database.reader_url, DatabaseRole.READER, size=1) as pool:
                found = await sessions.find_login(pool, anna.email)
                assert found is not None
                assert found.password_hash is not None
                stale = await sessions.start_session(pool, VAULT, found.user_id, "$argon2id$another")
                return stale, await sessions.start_session(pool, VAULT, found.user_id, found.password_hash)

        stale, fresh = asyncio.run(go())
        assert stale is None
        assert fresh is not None
