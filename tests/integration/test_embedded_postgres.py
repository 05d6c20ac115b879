"""The database that `weir up` and the tests bring along: private, durable, and clear about what is wrong."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from ops.embedded import private_json
from ops.embedded.lifeline import ON_LINUX, processes_marked, wait_until
from ops.embedded.ports import accepts_connections
from ops.embedded.postgres import EmbeddedPostgres
from schemas.errors import Misconfigured
from tests.integration.embedded_postgres_scene import answer, copy_tree, fill_up, parent_of, processes_of, small_disk

pytestmark = pytest.mark.integration

PATIENCE_S = 20.0
AS_ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped cluster with one row in it, to copy."""
    folder = tmp_path_factory.mktemp("template") / "postgres"
    with EmbeddedPostgres(folder) as server, psycopg.connect(server.superuser_url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return copy_tree(template, tmp_path / "postgres")


def settings_of(server: EmbeddedPostgres, names: Iterable[str]) -> dict[str, object]:
    with psycopg.connect(server.superuser_url) as connection:
        rows = [connection.execute("SELECT current_setting(%s)", (name,)).fetchone() for name in names]
    return {name: row and row[0] for name, row in zip(names, rows, strict=True)}


class TestStart:
    def test_data_password_and_port_outlive_a_restart(self, tmp_path: Path) -> None:
        with EmbeddedPostgres(tmp_path / "postgres") as server, psycopg.connect(server.superuser_url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
            first = server.superuser_url

        with EmbeddedPostgres(tmp_path / "postgres") as server:
            assert server.superuser_url == first
            assert answer(server) == 42

    def test_the_settings_are_those_for_ingest_and_can_be_overridden(self, folder: Path) -> None:
        wanted: dict[str, object] = {
            "shared_buffers": "256MB",
            "max_wal_size": "4GB",
            "checkpoint_timeout": "15min",
            "max_locks_per_transaction": "512",
            "max_connections": "100",
            "synchronous_commit": "on",
            "fsync": "on",
            "timezone": "UTC",
            "password_encryption": "scram-sha-256",
            "work_mem": "7MB",
            "jit": "on",
        }
        with EmbeddedPostgres(folder, extra_settings={"work_mem": "7MB", "jit": "on"}) as server:
            assert settings_of(server, wanted) == wanted

    def test_a_crash_loses_nothing_that_was_committed(self, folder: Path) -> None:
        with EmbeddedPostgres(folder) as server:
            with psycopg.connect(server.superuser_url) as connection:
                connection.execute("UPDATE kept SET answer = 43")
            server.kill()
            assert (folder / "cluster" / "postmaster.pid").exists()

            server.start()

            assert answer(server) == 43

    def test_its_port_is_given_up_when_another_program_took_it(self, folder: Path) -> None:
        kept = private_json.read(folder / "server.json")
        assert kept is not None
        with socket.create_server(("127.0.0.1", kept["port"])), EmbeddedPostgres(folder) as server:
            assert urlsplit(server.superuser_url).port != kept["port"]
            assert answer(server) == 42


class TestPrivacy:
    def test_every_connection_needs_the_password(self, folder: Path) -> None:
        with EmbeddedPostgres(folder) as server:
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(server.superuser_url.replace("postgres:", "postgres:not-", 1))
            rules = [line.split() for line in (folder / "cluster" / "pg_hba.conf").read_text().splitlines()]
        methods = {words[-1] for words in rules if words and not words[0].startswith("#")}
        assert methods == {"scram-sha-256"}

    def test_it_listens_on_loopback_only_and_has_no_socket_file(self, folder: Path) -> None:
        wanted: dict[str, object] = {"listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
        with EmbeddedPostgres(folder) as server:
            assert settings_of(server, wanted) == wanted

    def test_its_files_are_closed_to_others(self, folder: Path) -> None:
        with EmbeddedPostgres(folder):
            modes = {
                name: stat.S_IMODE((folder / name).stat().st_mode)
                for name in (".", "cluster", "server.json", "server.log")
            }
        assert modes == {".": 0o700, "cluster": 0o700, "server.json": 0o600, "server.log": 0o600}

    def test_the_password_is_in_no_command_line_and_not_in_the_log(self, folder: Path) -> None:
        with EmbeddedPostgres(folder) as server:
            password = urlsplit(server.superuser_url).password
            assert password is not None
            with psycopg.connect(server.superuser_url) as connection, pytest.raises(psycopg.errors.DuplicateObject):
                connection.execute(f"CREATE ROLE postgres PASSWORD '{password}'")
            assert not processes_marked(password)
        assert password not in (folder / "server.log").read_text()

    @pytest.mark.skipif(not AS_ROOT, reason="only root runs it under another account")
    def test_root_opens_no_folder_above_for_the_server_s_account(self, template: Path, tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        folder = copy_tree(template, closed / "postgres")

        with EmbeddedPostgres(folder) as server:
            assert answer(server) == 42
            account = Path(f"/proc/{server.pid}").stat().st_uid

        assert account != 0
        assert (folder / "cluster").stat().st_uid == account
        above = [(path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) for path in (folder, closed)]
        assert above == [(0, 0o700), (0, 0o700)]

    @pytest.mark.skipif(not AS_ROOT, reason="only root runs it under another account")
    def test_a_cluster_that_root_copied_back_is_handed_over_again(self, folder: Path) -> None:
        for entry in (folder / "cluster", *(folder / "cluster").rglob("*")):
            os.chown(entry, 0, 0)

        with EmbeddedPostgres(folder) as server:
            assert answer(server) == 42


class TestEnd:
    def test_nothing_is_left_after_stop(self, folder: Path) -> None:
        with EmbeddedPostgres(folder) as server:
            assert len(processes_of(folder)) > 3 or not ON_LINUX
            port = urlsplit(server.superuser_url).port

        assert processes_of(folder) == []
        assert port is not None
        assert not accepts_connections(port)

    def test_nothing_is_left_after_kill(self, folder: Path) -> None:
        with EmbeddedPostgres(folder) as server:
            server.kill()

            assert processes_of(folder) == []

    @pytest.mark.skipif(not ON_LINUX, reason="the kernel's part of this exists on Linux only")
    def test_it_shuts_down_cleanly_when_the_program_that_started_it_is_killed(self, folder: Path) -> None:
        with parent_of(folder) as parent:
            assert wait_until(lambda: b"ready" in (folder / "said").read_bytes(), PATIENCE_S)
            parent.kill()
            parent.wait()

            assert wait_until(lambda: not processes_of(folder), PATIENCE_S)
        assert "database system is shut down" in (folder / "server.log").read_text()

    @pytest.mark.skipif(not ON_LINUX, reason="finds leftovers through /proc")
    def test_a_server_left_over_is_ended_before_the_next_start(self, folder: Path) -> None:
        with parent_of(folder) as parent:
            assert wait_until(lambda: b"ready" in (folder / "said").read_bytes(), PATIENCE_S)
            postmaster = int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])
            os.kill(postmaster, signal.SIGSTOP)  # it cannot follow the kernel's request
            parent.kill()
            parent.wait()
            os.kill(postmaster, signal.SIGCONT)

            with EmbeddedPostgres(folder) as server:
                assert server.pid != postmaster
                assert answer(server) == 42

    def test_a_second_owner_is_refused_and_the_first_goes_on(self, folder: Path) -> None:
        with EmbeddedPostgres(folder) as server:
            with pytest.raises(Misconfigured, match=rf"is in use by process {os.getpid()}; stop that one or choose"):
                EmbeddedPostgres(folder).start()

            assert answer(server) == 42


def lose_version(folder: Path) -> None:
    (folder / "cluster" / "PG_VERSION").unlink()


def be_of_another_version(folder: Path) -> None:
    (folder / "cluster" / "PG_VERSION").write_text("12\n")


def lose_control_file(folder: Path) -> None:
    (folder / "cluster" / "global" / "pg_control").unlink()


def lose_password(folder: Path) -> None:
    (folder / "server.json").unlink()


def scramble_password(folder: Path) -> None:
    (folder / "server.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lose_version, r"is damaged \(PG_VERSION is missing\); restore it from a backup, or move .* away to begin"),
        (be_of_another_version, r"was made by PostgreSQL 12, this is 1[678]; dump it with PostgreSQL 12"),
        (lose_control_file, r"does not start \(.*pg_control.*\); correct that, restore it from a backup"),
        (lose_password, r"server\.json with the database's password is missing; restore it or move"),
        (scramble_password, r"server\.json is damaged \(not JSON\); restore it or move"),
    ],
)
def test_damage_is_named_in_one_sentence_and_made_no_worse(
    folder: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    damage(folder)
    before = sorted(path.name for path in (folder / "cluster").iterdir())

    with pytest.raises(Misconfigured, match=sentence) as refusal:
        EmbeddedPostgres(folder).start()

    assert "\n" not in str(refusal.value)
    assert processes_of(folder) == []
    # The check for the wanted programs and PostgreSQL's own start may leave their own small files behind, but take none.
    assert set(before) <= {path.name for path in (folder / "cluster").iterdir()} | {"postmaster.pid"}


def test_a_creation_that_was_interrupted_is_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "postgres"
    half_made = folder / "cluster.new"
    half_made.mkdir(parents=True)
    (half_made / "PG_VERSION").write_text("18\n")

    with EmbeddedPostgres(folder) as server, psycopg.connect(server.superuser_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)

    assert not half_made.exists()


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(
        Misconfigured, match=r"file/postgres cannot be used \(Not a directory\); correct that or choose"
    ):
        EmbeddedPostgres(tmp_path / "file" / "postgres").start()


def test_a_missing_installation_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"nowhere/bin/postgres does not run on this machine \(No such file"):
        EmbeddedPostgres(tmp_path / "postgres", pg_root=tmp_path / "nowhere").start()


@pytest.mark.skipif(not (ON_LINUX and AS_ROOT), reason="needs to mount a small disk")
class TestFullDisk:
    def test_no_database_is_begun_where_there_is_no_room(self, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", 100) as disk:
            with pytest.raises(Misconfigured, match=r"has \d+ MiB free, a new database needs 256; free some space or"):
                EmbeddedPostgres(disk / "postgres").start()

            assert not (disk / "postgres" / "cluster").exists()

    def test_a_disk_that_filled_up_is_named_and_nothing_is_lost(self, template: Path, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", 150) as disk:
            folder = copy_tree(template, disk / "postgres")
            fill = disk / "fill"
            fill_up(fill)

            with pytest.raises(Misconfigured, match=r"(No|no) space left on (the )?device"):
                EmbeddedPostgres(folder).start()

            fill.unlink()
            with EmbeddedPostgres(folder) as server:
                assert answer(server) == 42
