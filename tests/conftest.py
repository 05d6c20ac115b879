"""For every test."""

from __future__ import annotations

from hypothesis import settings

# How long an example takes says how busy the machine is, and nothing about the law that it tests.
settings.register_profile("weir", deadline=None)
settings.load_profile("weir")
