"""Fields of a request's body or query, one sentence for each way to be wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from accounts.emails import parse_email
from accounts.passwords import objection
from accounts.permissions import Role
from api.errors import Problem
from api.times import parse_instant
from schemas.rules import parse_duration_ms

MAX_NAME: Final = 200
_MAX_TEXT: Final = 1_000


def text(body: Mapping[str, Any], name: str, *, max_chars: int = _MAX_TEXT, empty: bool = False) -> str:
    """A text that must be there.

    Raises:
        Problem: 422, it is missing, no text, empty, or too long.
    """
    value = body.get(name)
    if not isinstance(value, str):
        raise _wrong(name, "expected a text" if name in body else "is missing; send a text")
    if "\0" in value:
        raise _wrong(name, "has a NUL, which cannot be stored")
    if len(value) > max_chars or (not value.strip() and not empty):
        raise _wrong(name, f"expected 1 to {max_chars} characters, not all blank")
    return value


def require_one_of(parameter: str, value: str | None, known: Sequence[str]) -> None:
    """A parameter that chooses among a few, or is left out.

    Raises:
        Problem: 422.
    """
    if value is not None and value not in known:
        raise Problem.invalid(parameter=parameter, detail=f"{parameter} is none of {', '.join(known)}")


def optional_text(body: Mapping[str, Any], name: str, *, max_chars: int = _MAX_TEXT) -> str | None:
    """A text that may be left out or null; it may be empty.

    Raises:
        Problem: 422.
    """
    return None if body.get(name) is None else text(body, name, max_chars=max_chars, empty=True)


def email(body: Mapping[str, Any]) -> str:
    """The e-mail address.

    Raises:
        Problem: 422.
    """
    address = parse_email(text(body, "email"))
    if address is None:
        raise _wrong(name="email", how="is no e-mail address, such as anna@example.com")
    return address


def role(body: Mapping[str, Any]) -> Role:
    """The role.

    Raises:
        Problem: 422.
    """
    wanted = text(body, "role")
    if wanted not in set(Role):
        raise _wrong(name="role", how=f"expected one of {', '.join(Role)}")
    return Role(wanted)


def new_password(body: Mapping[str, Any], name: str = "password") -> str:
    """A password that may be set; what is wrong with it is said without it.

    Raises:
        Problem: 422.
    """
    wanted = text(body, name, empty=True)
    wrong = objection(wanted)
    if wrong is not None:
        raise _wrong(name, wrong)
    return wanted


def moment(body: Mapping[str, Any], name: str) -> datetime | None:
    """A time that may be left out or null.

    Raises:
        Problem: 422.
    """
    value = optional_text(body, name)
    return None if value is None else datetime.fromtimestamp(parse_instant(value, name) / 1000, UTC)


def duration(body: Mapping[str, Any], name: str, default: timedelta, longest: timedelta) -> timedelta:
    """A duration such as `24h`, or its default.

    Raises:
        Problem: 422.
    """
    value = optional_text(body, name, max_chars=64)
    if value is None:
        return default
    try:
        found = timedelta(milliseconds=parse_duration_ms(value, name))
    except (ValueError, OverflowError):
        raise _wrong(name, "is no duration, such as 24h or 30m") from None
    if found > longest:
        raise _wrong(name, f"expected at most {longest.days}d")
    return found


def _wrong(name: str, how: str) -> Problem:
    return Problem.invalid(parameter=name, detail=f"{name}: {how}")
