"""Where a sensor was when, put together from versions of its assignment, units and sites."""

from __future__ import annotations

import math

import numpy as np

from processors.rules.places import Place, Versions, Whereabouts, numbers_of, places_of
from schemas.rules import Attribute, Target

UNITS: Versions = {
    "fridge": [(0, "fridge", {"max": 8}), (50, "fridge", {"max": 7.5})],
    "freezer": [(0, "freezer", {"max": -15, "note": "old"}), (70, "freezer", {"max": -18}), (90, "box", {})],
}
SITES: Versions = {"berlin": [(0, "Europe/Berlin", {"door_limit": 3}), (60, "Europe/Paris", {})]}
# In the fridge from 10 on, without a unit from 65, in the freezer from 80.
MOVES = [(10, "fridge", "berlin"), (65, None, "berlin"), (80, "freezer", None)]


def whereabouts() -> Whereabouts:
    return Whereabouts("sen_1", places_of(MOVES, UNITS, SITES))


def test_a_place_begins_wherever_the_assignment_the_unit_or_the_site_changes() -> None:
    assert places_of(MOVES, UNITS, SITES) == (
        Place(10, "fridge", "fridge", "berlin", "Europe/Berlin", {"max": 8.0}, {"door_limit": 3.0}),
        Place(50, "fridge", "fridge", "berlin", "Europe/Berlin", {"max": 7.5}, {"door_limit": 3.0}),
        Place(60, "fridge", "fridge", "berlin", "Europe/Paris", {"max": 7.5}, {}),
        Place(65, None, None, "berlin", "Europe/Paris", {}, {}),
        Place(80, "freezer", "freezer", None, "UTC", {"max": -18.0}, {}),
        Place(90, "freezer", "box", None, "UTC", {}, {}),
    )
    assert places_of([], UNITS, SITES) == ()
    assert places_of([(5, "gone", "gone")], {}, {}) == (Place(5, "gone", None, "gone", "UTC", {}, {}),)


def test_everything_is_read_as_of_the_time_asked_for() -> None:
    context, at = whereabouts().context(None), np.array([9, 10, 49, 50, 64, 65, 80, 90], np.int64)

    def applies(kind: str, value: str) -> list[bool]:
        found: list[bool] = context.applies(Target(kind, value), at).tolist()
        return found

    assert applies("unit_id", "fridge") == [False, True, True, True, True, False, False, False]
    assert applies("unit_kind", "freezer") == [False, False, False, False, False, False, True, False]
    assert applies("site_id", "berlin") == [False, True, True, True, True, True, False, False]
    assert applies("sensor_id", "sen_1") == applies("all", "") == [True] * 8
    numbers = context.attribute(Attribute("max", "unit"), at).tolist()
    assert [None if math.isnan(one) else one for one in numbers] == [None, 8.0, 8.0, 7.5, 7.5, None, -18.0, None]
    assert context.attribute(Attribute("door_limit", "site"), at)[1] == 3.0
    assert context.timezone(at).tolist() == [
        "UTC",
        *["Europe/Berlin"] * 3,
        *["Europe/Paris"] * 2,
        "UTC",
        "UTC",
    ]


def test_the_range_of_an_attribute_is_over_all_times() -> None:
    assert whereabouts().range_of(Attribute("max", "unit")) == (-18.0, 8.0)
    assert whereabouts().range_of(Attribute("max", "site")) is None


def test_only_finite_numbers_are_numbers() -> None:
    assert numbers_of({"a": 1, "b": -2.5, "c": "3", "d": True, "e": None, "f": 10**400}) == {"a": 1.0, "b": -2.5}
