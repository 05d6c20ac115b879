"""Where sensors were when, as the database keeps it: versions, what a change makes judged again, and the tenant's border."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import errors

from tests.integration.api_scene import add_sensor, new_tenant
from tests.integration.servers import Database, Tenant

pytestmark = pytest.mark.integration

FIRST = datetime(2010, 1, 1, tzinfo=UTC)


def day(number: int) -> datetime:
    """A day of November 2026."""
    return datetime(2026, 11, number, tzinfo=UTC)


class Places:
    """One tenant's places, changed as the API's role changes them."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        self.database, self.tenant = database, tenant
        self.key = tenant.tenant_id[-8:]
        self.sensor_no, self.sensor_id = add_sensor(database, tenant, "air")

    def call(self, statement: LiteralString, *parameters: object) -> Any:
        """The one value that a function answers."""
        with psycopg.connect(self.database.reader_url) as connection:
            connection.execute("SET ROLE weir_reader")
            connection.execute("SELECT set_config('weir.tenant', %s, true)", (self.tenant.tenant_id,))
            row = connection.execute(statement, parameters).fetchone()
            assert row is not None
            return row[0]

    def id(self, name: str | None) -> str | None:
        """Ids of the test's own."""
        return None if name is None else f"{name}_{self.key}"

    def site(self, name: str, revision: int = 1, zone: str = "UTC", since: datetime | None = None) -> Any:
        """Record a site."""
        statement: LiteralString = "SELECT weir.record_site(%s, %s, %s, %s, '{}', false, %s)"
        return self.call(statement, self.id(name), revision, name, zone, since)

    def unit(self, site: str | None, revision: int = 1, since: datetime | None = None, attributes: str = "{}") -> Any:
        """Record the unit `u`."""
        statement: LiteralString = "SELECT weir.record_unit(%s, %s, 'u', 'fridge', %s, %s, false, %s)"
        return self.call(statement, self.id("u"), revision, self.id(site), attributes, since)

    def assign(self, unit: str | None, site: str | None, since: datetime | None) -> Any:
        """Place the sensor."""
        statement: LiteralString = "SELECT weir.assign_sensor(%s, %s, %s, %s)"
        return self.call(statement, self.sensor_id, self.id(unit), self.id(site), since)

    def timeline(self) -> list[tuple[datetime, str | None, str | None]]:
        """(from, unit, site) of the sensor."""
        rows = self.database.query(
            "SELECT effective_from, split_part(unit_id, '_', 1), split_part(site_id, '_', 1) FROM weir.sensor_assignment"
            " WHERE sensor_no = %s ORDER BY 1",
            self.sensor_no,
        )
        return [(since, unit, site) for since, unit, site in rows]

    def now(self) -> tuple[str | None, str | None]:
        """(unit, site) of the sensor as its own row says."""
        ((unit, site),) = self.database.query(
            "SELECT split_part(unit_id, '_', 1), split_part(site_id, '_', 1) FROM weir.sensor WHERE sensor_no = %s",
            self.sensor_no,
        )
        return unit, site

    def work(self) -> list[datetime]:
        """From when on the sensor is to be judged again; takes the rows away."""
        rows = self.database.query(
            "DELETE FROM weir.place_work WHERE sensor_no = %s RETURNING work_id, from_at", self.sensor_no
        )
        return [from_at for _, from_at in sorted(rows)]

    def generation(self) -> int:
        """Of the rules."""
        return int(self.database.query("SELECT rules_generation FROM weir.catalog_generation")[0][0])


@pytest.fixture
def places(database: Database) -> Places:
    places = Places(database, new_tenant(database))
    for name in ("home", "away"):
        places.site(name)
    places.unit("home")
    return places


def test_a_sensor_is_where_it_was_said_to_be_from_then_on(places: Places) -> None:
    assert places.assign("u", None, day(3))
    assert places.assign(None, "away", day(5))

    assert places.timeline() == [(day(3), "u", "home"), (day(5), None, "away")]
    assert places.now() == (None, "away")
    assert places.work() == [day(3), day(5)]


def test_a_correction_for_earlier_replaces_what_was_recorded_for_later(places: Places) -> None:
    places.assign(None, "away", day(3))
    places.assign("u", None, day(5))
    places.assign(None, "home", day(4))

    assert places.timeline() == [(day(3), None, "away"), (day(4), None, "home")]
    assert places.now() == (None, "home")


