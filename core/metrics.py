"""Metrics of the worker: every name ends in its unit, no tenant ever appears in a label.

Workers have no HTTP port of their own: they write these numbers into their heartbeat row, and the API's /metrics shows them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class WorkerCounters:
    """Counted since the process started."""

    records_total: int = 0
    readings_inserted_total: int = 0
    readings_duplicate_total: int = 0
    readings_replaced_total: int = 0
    readings_late_total: int = 0
    scan_frames_inserted_total: int = 0
    scan_frames_duplicate_total: int = 0
    scan_frames_conflict_total: int = 0
    refusals_total: int = 0
    batches_total: int = 0
    batch_failures_total: int = 0
    batch_processing_seconds: float = 0.0
    relayed_records_total: int = 0

    def as_dict(self) -> dict[str, float]:
        """Name to value, for the heartbeat row."""
        return asdict(self)
