"""`weir simulate`: options, and as which devices it publishes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from accounts.provisioning import DeviceCredentials
from ops.commands.simulate import parse_duration_ms, register
from ops.simulator.feed import Tally
from ops.simulator.fleet import Emission
from ops.simulator.roster import Access, Wanted, recruit
from schemas.errors import Misconfigured

CONNECTION: dict[str, Any] = {
    "tenant_id": "ten_1",
    "device_id": "dev_1",
    "device_secret": "s1",
    "other_tenant": {"tenant_id": "ten_2", "device_id": "dev_2", "device_secret": "s2"},
}
NO_ACCESS = Access("", "")


def recruited(folder: Path, tenants: int, devices: int, connection: dict[str, Any] | None = CONNECTION) -> list[str]:
    credentials = asyncio.run(recruit(folder, connection, NO_ACCESS, Wanted(tenants, devices)))
    return [device.device_id for device in credentials]


def remember(folder: Path, belongs_to: str, **tenants: list[str]) -> None:
    content = {
        "belongs_to": belongs_to,
        "tenants": [
            {"tenant_id": tenant, "devices": [{"device_id": device, "secret": "s"} for device in devices]}
            for tenant, devices in tenants.items()
        ],
    }
    (folder / "simulator.json").write_text(json.dumps(content))


class TestRecruit:
    def test_the_first_device_is_the_demo_tenants(self, tmp_path: Path) -> None:
        credentials = asyncio.run(recruit(tmp_path, CONNECTION, NO_ACCESS, Wanted(1, 1)))

        assert credentials == [DeviceCredentials("dev_1", "s1")]
        assert list(tmp_path.iterdir()) == []

    def test_the_second_tenant_is_the_other_demo_tenant(self, tmp_path: Path) -> None:
        assert recruited(tmp_path, 2, 1) == ["dev_1", "dev_2"]

    def test_devices_that_were_made_before_are_used_again_in_order(self, tmp_path: Path) -> None:
        remember(tmp_path, "ten_1", ten_1=["dev_1", "dev_3"], ten_2=["dev_2", "dev_4"], ten_9=["dev_5", "dev_6"])

        assert recruited(tmp_path, 1, 2) == ["dev_1", "dev_3"]
        assert recruited(tmp_path, 3, 2) == ["dev_1", "dev_3", "dev_2", "dev_4", "dev_5", "dev_6"]

    def test_its_own_devices_leave_out_the_demo_device(self, tmp_path: Path) -> None:
        remember(tmp_path, "ten_1", ten_1=["dev_5"])
        (tmp_path / "simulator.json").rename(tmp_path / "simulator-own.json")

        credentials = asyncio.run(recruit(tmp_path, CONNECTION, NO_ACCESS, Wanted(1, 1, own_only=True)))

        assert credentials == [DeviceCredentials("dev_5", "s")]

    def test_devices_of_another_system_are_refused(self, tmp_path: Path) -> None:
        remember(tmp_path, "ten_7", ten_7=["dev_8"])

        with pytest.raises(Misconfigured, match=r"simulator\.json holds devices of another system; move it away"):
            recruited(tmp_path, 1, 1)

    def test_more_devices_than_exist_need_a_database(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match="set WEIR_DATABASE_URL and WEIR_SECRET_KEY to create them"):
            recruited(tmp_path, 1, 2)

    def test_an_incomplete_connection_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(Misconfigured, match=r"connection\.json lacks 'other_tenant'"):
            recruited(tmp_path, 1, 1, {"tenant_id": "t", "device_id": "d", "device_secret": "s"})


class TestOptions:
    def test_scenarios_are_listed(self) -> None:
        result = invoke("--list-scenarios")

        assert result.exit_code == 0
        assert (
            "compressor-failure  half a minute in, the compressors of the first fridge and freezer stop"
            in result.output
        )

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--scenario", "hot"], "no scenario is named 'hot'; expected one of mixed, normal, warm-fridge"),
            (["--rate", "0"], "--rate and --seconds must be above 0, got 0 and None"),
            (["--seconds", "-1"], "--rate and --seconds must be above 0, got 10 and -1"),
            (["--backfill", "a day"], "'a day' is not a duration; expected for example 30s, 15m, 24h or 1h30m"),
        ],
    )
    def test_a_wrong_option_is_explained(self, options: list[str], message: str) -> None:
        result = invoke(*options)

        assert isinstance(result.exception, Misconfigured)
        assert message in str(result.exception)

    @pytest.mark.parametrize(
        ("text", "ms"),
        [("0s", 0), ("250ms", 250), ("90s", 90_000), ("15m", 900_000), ("1h30m", 5_400_000), ("30d", 2_592_000_000)],
    )
    def test_durations_are_read_as_prometheus_reads_them(self, text: str, ms: int) -> None:
        assert parse_duration_ms(text) == ms


class TestTally:
    def test_readings_are_counted_by_what_became_of_them(self) -> None:
        rows = [("air", 1, 4.0, 0), ("battery", 1, 90.0, 0)]
        tally = Tally()
        for late, copy in ((False, False), (True, False), (True, True)):
            tally.add(Emission(0, 2, rows, 2, late, copy))

        assert (tally.records, tally.readings, tally.late, tally.duplicates, tally.unconfirmed) == (3, 6, 4, 2, 3)


def invoke(*options: str) -> Any:
    app = typer.Typer(add_completion=False)
    register(app)
    return CliRunner().invoke(app, list(options))