def test_a_unit_that_moves_takes_its_sensors_along_from_then_on(places: Places) -> None:
    places.assign("u", None, day(3))
    places.work()

    assert places.unit("away", 2, day(5)) == 2

    assert places.timeline() == [(day(3), "u", "home"), (day(5), "u", "away")]
    assert places.now() == ("u", "away")
    assert places.work() == [day(5)]


def test_a_move_before_the_sensor_came_changes_all_its_time_in_the_unit(places: Places) -> None:
    places.assign("u", None, day(3))
    places.work()

    places.unit("away", 2, day(2))

    assert places.timeline() == [(day(3), "u", "away")]
    assert places.work() == [day(2)]


def test_a_sensor_that_left_stays_where_it_is_but_is_judged_again_if_it_was_there_then(places: Places) -> None:
    places.assign("u", None, day(3))
    places.assign(None, "home", day(8))
    places.work()

    places.unit("away", 2, day(9))
    assert places.work() == []
    places.unit("away", 3, day(7))

    assert places.timeline() == [(day(3), "u", "home"), (day(7), "u", "away"), (day(8), None, "home")]
    assert places.now() == (None, "home")
    assert places.work() == [day(7)]


def test_a_sensor_put_into_a_unit_in_the_past_follows_the_units_moves_since(places: Places) -> None:
    places.unit("away", 2, day(5))
    places.unit("away", 3, day(6), '{"max_celsius": 5}')
    places.unit(None, 4, day(7))

    places.assign("u", None, day(3))

    assert places.timeline() == [(day(3), "u", "home"), (day(5), "u", "away"), (day(7), "u", None)]
    assert places.now() == ("u", None)


def test_attributes_hold_for_all_time_at_first_and_later_from_when_they_were_said_to(places: Places) -> None:
    places.assign("u", None, day(3))
    places.work()
    before = places.generation()

    places.unit("home", 2, day(4), '{"max_celsius": 5}')

    assert places.database.query(
        "SELECT effective_from, attributes FROM weir.unit_version WHERE unit_id = %s ORDER BY 1", places.id("u")
    ) == [(FIRST, {}), (day(4), {"max_celsius": 5})]
    assert places.timeline() == [(day(3), "u", "home")]
    assert places.work() == [day(4)]
    assert places.generation() > before


def test_a_time_zone_concerns_the_sensors_of_the_units_at_the_site(places: Places) -> None:
    places.assign("u", None, day(3))
    places.work()
    before = places.generation()

    places.site("away", 2, "Europe/Berlin", day(4))
    assert places.work() == []
    places.site("home", 2, "Europe/Berlin", day(4))

    assert places.work() == [day(4)]
    assert places.generation() > before


def test_a_new_name_is_nobodys_business_but_readers(places: Places) -> None:
    places.assign("u", None, day(3))
    places.work()
    before = places.generation()

    assert places.site("home", 2) == 2
    assert places.unit("home", 2) == 2

    assert places.work() == []
    assert places.generation() == before


def test_whoever_comes_second_with_the_same_revision_changes_nothing(places: Places) -> None:
    assert places.site("home", 2, "Asia/Tokyo") == 2
    assert places.site("home", 2, "Asia/Seoul") is None
    assert places.unit("home", 3) is None

    assert places.database.query("SELECT timezone FROM weir.site WHERE site_id = %s", places.id("home")) == [
        ("Asia/Tokyo",)
    ]


def test_an_expected_interval_changes_what_a_gap_was_at_any_time(places: Places) -> None:
    statement: LiteralString = (
        "UPDATE weir.sensor SET expected_interval_ms = 60000 WHERE sensor_id = %s RETURNING sensor_no"
    )
    places.call(statement, places.sensor_id)
    places.call(statement, places.sensor_id)

    assert places.work() == [FIRST]


def test_nothing_of_one_tenant_can_be_put_into_a_place_of_another(places: Places, database: Database) -> None:
    other = Places(database, new_tenant(database, "other"))
    foreign = places.id("home")

    with pytest.raises(errors.ForeignKeyViolation):
        other.call("SELECT weir.record_unit('u-foreign', 1, 'u', 'fridge', %s, '{}', false, NULL)", foreign)
    with pytest.raises(errors.ForeignKeyViolation):
        other.call("SELECT weir.assign_sensor(%s, NULL, %s, NULL)", other.sensor_id, foreign)
    assert other.call("SELECT weir.assign_sensor(%s, %s, NULL, NULL)", other.sensor_id, places.id("u")) is False
    assert other.call("SELECT weir.assign_sensor(%s, NULL, NULL, NULL)", places.sensor_id) is False
    assert other.call("SELECT weir.record_site(%s, 2, 'x', 'UTC', '{}', false, NULL)", foreign) is None
