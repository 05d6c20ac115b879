"""What procrastinate's own loggers may say: nothing of a job, and no traceback when the database went away."""

from __future__ import annotations

import logging

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException

from jobs.worker import quieten_procrastinate


def test_a_named_workers_lines_about_jobs_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    quieten_procrastinate("one")
    logger = logging.getLogger("procrastinate.worker").getChild("one")

    logger.error("Job send(secret='s') failed", extra={"action": "job_error"})
    logger.error("about itself", extra={"action": "stop_worker"})

    assert caplog.messages == ["about itself"]


def test_a_database_that_went_away_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    quieten_procrastinate("two")
    error = ConnectorException()
    error.__cause__ = psycopg.OperationalError("connection refused")

    logging.getLogger("procrastinate.worker.two").error(
        "Side task listener failed", extra={"action": "side_task_failed"}, exc_info=error
    )

    [record] = caplog.records
    assert record.getMessage() == "the database went away while jobs were listened for"
    assert record.exc_info is None
