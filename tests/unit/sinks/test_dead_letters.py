"""Throttling of refusals: everything counted, the first ones and samples kept, nobody else's allowance touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import Reason
from sinks.dead_letters import UNVERIFIED, Refusal, Throttle, clean

MINUTE_MS = 60_000


@dataclass
class FakeRecord:
    offset: int
    timestamp: int = 0
    key: bytes | None = None
    value: bytes | None = None
    headers: Sequence[tuple[str, bytes]] = ()


def refusals(count: int, device_id: str = "dev_a", tenant_id: str | None = "ten_a", first: int = 0) -> list[Refusal]:
    return [
        Refusal(FakeRecord(first + n), None, None, Reason.UNDECODABLE, "", device_id, tenant_id) for n in range(count)
    ]


class TestThrottle:
    def test_below_the_allowance_everything_is_kept(self) -> None:
        selection = Throttle(100, 10, 1000).select(refusals(100), 0)

        assert len(selection.kept) == 100
        assert selection.total == 100

    def test_past_the_allowance_every_tenth_is_kept_and_all_are_counted(self) -> None:
        selection = Throttle(100, 10, 10_000).select(refusals(1000), 0)

        # 100 kept at first, then the 110th, 120th, …, 1000th: 90.
        assert len(selection.kept) == 190
        count = selection.counts["dev_a", Reason.UNDECODABLE]
        assert (count.refused, count.kept, count.first_offset, count.last_offset) == (1000, 190, 0, 999)

    def test_the_allowance_comes_back_with_the_next_minute(self) -> None:
        throttle = Throttle(10, 100, 1000)
        throttle.select(refusals(50), 0)

        assert len(throttle.select(refusals(10), MINUTE_MS).kept) == 10

    def test_one_device_does_not_use_up_another_ones_allowance(self) -> None:
        throttle = Throttle(10, 1000, 1000)
        throttle.select(refusals(500), 0)

        assert len(throttle.select(refusals(10, device_id="dev_b"), 0).kept) == 10

    def test_claimed_device_ids_share_one_allowance(self) -> None:
        throttle = Throttle(10, 1000, 1000)
        claimed = [one for n in range(50) for one in refusals(1, device_id=f"made-up-{n}", tenant_id=None)]

        selection = throttle.select(claimed, 0)

        assert len(selection.kept) == 10
        assert selection.counts[UNVERIFIED, Reason.UNDECODABLE].refused == 50

    def test_a_flood_is_reported_once_a_minute(self) -> None:
        throttle = Throttle(10, 10, 100)

        assert throttle.select(refusals(99), 0).flooding == []
        assert throttle.select(refusals(1), 0).flooding == ["dev_a"]
        assert throttle.select(refusals(500), 0).flooding == []
        assert throttle.select(refusals(500), MINUTE_MS).flooding == ["dev_a"]


class TestClean:
    def test_control_characters_and_nul_become_replacement_characters(self) -> None:
        assert clean("a\x00b\x1b[31mc") == "a�b�[31mc"

    def test_long_text_is_cut(self) -> None:
        assert len(clean("x" * 10_000) or "") == 200

    def test_a_lone_surrogate_can_be_encoded(self) -> None:
        assert (clean("\ud800") or "").encode() == "�".encode()
