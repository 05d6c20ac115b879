"""What holds up the judging of silence: topics of readings that workers of another prefix should read, and do not.

Judging goes on waiting, as a worker that is down must not look like sensors that are; but people are told, for meanwhile no
sensor of anybody is missed. Border: an operator alarm and the log.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from core.clock import monotonic_s
from core.postgres import Connection
from sinks.dead_letters import close_alarms, raise_alarm

log = structlog.get_logger()

_KIND = "silence_held"
_REMEDY = "no silence is judged until it is read to its end: run the workers that read it, or delete the topic"


class HoldUp:
    """Since when each topic is waited for.

    Args:
        own: the watching worker's topic; that it lags is told elsewhere.
        patience_s: how long a topic may take.
    """

    def __init__(self, own: str, patience_s: float) -> None:
        self._own = own
        self._patience_s = patience_s
        self._since_s: dict[str, float] = {}
        self._told: tuple[list[str], list[str]] | None = None

    async def tell(self, connection: Connection, behind: Sequence[str]) -> None:
        """Open an alarm for each topic that is waited for too long, close those of topics that are not any more."""
        now_s = monotonic_s()
        self._since_s = {topic: self._since_s.get(topic, now_s) for topic in behind if topic != self._own}
        waiting = sorted(self._since_s)
        late = [topic for topic in waiting if now_s - self._since_s[topic] >= self._patience_s]
        if (waiting, late) == self._told:
            return
        for topic in late:
            log.warning("silence.waiting", topic=topic, remedy=_REMEDY)
            await raise_alarm(connection, _KIND, topic, _REMEDY)
        await close_alarms(connection, _KIND, waiting)
        self._told = waiting, late
