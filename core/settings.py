"""Settings of every role, read once from the environment (`WEIR_…`) or the file named by `WEIR_ENV_FILE`.

One field is one setting: its description is what `weir doctor --settings` prints, its unit is in its name.
"""

from __future__ import annotations

import os

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Frozen settings; secrets print as stars."""

    model_config = SettingsConfigDict(env_prefix="WEIR_", frozen=True, extra="ignore")

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port separated by commas")
    topic_prefix: str = Field("", description="put before every topic name, so that several systems share a broker")
    topic_partitions: int = Field(4, ge=1, le=1024, description="partitions of topics that Weir creates itself")
    consumer_group: str = Field("weir", description="consumer group of the workers")
    consumer_session_timeout_s: float = Field(
        6.0, ge=1, description="seconds until a silent worker loses its partitions"
    )
    consumer_fetch_max_bytes: int = Field(4_194_304, ge=1_048_576, description="bytes per partition and fetch")
    batch_max_records: int = Field(20_000, ge=1, description="records of one partition in one transaction")

    database_url: SecretStr = Field(SecretStr(""), description="PostgreSQL URL of this role's login")
    database_pool_size: int = Field(8, ge=1, le=200, description="database connections of one process")
    database_statement_timeout_ms: int = Field(30_000, ge=0, description="longest statement; 0 = unlimited")

    secret_key: SecretStr = Field(
        SecretStr(""), description="32+ characters; seals device secrets and keys the API key digests"
    )

    api_host: str = Field("127.0.0.1", description="address that the API listens on")
    api_port: int = Field(8000, ge=0, le=65535, description="port that the API listens on")
    readiness_max_lag: int = Field(100_000, ge=0, description="records behind the log's end before /readyz says no")
    api_requests_per_s: float = Field(
        200.0, gt=0, description="lasting request rate of one API key or device; above it: 429"
    )
    api_request_burst: int = Field(400, ge=1, description="requests that may come at once before that rate counts")
    sign_in_failures_per_email: int = Field(
        10, ge=1, description="failed sign-ins a minute with one e-mail address; above it: 429"
    )
    sign_in_failures_per_address: int = Field(
        60, ge=1, description="failed sign-ins a minute from one network address; above it: 429"
    )
    api_ingest_timeout_s: float = Field(5.0, gt=0, description="how long POST /v1/readings waits for Kafka before 503")

    live_origins: str = Field(
        "", description="origins besides the API's own whose pages may use the live bridge, separated by spaces"
    )
    live_connections: int = Field(20_000, ge=1, description="live connections of one API process")
    live_connections_per_tenant: int = Field(5_000, ge=1, description="live connections of one tenant in one process")
    live_subscriptions_per_connection: int = Field(64, ge=1, description="subscriptions of one live connection")
    live_subscriptions_per_tenant: int = Field(50_000, ge=1, description="subscriptions of one tenant in one process")
    live_message_bytes: int = Field(65_536, ge=1024, description="longest message that a live client may send")
    live_messages_per_s: float = Field(20.0, gt=0, description="lasting rate of a live client's messages")
    live_message_burst: int = Field(200, ge=1, description="messages that may come at once before that rate counts")
    live_tenant_messages_per_s: float = Field(
        2_000.0,
        gt=0,
        description="lasting rate of all of a tenant's live messages in one process; ten times that at once",
    )
    live_queue_bytes: int = Field(
        1_048_576, ge=65_536, description="bytes that may wait for a slow live client before it is sent away"
    )
    live_pause_ms: int = Field(50, ge=0, description="least time between two frames of readings to one subscription")
    live_retry_ms: int = Field(1_000, ge=1, description="about how long a live client waits before it comes back")
    live_drain_spread_ms: int = Field(
        5_000, ge=1, description="about how long clients wait before they come back from a server that stops"
    )

    refusals_kept_per_minute: int = Field(
        1000, ge=1, description="dead letters a device may cause per minute before sampling starts"
    )
    refusals_sampled_every: int = Field(100, ge=1, description="past that, every n-th refusal keeps its bytes")
    refusals_alarm_per_minute: int = Field(1000, ge=1, description="refusals a minute that raise an operator alarm")
    max_sensors_per_device: int = Field(10_000, ge=1, description="sensors that one device may register")

    stripe_api_key: SecretStr = Field(SecretStr(""), description="Stripe's secret key; empty: nothing is billed")
    stripe_api_base: str = Field("", description="where Stripe answers; empty: the real service")
    stripe_webhook_secret: SecretStr = Field(
        SecretStr(""), description="signing secrets of the webhook endpoint, separated by commas while one is replaced"
    )
    stripe_usage_mode: str = Field(
        "absolute", pattern="^(absolute|delta)$", description="absolute: totals of hours; delta: what was added"
    )

    scan_timeout_s: float = Field(
        600.0, ge=1, description="a scan from which nothing came for so long is processed with what is there"
    )
    objects_url: str = Field(
        ".weir/objects", description="where payloads of scans are kept: a folder, file:///folder, or s3://bucket/prefix"
    )
    objects_endpoint: str = Field("", description="where the S3 service answers; empty: Amazon's own")
    objects_region: str = Field("", description="region of the S3 bucket; empty: as AWS_REGION says")
    objects_access_key: str = Field(
        "", description="access key id for S3; empty: as AWS_ACCESS_KEY_ID or the machine says"
    )
    objects_secret_key: SecretStr = Field(SecretStr(""), description="secret that belongs to that access key")

    worker_stall_s: float = Field(
        60.0, ge=1, description="seconds that records may wait while nothing moves before a worker starts again"
    )
    scan_preview_seconds: float = Field(30.0, gt=0, description="longest preview of a scan, by the clock")
    scan_process_seconds: float = Field(900.0, gt=0, description="longest processing of a scan, by the clock")
    scan_memory_mib: int = Field(3_072, ge=256, description="memory that the processing of one scan may hold")
    scan_niceness: int = Field(5, ge=0, le=19, description="how far processing gives way to everything else")
    scan_recognizer: str = Field(
        "", description="module:factory of a recognizer that names the objects of scans (docs/scan-objects.md)"
    )
    scan_previews_per_process: int = Field(
        200, ge=1, description="previews computed in one process before a new one takes over"
    )
    scan_previews_kept_mib: int = Field(
        512, ge=0, description="memory of one job worker for maps of scans between their previews"
    )

    worker_id: str = Field("", description="stable name of this worker; empty: made from host and process")
    log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")
    log_format: str = Field("json", pattern="^(json|console)$", description="json or console")


def load_settings() -> Settings:
    """Read the settings from the environment and the optional file named by `WEIR_ENV_FILE`."""
    env_file = os.environ.get("WEIR_ENV_FILE")
    return Settings(_env_file=env_file) if env_file else Settings()
