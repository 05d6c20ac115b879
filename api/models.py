"""The shapes of requests and responses, as OpenAPI tells them, with an example each.

Border: description only. Responses are encoded by msgspec from plain values (a page of 10 000 readings takes 15 ms that way);
the tests hold every response against its model here.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from api.errors import PROBLEM_JSON, status_of

Responses = dict[int | str, dict[str, Any]]


class Model(BaseModel):
    """Nothing beyond what is said here."""

    model_config = ConfigDict(extra="forbid")


class ParameterError(Model):
    """Which parameter is wrong, and why."""

    parameter: str
    detail: str


class ReadingError(Model):
    """Which reading of a record was refused, and why."""

    index: int = Field(description="the reading's place in the record")
    reason: str
    detail: str


class ProblemDetails(Model):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="a stable name for programs")
    request_id: str = Field(description="under which the server's log knows the request")
    errors: list[ParameterError] | None = None


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


class Liveness(Model):
    """The process answers."""

    status: Literal["alive"]


class ReadinessCheck(Model):
    """One thing that was looked at."""

    name: Literal["database", "migrations", "partitions", "lag"]
    ok: bool
    detail: str


class ReadinessReport(Model):
    """Whether the system is in working order."""

    status: Literal["ready", "not ready"]
    checks: list[ReadinessCheck]


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
# FastAPI drops nulls from examples: none has one.
NEXT_EXAMPLE: Final = "kq1zZW5fNGY2ZTBiN2QyYy0"

_PROBLEMS: Final[dict[int, tuple[str, str]]] = {
    400: ("incomplete_request", "the request ended before its body did"),
    401: ("unauthorized", "the credential is unknown, revoked or expired"),
    402: ("unpaid", "the subscription is not paid, so history must wait; readings and alerts go on"),
    403: ("missing_permission", "this credential may not do rules:write; use one whose role or scopes allow it"),
    404: ("not_found", "there is no such sensor"),
    409: ("changed_meanwhile", "the rule was changed at the same time; read it and try again"),
    410: ("expired", "the upload ended on 2026-11-29 20:00:00 UTC, for nothing came; begin a new one"),
    412: ("unsupported_version", "uploads speak tus 1.0.0: send the header Tus-Resumable: 1.0.0"),
    413: ("too_large", "the record has more than 1048576 bytes; send several"),
    415: ("unsupported_media_type", "the bytes of an upload are sent as Content-Type: application/offset+octet-stream"),
    422: ("invalid_parameter", "start is not an RFC 3339 time with an offset, as 2026-11-22T20:00:00.000Z"),
    460: ("checksum_mismatch", "the sha256 of the bytes is another than Upload-Checksum says; send them again"),
    429: ("rate_limited", "more requests than this credential may make; wait 0.005 s"),
    503: ("database_unavailable", "the database does not answer; try again"),
}


def problem_example(status: int) -> dict[str, object]:
    """A problem as it looks."""
    code, detail = _PROBLEMS[status]
    body: dict[str, object] = {"type": "about:blank", "title": status_of(status).phrase, "status": status}
    body |= {"detail": detail, "code": code, "request_id": "5f0c1d9a7be24c38"}
    return body | ({"errors": [{"parameter": "start", "detail": detail}]} if code == "invalid_parameter" else {})


def problems(*statuses: int) -> Responses:
    """Responses of these statuses, for a route."""
    return {status: _problem_response(status) for status in statuses}


def _problem_response(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/ProblemDetails"}
    content = {PROBLEM_JSON: {"schema": schema, "example": problem_example(status)}}
    return {"description": status_of(status).phrase, "content": content}


def answer(model: type[Model], description: str, **examples: object) -> dict[str, Any]:
    """The response of a status, with its examples by name."""
    shown = {name: {"value": value} for name, value in examples.items()}
    return {"model": model, "description": description, "content": {"application/json": {"examples": shown}}}


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
LIVENESS_RESPONSES: Final[Responses] = {200: answer(Liveness, "The process answers.", alive={"status": "alive"})}
_READY: Final = {
    "status": "ready",
    "checks": [
        {"name": "database", "ok": True, "detail": "the database answers"},
        {"name": "migrations", "ok": True, "detail": "the schema is the one this program was written for"},
        {"name": "partitions", "ok": True, "detail": "all partitions are held: 4 by 2 worker(s)"},
        {"name": "lag", "ok": True, "detail": "partition 3 is 12 records behind, at most 100000 are fine"},
    ],
}
_BEHIND = {"name": "lag", "ok": False, "detail": "partition 3 is 240017 records behind, at most 100000 are fine"}
_NOT_READY: Final = {"status": "not ready", "checks": [*_READY["checks"][:3], _BEHIND]}
READINESS_RESPONSES: Final[Responses] = {
    200: answer(ReadinessReport, "Everything is in working order.", ready=_READY),
    503: answer(ReadinessReport, "Something is not; the sentences say what to do.", behind=_NOT_READY),
}
METRICS_RESPONSES: Final[Responses] = {
    200: {
        "description": "Prometheus' text format.",
        "content": {
            "text/plain": {
                "schema": {"type": "string"},
                "example": '# TYPE weir_stream_lag_records gauge\nweir_stream_lag_records{partition="3",topic="readings"} 12.0\n',
            }
        },
    }
}

RECORD_EXAMPLE: Final = {
    "readings": [{"sensor": "air", "at": "2026-11-22T20:00:00.000Z", "value": 3.8, "seq": 17}],
    "sent_at": "2026-11-22T20:00:00.400Z",
}
SENML_EXAMPLE: Final = [{"bn": "air", "bt": 1795377600, "u": "Cel", "v": 3.8}]
