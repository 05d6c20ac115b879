"""What a signed record on `scan-frames` is: a frame to store, one that is refused but has its place in a scan, or neither.

Border: computed from the record and the time T alone; whose scan it is, and what its index has, is the pipeline's to ask.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from schemas.errors import Reason, Rejected
from schemas.readings import FUTURE_TOLERANCE_MS
from schemas.scan_frames import MAX_SEQ, PartFrame, ScanFrame, decode_scan_frame, frame_type
from sinks.dead_letters import Record, Refusal
from sinks.objects import scan_prefix
from sinks.timescale.catalog import Device
from sinks.timescale.scan_intake import ScanClaim, StoredFrame
from streams.authentication import Trusted

_SCAN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:~-]{0,127}\Z")
_UNPLACED: Final = -1


class _Outline(msgspec.Struct):
    """As much of a refused record as gives it a place."""

    seq: int
    type: str = ""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A record that has its place in a scan.

    Args:
        frame: as the index would have it; its scan's number is still unknown.
        refusal: why it is not stored; None: it is.
    """

    record: Record
    device: Device
    claim: ScanClaim
    frame: StoredFrame
    refusal: Rejected | None

    def refused(self, reason: Reason, detail: str) -> Refusal:
        """The dead letter of the record."""
        return Refusal(self.record, None, None, reason, detail, self.device.device_id, self.device.tenant_id)


@dataclass(frozen=True, slots=True)
class Judged:
    """A batch of signed records, judged one by one."""

    arrivals: list[Arrival]
    refusals: list[Refusal]


def judge(trusted: Trusted, received_ms: int) -> Judged:
    """Decode signed records; what is wrong with one has no effect on the others."""
    judged = Judged([], list(trusted.refusals))
    for record, device, content_type in zip(trusted.records, trusted.devices, trusted.content_types, strict=True):
        try:
            scan_id = _scan_id(record)
            arrival = _arrival(record, device, scan_id, content_type, received_ms)
        except Rejected as exc:
            judged.refusals.append(
                Refusal(record, None, None, exc.reason, exc.detail, device.device_id, device.tenant_id)
            )
            continue
        judged.arrivals.append(arrival)
        if arrival.refusal is not None:
            judged.refusals.append(arrival.refused(arrival.refusal.reason, arrival.refusal.detail))
    return judged


def _scan_id(record: Record) -> str:
    scan_id = (record.key or b"").decode("utf-8", "replace")
    if not _SCAN_ID.match(scan_id):
        detail = "the key is no scan id; expected 1 to 128 of A-Z a-z 0-9 . _ : ~ - that begin with a letter or digit"
        raise Rejected(Reason.INVALID_SCAN_ID, detail)
    return scan_id


def _arrival(record: Record, device: Device, scan_id: str, content_type: str | None, received_ms: int) -> Arrival:
    """The record's place in its scan.

    Raises:
        Rejected: it has none.
    """
    value = record.value or b""
    claim = ScanClaim(scan_id, device.tenant_id, device.device_id)
    received_at = datetime.fromtimestamp(received_ms / 1000, UTC)
    digest = hashlib.sha256(value)
    try:
        frame = _decode(value, content_type, received_ms)
    except Rejected as exc:
        outline = _outline(value)
        if outline is None:
            raise
        kept = StoredFrame(
            _UNPLACED, outline.seq, outline.type, len(value), digest.digest(), "", received_at, refusal=exc.reason.value
        )
        return Arrival(record, device, claim, kept, exc)
    key = f"{scan_prefix(device.tenant_id, scan_id)}/frames/{digest.hexdigest()}"
    return Arrival(record, device, claim, _indexed(frame, len(value), digest.digest(), key, received_at), None)


def _decode(value: bytes, content_type: str | None, received_ms: int) -> ScanFrame:
    if not value:
        raise Rejected(Reason.EMPTY, "the record has no value; expected a frame as MessagePack")
    if content_type is not None and content_type.partition(";")[0].strip() not in _CONTENT_TYPES:
        raise Rejected(Reason.UNSUPPORTED_FORMAT, "frames are application/msgpack")
    frame = decode_scan_frame(value)
    if frame.captured_at is not None and frame.captured_at > received_ms + FUTURE_TOLERANCE_MS:
        raise Rejected(Reason.IMPOSSIBLE_TIME, "captured_at lies more than 5 min ahead; check the clock")
    return frame


_CONTENT_TYPES: Final = frozenset({"application/msgpack", "application/x-msgpack", "application/vnd.msgpack"})
_TYPES: Final = frozenset({"depth", "points", "rgb", "motion", "location", "audio", "part"})


def _outline(value: bytes) -> _Outline | None:
    """Number and type of a record that is otherwise refused; an `end` that is refused ends nothing."""
    try:
        found = msgspec.msgpack.decode(value, type=_Outline)
    except (ValueError, RecursionError):
        return None
    if not 0 <= found.seq <= MAX_SEQ:
        return None
    return found if found.type in _TYPES else _Outline(found.seq, "unknown")


def _indexed(frame: ScanFrame, size: int, sha256: bytes, key: str, received_at: datetime) -> StoredFrame:
    captured_at = None if frame.captured_at is None else datetime.fromtimestamp(frame.captured_at / 1000, UTC)
    part = frame if isinstance(frame, PartFrame) else None
    return StoredFrame(
        scan_no=_UNPLACED,
        seq=frame.seq,
        type=frame_type(frame),
        size=size,
        sha256=sha256,
        object_key=key,
        received_at=received_at,
        captured_at=captured_at,
        pose=getattr(frame, "pose", None),
        file_id=getattr(frame, "file_id", None),
        part_index=None if part is None else part.index,
        part_total=None if part is None else part.total,
        file_sha256=None if part is None else part.file_digest,
    )


def first_claims(arrivals: Sequence[Arrival]) -> dict[str, ScanClaim]:
    """Of each scan the claim that came first."""
    claims: dict[str, ScanClaim] = {}
    for arrival in arrivals:
        claims.setdefault(arrival.claim.scan_id, arrival.claim)
    return claims
