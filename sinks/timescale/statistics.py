"""What the planner believes of the tables that the stream joins, brought up to date when a statement took too long.

A table analysed while a great transaction was still filling it counts as empty, and joins of two such tables read one wholly
for each row of the other: every try of a batch would run into its time limit until PostgreSQL looks again by itself, minutes
later.
"""

from __future__ import annotations

import structlog

from core.postgres import Pool, is_transient

log = structlog.get_logger()


async def refresh_statistics(pool: Pool) -> list[str]:
    """Analyse the tables that statements of the stream join; failing to is only logged, for the next try comes.

    Returns:
        The tables that were analysed; those looked at within the last seconds are left out.
    """
    try:
        async with pool.connection() as connection:
            row = await (await connection.execute("SELECT weir.refresh_statistics()")).fetchone()
    except Exception as exc:
        if not is_transient(exc):
            raise
        log.warning("statistics.not_refreshed", error=repr(exc)[:200])
        return []
    tables: list[str] = row[0] if row else []
    log.info("statistics.refreshed", tables=tables)
    return tables
