"""`weir dead-letters` on a real database and broker: what was refused is found, shown, and sent once more as it came."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest
from kafka import KafkaConsumer

from ops.commands.dead_letters import _session
from schemas.errors import Reason, Transient
from sinks.timescale.dead_letters import Filter, measure, open_session, originals
from tests.integration.conftest import Broker
from tests.integration.dead_letter_scene import HEADERS, REFUSED_AT, Command, Sent, refusal, refuse
from tests.integration.publishing import ThirdPartyDevice, body, reading
from tests.integration.servers import Database, WorkerProcess, create_tenant, wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def weir(database: Database) -> Command:
    """For what needs no broker."""
    return Command(database.operator_url, "127.0.0.1:1")


@pytest.fixture
def topic(topic_prefix: str) -> str:
    return f"{topic_prefix}readings"


@pytest.fixture
def replaying(database: Database, broker: Broker) -> Command:
    return Command(database.operator_url, broker.bootstrap)


def consume(broker: Broker, topic: str, count: int) -> list[Any]:
    """Everything on the topic, once it is at least so much; a second more shows that nothing follows."""
    with closing(
        KafkaConsumer(topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest", group_id=None)
    ) as consumer:
        found: list[Any] = []

        def poll() -> bool:
            found.extend(record for records in consumer.poll(200).values() for record in records)
            return len(found) >= count

        wait_until(poll, 30, f"{count} records on {topic}")
        for records in consumer.poll(1000).values():
            found.extend(records)
    return found


def replayed(database: Database) -> list[bool]:
    return [
        bool(done)
        for (done,) in database.query("SELECT replayed_at IS NOT NULL FROM dead_letters ORDER BY dead_letter_id")
    ]


class TestListing:
    def test_the_newest_come_first_with_where_and_why(self, database: Database, weir: Command) -> None:
        old, new = refuse(
            database,
            "readings",
            refusal(Sent(7), index=3, sensor="air"),
            refusal(Sent(8), Reason.UNSIGNED, detail="no header"),
        )

        lines = weir("list").stdout.splitlines()

        assert lines[0].split()[:4] == ["number", "refused", "at", "reason"]
        assert lines[1].split()[:3] == [str(new), "2026-11-22T20:00:00.000Z", "unsigned"]
        assert lines[2].split()[:3] == [str(old), "2026-11-22T20:00:00.000Z", "wrong_shape"]
        assert "readings/2@7#3" in lines[2]
        assert "no list of readings" in lines[2]

    @pytest.mark.parametrize(
        ("options", "offsets"),
        [
            (["--tenant", "ten_b"], [2]),
            (["--device", "dev_c"], [3]),
            (["--reason", "unsigned"], [4]),
            (["--since", "2026-11-22T20:00:01Z"], [5]),
            (["--since", "2026-11-22T21:00:01+01:00"], [5]),
            (["--tenant", "ten_a", "--reason", "unsigned"], [4]),
            (["--tenant", "ten_b", "--reason", "unsigned"], []),
            (["--limit", "2"], [5, 4]),
        ],
    )
    def test_every_filter_given_must_hold(
        self, database: Database, weir: Command, options: list[str], offsets: list[int]
    ) -> None:
        refuse(
            database,
            "readings",
            refusal(Sent(1)),
            refusal(Sent(2), tenant_id="ten_b"),
            refusal(Sent(3), device_id="dev_c"),
            refusal(Sent(4), Reason.UNSIGNED),
        )
        refuse(database, "readings", refusal(Sent(5)), refused_at=REFUSED_AT + timedelta(seconds=2))

        assert [letter["offset"] for letter in weir.json("list", *options)] == offsets

    def test_a_time_that_is_none_is_explained(self, weir: Command) -> None:
        done = weir("list", "--since", "yesterday")

        assert done.returncode == 2
        assert "--since yesterday is neither a time with an offset" in done.stderr


class TestShowing:
    def test_text_is_shown_as_text_and_bytes_as_hexadecimal(self, database: Database, weir: Command) -> None:
        (number,) = refuse(database, "readings", refusal(Sent(7, value='{"ü": 1}'.encode())))

        lines = weir("show", number).stdout.splitlines()

        assert any(line.split() == ["reason:", "wrong_shape"] for line in lines)
        assert any(line.split() == ["offset:", "7"] for line in lines)
        assert any(line.startswith("header:") and line.endswith("weir-device = dev_a") for line in lines)
        assert any(line.startswith("header:") and line.endswith("blob = ff 00") for line in lines)
        assert any(line.startswith("value:") and line.endswith('{"ü": 1}') for line in lines)

    def test_a_long_value_is_cut(self, database: Database, weir: Command) -> None:
        (number,) = refuse(database, "readings", refusal(Sent(7, value=b"x" * 1025)))

        assert f"{'x' * 1024} … and 1 bytes more" in weir("show", number).stdout

    def test_an_unknown_number_is_explained(self, weir: Command) -> None:
        done = weir("show", 4711)

        assert done.returncode == 2
        assert "there is no dead letter 4711" in done.stderr


class TestReplaying:
    def test_key_value_and_headers_are_the_original_ones(
        self, database: Database, broker: Broker, topic: str, replaying: Command
    ) -> None:
        value = bytes(range(256)) * 3
        first, _second = refuse(database, topic, refusal(Sent(7, value=value)), refusal(Sent(8)))

        done = replaying("replay", first)

        assert done.returncode == 0, done.stderr
        assert done.stdout == "replayed 1 of 1 record(s), 1 dead letter(s) marked\n"
        (record,) = consume(broker, topic, 1)
        assert (record.key, record.value, list(record.headers)) == (b"dev_a", value, HEADERS)
        assert replayed(database) == [True, False]

    def test_a_record_is_sent_once_however_many_of_its_readings_were_refused(
        self, database: Database, broker: Broker, topic: str, replaying: Command
    ) -> None:
        record = Sent(7)
        numbers = refuse(database, topic, *(refusal(record, index=index) for index in range(3)))

        done = replaying("replay", numbers[0], numbers[2])

        assert done.stdout == "replayed 1 of 1 record(s), 3 dead letter(s) marked\n"
        assert len(consume(broker, topic, 1)) == 1
        assert replayed(database) == [True, True, True]

    def test_what_was_replayed_is_left_out_unless_asked_for(
        self, database: Database, broker: Broker, topic: str, replaying: Command
    ) -> None:
        (number,) = refuse(database, topic, refusal(Sent(7)))
        replaying("replay", number)

        twice = replaying("replay", number)
        again = replaying("replay", number, "--again")

        assert "1 left out: replayed before" in twice.stdout
        assert "nothing to replay" in twice.stdout
        assert "replayed 1 of 1" in again.stdout
        assert len(consume(broker, topic, 2)) == 2

    def test_everything_that_matches_needs_a_yes(self, database: Database, topic: str, replaying: Command) -> None:
        refuse(database, topic, refusal(Sent(7)), refusal(Sent(8)))

        done = replaying("replay", "--all-matching")

        assert done.returncode == 2
        assert (
            "send 2 record(s), of 2 dead letter(s), to their topics once more? Nobody can answer here; pass --yes"
            in done.stderr
        )
        assert replayed(database) == [False, False]

    def test_only_what_matches_is_sent_more_than_a_page_of_it(
        self, database: Database, broker: Broker, topic: str, replaying: Command
    ) -> None:
        refuse(database, topic, *(refusal(Sent(n, value=b"%d" % n)) for n in range(1234)))
        refuse(database, topic, refusal(Sent(5000), Reason.UNSIGNED))

        done = replaying("replay", "--all-matching", "--reason", "wrong_shape", "--yes")

        assert done.stdout == "replayed 1234 of 1234 record(s), 1234 dead letter(s) marked\n"
        assert sorted(int(record.value) for record in consume(broker, topic, 1234)) == list(range(1234))
        assert replayed(database) == [True] * 1234 + [False]

    def test_a_record_that_cannot_be_sent_is_named_and_holds_up_no_other(
        self, database: Database, broker: Broker, topic: str, replaying: Command
    ) -> None:
        refuse(database, topic, refusal(Sent(7, value=None, key=None)), refusal(Sent(8)))

        done = replaying("replay", "--all-matching", "--yes")

        assert done.returncode == 1
        assert f"not taken: {topic}/2@7: " in done.stderr
        assert "1 record(s) could not be sent" in done.stderr
        assert replayed(database) == [False, True]

    def test_the_writers_login_will_do(self, database: Database, broker: Broker, topic: str) -> None:
        (number,) = refuse(database, topic, refusal(Sent(7)))

        done = Command(database.writer_url, broker.bootstrap)("replay", number)

        assert done.returncode == 0, done.stderr
        assert replayed(database) == [True]

    @pytest.mark.parametrize("words", [["replay"], ["replay", "1", "--all-matching"]])
    def test_what_to_replay_must_be_said_in_one_way(self, weir: Command, words: list[str]) -> None:
        done = weir(*words)

        assert done.returncode == 2
        assert "give either the numbers of dead letters, or --all-matching" in done.stderr

    def test_what_is_refused_while_a_replay_runs_is_not_part_of_it(self, database: Database) -> None:
        refuse(database, "readings", refusal(Sent(1)))
        with closing(open_session(database.operator_url)) as session:
            extent = measure(session, Filter(waiting_only=True))
            found = originals(session, Filter(waiting_only=True, up_to_id=extent.up_to_id))
            offsets = [record.offset for record in next(found)]
            refuse(database, "readings", refusal(Sent(2)))

            offsets += [record.offset for records in found for record in records]

        assert offsets == [1]

    def test_large_records_are_held_in_memory_a_few_at_a_time(self, database: Database) -> None:
        refuse(database, "readings", *(refusal(Sent(n, value=b"x" * 3_000_000)) for n in range(5)))

        with closing(open_session(database.operator_url)) as session:
            sizes = [len(records) for records in originals(session, Filter())]

        assert sizes == [2, 2, 1]  # 3 · 3 000 000 bytes exceed 8 MiB

    def test_a_reading_refused_by_mistake_is_stored_in_the_end(
        self,
        database: Database,
        topic: str,
        broker: Broker,
        new_worker: Callable[..., WorkerProcess],
        replaying: Command,
    ) -> None:
        (device,) = asyncio.run(create_tenant(database)).devices
        database.query("UPDATE weir.device SET revoked_at = now()")
        new_worker()
        ThirdPartyDevice(broker.bootstrap, topic).send_all(device, [body(reading("2026-10-01T12:00:00.000Z", 3.8))])
        wait_until(
            lambda: database.query("SELECT 1 FROM dead_letters WHERE reason = 'revoked_device'"), 40, "the refusal"
        )
        database.query("UPDATE weir.device SET revoked_at = NULL")

        assert replaying("replay", "--all-matching", "--reason", "revoked_device", "--yes").returncode == 0

        wait_until(lambda: database.query("SELECT value FROM readings") == [(3.8,)], 40, "the reading")


class TestOutages:
    def test_a_broker_that_is_away_is_named_and_nothing_is_marked(self, database: Database, weir: Command) -> None:
        (number,) = refuse(database, "readings", refusal(Sent(7)))

        done = weir("replay", number)

        assert done.returncode == 1
        assert "no Kafka broker answers at 127.0.0.1:1" in done.stderr
        assert "Traceback" not in done.stderr
        assert replayed(database) == [False]

    def test_a_database_lost_on_the_way_is_named(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEIR_DATABASE_URL", database.operator_url)

        def lose_it() -> None:
            with _session() as session:
                database.query("SELECT pg_terminate_backend(%s)", session.info.backend_pid)
                session.execute("SELECT 1")

        with pytest.raises(Transient, match="terminating connection"):
            lose_it()

    @pytest.mark.parametrize("words", [["list"], ["show", "1"], ["replay", "1"]])
    def test_a_database_that_is_away_is_named(self, words: list[str]) -> None:
        done = Command("postgresql://me:secret99@127.0.0.1:1/none", "127.0.0.1:1")(*words)

        assert done.returncode == 1
        assert "the database at 127.0.0.1:1/none cannot be reached" in done.stderr
        assert "secret99" not in done.stderr + done.stdout

    def test_a_login_of_another_role_is_told_which_one_it_takes(self, database: Database) -> None:
        done = Command(database.reader_url, "127.0.0.1:1")("list")

        assert done.returncode == 2
        assert "login_reader is a member of neither weir_operator nor weir_writer" in done.stderr

    @pytest.mark.parametrize(
        ("url", "message"),
        [("", "WEIR_DATABASE_URL is not set"), ("nonsense", "WEIR_DATABASE_URL is no connection URL")],
    )
    def test_a_url_that_is_none_is_told_so(self, url: str, message: str) -> None:
        done = Command(url, "127.0.0.1:1")("list")

        assert done.returncode == 2
        assert message in done.stderr
