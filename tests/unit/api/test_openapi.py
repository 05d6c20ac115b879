"""The description of the API: complete, with examples that are true to their schemas, and readable without a script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from api.app import create_app
from api.documentation import render
from api.models import Model
from core.settings import Settings
from schemas.errors import Misconfigured

# What takes no credential: it is how to get one.
PUBLIC = {
    "POST /v1/auth/login",
    "POST /v1/auth/refresh",
    "POST /v1/auth/invitations/accept",
    "POST /v1/auth/password-reset",
    "POST /v1/auth/password-reset/confirm",
}
# What takes a device's credential, or any of a person's or a key's.
NO_PERMISSION = PUBLIC | {"POST /v1/readings", "GET /v1/auth/me", "POST /v1/auth/logout", "POST /v1/auth/password"}


def settings(**others: Any) -> Settings:
    values = {"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/none"), "secret_key": SecretStr("k" * 32)}
    return Settings(**{**values, **others})


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(settings()).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def descendants(model: type[Model]) -> Iterator[type[Model]]:
    for child in model.__subclasses__():
        yield child
        yield from descendants(child)


def examples(content: dict[str, Any]) -> list[tuple[dict[str, Any], Any]]:
    """Schema and example of every example of a body."""
    found = []
    for each in content.values():
        shown = [named["value"] for named in each.get("examples", {}).values()]
        shown += [each["example"]] if "example" in each else []
        found += [(each["schema"], example) for example in shown]
    return found


class TestDocument:
    def test_it_has_the_operations_of_the_contract(self, document: dict[str, Any]) -> None:
        assert {name for name, _ in operations(document)} == {
            "GET /v1/sensors",
            "GET /v1/sensors/{sensor_id}",
            "GET /v1/sensors/{sensor_id}/readings",
            "PATCH /v1/sensors/{sensor_id}",
            "GET /v1/sensors/{sensor_id}/assignments",
            "POST /v1/sites",
            "GET /v1/sites",
            "GET /v1/sites/{site_id}",
            "PATCH /v1/sites/{site_id}",
            "DELETE /v1/sites/{site_id}",
            "POST /v1/units",
            "GET /v1/units",
            "GET /v1/units/{unit_id}",
            "PATCH /v1/units/{unit_id}",
            "DELETE /v1/units/{unit_id}",
            "POST /v1/devices",
            "GET /v1/devices",
            "GET /v1/devices/{device_id}",
            "PATCH /v1/devices/{device_id}",
            "DELETE /v1/devices/{device_id}",
            "POST /v1/devices/{device_id}/secrets",
            "DELETE /v1/devices/{device_id}/secrets/{secret_id}",
            "POST /v1/scans",
            "GET /v1/scans",
            "GET /v1/scans/{scan_id}",
            "PATCH /v1/scans/{scan_id}",
            "DELETE /v1/scans/{scan_id}",
            "POST /v1/scans/{scan_id}/complete",
            "POST /v1/scans/{scan_id}/cancel",
            "POST /v1/scans/{scan_id}/retry",
            "GET /v1/scans/{scan_id}/export",
            "GET /v1/scans/{scan_id}/files",
            "POST /v1/scans/{scan_id}/files",
            "GET /v1/scans/{scan_id}/files/{file_id}",
            "HEAD /v1/scans/{scan_id}/files/{file_id}",
            "PATCH /v1/scans/{scan_id}/files/{file_id}",
            "DELETE /v1/scans/{scan_id}/files/{file_id}",
            "GET /v1/organization",
            "PATCH /v1/organization",
            "GET /v1/data-quality",
            "POST /v1/readings",
            "GET /v1/rules",
            "POST /v1/rules",
            "GET /v1/rules/{rule_id}",
            "PATCH /v1/rules/{rule_id}",
            "DELETE /v1/rules/{rule_id}",
            "POST /v1/rules/preview",
            "GET /v1/alerts",
            "GET /v1/alerts/{alert_id}",
            "GET /v1/alerts/{alert_id}/history",
            "POST /v1/alerts/{alert_id}/acknowledge",
            "POST /v1/alerts/{alert_id}/comment",
            "POST /v1/alerts/{alert_id}/assign",
            "GET /v1/notifications",
            "GET /v1/jobs",
            "GET /v1/jobs/{job_id}",
            "GET /v1/usage",
            "GET /v1/billing",
            "POST /v1/billing/checkout",
            "POST /v1/billing/portal",
            "GET /v1/usage/reconciliation",
            "POST /v1/auth/login",
            "POST /v1/auth/refresh",
            "POST /v1/auth/logout",
            "POST /v1/auth/password",
            "GET /v1/auth/me",
            "POST /v1/auth/invitations",
            "GET /v1/auth/invitations",
            "DELETE /v1/auth/invitations/{invitation_id}",
            "POST /v1/auth/invitations/accept",
            "POST /v1/auth/password-reset",
            "POST /v1/auth/password-reset/confirm",
            "POST /v1/users",
            "GET /v1/users",
            "GET /v1/users/{user_id}",
            "PATCH /v1/users/{user_id}",
            "DELETE /v1/users/{user_id}",
            "POST /v1/api-keys",
            "GET /v1/api-keys",
            "GET /v1/api-keys/{api_key_id}",
            "PATCH /v1/api-keys/{api_key_id}",
            "DELETE /v1/api-keys/{api_key_id}",
            "POST /v1/api-keys/{api_key_id}/rotate",
            "GET /v1/audit",
            "GET /v1/live/{channel}",
            "GET /livez",
            "GET /readyz",
            "GET /metrics",
        }

    def test_every_response_of_every_operation_has_an_example_that_is_true_to_its_schema(
        self, document: dict[str, Any]
    ) -> None:
        models = {model.__name__: model for model in descendants(Model)}
        for name, operation in operations(document):
            for status, response in operation["responses"].items():
                if status in {"204", "304"}:
                    continue
                shown = examples(response["content"])
                assert shown, f"{name} {status}"
                for schema, example in shown:
                    if "$ref" in schema:
                        models[schema["$ref"].rpartition("/")[2]].model_validate(example)

    def test_every_reference_leads_somewhere(self, document: dict[str, Any]) -> None:
        def references(node: Any) -> Iterator[str]:
            if isinstance(node, dict):
                yield from ([node["$ref"]] if "$ref" in node else [])
                for child in node.values():
                    yield from references(child)
            elif isinstance(node, list):
                for child in node:
                    yield from references(child)

        known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
        assert set(references(document)) <= known

    def test_every_operation_says_what_it_asks_for_and_how_it_fails(self, document: dict[str, Any]) -> None:
        for name, operation in operations(document):
            if " /v1/" in name:
                assert ("security" not in operation) == (name in PUBLIC), name
                assert {"422", "429", "503"} <= set(operation["responses"]), name
                assert "401" in operation["responses"] or name in PUBLIC, name
            assert operation["operationId"].isidentifier(), name

    def test_every_operation_tells_the_permission_that_it_takes(self, document: dict[str, Any]) -> None:
        told = {name: operation.get("x-permission") for name, operation in operations(document)}

        assert told["GET /v1/sensors"] == "sensors:read"
        assert told["POST /v1/alerts/{alert_id}/assign"] == "alerts:write"
        assert {name for name, permission in told.items() if permission is None and " /v1/" in name} == NO_PERMISSION

    def test_the_operation_ids_are_distinct(self, document: dict[str, Any]) -> None:
        ids = [operation["operationId"] for _, operation in operations(document)]

        assert len(ids) == len(set(ids))


class TestDocs:
    def test_the_page_shows_every_operation_and_fetches_nothing(self, document: dict[str, Any]) -> None:
        page = render(document)

        for name, _ in operations(document):
            assert name.partition(" ")[2] in page
        assert "<script" not in page
        assert "src=" not in page
        # Examples name addresses; nothing on the page leads there.
        assert '="http' not in page

    def test_text_from_the_document_is_escaped(self, document: dict[str, Any]) -> None:
        spoiled = {**document, "info": {**document["info"], "title": "<b>&"}}

        assert "<h1>&lt;b&gt;&amp; API" in render(spoiled)


class TestCreateApp:
    def test_a_missing_secret_key_is_said_at_once(self) -> None:
        with pytest.raises(Misconfigured, match="WEIR_SECRET_KEY"):
            create_app(settings(secret_key=SecretStr("")))

    def test_a_missing_database_url_is_said_at_once(self) -> None:
        with pytest.raises(Misconfigured, match="WEIR_DATABASE_URL"):
            create_app(settings(database_url=SecretStr("")))
