"""How far a window's value can reach, told by what is held of it: necessary tests that cost no look at its readings.

A window that ends with one of a batch's rows holds what lies surely inside it, any of what lies at its edge, and at least
one of the rows. Every bound here holds for each such window; what is not known reaches everything. Downward quantities are
negated, so that all tests read "reaches a number".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np

from processors.rules.model import Flags, Times, Values

_HOUR_MS: Final = 3_600_000
# Sums of up to a million readings are off by less than this part of the greatest of them, in whatever order they are added.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Held:
    """What is held of some windows' readings before the batch, one entry a window.

    Args:
        known: whether anything is known of it.
        total: the sum of the readings that every window of the batch contains.
        count: how many these are.
        least: the least of these; infinite without any.
        greatest: the greatest of these; minus infinite without any.
        oldest_ms: the oldest of these is earlier than this.
        edge: how many more some of the windows may contain.
        edge_least: the least of those.
        edge_greatest: the greatest of those.
    """

    known: Flags
    total: Values
    count: Times
    least: Values
    greatest: Values
    oldest_ms: Times
    edge: Times
    edge_least: Values
    edge_greatest: Values

    @property
    def negated(self) -> Held:
        """The same of readings with the other sign."""
        return replace(
            self,
            total=-self.total,
            least=-self.greatest,
            greatest=-self.least,
            edge_least=-self.edge_greatest,
            edge_greatest=-self.edge_least,
        )

    @property
    def farthest(self) -> Values:
        """The greatest of all of them, without sign."""
        every = (self.least, self.greatest, self.edge_least, self.edge_greatest)
        return np.asarray(np.maximum.reduce([np.where(np.isfinite(one), np.abs(one), 0.0) for one in every]))


@dataclass(frozen=True, slots=True)
class Added:
    """The batch's rows, one entry a window: how many, their extremes, and the first one's time."""

    count: Times
    least: Values
    greatest: Values
    first_ms: Times

    @property
    def negated(self) -> Added:
        """The same of readings with the other sign."""
        return replace(self, least=-self.greatest, greatest=-self.least)


def reach(function: str, is_upper: bool, held: Held, added: Added) -> Values:
    """The most that an aggregate of the windows can come to, or, negated, the least; NaN where nothing can be said."""
    signed = (held, added) if is_upper else (held.negated, added.negated)
    found: Values
    with np.errstate(all="ignore"):
        if function == "count":
            found = _count(held, added, is_upper)
        elif function == "range":
            found = _range(held, added, is_upper)
        else:
            found = _mean(*signed) if function == "mean" else _rate(*signed)
    most: Values = np.where(held.known, found, np.inf)
    return most


def _count(held: Held, added: Added, is_upper: bool) -> Values:
    most = held.count + held.edge + added.count if is_upper else -(held.count + 1)
    return most.astype(np.float64)


def _range(held: Held, added: Added, is_upper: bool) -> Values:
    if not is_upper:
        narrowest: Values = np.where(held.count > 0, held.least - held.greatest, 0.0)
        return narrowest
    most = np.maximum.reduce([held.greatest, held.edge_greatest, added.greatest])
    least = np.minimum.reduce([held.least, held.edge_least, added.least])
    return np.asarray(most - least, np.float64)


def _mean(held: Held, added: Added) -> Values:
    """Of means of parts, each taken whole or not at all, one is the greatest."""
    lifted = np.where(held.edge > 0, held.edge_greatest, 0.0)
    some = (np.zeros_like(held.edge), np.ones_like(added.count))
    corners = [
        (held.total + edge * lifted + rows * added.greatest) / (held.count + edge + rows)
        for edge, rows in product((some[0], held.edge), (some[1], added.count))
    ]
    farthest = np.maximum(held.farthest, np.maximum(np.abs(added.least), np.abs(added.greatest)))
    most: Values = np.maximum.reduce(corners) + _ROUNDING * farthest
    # Sums beyond the range of floats say nothing.
    return np.where(np.isfinite(most), most, np.nan)


def _rate(held: Held, added: Added) -> Values:
    """All that may lie between the first reading and the last, in the least time; the last is itself among the extremes.

    Where a window may begin inside the batch two of its rows may lie a moment apart; one row alone has no rate.
    """
    hours = (added.first_ms - held.oldest_ms) / _HOUR_MS
    rise = added.greatest - np.minimum.reduce([held.least, held.edge_least, added.least])
    alone = np.where((held.count + held.edge == 0) & (added.count == 1), -np.inf, np.inf)
    return np.where((held.count > 0) & (hours > 0), rise / np.where(hours > 0, hours, 1.0), alone)
