"""Weir's device library: publishes sensor readings and room scans to Kafka, signed, batched and in order.

While the broker is away, readings wait in a bounded buffer, on disk if wanted. It is installed on
devices by itself, so it imports nothing else of Weir.
"""

from weir_device.errors import BufferFull, BufferUnusable, PublisherClosed, PublisherError, PublisherFailed
from weir_device.publisher import DevicePublisher, FlushReport, PublisherStats
from weir_device.scan_poses import LEVEL, Intrinsics, KeyframeRule, Pose, from_arcore, from_arkit, gravity_in_world
from weir_device.scans import Scan, ScanPublisher

__all__ = [
    "LEVEL",
    "BufferFull",
    "BufferUnusable",
    "DevicePublisher",
    "FlushReport",
    "Intrinsics",
    "KeyframeRule",
    "Pose",
    "PublisherClosed",
    "PublisherError",
    "PublisherFailed",
    "PublisherStats",
    "Scan",
    "ScanPublisher",
    "from_arcore",
    "from_arkit",
    "gravity_in_world",
]
