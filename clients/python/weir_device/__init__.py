"""Weir's device library: publishes sensor readings to Kafka, signed, batched and in order.

While the broker is away, readings wait in a bounded buffer, on disk if wanted. It is installed on
devices by itself, so it imports nothing else of Weir.
"""

from weir_device.errors import BufferFull, BufferUnusable, PublisherClosed, PublisherError, PublisherFailed
from weir_device.publisher import DevicePublisher, FlushReport, PublisherStats

__all__ = [
    "BufferFull",
    "BufferUnusable",
    "DevicePublisher",
    "FlushReport",
    "PublisherClosed",
    "PublisherError",
    "PublisherFailed",
    "PublisherStats",
]
