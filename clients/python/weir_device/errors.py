"""What a publisher can tell its caller.

    PublisherError
    ├── BufferFull        nothing was accepted: publish again once the broker has taken something
    ├── BufferUnusable    the buffer directory belongs to another process or device: a person must change something
    ├── PublisherClosed   publish was called after close
    └── PublisherFailed   the sending thread ended on an error; the cause is attached

An argument that can never be sent (a naive time, a value that is not finite) raises ValueError or TypeError instead.
"""

from __future__ import annotations


class PublisherError(Exception):
    """Root of every error that the library raises on purpose."""


class BufferFull(PublisherError):
    """The buffer has no room; the reading was not accepted and nothing else was dropped."""


class BufferUnusable(PublisherError):
    """The buffer directory cannot be used by this publisher."""


class PublisherClosed(PublisherError):
    """The publisher was closed before."""


class PublisherFailed(PublisherError):
    """The sending thread ended on an unexpected error; what is buffered on disk is kept."""


class DeliveryFailed(PublisherError):
    """The broker did not acknowledge a group of records; they will be sent again. Callers of `publish` never see it."""
