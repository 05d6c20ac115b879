"""Structured logs: events with fields, one line a batch, JSON by default, never payloads or secrets.

While a server is away everything that needs it tries again and again. Each says so once a minute, with the number of times
that it did not say.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Final

import structlog

from core.clock import monotonic_s

QUIET_S: Final = 60.0

_AWAY = ("_away", ".waiting", ".listening_lost")
# Of a pool, one line tells as much as the dozen that each of its connections makes.
_REMEDIES = {
    "psycopg.pool": "the database is away or refuses connections; start it or correct WEIR_DATABASE_URL",
    "aiokafka": "if Kafka is away, start it or correct WEIR_KAFKA_BOOTSTRAP",
}
# Whoever asked for an identity is told by an exception, and goes on without one where a broker has none to give; a client
# that is closed cancels what it was asking.
_TOLD_ELSEWHERE = ("Unexpected error during InitProducerIdRequest", "Metadata refresh: failed Cancelled")
# What any stranger can make the HTTP server say, as often as they like: no error of ours, and no traceback.
_STRANGERS = ("Invalid HTTP request received", "Unsupported upgrade request", "Invalid UTF-8 sequence received")


class Repeats:
    """Counts what is said again before a minute has passed.

    Args:
        now_s: a clock that never goes back.
    """

    def __init__(self, now_s: Callable[[], float] = monotonic_s) -> None:
        self._now_s = now_s
        self._said: dict[object, tuple[float, int]] = {}

    def unsaid(self, what: object) -> int | None:
        """None if it was said lately; else how often it was not said since it was."""
        until_s, count = self._said.get(what, (0.0, 0))
        if self._now_s() < until_s:
            self._said[what] = until_s, count + 1
            return None
        self._said[what] = self._now_s() + QUIET_S, 0
        return count


class SparingLibraries(logging.Filter):
    """Lets a library's warning through once a minute, with what to do about it."""

    def __init__(self, repeats: Repeats) -> None:
        super().__init__()
        self._repeats = repeats

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; it may be added to."""
        if record.getMessage().startswith(_TOLD_ELSEWHERE):
            return False
        if record.getMessage().startswith(_STRANGERS):
            record.levelno, record.levelname, record.exc_info = logging.WARNING, "WARNING", None
            return self._spared(record, record.msg, "a client sent it")
        library = next((name for name in _REMEDIES if record.name.startswith(name)), None)
        if library is None:
            return True
        what = library if library == "psycopg.pool" else (record.name, record.msg)
        return self._spared(record, what, _REMEDIES[library])

    def _spared(self, record: logging.LogRecord, what: object, remedy: str) -> bool:
        unsaid = self._repeats.unsaid(what)
        if unsaid is None:
            return False
        more = f" ({unsaid} more like it since the last)" if unsaid else ""
        record.msg, record.args = f"{record.getMessage()}; {remedy}{more}", ()
        return True


def sparing_events(repeats: Repeats) -> structlog.types.Processor:
    """The same for our own events that say that something is away: once a minute in the same words."""

    def process(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        name = str(event.get("event"))
        if not name.endswith(_AWAY):
            return event
        unsaid = repeats.unsaid((name, event.get("problem"), event.get("error")))
        if unsaid is None:
            raise structlog.DropEvent
        return {**event, "unsaid": unsaid} if unsaid else event

    return process


def configure_logging(level: str = "INFO", fmt: str = "json", **fields: str) -> None:
    """Set up logging of this process.

    Args:
        level: the least level that is written.
        fmt: `json` for machines, `console` for people.
        fields: bound to every event, such as `role="worker"`.
    """
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if fmt == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    repeats = Repeats()
    structlog.configure(
        processors=[sparing_events(repeats), *shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**fields)
    # Libraries log through the standard module; their warnings go the same way.
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processor=renderer)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(SparingLibraries(repeats))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
