"""`weir tenant create`, `weir user create` and the demo's owners: whoever they make can sign in."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from ops import demo
from ops.connection_file import DemoTenant
from ops.embedded.postgres import EmbeddedPostgres
from sinks.timescale.migrate import Engine
from tests import commands
from tests.integration.api_scene import api_settings, client, serving
from tests.integration.servers import VAULT, Database, fresh_database

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database(postgres: EmbeddedPostgres, engine: Engine) -> Iterator[Database]:
    with fresh_database(postgres.superuser_url, engine) as database:
        yield database


@pytest.fixture(scope="module")
def url(database: Database) -> Iterator[str]:
    with serving(api_settings(database.reader_url)) as url:
        yield url


def weir(url: str, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return commands.weir(*words, stdin=stdin, WEIR_DATABASE_URL=url)


def sign_in(url: str, email: str, password: str, status: int = 200) -> dict[str, Any]:
    with client(url, None) as api:
        response = api.http.post("/v1/auth/login", json={"email": email, "password": password})
        assert response.status_code == status, response.text
        answer: dict[str, Any] = response.json()
        return answer


def test_a_first_tenant_and_its_owner_are_made_by_two_commands(database: Database, url: str) -> None:
    tenant = json.loads(weir(database.owner_url, "tenant", "create", "Küche Nord").stdout)
    words = ("user", "create", "--tenant", tenant["tenant_id"], "--email", "anna@first.example", "--password-stdin")
    user = json.loads(weir(database.owner_url, *words, stdin="correct horse battery\n").stdout)

    assert "password" not in user
    with client(url, sign_in(url, "Anna@First.example", "correct horse battery")["access_token"]) as api:
        me = api.get("/v1/auth/me")
    assert (me["tenant_id"], me["subject_id"], me["role"]) == (tenant["tenant_id"], user["user_id"], "owner")

    again = weir(database.owner_url, *words, stdin="correct horse battery\n")
    assert (again.returncode, again.stdout) == (2, "")
    assert "anna@first.example is a user's already" in again.stderr


def test_without_a_terminal_a_password_is_made_up_and_printed_once(database: Database, url: str) -> None:
    tenant = json.loads(weir(database.owner_url, "tenant", "create", "Second").stdout)
    words = ("--tenant", tenant["tenant_id"], "--email", "ben@second.example", "--role", "staff")
    user = json.loads(weir(database.owner_url, "user", "create", *words).stdout)

    assert len(user["password"]) == 24  # 18 bytes, 4 characters for 3
    sign_in(url, "ben@second.example", user["password"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("user", "create", "--tenant", "ten_none", "--email", "x@y.example"), "there is no tenant ten_none"),
        (("user", "create", "--tenant", "t", "--email", "nobody"), "'nobody' is no e-mail address"),
        (("user", "create", "--tenant", "t", "--email", "x@y.example", "--role", "king"), "there is no role king"),
        (
            ("user", "create", "--tenant", "t", "--email", "x@y.example", "--password-stdin"),
            "a password has 8 to 256 characters, this one 5",
        ),
        (("tenant", "create", " "), "a tenant's name has 1 to 200 characters"),
    ],
    ids=["tenant", "email", "role", "password", "name"],
)
def test_what_cannot_be_made_is_said_in_one_sentence(database: Database, words: tuple[str, ...], said: str) -> None:
    result = weir(database.owner_url, *words, stdin="short\n")

    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_login_that_is_not_the_owners_is_told_so(database: Database) -> None:
    result = weir(database.reader_url, "tenant", "create", "Mine")

    assert result.returncode == 2
    assert "the login login_reader may not work as weir_owner" in result.stderr


class TestDemo:
    def test_its_owners_sign_in_and_stay_the_same_whatever_was_changed(self, database: Database, url: str) -> None:
        tenants = asyncio.run(demo.make(database.owner_url, VAULT))
        self.open_doors(database, tenants)
        for tenant in tenants:
            with client(url, sign_in(url, tenant.email, tenant.password)["access_token"]) as api:
                assert api.get("/v1/auth/me")["tenant_id"] == tenant.tenant_id

        one, other = tenants
        database.query("UPDATE weir.app_user SET password_hash = NULL WHERE tenant_id = %s", one.tenant_id)
        database.query("ALTER TABLE weir.app_user DISABLE TRIGGER keep_an_owner_here")
        database.query("DELETE FROM weir.app_user WHERE tenant_id = %s", other.tenant_id)
        database.query("ALTER TABLE weir.app_user ENABLE TRIGGER keep_an_owner_here")
        # As a data dir of before there were people has it.
        database.query("UPDATE weir.api_key SET scopes = '{read,write}' WHERE tenant_id = %s", one.tenant_id)
        sign_in(url, one.email, one.password, 401)
        self.open_doors(database, tenants)
        for tenant in tenants:
            sign_in(url, tenant.email, tenant.password)
            with client(url, tenant.api_key) as api:
                assert "users:write" in api.get("/v1/auth/me")["permissions"]

    def test_a_database_that_has_a_demo_already_takes_another(self, database: Database, url: str) -> None:
        first, second = (asyncio.run(demo.make(database.owner_url, VAULT)) for _ in range(2))
        self.open_doors(database, first)
        third = asyncio.run(demo.make(database.owner_url, VAULT))
        self.open_doors(database, third)

        assert {tenant.email for tenant in first}.isdisjoint(tenant.email for tenant in third)
        assert len(second) == 2
        sign_in(url, first[0].email, first[0].password)
        sign_in(url, third[0].email, third[0].password)

    def open_doors(self, database: Database, tenants: tuple[DemoTenant, ...]) -> None:
        asyncio.run(demo.open_doors(database.owner_url, VAULT, tenants))
