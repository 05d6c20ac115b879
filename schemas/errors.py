"""The error tree: every failure is one of three kinds, and the kind says what happens next.

    WeirError
    ├── Rejected     the data is at fault: dead letter, no retry
    ├── Transient    the surroundings are at fault: back off, keep the position, try again
    └── Misconfigured  a person must change something: one sentence says what and how

Anything else that is raised is a bug and ends the process.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why data was refused; the text is what `dead_letters.reason` shows."""

    UNDECODABLE = "undecodable"
    WRONG_SHAPE = "wrong_shape"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNSIGNED = "unsigned"
    UNKNOWN_DEVICE = "unknown_device"
    REVOKED_DEVICE = "revoked_device"
    KEY_MISMATCH = "key_mismatch"
    WRONG_SIGNATURE = "wrong_signature"
    EMPTY = "empty"
    TOO_MANY_READINGS = "too_many_readings"
    TOO_LARGE = "too_large"
    INVALID_SENSOR = "invalid_sensor"
    INVALID_TIME = "invalid_time"
    INVALID_VALUE = "invalid_value"
    INVALID_SEQ = "invalid_seq"
    IMPOSSIBLE_TIME = "impossible_time"
    BEYOND_RETENTION = "beyond_retention"
    TOO_MANY_SENSORS = "too_many_sensors"


class WeirError(Exception):
    """Root of every error that Weir raises on purpose."""


class Rejected(WeirError):
    """The data is at fault.

    Args:
        reason: what `dead_letters.reason` will show.
        detail: what was found and what was expected; no payloads, no secrets.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class Transient(WeirError):
    """The surroundings are at fault (a lost connection, a lock time-out): back off and try again."""


class Misconfigured(WeirError):
    """A setting or a server is not as Weir needs it; the message says what, which, expected and remedy."""
