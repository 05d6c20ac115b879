"""A computation's mishap is its own failure: the worker goes on, and the next computation succeeds."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from jobs.children import Children, ComputationFailed, Limits
from schemas.errors import Rejected, Transient
from tests.integration.servers import wait_until

_T = TypeVar("_T")
PATIENT = Limits(seconds=120, memory_mib=512)
ROOT = Path(__file__).resolve().parents[3]


def work(name: str) -> str:
    return f"tests.unit.jobs.mishaps:{name}"


def with_children(scene: Callable[[Children], Awaitable[_T]], **environment: str) -> _T:
    async def run() -> _T:
        children = Children(dict(os.environ) | {"PYTHONPATH": str(ROOT)} | environment)
        try:
            return await scene(children)
        finally:
            await children.close()

    return asyncio.run(run())


def is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_result_and_the_progress_come_back_and_what_libraries_print_does_not_disturb() -> None:
    told: list[float] = []

    result = with_children(lambda children: children.run(work("double"), {"number": 21}, PATIENT, told.append))

    assert (result["twice"], told) == (42, [0.5])
    assert not is_alive(result["pid"])


@pytest.mark.parametrize(
    ("mishap", "request_", "limits", "text"),
    [
        ("segfault", {}, PATIENT, "it crashed (signal SIGSEGV)"),
        ("leave", {}, PATIENT, "it crashed (exit status 3)"),
        ("loop_for_ever", {}, Limits(seconds=1, memory_mib=512), "it took longer than 1 s"),
        ("hoard", {"pieces": 600, "mib": 1}, Limits(seconds=120, memory_mib=200), "it needed more than 200 MiB of memory"),
        ("hoard", {"pieces": 1, "mib": 9000}, Limits(seconds=120, memory_mib=200), "it needed more than 200 MiB of memory"),
        ("fail", {}, PATIENT, "it failed (KeyError)"),
    ],
)  # fmt: skip
def test_a_mishap_fails_its_own_computation_alone(
    mishap: str, request_: dict[str, Any], limits: Limits, text: str
) -> None:
    async def scene(children: Children) -> list[object]:
        bad = children.run(work(mishap), request_, limits)
        good = children.run(work("double"), {"number": 2}, PATIENT)
        beside = await asyncio.gather(bad, good, return_exceptions=True)
        return [*beside, await children.run(work("double"), {"number": 3}, PATIENT)]

    failed, beside, after = with_children(scene)

    assert isinstance(failed, ComputationFailed)
    assert str(failed) == text
    assert isinstance(beside, dict)
    assert isinstance(after, dict)
    assert (beside["twice"], after["twice"]) == (4, 6)


def test_refusals_and_absent_surroundings_keep_their_kind() -> None:
    async def scene(children: Children) -> list[object]:
        calls = [children.run(work(name), {}, PATIENT) for name in ("refuse", "be_patient")]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    refused, away = with_children(scene)

    assert isinstance(refused, Rejected)
    assert str(refused) == "empty: nothing in it"
    assert isinstance(away, Transient)
    assert str(away) == "the store is away"


def test_cancelling_kills_the_child_even_in_an_endless_loop(tmp_path: Path) -> None:
    mark = tmp_path / "pid"

    async def scene(children: Children) -> int:
        running = asyncio.create_task(children.run(work("loop_for_ever"), {"mark": str(mark)}, PATIENT))
        assert await asyncio.to_thread(wait_until, lambda: mark.exists() and mark.read_text() != "", 60.0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return int(mark.read_text())

    assert not is_alive(with_children(scene))


def test_cancelling_ends_a_child_of_whose_answers_some_are_left_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that brings more than is taken is read no further, and asyncio tells no end before that of the pipes."""
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def start_seen(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*arguments, **options))
        return started[-1]

    async def scene(children: Children) -> None:
        running = asyncio.create_task(children.run(work("tell_much_for_ever"), {}, PATIENT))
        async with asyncio.timeout(60):
            while not (started and started[0].stdout and vars(started[0].stdout)["_paused"]):  # noqa: ASYNC110
                await asyncio.sleep(0)
            running.cancel()
            await asyncio.wait({running})

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_seen)
    with_children(scene)
    assert not is_alive(started[0].pid)


def test_a_child_serves_as_many_computations_as_it_may_and_no_more() -> None:
    limits = Limits(seconds=120, memory_mib=512, reuse=2)

    async def scene(children: Children) -> list[int]:
        return [(await children.run(work("double"), {"number": 1}, limits))["pid"] for _ in range(3)]

    first, second, third = with_children(scene)

    assert first == second != third


def test_a_child_that_died_while_it_waited_is_replaced() -> None:
    limits = Limits(seconds=120, memory_mib=512, reuse=9)

    async def scene(children: Children) -> tuple[int, int]:
        first = (await children.run(work("double"), {"number": 1}, limits))["pid"]
        os.kill(first, signal.SIGKILL)
        assert await asyncio.to_thread(wait_until, lambda: not is_alive(first), 60.0)
        return first, (await children.run(work("double"), {"number": 1}, limits))["pid"]

    first, second = with_children(scene)

    assert first != second


def test_a_dead_child_is_replaced_while_another_computation_takes_the_next_one() -> None:
    limits = Limits(seconds=120, memory_mib=512, reuse=9)

    async def scene(children: Children) -> tuple[list[int], list[int]]:
        async def two() -> list[int]:
            both = (children.run(work("double"), {"number": 1}, limits) for _ in range(2))
            return [one["pid"] for one in await asyncio.gather(*both)]

        before = await two()
        first = children._idle[0].process.pid
        os.kill(first, signal.SIGKILL)
        assert await asyncio.to_thread(wait_until, lambda: not is_alive(first), 60.0)
        return [first, *before], await two()

    (first, *before), after = with_children(scene)

    assert set(before) & set(after) == set(before) - {first}


def test_children_get_no_secrets_and_give_way_to_others() -> None:
    limits = Limits(seconds=120, memory_mib=512, niceness=5)

    seen = with_children(
        lambda children: children.run(work("tell_environment"), {}, limits),
        WEIR_SECRET_KEY="k" * 32,
        PGPASSWORD="hunter22",
        AWS_REGION="eu",
        OPENBLAS_NUM_THREADS="2",
    )

    assert "AWS_REGION" in seen["names"]
    assert not [name for name in seen["names"] if name.startswith(("WEIR_", "PG", "STRIPE_"))]
    assert seen["nice"] == os.nice(0) + 5
    assert seen["threads"] == "1"


def test_a_child_ends_with_its_worker_even_by_kill_9(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    program = (
        "import asyncio, os\n"
        "from jobs.children import Children, Limits\n"
        f"work, request = {work('loop_for_ever')!r}, {{'mark': {str(mark)!r}}}\n"
        "asyncio.run(Children(os.environ).run(work, request, Limits(seconds=300, memory_mib=512)))\n"
    )
    environment = dict(os.environ) | {"PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=environment)
    try:
        assert wait_until(lambda: mark.exists() and mark.read_text() != "", 60.0)
    finally:
        worker.kill()
        worker.wait()

    assert wait_until(lambda: not is_alive(int(mark.read_text())), 60.0)
