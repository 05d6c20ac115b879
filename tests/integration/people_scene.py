"""People of a tenant for tests: made through the API, signed in, and what a message to them says."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from accounts import messages
from accounts.messages import Sealed
from tests.integration.api_scene import Client, client
from tests.integration.servers import VAULT, Database

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Person:
    """A user and the tokens of a session."""

    user_id: str
    email: str
    access_token: str
    refresh_token: str


def post(api: Client, path: str, body: Any, status: int) -> Any:
    """The body of the answer to a POST; None without one."""
    response = api.http.post(path, json=body)
    assert response.status_code == status, response.text
    return response.json() if response.content else None


def send(api: Client, method: str, path: str, body: Any, status: int) -> Any:
    """The body of the answer to any request; None without one."""
    response = api.http.request(method, path, json=body)
    assert response.status_code == status, response.text
    return response.json() if response.content else None


def new_address() -> str:
    """An address that nobody has."""
    return f"p{secrets.token_hex(6)}@people.example"


def sign_in(url: str, email: str, password: str = PASSWORD, status: int = 200) -> Any:
    """The tokens of a new session."""
    with client(url, None) as api:
        return post(api, "/v1/auth/login", {"email": email, "password": password}, status)


def new_person(url: str, api_key: str, role: str) -> Person:
    """A user of the key's tenant who has signed in."""
    email = new_address()
    with client(url, api_key) as api:
        user = post(api, "/v1/users", {"email": email, "role": role, "password": PASSWORD}, 201)
    tokens = sign_in(url, email)
    return Person(user["user_id"], email, tokens["access_token"], tokens["refresh_token"])


@contextmanager
def as_person(url: str, person: Person) -> Iterator[Client]:
    """A client of somebody who signed in."""
    with client(url, person.access_token) as api:
        yield api


def mailed_token(database: Database, recipient: str, kind: str) -> str | None:
    """The token of the newest message of a kind to an address."""
    rows = database.query(
        "SELECT message_id, sealed FROM weir.outgoing_message WHERE recipient = %s AND kind = %s"
        " ORDER BY created_at DESC LIMIT 1",
        recipient,
        kind,
    )
    return messages.unseal(VAULT, Sealed(*rows[0])).token if rows else None
