"""RFC 3339 times to epoch milliseconds and back, a whole column at a time.

Border: text and integers only; which times a reading may have is processors.admission's question.

One kernel serves every form, so there is no fast parser beside a slow one that could disagree: texts of one length have
their digits in the same places, and are judged together as columns of bytes. Finer times are floored to milliseconds,
also before 1970: a fraction only ever moves a time forward, so dropping its further digits is the floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

MIN_MS = -62_135_596_800_000
"""0001-01-01T00:00:00.000Z, the first instant that this notation can say in UTC."""

MAX_MS = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z, the last one."""

MAX_LENGTH = 64
"""Longest text that is looked at (a second to 38 digits); it bounds the lengths, hence the passes, of a batch."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DATE, _HEAD = len("YYYY-MM-DD"), len("YYYY-MM-DDTHH:MM:SS")
_OFFSET = len("+hh:mm")
_HEAD_DIGITS = (0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18)
_LAST_DIGIT, _LAST_MONTH, _LAST_HOUR, _LAST_MINUTE, _LEAP_SECOND = 9, 12, 23, 59, 60
_MINUTE_MS = 60_000
_DAY_MINUTES = 24 * 60

_Times: TypeAlias = tuple[NDArray[np.int64], NDArray[np.bool_]]


def parse(texts: Sequence[str]) -> _Times:
    """Read times with an offset (`Z` or `±hh:mm`, `t` and `z` in either case).

    The leap second 23:59:60 UTC is the second that follows it, as POSIX counts; any other :60 is refused.

    Args:
        texts: anything; what is not such a time, or not in the years 0001 to 9999 of UTC, is refused.

    Returns:
        Two columns as long as `texts`: epoch milliseconds (0 where refused), and which texts are times.

    Raises:
        TypeError: an item is not a string.
    """
    lengths = set(map(len, texts))
    if len(lengths) == 1:
        return _parse_same_length(texts, lengths.pop())
    at_ms, valid = _all_refused(len(texts))
    rows_by_length: dict[int, list[int]] = {length: [] for length in lengths}
    for row, text in enumerate(texts):
        rows_by_length[len(text)].append(row)
    for length, rows in rows_by_length.items():
        at_ms[rows], valid[rows] = _parse_same_length([texts[row] for row in rows], length)
    return at_ms, valid


def format_ms(at_ms: int) -> str:
    """The time as `2026-11-22T20:00:00.000Z`.

    Raises:
        ValueError: the time lies outside the years 0001 to 9999.
    """
    if not MIN_MS <= at_ms <= MAX_MS:
        msg = f"time {at_ms} ms is outside the years 0001 to 9999 and has no RFC 3339 form"
        raise ValueError(msg)
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def _parse_same_length(texts: Sequence[str], length: int) -> _Times:
    if not _HEAD < length <= MAX_LENGTH:
        return _all_refused(len(texts))
    # One byte for each character, whatever it is: "?" stands for all that no time contains.
    block = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8).reshape(-1, length)
    chars = np.ascontiguousarray(block.T)  # row k: every text's k-th character
    zulu = _is(chars[-1], "Zz")
    if zulu.all():
        return _parse_zone(chars, 1)
    at_ms, valid = _parse_zone(chars, _OFFSET)
    if zulu.any():
        at_ms[zulu], valid[zulu] = _parse_zone(chars[:, zulu], 1)
    return at_ms, valid


def _parse_zone(chars: NDArray[np.uint8], zone_width: int) -> _Times:
    """Texts of one length whose last `zone_width` characters are the zone."""
    fraction_end = len(chars) - zone_width
    if fraction_end < _HEAD or fraction_end == _HEAD + 1:  # too short, or a point without a digit
        return _all_refused(chars.shape[1])
    digits = chars - np.uint8(ord("0"))  # unsigned: whatever is no digit wraps to more than 9
    date = digits[:_DATE]
    one_day = bool((date == date[:, :1]).all())  # as in most batches: then it is reckoned once
    days, exists = _days(date[:, :1] if one_day else date)
    hour, minute, second = _two(digits, 11), _two(digits, 14), _two(digits, 17)
    valid = exists & _has_the_shape(chars, digits, fraction_end, zone_width)
    valid &= (hour <= _LAST_HOUR) & (minute <= _LAST_MINUTE) & (second <= _LEAP_SECOND)
    minutes = days * _DAY_MINUTES + (hour * np.int32(60) + minute)
    if zone_width == _OFFSET:
        valid &= (_two(digits, -5) <= _LAST_HOUR) & (_two(digits, -2) <= _LAST_MINUTE)
        minutes -= _offset_minutes(chars, digits)
    if (second == _LEAP_SECOND).any():
        valid &= (second < _LEAP_SECOND) | ((minutes + 1) % _DAY_MINUTES == 0)

    thousandths = second * np.int32(1_000)
    for digit, weight in zip(digits[_HEAD + 1 : fraction_end], (100, 10, 1), strict=False):  # the rest is floored away
        thousandths += digit * np.int32(weight)
    at_ms = minutes * _MINUTE_MS + thousandths
    valid &= (at_ms >= MIN_MS) & (at_ms <= MAX_MS)
    return np.where(valid, at_ms, 0), valid


def _days(digits: NDArray[np.uint8]) -> _Times:
    """Days since the epoch, and which dates exist (29 February only in leap years)."""
    month, day = _two(digits, 5), _two(digits, 8)
    months = (_two(digits, 0) * np.int32(100) + _two(digits, 2)) * 12 + month - (1 + _EPOCH.year * 12)
    month_starts = months.astype("M8[M]")
    days = month_starts.astype("M8[D]") + (day.astype(np.int64) - 1)
    exists = (month >= 1) & (month <= _LAST_MONTH) & (days.astype("M8[M]") == month_starts)
    return days.astype(np.int64), exists


def _has_the_shape(
    chars: NDArray[np.uint8], digits: NDArray[np.uint8], fraction_end: int, zone_width: int
) -> NDArray[np.bool_]:
    """Every digit is one, and every mark is in its place."""
    places = [*_HEAD_DIGITS, *range(_HEAD + 1, fraction_end)]
    marks = _is(chars[4], "-") & _is(chars[7], "-") & _is(chars[10], "Tt") & _is(chars[13], ":") & _is(chars[16], ":")
    if fraction_end > _HEAD:
        marks &= _is(chars[_HEAD], ".")
    if zone_width == _OFFSET:
        places += [len(chars) + place for place in (-5, -4, -2, -1)]
        marks &= _is(chars[-_OFFSET], "+-") & _is(chars[-3], ":")
    return marks & (digits[places] <= _LAST_DIGIT).all(axis=0)


def _is(column: NDArray[np.uint8], characters: str) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = column == ord(characters[0])
    for character in characters[1:]:
        found |= column == ord(character)
    return found


def _two(digits: NDArray[np.uint8], place: int) -> NDArray[np.uint8]:
    """The number of two digits at `place`: at most 99, so a byte holds it."""
    number: NDArray[np.uint8] = digits[place] * np.uint8(10) + digits[place + 1]
    return number


def _offset_minutes(chars: NDArray[np.uint8], digits: NDArray[np.uint8]) -> NDArray[np.int32]:
    ahead = _two(digits, -5) * np.int32(60) + _two(digits, -2)
    return np.where(_is(chars[-_OFFSET], "-"), -ahead, ahead)


def _all_refused(count: int) -> _Times:
    return np.zeros(count, np.int64), np.zeros(count, np.bool_)
