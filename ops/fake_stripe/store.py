"""Everything the stand-in knows, in one SQLite file (or in memory): objects, meter events, idempotent answers, deliveries."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (id TEXT PRIMARY KEY, kind TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS object_kind ON object (kind, number);
CREATE TABLE IF NOT EXISTS meter_event (number INTEGER PRIMARY KEY, event_name TEXT NOT NULL, customer TEXT NOT NULL,
    identifier TEXT NOT NULL, at INTEGER NOT NULL, value INTEGER NOT NULL, received REAL NOT NULL);
CREATE INDEX IF NOT EXISTS meter_event_identifier ON meter_event (identifier, received);
CREATE INDEX IF NOT EXISTS meter_event_at ON meter_event (customer, event_name, at);
CREATE TABLE IF NOT EXISTS answer (key TEXT PRIMARY KEY, received REAL NOT NULL, request TEXT NOT NULL,
    status INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS delivery (number INTEGER PRIMARY KEY, event TEXT NOT NULL, due REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0);
"""


class Store:
    """State and clock.

    Args:
        path: of the file; `:memory:` forgets.
    """

    def __init__(self, path: str) -> None:
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.executescript(_SCHEMA)
        # The clock can be moved for what Stripe decides by it; deliveries go by the real one.
        self.offset_s = float((self.find("clock") or {"offset_s": 0.0})["offset_s"])

    def now(self) -> float:
        """The time as Stripe sees it, in epoch seconds."""
        return time.time() + self.offset_s

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self.offset_s += seconds
        self.put("clock", {"id": "clock", "offset_s": self.offset_s})

    def new_id(self, prefix: str) -> str:
        """An id in Stripe's style."""
        return f"{prefix}_{secrets.token_hex(12)}"

    def put(self, kind: str, body: Object) -> Object:
        """Keep an object; its place in lists is that of its first version."""
        self.db.execute(
            "INSERT INTO object VALUES (?, ?, (SELECT coalesce(max(number), 0) + 1 FROM object), ?)"
            " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (body["id"], kind, json.dumps(body)),
        )
        return body

    def find(self, object_id: str) -> Object | None:
        """An object by its id."""
        row = self.db.execute("SELECT body FROM object WHERE id = ?", (object_id,)).fetchone()
        return None if row is None else json.loads(row[0])

    def all(self, kind: str) -> Iterator[Object]:
        """Objects of a kind, the newest first, as Stripe lists them."""
        rows = self.db.execute("SELECT body FROM object WHERE kind = ? ORDER BY number DESC", (kind,)).fetchall()
        return (json.loads(body) for (body,) in rows)
