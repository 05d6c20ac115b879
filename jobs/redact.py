"""Makes an error's text fit to be kept: without secrets, bounded, and storable by PostgreSQL."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable

from schemas.errors import WeirError

_MAX_CHARS = 4000
_MAX_FRAMES = 6
_SHORTEST_SECRET = 6
_STARS = "***"

_PATTERNS = (
    (re.compile(r"(\w+://[^/\s:@]*):[^@\s/]+@"), rf"\1:{_STARS}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+"), rf"\1 {_STARS}"),
    (
        re.compile(
            r"""(?ix)\b([\w-]*(?:password|passwd|secret|token|api[_-]?key|signature))
            (["']?\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s,;&"']+)"""
        ),
        rf"\1\2{_STARS}",
    ),
    (re.compile(r"\b(?:[spr]k_(?:live|test)|whsec|romo_live|weir_(?:refresh|invite|reset))_[\w-]+"), _STARS),
)


def error_text(error: BaseException, secrets: Iterable[str] = ()) -> str:
    """Message of an error, with the last frames when it is not one of ours, redacted.

    Args:
        error: what was raised.
        secrets: values that must not appear, such as the passwords of the settings.
    """
    parts = [str(error) or type(error).__name__]
    if not isinstance(error, WeirError):
        frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
        parts += [f"at {frame.filename}:{frame.lineno} in {frame.name}" for frame in reversed(frames)]
    return redact("\n".join(parts), secrets)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text with secrets starred, at most 4000 characters, free of what `text` columns refuse (NUL, surrogates)."""
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, _STARS)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    clean = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    return clean if len(clean) <= _MAX_CHARS else f"{clean[:_MAX_CHARS]}… ({len(clean)} characters)"
