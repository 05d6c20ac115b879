"""Devices and sensors that tests make over HTTP and beside it."""

from __future__ import annotations

from typing import Any

from accounts.provisioning import DeviceCredentials
from tests.integration.api_scene import Client, add_sensor
from tests.integration.rule_scene import send
from tests.integration.servers import Database, Tenant


def make_device(api: Client, name: str = "Gateway") -> dict[str, Any]:
    return dict(send(api, "POST", "/v1/devices", {"name": name}, status=201))


def make_sensor(database: Database, tenant: Tenant, device: dict[str, Any], name: str = "air") -> tuple[int, str]:
    publisher = DeviceCredentials(device["device_id"], device["secret"])
    return add_sensor(database, Tenant(tenant.tenant_id, tenant.api_key, (publisher,)), name)
