"""Receipts prove themselves: whatever is changed in one, the hour that it was changed in is named."""

from __future__ import annotations

import msgspec
import pytest

from processors.seals import check_receipt, check_together, seal_of
from schemas.receipts import FORMAT, BilledHour, Receipt, Seal

HOURS = [f"2026-11-22T{hour:02}:00:00Z" for hour in range(4)]
TENANT = "ten_1"


def chain(*links: tuple[str, int, int]) -> list[Seal]:
    """Seals of (hour, version, readings), each on the one before."""
    made: list[Seal] = []
    for number, (hour, version, readings) in enumerate(links, start=7):
        previous = made[-1].seal if made else "11" * 32
        open_one = Seal(number, hour, version, readings, 1, f"{readings:064x}", previous, "")
        made.append(msgspec.structs.replace(open_one, seal=seal_of(TENANT, open_one)))
    return made


def receipt(seals: list[Seal], *billed: BilledHour) -> Receipt:
    return Receipt(
        format=FORMAT, tenant_id=TENANT, month="2026-11", made_at="", readings=sum(one.readings for one in billed),
        hours=list(billed), seals=seals,
    )  # fmt: skip


# The second hour got a late row after it was sealed; an hour of October lies between.
LINKS = chain(
    (HOURS[0], 1, 60), (HOURS[1], 1, 60), ("2026-10-31T23:00:00Z", 2, 5), (HOURS[1], 2, 61), (HOURS[2], 1, 60)
)
GOOD = receipt(LINKS, BilledHour(HOURS[0], 60, 60, 0), BilledHour(HOURS[1], 61, 60, 1), BilledHour(HOURS[2], 60))


def test_an_untouched_receipt_holds() -> None:
    assert check_receipt(GOOD) == []


def test_the_seal_is_sha256_over_lines_of_its_fields() -> None:
    one = Seal(1, HOURS[0], 1, 60, 2, "ab" * 32, "00" * 32, "")
    # printf 'weir-seal-1\nten_1\n1\n2026-11-22T00:00:00Z\n1\n60\n2\nabab…\n0000…' | sha256sum
    assert seal_of(TENANT, one) == "95281d7c7e0d16ff22cfe594e33e7b4b1846dd50fed06217496d6800af768258"


@pytest.mark.parametrize("field", ["hour", "version", "readings", "sensors", "rows_sha256", "previous", "seal"])
@pytest.mark.parametrize("place", range(len(LINKS)))
def test_a_changed_link_is_named(field: str, place: int) -> None:
    other = {"hour": HOURS[3], "version": 9, "readings": 59, "sensors": 2}.get(field, "ff" * 32)
    changed = msgspec.structs.replace(LINKS[place], **{field: other})
    faults = check_receipt(msgspec.structs.replace(GOOD, seals=[*LINKS[:place], changed, *LINKS[place + 1 :]]))

    assert f"seal {changed.seal_no} is not that of its count and rows" in [fault.why for fault in faults]
    assert changed.hour in [fault.hour for fault in faults]


def test_a_link_that_was_taken_out_is_missed_by_the_next() -> None:
    faults = check_receipt(msgspec.structs.replace(GOOD, seals=[*LINKS[:2], *LINKS[3:]]))

    assert [(fault.hour, fault.why) for fault in faults] == [(HOURS[1], "seal 10 does not follow seal 8")]


def test_a_link_that_was_made_anew_is_denied_by_the_next() -> None:
    anew = msgspec.structs.replace(LINKS[2], readings=6)
    anew = msgspec.structs.replace(anew, seal=seal_of(TENANT, anew))
    faults = check_receipt(msgspec.structs.replace(GOOD, seals=[*LINKS[:2], anew, *LINKS[3:]]))

    assert [(fault.hour, fault.why) for fault in faults] == [(HOURS[1], "seal 10 does not follow seal 9")]


def test_the_same_hour_twice_or_one_of_another_month_is_named() -> None:
    other = "2026-10-31T23:00:00Z"
    billed = [*GOOD.hours, BilledHour(HOURS[2], 60), BilledHour(other, 5)]
    faults = check_receipt(msgspec.structs.replace(GOOD, hours=billed, readings=GOOD.readings + 65))

    assert [(fault.hour, fault.why) for fault in faults] == [
        (other, "the hour is not of 2026-11"),
        (HOURS[2], "the hour is billed 2 times"),
    ]


def test_an_hour_billed_with_another_count_than_sealed_is_named() -> None:
    hours = [GOOD.hours[0], msgspec.structs.replace(GOOD.hours[1], readings=62, pushed=62, adjusted=0), GOOD.hours[2]]
    faults = check_receipt(msgspec.structs.replace(GOOD, hours=hours, readings=182))

    assert [(fault.hour, fault.why) for fault in faults] == [(HOURS[1], "62 readings are billed, 61 rows were sealed")]


@pytest.mark.parametrize("adjusted", [0, 2])
def test_what_was_pushed_and_adjusted_comes_to_what_is_billed(adjusted: int) -> None:
    hours = [GOOD.hours[0], msgspec.structs.replace(GOOD.hours[1], adjusted=adjusted), GOOD.hours[2]]
    faults = check_receipt(msgspec.structs.replace(GOOD, hours=hours))

    assert [(fault.hour, fault.why) for fault in faults] == [
        (HOURS[1], f"61 readings are billed, 60 pushed and {adjusted} adjusted")
    ]


def test_hours_without_a_seal_and_seals_without_an_hour_are_named() -> None:
    billed = [GOOD.hours[0], GOOD.hours[1], BilledHour(HOURS[3], 60)]
    faults = check_receipt(msgspec.structs.replace(GOOD, hours=billed))

    assert [fault.hour for fault in faults] == [HOURS[2], HOURS[3]]


def test_the_total_is_that_of_the_hours() -> None:
    assert [fault.hour for fault in check_receipt(msgspec.structs.replace(GOOD, readings=180))] == [None]


def test_two_receipts_of_a_tenant_tell_the_same_chain() -> None:
    anew = receipt(chain((HOURS[0], 1, 61)), BilledHour(HOURS[0], 61))

    assert check_receipt(anew) == []
    assert [(fault.hour, fault.why) for fault in check_together([GOOD, anew])] == [
        (HOURS[0], "seal 7 differs between the receipts")
    ]
    assert check_together([GOOD, GOOD]) == []
