"""Conditions that have a name; numbers and sources are in docs/presets.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

PRESETS: Final[dict[str, Mapping[str, Any]]] = {
    "food-code-4h": {"type": "threshold", "above": 5.0, "for": "4h"},
    "food-code-6h": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "above": 5.0, "for": "6h"},
            {"type": "threshold", "above": 21.0},
        ],
    },
    "who-fridge": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "above": 8.0, "for": "10h"},
            {"type": "threshold", "at_or_below": -0.5, "for": "1h"},
        ],
    },
    "who-freezer": {"type": "threshold", "above": -15.0, "for": "1h"},
    "who-shipping-type-1": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "at_or_above": 45.0, "for": "1h"},
            {"type": "exposure", "at_or_above": 30.0, "budget": "10h", "within": "60d"},
            {"type": "threshold", "at_or_below": -0.5, "for": "1h"},
        ],
    },
    "who-shipping-type-2": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "at_or_above": 45.0, "for": "1h"},
            {"type": "exposure", "at_or_above": 30.0, "budget": "10h", "within": "60d"},
            {"type": "exposure", "at_or_above": 10.0, "budget": "20h", "within": "60d"},
        ],
    },
    "usp-cold-chain": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "above": 15.0},
            {"type": "exposure", "above": 8.0, "budget": "24h", "within": "30d"},
            {"type": "mean_kinetic_temperature", "above": 8.0, "window": "24h"},
            {"type": "threshold", "below": 2.0, "for": "1h"},
        ],
    },
    "usp-room-temperature": {
        "type": "any_of",
        "conditions": [
            {"type": "threshold", "above": 40.0},
            {"type": "exposure", "above": 30.0, "budget": "24h", "within": "30d"},
            {"type": "mean_kinetic_temperature", "above": 25.0, "window": "30d"},
            {"type": "threshold", "below": 15.0, "for": "1h"},
        ],
    },
}
