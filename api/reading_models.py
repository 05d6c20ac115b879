"""The shapes of sensors, readings and their quality, as OpenAPI tells them, with an example each; see `api.models`."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import ConfigDict, Field

from api.models import NEXT_EXAMPLE, Model, Responses, answer, problems


class ReadingError(Model):
    """Which reading of a record was refused, and why."""

    index: int = Field(description="the reading's place in the record")
    reason: str
    detail: str


class LastReading(Model):
    """The newest reading of a sensor."""

    at: str
    value: float


class Sensor(Model):
    """One measured channel of a device."""

    sensor_id: str
    device_id: str
    name: str
    unit: str
    expected_interval: str | None = Field(description="declared; null: the median spacing of its readings")
    site_id: str | None
    unit_id: str | None
    last: LastReading | None
    status: Literal["ok", "silent", "new"] = Field(
        description="silent: nothing for three expected intervals (5 min each if none is declared); new: nothing ever"
    )
    archived_at: str | None = None


class SensorPage(Model):
    """Sensors in the order of their ids."""

    items: list[Sensor]
    next: str | None


class RawReading(Model):
    """A stored reading."""

    at: str
    value: float
    seq: int
    received_at: str


class Bucket(Model):
    """A roll-up of the readings of one bucket."""

    at: str = Field(description="UTC start of the bucket")
    count: int
    min: float
    max: float
    mean: float | None = Field(description="null where the sum is beyond the range of a double")
    first: float
    last: float


class ReadingPage(Model):
    """Readings in the order of (at, seq), or buckets in the order of at."""

    items: list[RawReading] | list[Bucket]
    next: str | None


class Conflict(Model):
    """Several values came for one (sensor, at, seq): the greatest is the reading."""

    at: str
    seq: int
    value: float
    others: list[float]


class Gap(Model):
    """Neighbouring readings more than three expected intervals apart."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    from_: str = Field(alias="from")
    to: str


class SensorQuality(Model):
    """What the readings of one sensor are worth in a range."""

    sensor_id: str
    device_id: str
    name: str
    accepted: int = Field(description="stored readings of the range")
    duplicates: int = Field(description="of the hours that overlap the range")
    late: int = Field(description="of the hours that overlap the range: older than the newest one when they came")
    conflict_count: int
    conflicts: list[Conflict] = Field(description="the first 10 000")
    quarantined: int = Field(description="refused in the range for an impossible time, and not replayed")
    rejected: int = Field(description="refused in the range for another reason, and not replayed")
    gap_count: int
    gaps: list[Gap] = Field(description="the first 10 000 that overlap the range")


class DeviceRefusals(Model):
    """Refusals of a device, whole records included, in the minutes that overlap the range."""

    device_id: str
    reason: str
    refused: int
    kept: int = Field(description="of these, kept with their bytes; fewer when a flood was sampled")


class DataQuality(Model):
    """Data quality by sensor."""

    start: str
    end: str
    items: list[SensorQuality]
    refusals: list[DeviceRefusals]
    next: str | None


class Accepted(Model):
    """A record that Kafka has."""

    accepted: int = Field(description="well-formed readings")
    refused: list[ReadingError] | None = Field(
        None, description="the others, which become dead letters; absent if none"
    )


SENSOR_EXAMPLE: Final = {
    "sensor_id": "sen_4f6e0b7d2c",
    "device_id": "dev_91c3f0a7b2",
    "name": "air",
    "unit": "celsius",
    "expected_interval": "1m",
    "site_id": "sit_7d20c9",
    "unit_id": "uni_c41f88",
    "last": {"at": "2026-11-22T20:00:00.000Z", "value": 3.8},
    "status": "ok",
}
_RAW: Final = {"at": "2026-11-22T20:00:00.000Z", "value": 3.8, "seq": 17, "received_at": "2026-11-22T20:00:00.412Z"}
_BUCKET: Final = {
    "at": "2026-11-22T20:00:00.000Z",
    "count": 60,
    "min": 3.1,
    "max": 4.9,
    "mean": 3.84,
    "first": 3.8,
    "last": 3.6,
}
_QUALITY: Final = {
    "sensor_id": "sen_4f6e0b7d2c",
    "device_id": "dev_91c3f0a7b2",
    "name": "air",
    "accepted": 1437,
    "duplicates": 3,
    "late": 12,
    "conflict_count": 1,
    "conflicts": [{"at": "2026-11-22T02:00:00.000Z", "seq": 0, "value": 4.1, "others": [3.9]}],
    "quarantined": 2,
    "rejected": 0,
    "gap_count": 1,
    "gaps": [{"from": "2026-11-22T03:10:00.000Z", "to": "2026-11-22T03:14:00.000Z"}],
}
_OF_A_TENANT = problems(401, 403, 422, 429, 503)

SENSORS_RESPONSES: Final[Responses] = {
    200: answer(SensorPage, "A page of sensors.", page={"items": [SENSOR_EXAMPLE], "next": NEXT_EXAMPLE}),
    **_OF_A_TENANT,
}
SENSOR_RESPONSES: Final[Responses] = {
    200: answer(Sensor, "The sensor.", sensor=SENSOR_EXAMPLE),
    **_OF_A_TENANT,
    **problems(404),
}
READINGS_RESPONSES: Final[Responses] = {
    200: answer(
        ReadingPage,
        "A page of readings, or of buckets.",
        raw={"items": [_RAW], "next": NEXT_EXAMPLE},
        hourly={"items": [_BUCKET], "next": NEXT_EXAMPLE},
    ),
    **_OF_A_TENANT,
    **problems(402, 404),
}
QUALITY_RESPONSES: Final[Responses] = {
    200: answer(
        DataQuality,
        "A page of sensors with their data quality; it may hold fewer than `limit` where readings are many.",
        page={
            "start": "2026-11-21T20:00:00.000Z",
            "end": "2026-11-22T20:00:00.000Z",
            "items": [_QUALITY],
            "refusals": [{"device_id": "dev_91c3f0a7b2", "reason": "impossible_time", "refused": 2, "kept": 2}],
            "next": NEXT_EXAMPLE,
        },
    ),
    **_OF_A_TENANT,
}
INGEST_RESPONSES: Final[Responses] = {
    202: answer(
        Accepted,
        "Kafka has the record.",
        whole={"accepted": 2},
        partly={"accepted": 1, "refused": [{"index": 1, "reason": "invalid_value", "detail": "value is a string, …"}]},
    ),
    **problems(400, 401, 413, 422, 429, 503),
}
RECORD_EXAMPLE: Final = {
    "readings": [{"sensor": "air", "at": "2026-11-22T20:00:00.000Z", "value": 3.8, "seq": 17}],
    "sent_at": "2026-11-22T20:00:00.400Z",
}
SENML_EXAMPLE: Final = [{"bn": "air", "bt": 1795377600, "u": "Cel", "v": 3.8}]
