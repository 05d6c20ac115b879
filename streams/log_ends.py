"""Where every partition of a topic ends, as the broker tells it.

Border: asks the broker; what the ends mean is the asker's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from kafka.errors import KafkaError

from core import kafka
from core.log_ends import topic_ends
from schemas.errors import Transient


@dataclass(frozen=True, slots=True)
class LogEnds:
    """Where every partition of a topic ends, and which topic that is: made anew, it begins at 0 under another identity."""

    identity: str
    ends: Mapping[int, int]


AskForEnds = Callable[[], Awaitable[LogEnds]]
AskForEndsOf = Callable[[str], Awaitable[LogEnds | None]]


def ask_for_ends(bootstrap: str, topic: str) -> LogEnds | None:
    """The end of every partition of a topic and its identity, as the broker answers now; None if it is not there.

    Raises:
        Transient: it does not answer.
    """
    known = kafka.describe(bootstrap, [topic]).get(topic)
    if known is None:
        return None
    try:
        return LogEnds(known.identity, topic_ends(bootstrap, topic, known.partitions))
    except (KafkaError, OSError) as exc:  # it answered a moment ago, and will again
        msg = f"the ends of {topic} could not be read at {bootstrap}: {type(exc).__name__}"
        raise Transient(msg) from exc
