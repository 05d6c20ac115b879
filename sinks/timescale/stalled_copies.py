"""Ends sessions whose client has stopped sending in the middle, so that a frozen worker gives up its partition.

PostgreSQL ends slow statements by its own time limit, and idle transactions by another, but neither reaches a server process
that waits for COPY data or for the next statement of a pipeline. After a pipeline not even the idle transaction has an end:
psycopg's last message, a Flush behind the Sync, switches the limit off. A worker frozen there (SIGSTOP, a paused machine)
would hold its position's row for as long as it is frozen, and nobody else could take the partition over. Only ending the
server process helps (from PostgreSQL 17 on `transaction_timeout` does so a minute later).
"""

from __future__ import annotations

from typing import Final

from core.postgres import Pool

# The COPYs of the batch transaction; a batch's data is complete before its COPY begins, so waiting for more is a stall. Who
# waits for the client and is active otherwise is in a pipeline, between statements. An idle transaction holds others up once
# it has written or locked a row (it has an id then); a mere reader's, such as a backup's, is left alone.
_END_STALLED: Final = """
WITH stalled AS MATERIALIZED (  -- materialized, or sessions could be ended before the other conditions are looked at
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND usename = session_user AND wait_event = 'ClientRead'
      AND (state = 'idle in transaction' AND backend_xid IS NOT NULL
           OR state = 'active'
              AND (query NOT ILIKE 'COPY %%' OR query LIKE 'COPY weir.%%' OR query LIKE 'COPY pg_temp.%%'))
      AND state_change < clock_timestamp() - make_interval(secs => %s))
SELECT pid FROM stalled WHERE pg_terminate_backend(pid)
"""


async def end_stalled_copies(pool: Pool, older_than_s: float) -> list[int]:
    """End the sessions of this login that have waited in the middle since longer than that.

    Returns:
        The process ids of the sessions that were ended; their transactions are rolled back.
    """
    async with pool.connection() as connection, connection.transaction():
        # Only the login itself may end its own sessions; the group role that the pool takes may not.
        await connection.execute("SET LOCAL ROLE NONE")
        cursor = await connection.execute(_END_STALLED, (older_than_s,))
        return [pid for (pid,) in await cursor.fetchall()]
