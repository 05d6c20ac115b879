"""Which queues a job worker serves."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from core.settings import Settings
from core.tasks import Queue
from ops.commands.jobs import job_options


@pytest.mark.parametrize(
    ("queues", "served"),
    [
        ("", None),
        ("scans", (Queue.SCANS, Queue.SCAN_PREVIEWS)),
        ("scan-previews,scans", (Queue.SCAN_PREVIEWS, Queue.SCANS)),
        ("scan-previews", (Queue.SCAN_PREVIEWS,)),
        ("messages, billing", (Queue.MESSAGES, Queue.BILLING)),
    ],
)
def test_who_measures_scans_previews_them_too(queues: str, served: tuple[Queue, ...] | None) -> None:
    settings = Settings(database_url=SecretStr("postgresql://127.0.0.1:1/none"))

    assert job_options(settings, queues, 2, 1.0).queues == served
