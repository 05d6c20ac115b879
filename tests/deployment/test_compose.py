"""docker-compose.yml runs the roles of INTERFACES §2 safely: checked here as data, as there is no container engine."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from core.postgres import DatabaseRole
from core.settings import Settings
from core.tasks import Queue
from ops.cli import _COMMANDS
from ops.commands.migrate import login_name
from tests.architecture.tree import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = ["migrate", "worker", "api", "jobs", "scans"]
LASTING = ["kafka", "database", "worker", "api", "jobs", "scans"]
LOGINS = {
    "worker": DatabaseRole.WRITER,
    "api": DatabaseRole.READER,
    "jobs": DatabaseRole.OWNER,
    "scans": DatabaseRole.WRITER,
}

# `${NAME:?…}` and `${NAME:-…}`, as compose interpolates them.
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?P<rule>:\?|:-|)[^}]*\}")


def variables() -> list[re.Match[str]]:
    # The services only: comments and anchors are not interpolated, or appear here again.
    return list(VARIABLE.finditer(yaml.safe_dump(SERVICES, width=10_000)))


def interpolated(value: object) -> str:
    """The value with each variable replaced by its own name."""
    return VARIABLE.sub(lambda match: match["name"], str(value))


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    pairs = [line.removeprefix("#").split("=", 1) for line in lines if re.match(r"#?\w+=", line)]
    return {name: value for name, value in pairs}  # noqa: C416 - the pairs are lists


def test_every_role_and_both_servers_are_there() -> None:
    assert set(SERVICES) == {*ROLES, "kafka", "database"}
    assert {SERVICES[role]["command"][0] for role in ROLES} <= {command.name for command in _COMMANDS}


@pytest.mark.parametrize("name", LASTING)
def test_what_keeps_running_is_checked_and_restarted(name: str) -> None:
    check = SERVICES[name]["healthcheck"]

    assert check["test"][0] == "CMD"
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", LASTING)
def test_a_container_gets_the_time_its_clean_stop_needs(name: str) -> None:
    # INTERFACES §2: everything stops within 20 s of SIGTERM.
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) >= 20


def test_the_schema_comes_before_the_roles_and_the_servers_before_both() -> None:
    healthy, done = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}

    assert SERVICES["migrate"]["depends_on"] == {"database": healthy}
    assert SERVICES["worker"]["depends_on"] == {"migrate": done, "kafka": healthy}
    assert SERVICES["api"]["depends_on"] == {"migrate": done, "kafka": healthy}
    assert SERVICES["jobs"]["depends_on"] == {"migrate": done}
    assert SERVICES["scans"]["depends_on"] == {"migrate": done}


def test_every_queue_is_served_by_one_of_the_job_workers() -> None:
    served = [queue for role in ("jobs", "scans") for queue in SERVICES[role]["command"][2].split(",")]

    assert SERVICES["jobs"]["command"][:2] == SERVICES["scans"]["command"][:2] == ["jobs", "--queues"]
    assert sorted(served) == sorted(Queue)


def test_no_secret_has_a_default() -> None:
    found = {match["name"]: match for match in variables() if re.search("PASSWORD|SECRET|STRIPE", match["name"])}
    stripe = {"WEIR_STRIPE_API_KEY", "WEIR_STRIPE_WEBHOOK_SECRET"}

    roles = {f"WEIR_{role.name}_PASSWORD" for role in DatabaseRole}
    assert set(found) - stripe == roles | {"WEIR_ADMIN_PASSWORD", "WEIR_SECRET_KEY"}
    assert {match["rule"] for name, match in found.items() if name not in stripe} == {":?"}
    # Without these nothing is sold, and everything else works.
    assert {found[name][0] for name in stripe} == {f"${{{name}:-}}" for name in stripe}


def test_no_secret_is_written_down() -> None:
    for name, service in SERVICES.items():
        for key, value in service["environment"].items():
            if re.search("PASSWORD|SECRET", key):
                assert VARIABLE.fullmatch(str(value)), f"{name}: {key}"
            if key == "WEIR_DATABASE_URL":
                password = str(urlsplit(interpolated(value)).password)
                assert f"${{{password}:?" in value, f"{name}: {key}"


def test_the_example_file_names_every_variable_and_no_value_that_is_secret() -> None:
    needed = {match["name"] for match in variables() if match["rule"] == ":?"}
    optional = {match["name"] for match in variables()} - needed

    assert needed <= set(example())
    assert {example()[name] for name in needed} == {""}
    assert set(example()) - needed <= optional


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned_to_a_version(name: str) -> None:
    image = SERVICES[name]["image"]
    _, _, tag = image.rpartition(":")

    if name in ROLES:
        assert SERVICES[name]["build"] == "."
    else:
        assert re.match(r"\d+\.\d+\.\d+", tag), image


def test_the_servers_are_the_ones_the_project_is_tested_with() -> None:
    pom = (ROOT / "tests" / "integration" / "maven" / "pom.xml").read_text(encoding="utf-8")
    kafka = SERVICES["kafka"]["image"].removeprefix("apache/kafka:")

    assert f"<version>{kafka}</version>" in pom
    assert re.fullmatch(r"timescale/timescaledb:2\.\d+\.\d+-pg1[78]", SERVICES["database"]["image"])


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_change_nothing_in_its_container(role: str) -> None:
    assert SERVICES[role]["read_only"] is True
    assert SERVICES[role]["tmpfs"] == ["/tmp"]  # noqa: S108 - the container's
    assert SERVICES[role]["cap_drop"] == ["ALL"]
    assert SERVICES[role]["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize(("service", "role"), LOGINS.items())
def test_a_role_connects_with_the_login_made_for_it(service: str, role: DatabaseRole) -> None:
    url = urlsplit(interpolated(SERVICES[service]["environment"]["WEIR_DATABASE_URL"]))

    assert (url.username, url.password) == (login_name(role), f"WEIR_{role.name}_PASSWORD")
    assert (url.hostname, url.port, url.path) == ("database", 5432, "/weir")


def test_only_migrate_knows_the_superuser() -> None:
    knowing = [name for name, service in SERVICES.items() if "WEIR_ADMIN_PASSWORD" in str(service["environment"])]

    assert sorted(knowing) == ["database", "migrate"]
    assert "--create-logins" in SERVICES["migrate"]["command"]


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_is_one_that_weir_knows(role: str) -> None:
    known = {f"WEIR_{name.upper()}" for name in Settings.model_fields}
    passwords = {f"WEIR_{name.name}_PASSWORD" for name in DatabaseRole} if role == "migrate" else set()

    assert set(SERVICES[role]["environment"]) <= known | passwords


def test_only_the_api_and_the_device_listener_are_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert set(published) == {"api", "kafka"}
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports)


def test_data_lives_in_named_volumes() -> None:
    mounts = {name: service["volumes"] for name, service in SERVICES.items() if "volumes" in service}

    # Who writes or reads payloads of scans does so in one place.
    objects = {name: ["objects:/var/lib/weir/objects"] for name in ("worker", "api", "jobs", "scans")}
    stores = {"kafka": ["kafka-data:/var/lib/kafka/data"], "database": ["database-data:/var/lib/postgresql"]}
    assert mounts == stores | objects
    assert {SERVICES[name]["environment"]["WEIR_OBJECTS_URL"] for name in objects} == {"/var/lib/weir/objects"}
    assert set(COMPOSE["volumes"]) == {"kafka-data", "database-data", "objects"}
    assert SERVICES["database"]["environment"]["PGDATA"].startswith("/var/lib/postgresql/")
    assert SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"


def test_kafka_makes_no_topic_by_itself_and_leaves_judging_sizes_to_weir() -> None:
    settings = SERVICES["kafka"]["environment"]

    assert settings["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert int(settings["KAFKA_MESSAGE_MAX_BYTES"]) > 1_048_576  # 1 MiB of value, and its key and headers
