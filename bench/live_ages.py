"""How old readings are where a bridge hears of them: what of the way to a viewer lies before the bridge, and what behind it.

A process of its own that listens as bridges do. A notification carries when the worker took its readings in; a reading's own
time is when it was produced.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe

import numpy as np
import psycopg

from schemas.live import LATEST_TOPIC, unpack

_WAIT_S = 0.5


class Ages:
    """Milliseconds, of each reading that was notified.

    Attributes:
        taken_in: from producing a reading until the worker has it.
        notified: from producing a reading until a bridge hears that it is committed.
    """

    def __init__(self) -> None:
        self.taken_in: list[int] = []
        self.notified: list[int] = []

    def percentiles(self) -> dict[str, float]:
        """The middle and the 99th of each, rounded."""
        named = {"produce_to_worker": self.taken_in, "produce_to_bridge": self.notified}
        return {
            f"{name}_p{rank}_ms": round(float(np.percentile(values, rank)), 1) if values else float("nan")
            for name, values in named.items()
            for rank in (50, 99)
        }


def _listen(url: str, pipe: Pipe) -> None:
    ages = Ages()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"LISTEN {LATEST_TOPIC}".encode())
        pipe.send("listening")
        while not pipe.poll():
            for notice in connection.notifies(timeout=_WAIT_S, stop_after=1):
                heard_ms = time.time_ns() // 1_000_000
                for newest in unpack(notice.payload):
                    produced_ms = newest.rows["at_ms"]
                    ages.taken_in += (newest.received_ms - produced_ms).tolist()
                    ages.notified += (heard_ms - produced_ms).tolist()
    pipe.send(ages)


@contextmanager
def listening(url: str) -> Iterator[Ages]:
    """Collects until the end of the block; then the ages are there."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_listen, args=(url, there), daemon=True)
    process.start()
    here.recv()
    ages = Ages()
    try:
        yield ages
        here.send("enough")
        ages.__dict__.update(here.recv().__dict__)
    finally:
        process.terminate()
        process.join()
