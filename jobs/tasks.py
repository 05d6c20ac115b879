"""Every task that a job worker knows."""

from __future__ import annotations

from jobs.billing import BILLING_TASKS
from jobs.maintenance import TASKS as MAINTENANCE_TASKS
from jobs.registry import Tasks
from jobs.scan_upkeep import UPKEEP_TASKS
from jobs.scans.tasks import SCAN_TASKS

TASKS: Tasks = {**MAINTENANCE_TASKS, **BILLING_TASKS, **SCAN_TASKS, **UPKEEP_TASKS}
