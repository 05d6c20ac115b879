"""What generated clients are made from stays: operations keep their ids, and show what they take."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import SecretStr

from api.app import create_app
from core.settings import Settings

# Generated clients call these by name. A new route adds a line when it is released; a line never changes.
PUBLISHED = {
    "list_sensors": "GET /v1/sensors",
    "read_sensor": "GET /v1/sensors/{sensor_id}",
    "read_readings": "GET /v1/sensors/{sensor_id}/readings",
    "read_data_quality": "GET /v1/data-quality",
    "publish_readings": "POST /v1/readings",
    "create_rule": "POST /v1/rules",
    "list_rules": "GET /v1/rules",
    "read_rule": "GET /v1/rules/{rule_id}",
    "change_rule": "PATCH /v1/rules/{rule_id}",
    "delete_rule": "DELETE /v1/rules/{rule_id}",
    "preview_rule": "POST /v1/rules/preview",
    "list_alerts": "GET /v1/alerts",
    "read_alert": "GET /v1/alerts/{alert_id}",
    "read_history": "GET /v1/alerts/{alert_id}/history",
    "acknowledge": "POST /v1/alerts/{alert_id}/acknowledge",
    "comment": "POST /v1/alerts/{alert_id}/comment",
    "assign": "POST /v1/alerts/{alert_id}/assign",
    "create_site": "POST /v1/sites",
    "create_unit": "POST /v1/units",
    "create_device": "POST /v1/devices",
    "create_scan": "POST /v1/scans",
    "list_scans": "GET /v1/scans",
    "read_scan": "GET /v1/scans/{scan_id}",
    "complete_scan": "POST /v1/scans/{scan_id}/complete",
    "cancel_scan": "POST /v1/scans/{scan_id}/cancel",
    "export_scan": "GET /v1/scans/{scan_id}/export",
    "login": "POST /v1/auth/login",
    "refresh": "POST /v1/auth/refresh",
    "logout": "POST /v1/auth/logout",
}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    database_url = SecretStr("postgresql://nobody@127.0.0.1:1/none")
    return create_app(Settings(database_url=database_url, secret_key=SecretStr("k" * 32))).openapi()


def operations(document: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """By operation id: method and path, and the operation."""
    return {
        operation["operationId"]: (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_published_operations_keep_their_ids(document: dict[str, Any]) -> None:
    known = {name: where for name, (where, _) in operations(document).items()}

    assert {name: known.get(name) for name in PUBLISHED} == PUBLISHED


def test_ids_are_names_in_the_words_of_the_api(document: dict[str, Any]) -> None:
    assert [name for name in operations(document) if not re.fullmatch(r"[a-z]+(_[a-z0-9]+)*", name)] == []


def test_every_body_shows_an_example(document: dict[str, Any]) -> None:
    bare = [
        f"{where} {media_type}"
        for where, operation in operations(document).values()
        for media_type, content in operation.get("requestBody", {}).get("content", {}).items()
        if not content.get("example") and not content.get("examples")
    ]

    assert bare == ["POST /v1/readings application/msgpack"]  # bytes, which JSON cannot show


def test_every_operation_and_parameter_says_what_it_is_for(document: dict[str, Any]) -> None:
    silent = [where for where, operation in operations(document).values() if not operation.get("description")]
    silent += [
        f"{where} {parameter['name']}"
        for where, operation in operations(document).values()
        for parameter in operation.get("parameters", [])
        if not parameter.get("description")
    ]

    assert silent == []


def test_every_path_parameter_shows_an_example(document: dict[str, Any]) -> None:
    bare = [
        f"{where} {parameter['name']}"
        for where, operation in operations(document).values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "path" and not parameter["schema"].get("examples") and "example" not in parameter
    ]

    assert bare == []
