"""Passwords: what one may be, and Argon2id in a few threads, so that signing in never starves other requests.

Border: computes, keeps nothing. An unknown address costs the same time as a wrong password (`verify` with no hash).
"""

from __future__ import annotations

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from pwdlib.hashers.argon2 import Argon2Hasher

from schemas.errors import Transient

MIN_CHARS: Final = 8
MAX_CHARS: Final = 256

# OWASP's first recommendation for Argon2id: 19 MiB, 2 passes, 1 lane; about 20 ms of one core.
_MEMORY_KIB: Final = 19_456
_PASSES: Final = 2
_THREADS: Final = 2
_MAX_WAITING: Final = 64
# Nobody's password, hashed with the same parameters.
_DECOY: Final = "$argon2id$v=19$m=19456,t=2,p=1$n2Q4uV18QQAQnh+0rih18g$dtNcflVKJM2uSKwJsymyahLCrRQ7AVFogYJgM+E4K+o"

T = TypeVar("T")


class Overloaded(Transient):
    """More passwords wait to be checked than will be soon."""


def _hasher() -> Argon2Hasher:
    return Argon2Hasher(time_cost=_PASSES, memory_cost=_MEMORY_KIB, parallelism=1)


def objection(password: str) -> str | None:
    """Why a password cannot be used; None if it can.

    Length alone decides, as NIST SP 800-63B has it: rules about signs make passwords worse.
    """
    length = len(_normal(password))
    if not MIN_CHARS <= length <= MAX_CHARS:
        return f"a password has {MIN_CHARS} to {MAX_CHARS} characters, this one {length}"
    return None


def hash_password(password: str) -> str:
    """The hash of a password, in the calling thread; for commands."""
    return _hasher().hash(_normal(password))


def is_password(password: str, stored: str) -> bool:
    """Whether a hash is this password's, in the calling thread; for commands."""
    return _hasher().verify(_normal(password), stored)


def _normal(password: str) -> str:
    """The same characters whatever keyboard they come from."""
    return unicodedata.normalize("NFKC", password)


class Passwords:
    """Hashes and verifies, a bounded number at a time and waiting; close it at the end."""

    def __init__(self, *, threads: int = _THREADS, max_waiting: int = _MAX_WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords")
        self._places = threads + max_waiting
        self._hasher = _hasher()

    async def hash(self, password: str) -> str:
        """What is stored of a password.

        Raises:
            Overloaded: too many wait.
        """
        return await self._run(lambda: self._hasher.hash(_normal(password)))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Whether a hash is this password's; with None false, after the same work.

        Raises:
            Overloaded: too many wait.
        """
        matches = await self._run(lambda: self._hasher.verify(_normal(password), stored or _DECOY))
        return matches and stored is not None

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._places <= 0:
            msg = "too many sign-ins at once; try again in a moment"
            raise Overloaded(msg)
        self._places -= 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, work)
        # The place is free when the thread is, not when whoever asked went away.
        future.add_done_callback(lambda _: self._free_place())
        return await asyncio.shield(future)

    def _free_place(self) -> None:
        self._places += 1
