"""Users, invitations, password resets and API keys, over HTTP."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from api import people_models
from core.tasks import TaskName
from tests.integration.api_scene import client, new_tenant
from tests.integration.job_scene import run_task
from tests.integration.people_scene import (
    PASSWORD,
    Person,
    as_person,
    mailed_token,
    new_address,
    new_person,
    post,
    send,
    sign_in,
)
from tests.integration.servers import Database, Tenant, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def api_options() -> dict[str, Any]:
    return {"sign_in_failures_per_address": 10_000}


class TestUsers:
    def test_a_user_is_made_read_changed_listed_and_removed(self, url: str, owner: Person) -> None:
        email = new_address()
        with as_person(url, owner) as api:
            made = post(api, "/v1/users", {"email": email, "role": "staff", "name": "Ben", "password": PASSWORD}, 201)
            assert people_models.User.model_validate(made)
            assert (made["email"], made["name"], made["role"], made["active"]) == (email, "Ben", "staff", True)
            path = f"/v1/users/{made['user_id']}"
            assert api.get(path) == made
            changed = send(api, "PATCH", path, {"name": "Benno", "role": "viewer"}, 200)
            assert (changed["name"], changed["role"]) == ("Benno", "viewer")
            assert {each["user_id"] for each in api.walk("/v1/users", limit=1)} == {owner.user_id, made["user_id"]}
            send(api, "DELETE", path, None, 204)
            api.get(path, status=404)
            sign_in(url, email, status=401)

    def test_an_address_is_one_users_in_the_installation_however_it_is_written(
        self, url: str, owner: Person, database: Database
    ) -> None:
        theirs = new_person(url, new_tenant(database).api_key, "owner")
        with as_person(url, owner) as api:
            answers = [
                post(api, "/v1/users", {"email": email.upper(), "role": "staff"}, 409)
                for email in (owner.email, theirs.email)
            ]
        assert {answer["code"] for answer in answers} == {"email_taken"}
        # The same sentence for both: that an address is somebody's is all that can be learnt, not whose.
        assert len({answer["detail"] for answer in answers}) == 1

    @pytest.mark.parametrize(
        ("body", "parameter"),
        [
            ({"role": "staff"}, "email"),
            ({"email": "nobody", "role": "staff"}, "email"),
            ({"email": "a@b.example"}, "role"),
            ({"email": "a@b.example", "role": "king"}, "role"),
            ({"email": "a@b.example", "role": "staff", "password": "short"}, "password"),
            ({"email": "a@b.example", "role": "staff", "name": "x" * 201}, "name"),
            ({"email": "a@b.example", "role": "staff", "name": "a\0b"}, "name"),
            ({"email": "a@b.example", "role": "staff", "tenant_id": "ten_x"}, "tenant_id"),
            ({"email": "a@b.example", "role": ["staff"]}, "role"),
        ],
        ids=["no email", "email", "no role", "role", "password", "name", "NUL", "tenant", "list"],
    )
    def test_what_is_wrong_with_a_user_is_said(self, url: str, owner: Person, body: Any, parameter: str) -> None:
        with as_person(url, owner) as api:
            answer = post(api, "/v1/users", body, 422)
        assert answer["errors"][0]["parameter"] == parameter
        assert "short" not in json.dumps(answer)

    def test_the_last_owner_is_neither_removed_nor_made_less(self, url: str, tenant: Tenant, owner: Person) -> None:
        path = f"/v1/users/{owner.user_id}"
        with client(url, tenant.api_key) as api:
            # Somebody who never set a password cannot take over.
            post(api, "/v1/users", {"email": new_address(), "role": "owner"}, 201)
            assert send(api, "DELETE", path, None, 409)["code"] == "last_owner"
            assert send(api, "PATCH", path, {"role": "manager"}, 409)["code"] == "last_owner"
            assert send(api, "PATCH", path, {"role": "owner", "name": "Still"}, 200)["name"] == "Still"
            new_person(url, tenant.api_key, "owner")
            send(api, "PATCH", path, {"role": "manager"}, 200)

    def test_of_two_owners_who_leave_at_once_one_stays(self, url: str, tenant: Tenant, owner: Person) -> None:
        for _ in range(2):
            other = new_person(url, tenant.api_key, "owner")
            with client(url, tenant.api_key) as api, ThreadPoolExecutor(2) as threads:
                people = [each["user_id"] for each in api.walk("/v1/users") if each["role"] == "owner"]
                assert len(people) == 2
                answers = list(threads.map(lambda one: self.leave(url, tenant, one), people))
                assert sorted(answers) == [204, 409]
                assert other.user_id in people

    def leave(self, url: str, tenant: Tenant, user_id: str) -> int:
        with client(url, tenant.api_key) as api:
            return int(api.http.delete(f"/v1/users/{user_id}").status_code)

    def test_a_manager_neither_makes_nor_touches_an_owner(self, url: str, tenant: Tenant, owner: Person) -> None:
        manager = new_person(url, tenant.api_key, "manager")
        with as_person(url, manager) as api:
            for answer in (
                post(api, "/v1/users", {"email": new_address(), "role": "owner"}, 403),
                post(api, "/v1/auth/invitations", {"email": new_address(), "role": "owner"}, 403),
                send(api, "PATCH", f"/v1/users/{owner.user_id}", {"name": "x"}, 403),
                send(api, "DELETE", f"/v1/users/{owner.user_id}", None, 403),
                send(api, "PATCH", f"/v1/users/{manager.user_id}", {"role": "owner"}, 403),
                post(api, "/v1/api-keys", {"name": "x", "scopes": ["admin"]}, 403),
            ):
                assert answer["code"] == "beyond_own_role"
            staff = post(api, "/v1/users", {"email": new_address(), "role": "staff"}, 201)
            send(api, "PATCH", f"/v1/users/{staff['user_id']}", {"role": "manager"}, 200)


class TestInvitations:
    def test_an_invited_person_sets_a_password_and_is_signed_in(
        self, url: str, owner: Person, database: Database
    ) -> None:
        email = new_address()
        with as_person(url, owner) as api:
            made = post(api, "/v1/auth/invitations", {"email": email, "role": "viewer", "name": "Vi"}, 201)
            assert people_models.Invitation.model_validate(made)
            assert made["invited_by"] == owner.user_id
            assert api.walk("/v1/auth/invitations") == [made]
        token = mailed_token(database, email, "invitation")
        with client(url, None) as nobody:
            body = {"token": token, "password": PASSWORD}
            tokens = post(nobody, "/v1/auth/invitations/accept", body, 200)
            assert post(nobody, "/v1/auth/invitations/accept", body, 422)["errors"][0]["parameter"] == "token"
        with client(url, tokens["access_token"]) as api:
            me = api.get("/v1/auth/me")
        assert (me["email"], me["name"], me["role"]) == (email, "Vi", "viewer")
        with as_person(url, owner) as api:
            assert api.walk("/v1/auth/invitations") == []
        sign_in(url, email)

    @pytest.mark.parametrize("how", ["revoked", "expired"])
    def test_what_is_over_opens_nothing(self, url: str, owner: Person, database: Database, how: str) -> None:
        email = new_address()
        with as_person(url, owner) as api:
            made = post(api, "/v1/auth/invitations", {"email": email, "role": "viewer"}, 201)
            if how == "revoked":
                send(api, "DELETE", f"/v1/auth/invitations/{made['invitation_id']}", None, 204)
            else:
                database.query("UPDATE weir.invitation SET expires_at = now() WHERE email = %s", email)
            send(api, "DELETE", f"/v1/auth/invitations/{made['invitation_id']}", None, 404)
        body = {"token": mailed_token(database, email, "invitation"), "password": PASSWORD}
        with client(url, None) as nobody:
            post(nobody, "/v1/auth/invitations/accept", body, 422)

    def test_inviting_says_nothing_of_other_tenants_and_accepting_meets_the_taken_address(
        self, url: str, owner: Person, database: Database
    ) -> None:
        theirs = new_person(url, new_tenant(database).api_key, "owner")
        with as_person(url, owner) as api:
            post(api, "/v1/auth/invitations", {"email": owner.email.upper(), "role": "viewer"}, 409)
            post(api, "/v1/auth/invitations", {"email": theirs.email, "role": "viewer"}, 201)
        body = {"token": mailed_token(database, theirs.email, "invitation"), "password": "a better password"}
        with client(url, None) as nobody:
            assert post(nobody, "/v1/auth/invitations/accept", body, 409)["code"] == "email_taken"
        sign_in(url, theirs.email)


class TestPasswordReset:
    def ask(self, url: str, database: Database, email: str) -> str:
        before = mailed_token(database, email, "password_reset")
        with client(url, None) as nobody:
            assert post(nobody, "/v1/auth/password-reset", {"email": email}, 202) == {"status": "accepted"}
        return str(
            wait_until(
                lambda: (token := mailed_token(database, email, "password_reset")) != before and token,
                60,
                "the message",
            )
        )

    def confirm(self, url: str, token: str, password: str, status: int) -> None:
        with client(url, None) as nobody:
            post(nobody, "/v1/auth/password-reset/confirm", {"token": token, "password": password}, status)

    def test_it_sets_the_password_once_and_ends_every_session(
        self, url: str, owner: Person, database: Database
    ) -> None:
        earlier, token = self.ask(url, database, owner.email), self.ask(url, database, owner.email)
        self.confirm(url, token, "short", 422)
        self.confirm(url, token, "a better password", 204)
        for used in (token, earlier):
            self.confirm(url, used, "an even better password", 422)
        sign_in(url, owner.email, status=401)
        sign_in(url, owner.email, "a better password")
        with client(url, None) as nobody:
            post(nobody, "/v1/auth/refresh", {"refresh_token": owner.refresh_token}, 401)

    def test_of_many_who_use_it_at_once_one_gets_in(self, url: str, owner: Person, database: Database) -> None:
        token = self.ask(url, database, owner.email)

        def use(number: int) -> int:
            body = {"token": token, "password": f"a better password {number}"}
            with client(url, None) as nobody:
                return int(nobody.http.post("/v1/auth/password-reset/confirm", json=body).status_code)

        with ThreadPoolExecutor(4) as threads:
            assert sorted(threads.map(use, range(4))) == [204, 422, 422, 422]

    def test_it_is_good_for_an_hour(self, url: str, owner: Person, database: Database) -> None:
        token = self.ask(url, database, owner.email)
        ((left,),) = database.query(
            "UPDATE weir.password_reset SET expires_at = now() WHERE user_id = %s RETURNING"
            " (SELECT r.expires_at - r.created_at FROM weir.password_reset r WHERE r.digest = password_reset.digest)",
            owner.user_id,
        )
        assert left == timedelta(hours=1)
        self.confirm(url, token, "a better password", 422)

    def test_an_unknown_address_is_answered_alike_and_nothing_is_sent(
        self, url: str, owner: Person, database: Database
    ) -> None:
        email = new_address()
        with client(url, None) as nobody:
            assert post(nobody, "/v1/auth/password-reset", {"email": email}, 202) == {"status": "accepted"}
        self.ask(url, database, owner.email)  # what was asked for before has been looked at by then
        assert mailed_token(database, email, "password_reset") is None

    def test_a_user_without_a_password_sets_the_first_one(self, url: str, owner: Person, database: Database) -> None:
        email = new_address()
        with as_person(url, owner) as api:
            user = post(api, "/v1/users", {"email": email, "role": "staff"}, 201)
            assert user["active"] is False
            self.confirm(url, str(mailed_token(database, email, "welcome")), PASSWORD, 204)
            assert api.get(f"/v1/users/{user['user_id']}")["active"] is True
        sign_in(url, email)

    def test_a_message_waits_as_a_job_and_holds_no_token_in_clear(
        self, url: str, owner: Person, database: Database
    ) -> None:
        token = self.ask(url, database, owner.email)
        ((message_id, sealed),) = database.query(
            "SELECT message_id, sealed FROM weir.outgoing_message WHERE recipient = %s", owner.email
        )
        assert token.encode() not in bytes(sealed)
        ((task, queue, arguments),) = database.query(
            "SELECT task_name, queue_name, args::text FROM weir_jobs.procrastinate_jobs WHERE args ->> 'message_id' = %s",
            message_id,
        )
        assert (task, queue) == ("send_message", "messages")
        assert token not in arguments
        run_task(database, TaskName.SEND_MESSAGE, **json.loads(arguments))
        assert database.query("SELECT state FROM weir.outgoing_message WHERE message_id = %s", message_id) == [
            ("held",)
        ]

    def test_what_is_of_no_use_any_more_is_cleaned_up(self, url: str, owner: Person, database: Database) -> None:
        self.ask(url, database, owner.email)
        keep = sign_in(url, owner.email)
        for statement in (
            "UPDATE weir.user_session SET expires_at = now() - interval '25 h' WHERE session_id ="
            " (SELECT min(session_id) FROM weir.user_session s WHERE s.user_id = %s)",
            "UPDATE weir.password_reset SET expires_at = now() - interval '25 h' WHERE user_id = %s",
        ):
            database.query(statement, owner.user_id)
        database.query(
            "UPDATE weir.outgoing_message SET created_at = now() - interval '15 days' WHERE recipient = %s", owner.email
        )
        run_task(database, TaskName.CLEAN_UP)
        left = [
            database.query("SELECT count(*) FROM weir.user_session WHERE user_id = %s", owner.user_id),
            database.query("SELECT count(*) FROM weir.password_reset WHERE user_id = %s", owner.user_id),
            database.query("SELECT count(*) FROM weir.outgoing_message WHERE recipient = %s", owner.email),
        ]
        assert left == [[(1,)], [(0,)], [(0,)]]
        with client(url, None) as nobody:
            answers = [
                nobody.http.post("/v1/auth/refresh", json={"refresh_token": token}).status_code
                for token in (owner.refresh_token, keep["refresh_token"])
            ]
        assert sorted(answers) == [200, 401]
