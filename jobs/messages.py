"""Messages to people: invitations, password resets, quota warnings, as `weir.outgoing_message` keeps them until they are sent.

No transport is set up here: a message is held, so that it can be seen and sent later; nothing of it is logged.
"""

from __future__ import annotations

from jobs.registry import Resources


async def send_message(resources: Resources, *, tenant_id: str, message_id: str) -> None:
    """Hold one message of a tenant."""
    async with resources.pool.connection() as connection:
        await connection.execute(
            "UPDATE weir.outgoing_message SET state = 'held', changed_at = now()"
            " WHERE message_id = %s AND tenant_id = %s AND state = 'waiting'",
            (message_id, tenant_id),
        )
