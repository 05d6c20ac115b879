"""The private files of a data dir: what people connect with, and what must stay the same across restarts.

`connection.json` is INTERFACES §2 for people and scripts, `weir.env` the settings for other commands. `state.json` is
ours: the secret key, the passwords of the database logins, the credentials of the demo tenants, the broker's port.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from ops.embedded import private_json
from ops.embedded.logins import login_names
from schemas.errors import Misconfigured

_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """A tenant to try things with, and its credentials in clear."""

    tenant_id: str
    api_key: str
    device_id: str
    device_secret: str
    email: str
    password: str


@dataclass(frozen=True, slots=True)
class State:
    """What a data dir keeps for itself.

    Args:
        secret_key: `WEIR_SECRET_KEY` of every role.
        passwords: of the embedded database's logins.
        broker_port: where the embedded broker listened the last time.
        tenants: the demo tenants, empty until they are made.
    """

    secret_key: str
    passwords: Mapping[str, str]
    broker_port: int | None = None
    tenants: tuple[DemoTenant, ...] = ()

    @classmethod
    def new(cls) -> Self:
        """Fresh secrets."""
        return cls(_secret(), {name: _secret() for name in login_names()})


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a running system is reached, and by whom."""

    api_url: str
    kafka_bootstrap: str
    database_url: str
    tenant: DemoTenant
    other_tenant: DemoTenant

    @property
    def live_url(self) -> str:
        """The WebSocket of INTERFACES §9."""
        return f"ws{self.api_url.removeprefix('http')}/v1/live"

    @property
    def dashboard_url(self) -> str:
        """The page for people."""
        return f"{self.api_url}/"

    def as_json(self) -> dict[str, Any]:
        """The keys of INTERFACES §2."""
        return {
            "api_url": self.api_url,
            "live_url": self.live_url,
            "dashboard_url": self.dashboard_url,
            "kafka_bootstrap": self.kafka_bootstrap,
            "database_url": self.database_url,
            **asdict(self.tenant),
            "other_tenant": asdict(self.other_tenant),
        }


def write_connection(data_dir: Path, connection: Connection) -> None:
    """Replace `connection.json` atomically, mode 0600."""
    private_json.write(data_dir / "connection.json", connection.as_json())


def load_state(data_dir: Path) -> State:
    """Read `state.json`, or begin one and write it.

    Raises:
        Misconfigured: the file is damaged, or is missing although the data dir has a database.
    """
    path = data_dir / "state.json"
    content = private_json.read(path)
    if content is not None:
        return _parse(path, content)
    if (data_dir / "postgres" / "cluster").exists():
        msg = f"{path} with the system's secret key is missing; restore it, or move {data_dir} away to start afresh"
        raise Misconfigured(msg)
    state = State.new()
    save_state(data_dir, state)
    return state


def save_state(data_dir: Path, state: State) -> None:
    """Replace `state.json` atomically, mode 0600."""
    private_json.write(data_dir / "state.json", asdict(state))


def write_environment(data_dir: Path, settings: Mapping[str, str]) -> None:
    """Replace `weir.env`: with `WEIR_ENV_FILE` naming it, the other commands find the running system."""
    lines = "".join(f"{name}={value}\n" for name, value in sorted(settings.items()))
    private_json.write_text(data_dir / "weir.env", lines)


def _parse(path: Path, content: Mapping[str, Any]) -> State:
    try:
        state = State(**content)
        # A login that this release added gets its password now.
        passwords = {name: _secret() for name in login_names()} | dict(state.passwords)
        return replace(state, passwords=passwords, tenants=tuple(DemoTenant(**tenant) for tenant in state.tenants))  # type: ignore[arg-type]
    except TypeError as error:
        msg = f"{path} is damaged or of another release ({error}); restore it or move {path.parent} away"
        raise Misconfigured(msg) from error


def _secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)
