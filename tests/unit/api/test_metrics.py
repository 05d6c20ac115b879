"""The exposition: what a scrape shows, with and without the database."""

from __future__ import annotations

from api.metrics import Metrics, StreamState
from sinks.timescale.operations import Heartbeat, Partition, Position

STATE = StreamState(
    heartbeats=[
        Heartbeat("w1", 1.5, (Partition("readings", 0, 90, 100),), {"records_total": 90.0, "batch_seconds": 0.25}),
        Heartbeat("w2", 0.5, (Partition("readings", 1, 7, 7),), {"records_total": 7.0, "not a name": 1.0}),
    ],
    positions=[Position("readings", 0, 90), Position("readings", 1, 7)],
    refusals=[("wrong_signature", 12, 3)],
    alarms={"refusal_flood": 2},
)


def lines(state: StreamState | None) -> set[str]:
    return {line for line in Metrics().expose(state).decode().splitlines() if not line.startswith("#")}


class TestExposition:
    def test_workers_positions_lag_refusals_and_alarms_are_shown(self) -> None:
        assert lines(STATE) >= {
            "weir_database_up 1.0",
            'weir_worker_heartbeat_age_seconds{worker="w1"} 1.5',
            'weir_worker_records_total{worker="w1"} 90.0',
            'weir_worker_records_total{worker="w2"} 7.0',
            'weir_worker_batch_seconds{worker="w1"} 0.25',
            'weir_stream_position_next_offset{partition="0",topic="readings"} 90.0',
            'weir_stream_lag_records{partition="0",topic="readings"} 10.0',
            'weir_stream_lag_records{partition="1",topic="readings"} 0.0',
            'weir_refusals_recorded{reason="wrong_signature"} 12.0',
            'weir_dead_letters{reason="wrong_signature"} 3.0',
            'weir_operator_alarms_open{kind="refusal_flood"} 2.0',
        }

    def test_totals_are_counters_and_the_rest_gauges(self) -> None:
        text = Metrics().expose(STATE).decode()

        assert "# TYPE weir_worker_records_total counter" in text
        assert "# TYPE weir_worker_batch_seconds gauge" in text

    def test_a_name_that_prometheus_cannot_have_is_left_out(self) -> None:
        assert "not a name" not in Metrics().expose(STATE).decode()

    def test_without_the_database_its_absence_is_shown_and_the_processs_own_numbers(self) -> None:
        shown = lines(None)

        assert "weir_database_up 0.0" in shown
        assert not any(line.startswith("weir_worker_") for line in shown)
        assert any(line.startswith("process_cpu_seconds_total") for line in shown)


class TestRequests:
    def test_requests_are_counted_by_route_method_and_status_and_strange_methods_share_one_name(self) -> None:
        metrics = Metrics()
        metrics.observe_request("/v1/sensors", "GET", 200, 0.003)
        metrics.observe_request("unmatched", "BREW", 405, 0.001)
        text = metrics.expose(None).decode()

        assert 'weir_api_request_seconds_count{method="GET",route="/v1/sensors",status="200"} 1.0' in text
        assert 'weir_api_request_seconds_bucket{le="0.0025",method="GET",route="/v1/sensors",status="200"} 0.0' in text
        assert 'weir_api_request_seconds_bucket{le="0.005",method="GET",route="/v1/sensors",status="200"} 1.0' in text
        assert 'method="other"' in text
        assert "BREW" not in text
