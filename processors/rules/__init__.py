"""Judging readings by rules: episodes as a pure function of readings and rule versions (INTERFACES §6)."""
