"""The frame index as a law: what is stored and what lost depend on the set of records, however they are ordered and cut."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from sinks.timescale.scan_intake import KnownScan, ScanClaim, StoredFrame, plan_change

AT = datetime(2026, 11, 22, tzinfo=UTC)


def frame(scan_no: int, seq: int, content: int, *, refused: bool = False) -> StoredFrame:
    refusal = "invalid_pose" if refused else None
    return StoredFrame(scan_no, seq, "depth", 1, bytes([content]), f"k{content}", AT, refusal=refusal)


frames = st.builds(frame, st.integers(1, 2), st.integers(0, 2), st.integers(0, 3), refused=st.booleans())


def store(batches: list[list[StoredFrame]]) -> tuple[dict[tuple[int, int], StoredFrame], set[tuple[int, int, bytes]]]:
    """The index and the conflicts after these batches."""
    index: dict[tuple[int, int], StoredFrame] = {}
    lost: set[tuple[int, int, bytes]] = set()
    for batch in batches:
        change = plan_change(batch, {key: one for key, one in index.items() if key in {each.key for each in batch}})
        assert all(one.key not in index for one in change.added)
        assert all(one.rank > index[one.key].rank for one in change.replacing)
        index |= {one.key: one for one in (*change.added, *change.replacing)}
        lost |= {(*one.key, one.sha256) for one in change.lost}
    return index, lost


@given(st.lists(frames, max_size=12), st.randoms(use_true_random=False), st.integers(1, 5))
def test_any_order_and_any_batches_store_the_same(records: list[StoredFrame], chance: object, size: int) -> None:
    at_once = store([records])
    again = [*records, *records]
    chance.shuffle(again)  # type: ignore[attr-defined]
    assert store([again[n : n + size] for n in range(0, len(again), size)]) == at_once


def test_the_greatest_good_record_is_the_frame_and_every_other_good_one_a_conflict() -> None:
    index, lost = store(
        [[frame(1, 0, 2), frame(1, 0, 3, refused=True)], [frame(1, 0, 1), frame(1, 0, 2)], [frame(1, 0, 0)]]
    )
    assert index == {(1, 0): frame(1, 0, 2)}
    assert lost == {(1, 0, b"\1"), (1, 0, b"\0")}


def test_a_scan_belongs_to_one_tenant_and_one_device_even_if_no_frame_came_yet() -> None:
    claims = [ScanClaim("s", tenant, device) for tenant, device in (("a", "d"), ("a", "e"), ("b", "d"))]

    for device, holds in (("d", [True, False, False]), (None, [True, True, False])):
        scan = KnownScan(1, "a", device, "receiving", None)
        assert [scan.belongs_to(claim) for claim in claims] == holds
