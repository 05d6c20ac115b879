"""The OpenAPI document against the running API: requests made from it, with valid credentials and ids of things that exist.

Schemathesis makes them, such as the document allows and such as it forbids, and judges the answers: no server error, only
documented statuses, headers and shapes. Nothing is random from run to run: what one finds the next one finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from schemas.live import CHANNELS
from tests.integration.api_processes import api_processes
from tests.integration.api_scene import new_tenant
from tests.integration.canary_scene import Furnished, furnish
from tests.integration.conftest import Broker
from tests.integration.people_scene import new_person
from tests.integration.route_walk import CHOICES, Operation, bodies_with, operations
from tests.integration.servers import Database

pytestmark = pytest.mark.integration

# Bytes of uploads are sent as they are.
schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")
EXAMPLES: Final = 16
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Answered for as long as the client stays.
ENDLESS: Final = "GET /v1/live/{channel}"
# Without a worker it has nothing else to say than 503.
NOT_READY: Final = "GET /readyz"
# What ends the session that asks for it is asked for by a person of its own.
OF_A_PERSON: Final = {"POST /v1/auth/logout", "POST /v1/auth/password"}
# Without a token that was mailed, without Stripe: nothing that a document can say makes these succeed.
NEVER_SUCCEED: Final = {
    "POST /v1/auth/login",
    "POST /v1/auth/refresh",
    "POST /v1/auth/password",
    "POST /v1/auth/invitations/accept",
    "POST /v1/auth/password-reset/confirm",
    "POST /v1/billing/checkout",
    "POST /v1/billing/portal",
    NOT_READY,
    # A scan that is completed; and tus wants headers that fit together.
    "POST /v1/scans/{scan_id}/cancel",
    "POST /v1/scans/{scan_id}/retry",
    "POST /v1/scans/{scan_id}/files",
    "PATCH /v1/scans/{scan_id}/files/{file_id}",
    "DELETE /v1/scans/{scan_id}/files/{file_id}",
}


@pytest.fixture(scope="module")
def url(database: Database, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with api_processes(database, tmp_path_factory.mktemp("contract"), bootstrap=broker.bootstrap) as (process,):
        yield process.url


@dataclass
class Contract:
    """The document, whoever asks, and what came of it.

    Attributes:
        succeeded: operations that answered with what they are for at least once.
        broken: what was wrong, by operation.
    """

    url: str
    mine: Furnished
    credentials: dict[str, str]
    http: requests.Session = field(default_factory=requests.Session)
    succeeded: Counter[str] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)

    def judge(self, name: str, case: Any) -> None:
        """Send a request and hold the answer against the document."""
        case.headers = {"Authorization": f"Bearer {self.credentials.get(name, self.mine.tenant.api_key)}"}
        response = case.call(base_url=self.url, session=self.http, timeout=60)
        self.succeeded[name] += response.status_code < 300
        checks = [each for each in CHECKS if (each, name) != (not_a_server_error, NOT_READY)]
        try:
            case.validate_response(response, checks=checks)
        except FailureGroup as failures:
            self.broken.setdefault(name, "\n".join(map(str, failures.exceptions)))


@pytest.fixture(scope="module")
def contract(database: Database, url: str) -> Iterator[Contract]:
    mine = furnish(database, url, new_tenant(database, "mine"))
    device = mine.tenant.devices[0]
    credentials = {"POST /v1/readings": f"{device.device_id}.{device.secret}"}
    credentials |= {name: new_person(url, mine.tenant.api_key, "owner").access_token for name in OF_A_PERSON}
    contract = Contract(url, mine, credentials)
    yield contract
    contract.http.close()


def test_every_operation_keeps_to_the_document(contract: Contract) -> None:
    schema = schemathesis.openapi.from_url(f"{contract.url}/openapi.json")
    written = {each.name: each for each in operations(schema.raw_schema)}
    every: list[Any] = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr] # an error would say so
    found = {f"{each.method.upper()} {each.path}": each for each in every}
    assert set(found) == set(written)
    # What takes things away comes last.
    names = sorted(set(found) - {ENDLESS}, key=lambda name: (name.startswith("DELETE"), name in OF_A_PERSON, name))
    for name in names:
        for body in [*bodies_with(written[name], contract.mine.ids)] or [None]:
            contract.judge(name, _as_written(found[name], written[name], body, contract.mine.ids))
        _fuzz(contract, name, found[name])

    assert contract.broken == {}
    # One that is new here wants what it needs planted in canary_scene.furnish, or a line above that says why it cannot succeed.
    assert {name for name in names if not contract.succeeded[name]} <= NEVER_SUCCEED


@pytest.mark.parametrize("channel", [*CHANNELS, "weather", "a" * 30])
def test_the_endless_answer_begins_as_documented(contract: Contract, channel: str) -> None:
    headers = {"Authorization": f"Bearer {contract.mine.tenant.api_key}"}
    with contract.http.get(f"{contract.url}/v1/live/{channel}", headers=headers, stream=True, timeout=60) as answer:
        known = channel in CHANNELS
        assert answer.status_code in ({200} if known else {404, 422})
        assert answer.headers["content-type"].startswith("text/event-stream" if known else "application/problem+json")
        assert next(answer.iter_content(None)).startswith(b"retry: " if known else b"{")


def _as_written(operation: Any, written: Operation, body: Any, ids: dict[str, str]) -> Any:
    """The document's own example, about things that exist."""
    paths = {name: {**CHOICES, **ids}[name] for name in [each.name for each in operation.path_parameters]}
    given_body = {} if body is None else {"body": body, "media_type": "application/json"}
    return operation.Case(path_parameters=paths, query={}, **given_body)


def _fuzz(contract: Contract, name: str, operation: Any) -> None:
    """Requests of every kind, half of them about things that exist."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(operation), st.booleans())
    def send(case: Any, exists: bool) -> None:
        if exists:
            case.path_parameters = {
                key: contract.mine.ids.get(key, value) for key, value in (case.path_parameters or {}).items()
            }
        contract.judge(name, case)

    run: Callable[[], None] = send
    run()


def cases(operation: Any) -> st.SearchStrategy[Any]:
    """What the document allows, and what it forbids."""
    allowed = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    return st.one_of(allowed, operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
