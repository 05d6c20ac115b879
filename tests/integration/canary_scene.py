"""A tenant with something in every book, every text of it a canary: whoever else shows one has sung.

Whoever adds a kind of thing with an id plants one in `furnish` and names its id.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import LiteralString

from tests.integration.api_scene import Client, add_readings, add_sensor, client, instant
from tests.integration.people_scene import PASSWORD, post, sign_in
from tests.integration.servers import Database, Tenant

START = instant("2026-11-20T00:00:00Z")
RULE = {"severity": "minor", "condition": {"type": "threshold", "above": 8.0, "for": "30m"}}


@dataclass(frozen=True)
class Furnished:
    """A tenant, whom it signed in, and what it has.

    Attributes:
        mark: in every one of its texts.
        ids: by the names that parameters have.
        secrets: what no log may ever show, besides the texts.
    """

    tenant: Tenant
    mark: str
    ids: dict[str, str]
    secrets: tuple[str, ...]

    @property
    def nowhere(self) -> dict[str, str]:
        """Ids like its own, of nothing."""
        return {
            name: "987654321" if value.isdigit() else f"{value[:4]}{'0' * (len(value) - 4)}"
            for name, value in self.ids.items()
        }


def furnish(database: Database, url: str, tenant: Tenant) -> Furnished:
    """Plant one of everything."""
    mark = f"canary{secrets.token_hex(4)}"
    # On a plan that includes everything, so that what is refused is refused for whom it is.
    database.query("UPDATE weir.tenant SET plan = 'enterprise' WHERE tenant_id = %s", tenant.tenant_id)
    with client(url, tenant.api_key) as api:
        ids = _places(database, api, tenant, mark) | _people(database, api, mark)
        ids |= _alert(database, api, tenant, mark, ids["sensor_id"])
        ids |= _scan(database, api, tenant, mark)
        ids |= {"job_id": api.get("/v1/jobs")["items"][0]["job_id"]}
    token = sign_in(url, f"{mark}@{mark}.example")
    hidden = (tenant.api_key, token["access_token"], token["refresh_token"], tenant.devices[0].secret, PASSWORD)
    return Furnished(tenant, mark, ids, hidden)


def _places(database: Database, api: Client, tenant: Tenant, mark: str) -> dict[str, str]:
    organization = api.http.patch("/v1/organization", json={"name": f"{mark} organization"})
    assert organization.status_code == 200, organization.text
    site = post(
        api, "/v1/sites", {"name": f"{mark} site", "timezone": "UTC", "attributes": {mark: f"{mark} site"}}, 201
    )
    unit = {"name": f"{mark} unit", "kind": "fridge", "site_id": site["site_id"], "attributes": {mark: f"{mark} unit"}}
    unit_id = post(api, "/v1/units", unit, 201)["unit_id"]
    device_id = tenant.devices[0].device_id
    assert api.http.patch(f"/v1/devices/{device_id}", json={"name": f"{mark} device"}).status_code == 200
    sensor_no, sensor_id = add_sensor(database, tenant, f"{mark} sensor")
    add_readings(database, sensor_no, [(START + timedelta(minutes=n), 0, 4.5) for n in range(60)])
    assigned = api.http.patch(f"/v1/sensors/{sensor_id}", json={"unit_id": unit_id})
    assert assigned.status_code == 200, assigned.text
    ((secret_id,),) = database.query("SELECT secret_id FROM weir.device_secret WHERE device_id = %s", device_id)
    return {
        "site_id": site["site_id"],
        "unit_id": unit_id,
        "device_id": device_id,
        "secret_id": str(secret_id),
        "sensor_id": sensor_id,
    }


# The tenant's first key, which made the other one.
_OTHER_KEY: LiteralString = """
SELECT k.api_key_id FROM weir.api_key k JOIN weir.api_key made USING (tenant_id)
WHERE made.api_key_id = %s AND k.api_key_id <> made.api_key_id
"""


def _people(database: Database, api: Client, mark: str) -> dict[str, str]:
    owner = {"email": f"{mark}@{mark}.example", "role": "owner", "name": f"{mark} owner", "password": PASSWORD}
    post(api, "/v1/users", owner, 201)
    staff = {"email": f"staff@{mark}.example", "role": "staff", "name": f"{mark} staff"}
    user_id = post(api, "/v1/users", staff, 201)["user_id"]
    key_id = post(api, "/v1/api-keys", {"name": f"{mark} key", "scopes": ["read"]}, 201)["api_key_id"]
    guest = {"email": f"guest@{mark}.example", "role": "viewer", "name": f"{mark} guest"}
    invitation_id = post(api, "/v1/auth/invitations", guest, 201)["invitation_id"]
    return {
        "user_id": user_id,
        "api_key_id": key_id,
        "invitation_id": invitation_id,
        "subject_id": user_id,
        "actor": database.query(_OTHER_KEY, key_id)[0][0],
    }


def _alert(database: Database, api: Client, tenant: Tenant, mark: str, sensor_id: str) -> dict[str, str]:
    rule_id = post(api, "/v1/rules", {**RULE, "name": f"{mark} rule", "applies_to": {"sensor_id": sensor_id}}, 201)[
        "rule_id"
    ]
    ((alert_id,),) = database.query(
        "INSERT INTO weir.alert_episode (tenant_id, sensor_no, rule_no, severity, status, started_at, fired_at, peak_at,"
        " peak_value, proven_ms, possible_ms, historical, reason)"
        " SELECT %s, s.sensor_no, r.rule_no, 'minor', 'firing', %s, %s, %s, 9.5, 60000, 60000, false, %s"
        " FROM weir.sensor s, weir.rule r WHERE s.sensor_id = %s AND r.rule_id = %s RETURNING alert_id",
        tenant.tenant_id,
        START,
        START,
        START,
        f"{mark} reason",
        sensor_id,
        rule_id,
    )
    post(api, f"/v1/alerts/{alert_id}/comment", {"note": f"{mark} note"}, 200)
    post(api, f"/v1/alerts/{alert_id}/assign", {"assignee": f"{mark} assignee"}, 200)
    return {"rule_id": rule_id, "alert_id": str(alert_id)}


_EXPORT: LiteralString = """
INSERT INTO weir.scan_export (scan_no, tenant_id, format, bytes, sha256, object_key)
SELECT scan_no, tenant_id, 'json', bytes, sha256, object_key FROM weir.scan_file WHERE file_id = %s
"""


def _scan(database: Database, api: Client, tenant: Tenant, mark: str) -> dict[str, str]:
    """A scan that is completed, with a file that is its export too."""
    scan = {"name": f"{mark} scan", "device_id": tenant.devices[0].device_id}
    scan_id = post(api, "/v1/scans", scan, 201)["scan_id"]
    content, name = f'{{"cloud": "{mark} cloud"}}', base64.b64encode(f"{mark} file.json".encode()).decode()
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(content)), "Upload-Metadata": f"filename {name}"}
    headers["Content-Type"] = "application/offset+octet-stream"
    uploaded = api.http.post(f"/v1/scans/{scan_id}/files", headers=headers, content=content)
    assert uploaded.status_code == 201, uploaded.text
    file_id = uploaded.json()["file_id"]
    database.query(_EXPORT, file_id)
    database.query("UPDATE weir.scan SET status = 'completed', error = %s WHERE scan_id = %s", f"{mark} error", scan_id)
    return {"scan_id": scan_id, "file_id": file_id}
