"""What the provider refuses of one customer holds up no other: the first refusal is kept, and raised once all had their turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import Misconfigured, Transient


class Refusals:
    """Of one run.

    Args:
        kinds: what is kept. Without an answer (`Transient`) there is mostly no use in asking on.
    """

    def __init__(self, *kinds: type[Misconfigured | Transient]) -> None:
        self._kinds = kinds or (Misconfigured,)
        self._first: Exception | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around one customer's part of the work."""
        try:
            yield
        except self._kinds as error:
            self._first = self._first or error

    def raise_first(self) -> None:
        """If there was any."""
        if self._first is not None:
            raise self._first
