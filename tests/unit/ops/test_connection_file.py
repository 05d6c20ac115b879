"""The private files of a data dir."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from ops.connection_file import (
    Connection,
    DemoTenant,
    State,
    load_state,
    save_state,
    write_connection,
    write_environment,
)
from ops.embedded import private_json
from schemas.errors import Misconfigured

TENANT = DemoTenant("ten_1", "romo_live_a", "dev_1", "secret-1", "owner@one.example", "password-1")
OTHER = DemoTenant("ten_2", "romo_live_b", "dev_2", "secret-2", "owner@two.example", "password-2")
CONNECTION = Connection("http://127.0.0.1:8000", "127.0.0.1:19092", "postgresql://o:p@127.0.0.1:1/weir", TENANT, OTHER)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_connection_json_has_exactly_the_promised_keys(tmp_path: Path) -> None:
    write_connection(tmp_path, CONNECTION)

    assert json.loads((tmp_path / "connection.json").read_text()) == {
        "api_url": "http://127.0.0.1:8000",
        "live_url": "ws://127.0.0.1:8000/v1/live",
        "dashboard_url": "http://127.0.0.1:8000/",
        "kafka_bootstrap": "127.0.0.1:19092",
        "database_url": "postgresql://o:p@127.0.0.1:1/weir",
        "tenant_id": "ten_1",
        "api_key": "romo_live_a",
        "device_id": "dev_1",
        "device_secret": "secret-1",
        "email": "owner@one.example",
        "password": "password-1",
        "other_tenant": {
            "tenant_id": "ten_2",
            "api_key": "romo_live_b",
            "device_id": "dev_2",
            "device_secret": "secret-2",
            "email": "owner@two.example",
            "password": "password-2",
        },
    }


def test_files_with_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    write_connection(tmp_path, CONNECTION)
    write_environment(tmp_path, {"WEIR_SECRET_KEY": "k"})
    save_state(tmp_path, State.new())

    modes = {name: mode_of(tmp_path / name) for name in ("connection.json", "weir.env", "state.json")}
    assert modes == {"connection.json": 0o600, "weir.env": 0o600, "state.json": 0o600}


def test_replacing_a_file_tightens_its_mode_and_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "connection.json").write_text("{}")
    (tmp_path / "connection.json").chmod(0o644)

    write_connection(tmp_path, CONNECTION)

    assert mode_of(tmp_path / "connection.json") == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["connection.json"]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    private_json.write(tmp_path / "state.json", {"port": 1})

    with pytest.raises(TypeError):
        private_json.write(tmp_path / "state.json", {"port": object()})

    assert private_json.read(tmp_path / "state.json") == {"port": 1}


def test_state_is_begun_once_and_then_stays_the_same(tmp_path: Path) -> None:
    begun = load_state(tmp_path)
    with_tenants = State(begun.secret_key, begun.passwords, 19092, (TENANT, OTHER))
    save_state(tmp_path, with_tenants)

    assert load_state(tmp_path) == with_tenants


def test_two_data_dirs_share_no_secret(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    one, two = load_state(tmp_path / "a"), load_state(tmp_path / "b")

    secrets = [one.secret_key, two.secret_key, *one.passwords.values(), *two.passwords.values()]
    assert len(set(secrets)) == len(secrets) == 2 * (1 + 5)  # a key, logins of four roles and one for tools


def test_a_login_of_a_newer_release_gets_a_password(tmp_path: Path) -> None:
    older = State("k" * 32, {"weir_owner_login": "kept"})
    save_state(tmp_path, older)

    passwords = load_state(tmp_path).passwords

    assert passwords["weir_owner_login"] == "kept"
    assert passwords["weir_tools"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"unknown": 1}'])
def test_a_damaged_state_file_is_named_with_the_remedy(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)

    with pytest.raises(Misconfigured, match=r"state\.json is damaged.*restore it or move"):
        load_state(tmp_path)


def test_a_lost_state_file_is_not_replaced_while_there_is_a_database(tmp_path: Path) -> None:
    (tmp_path / "postgres" / "cluster").mkdir(parents=True)

    with pytest.raises(Misconfigured, match=r"state\.json with the system's secret key is missing; restore it"):
        load_state(tmp_path)

    assert not (tmp_path / "state.json").exists()
