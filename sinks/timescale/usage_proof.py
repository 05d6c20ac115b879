"""The proof that goes on from the last one: days with an hour that changed since are compared, the others are as they were.

What was changed behind the meters' back leaves no trace here; `usage_drift` and `weir reconcile` recount everything.
"""

from __future__ import annotations

from core.postgres import Pool
from sinks.timescale.rollups import long_statements
from sinks.timescale.usage_reader import Difference, touched_differences

_LOCK = "SELECT clock_timestamp() FROM weir.usage_proof FOR UPDATE"
_UNPROVED = """
INSERT INTO weir.usage_unproved (tenant_id, day)
SELECT DISTINCT q.tenant_id, date_bin('1 day', q.hour, 'epoch') FROM unnest(%s::text[], %s::timestamptz[]) AS q (tenant_id, hour)
"""
_ALARM = """
INSERT INTO weir.operator_alarm AS o (kind, subject, detail) VALUES ('billing', 'usage drift', %s)
ON CONFLICT (kind, subject) WHERE closed_at IS NULL DO UPDATE SET last_seen_at = now(), detail = EXCLUDED.detail
"""
_CLOSE_ALARM = """
UPDATE weir.operator_alarm SET closed_at = now() WHERE kind = 'billing' AND subject = 'usage drift' AND closed_at IS NULL
"""


async def prove(pool: Pool) -> list[Difference]:
    """Compare what changed since the last proof, and remember what did not agree for the next one.

    Args:
        pool: of the writer role.

    Returns:
        What differs; the operators have an alarm as long as anything does.
    """
    async with pool.connection() as connection, long_statements(connection), connection.transaction():
        row = await (await connection.execute(_LOCK)).fetchone()
        assert row is not None  # noqa: S101 - the migration's only row
        found = await touched_differences(connection)
        await connection.execute("DELETE FROM weir.usage_unproved")
        await connection.execute(_UNPROVED, ([one.tenant_id for one in found], [one.bucket_start for one in found]))
        await connection.execute("UPDATE weir.usage_proof SET proved_at = %s", row)
        if found:
            detail = f"{len(found)} hours of usage do not agree; run `weir reconcile`"
            await connection.execute(_ALARM, (detail,))
        else:
            await connection.execute(_CLOSE_ALARM)
    return found
