"""What a scan came to reaches the stand-in for Stripe, once, follows later results, and stays when the scan is erased."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from accounts.scans import erase_scan
from core.postgres import DatabaseRole, open_pool, tenant_transaction
from schemas.usage import Meter
from sinks.timescale import scans
from sinks.timescale.scans import FrameVerdict
from tests.integration.scan_job_scene import Scans
from tests.integration.servers import Database
from tests.integration.stripe_scene import stripe_scene
from tests.integration.usage_push_scene import Scene

pytestmark = pytest.mark.integration

RESULT = {"room_dimensions": {}, "verdict": "good", "missing_parts": []}


async def complete(scene: Scene, scan_id: str, hour: datetime, points: int, frames: int) -> None:
    """Frames that were captured in an hour, of so many points each, and the final result of them."""
    scene.database.query(
        "INSERT INTO weir.scan_frame (scan_no, seq, type, captured_at, bytes, sha256, object_key, received_at)"
        " SELECT scan_no, n, 'depth', %s, 1, '\\x00', 'k', now() FROM weir.scan, generate_series(0, %s - 1) n"
        " WHERE scan_id = %s ON CONFLICT DO NOTHING",
        *(hour, frames, scan_id),
    )
    scene.database.query(
        "UPDATE weir.scan SET received = %s, end_frames = %s, highest_seq = %s - 1 WHERE scan_id = %s",
        *(frames, frames, frames, scan_id),
    )
    scene.database.query("SELECT weir.settle_scan(scan_no) FROM weir.scan WHERE scan_id = %s", scan_id)
    verdicts = [FrameVerdict(seq, accepted=True, reason=None, points=points) for seq in range(frames)]
    async with scene.pool.connection() as connection, connection.transaction():
        scan = await scans.find_scan(connection, scan_id)
        assert scan is not None
        assert await scans.store_result(
            connection, scan, RESULT, provisional=False, usage_topic="t-usage", verdicts=verdicts
        )


def test_a_scan_and_its_points_are_billed_once_and_for_good(database: Database) -> None:
    async def act(scene: Scene) -> None:
        tenant_id, hour = await scene.subscribe(), scene.hour(3)

        async def billed() -> tuple[int | None, int | None]:
            await scene.push()
            scan, points = [await scene.at_stripe(tenant_id, hour, meter) for meter in (Meter.SCANS, Meter.SCAN_POINTS)]
            return scan, points

        made = Scans(database, Path("nowhere"))  # no object is looked at
        made.make("kitchen", tenant_id)
        await complete(scene, "kitchen", hour, 1_000, 3)
        assert await billed() == (1, 3_000)
        # Two more frames: the same scan, more points.
        await complete(scene, "kitchen", hour, 1_000, 5)
        assert await billed() == (1, 5_000)
        await complete(scene, "kitchen", hour, 1_000, 5)
        assert await billed() == (1, 5_000)
        made.make("bedroom", tenant_id)
        await complete(scene, "bedroom", hour, 10, 1)
        assert await billed() == (2, 5_010)

        async with (
            open_pool(database.reader_url, DatabaseRole.READER) as readers,
            tenant_transaction(readers, tenant_id) as connection,
        ):
            assert await erase_scan(connection, "kitchen")
        assert await billed() == (2, 5_010)
        scene.make_old()
        assert scene.drift() == []

    async def go() -> None:
        async with (
            stripe_scene() as stripe,
            open_pool(database.writer_url, DatabaseRole.WRITER) as pool,
        ):
            await stripe.billing.set_up()
            await act(Scene(database, pool, stripe, is_absolute=True))

    asyncio.run(go())
