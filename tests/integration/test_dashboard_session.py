"""The page's own door to sessions: the refresh token travels in a cookie and nowhere else, and only for the page itself."""

from __future__ import annotations
