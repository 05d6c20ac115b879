"""The shapes of what health probes and Prometheus are told, as OpenAPI tells them; see `api.models`."""

from __future__ import annotations

from typing import Final, Literal

from api.models import Model, Responses, answer


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
