"""E-mail addresses as users sign in with them: one form each, compared without regard to case.

Border: text in, text out; whether an address exists is for the message that goes there.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CHARS: Final = 254

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})*")


def parse_email(text: str) -> str | None:
    """The address without surrounding blanks; None if it is none.

    International domains are taken in their ASCII form (`xn--…`), so that one address is one row.
    """
    address = text.strip()
    return address if len(address) <= MAX_CHARS and _ADDRESS.fullmatch(address) else None
