"""Rules and readings that tests of rules over HTTP share, and how they send documents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from api import models
from tests.integration.api_scene import Client, add_readings, add_sensor, instant
from tests.integration.servers import Database, Tenant

START = instant("2026-10-01T12:00:00Z")
TOO_WARM = {"type": "threshold", "above": 8.0, "for": "30m"}
RULE: dict[str, Any] = {"name": "too warm", "applies_to": {"all": True}, "severity": "critical", "condition": TOO_WARM}
# 9 °C from minute 10 to 40 are 30 proven minutes, 7 °C at 45 resolves.
WARM = [4.0, 4.0, 9.0, 9.0, 9.5, 9.0, 9.0, 9.0, 9.0, 7.0, 4.0]


def send(api: Client, method: str, path: str, document: Any = None, *, status: int = 200) -> Any:
    """The body of an answer of this status."""
    response = api.http.request(method, path, json=document)
    assert response.status_code == status, response.text
    return response.json() if response.content else None


def refused(api: Client, document: Any, path: str = "/v1/rules") -> dict[str, Any]:
    """The one part of a document that is wrong, and why."""
    problem = send(api, "POST", path, document, status=422)
    models.ProblemDetails.model_validate(problem)
    [error] = problem["errors"]
    return dict(error)


def condition(**fields: Any) -> dict[str, Any]:
    return {**RULE, "condition": fields}


def warm_sensor(database: Database, tenant: Tenant, name: str = "air") -> str:
    sensor_no, sensor_id = add_sensor(database, tenant, name)
    add_readings(database, sensor_no, [(START + timedelta(minutes=5 * n), 0, v) for n, v in enumerate(WARM)])
    return sensor_id
