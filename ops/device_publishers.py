"""The device library's publishers as commands use them: opened from options and settings, every mistake said in one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from weir_device import BufferUnusable, DevicePublisher, ScanPublisher

from core.kafka import Topic, topic_name
from core.settings import load_settings
from schemas.errors import Misconfigured, WeirError

_MEMORY_BYTES: Final = 8 * 1024 * 1024
_Publisher = TypeVar("_Publisher", DevicePublisher, ScanPublisher)


class Undelivered(WeirError):
    """The broker did not take everything."""


@dataclass(frozen=True, slots=True)
class AsDevice:
    """Who publishes, and where to; None: as the settings say.

    Args:
        buffer_dir: keeps what could not be delivered for next time.
    """

    device: str
    secret: str
    bootstrap: str | None
    topic: str | None
    buffer_dir: Path | None

    def open(self, kind: type[_Publisher], default: Topic, **more: Any) -> _Publisher:  # noqa: ANN401 - the library's
        """A publisher of a kind.

        Args:
            kind: of what.
            default: where to, unless an option says so.
            more: of this kind's own.

        Raises:
            Misconfigured: there is no secret, or the library refuses an option.
        """
        if not self.secret:
            how = "set WEIR_DEVICE_SECRET, or pass --secret (others can see command lines)"
            msg = f"device {self.device} needs its secret; {how}"
            raise Misconfigured(msg)
        settings = load_settings()
        try:
            return kind(
                device_id=self.device,
                secret=self.secret,
                bootstrap_servers=self.bootstrap or settings.kafka_bootstrap,
                topic=self.topic or topic_name(settings.topic_prefix, default),
                buffer_dir=self.buffer_dir,
                buffer_max_bytes=_MEMORY_BYTES,
                **more,
            )
        except (ValueError, OSError, BufferUnusable) as exc:
            raise Misconfigured(str(exc)) from exc
