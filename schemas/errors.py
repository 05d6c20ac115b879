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
    # Scan frames (docs/scan-frames.md):
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_ENCODING = "unknown_encoding"
    INVALID_SIZE = "invalid_size"
    INVALID_INTRINSICS = "invalid_intrinsics"
    INVALID_POSE = "invalid_pose"
    INVALID_GRAVITY = "invalid_gravity"
    INVALID_CONFIDENCE = "invalid_confidence"
    INVALID_PART = "invalid_part"
    INVALID_END = "invalid_end"
    WRONG_LENGTH = "wrong_length"
    CORRUPT_PAYLOAD = "corrupt_payload"
    DECOMPRESSION_BOMB = "decompression_bomb"
    NO_VALID_DEPTH = "no_valid_depth"
    NO_VALID_POINTS = "no_valid_points"
    NON_FINITE_POINTS = "non_finite_points"
    POINTS_OUT_OF_REACH = "points_out_of_reach"
    # Scans (docs/scan-intake.md):
    INVALID_SCAN_ID = "invalid_scan_id"
    SCAN_OF_ANOTHER_DEVICE = "scan_of_another_device"
    SCAN_CANCELLED = "scan_cancelled"
    NOT_INCLUDED = "not_included"
    UNPAID = "unpaid"
    QUOTA_EXCEEDED = "quota_exceeded"


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
