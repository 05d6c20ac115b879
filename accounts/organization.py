"""The tenant itself, as its people see it.

Runs as weir_reader inside a tenant's transaction; row-level security keeps it within the tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.postgres import Connection


@dataclass(frozen=True, slots=True)
class Organization:
    """The tenant itself."""

    tenant_id: str
    name: str
    plan: str
    raw_retention_ms: int | None
    created_at: datetime


async def read_organization(connection: Connection) -> Organization:
    """The transaction's tenant."""
    cursor = await connection.execute(
        "SELECT tenant_id, name, plan, (extract(epoch FROM least(raw_retention, plan_retention)) * 1000)::bigint, created_at"
        " FROM weir.tenant"
    )
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - the credential's tenant exists
    return Organization(*row)


async def rename_organization(connection: Connection, name: str) -> None:
    """Call the tenant something else."""
    await connection.execute("UPDATE weir.tenant SET name = %s WHERE tenant_id = weir.current_tenant()", (name,))
