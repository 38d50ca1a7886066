"""Loops in threads, and calls into them."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from headrace.rpc import IOLoop, LoopRunner, PeriodicCallback, run, sync
from headrace.testing.helpers.polling import async_poll_for


@pytest.fixture
def loop() -> Iterator[IOLoop]:
    runner = LoopRunner()
    runner.start()
    yield runner.loop
    runner.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "IO loop"]


async def add(x: int, y: int = 1) -> int:
    await asyncio.sleep(0)
    return x + y


async def fail() -> None:
    raise KeyError("inside")


def test_sync(loop: IOLoop) -> None:
    assert sync(loop, add, 1, y=2) == 3
    assert sync(loop.asyncio_loop, lambda: 5) == 5
    assert sync(SimpleNamespace(asyncio_loop=loop.asyncio_loop), add, 1) == 2
    with pytest.raises(KeyError, match="inside"):
        sync(loop, fail)


def test_sync_with_a_timeout(loop: IOLoop) -> None:
    cancelled = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    with pytest.raises(TimeoutError):
        sync(loop, endless, callback_timeout="10ms")
    assert cancelled.wait(10)


def test_a_timeout_error_of_the_coroutine_s_own(loop: IOLoop) -> None:
    async def timed_out() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        sync(loop, timed_out)


def test_sync_on_the_loop_s_own_thread(loop: IOLoop) -> None:
    async def inside() -> None:
        sync(loop, add, 1)

    with pytest.raises(RuntimeError, match="own thread"):
        sync(loop, inside)


def test_sync_on_a_closed_loop() -> None:
    facade = IOLoop(asyncio.new_event_loop())
    facade.close()
    facade.close()
    with pytest.raises(RuntimeError, match="closed"):
        sync(facade, add, 1)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_cancels_the_call(loop: IOLoop) -> None:
    started, cancelled = threading.Event(), threading.Event()

    async def endless() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    def interrupt() -> None:
        started.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        sync(loop, endless)
    thread.join()
    assert cancelled.wait(10)
    assert sync(loop, add, 1) == 2


def test_the_background_loop_is_shared() -> None:
    first, second = LoopRunner(), LoopRunner()
    first.start()
    assert first.start() is second.start()
    assert first.is_started()
    first.stop()
    first.stop()
    assert sync(second.loop, add, 1) == 2
    loop = second.loop
    second.stop()
    assert loop.asyncio_loop.is_closed()
    assert not second.is_started()
    with pytest.raises(RuntimeError, match="not started"):
        _ = LoopRunner().loop
    assert LoopRunner().run_sync(add, 3) == 4


def test_stopping_cancels_what_still_runs() -> None:
    cancelled = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    runner = LoopRunner()
    runner.start().add_callback(endless)
    sync(runner.loop, add, 1)
    runner.stop()
    assert cancelled.is_set()


def test_a_given_loop_that_does_not_run_gets_a_thread() -> None:
    given = asyncio.new_event_loop()
    runner = LoopRunner(given)
    assert runner.start().asyncio_loop is given
    assert sync(given, add, 1) == 2
    runner.stop()
    assert not given.is_running()
    given.close()


async def test_the_user_s_own_loop() -> None:
    runner = LoopRunner(asynchronous=True)
    assert runner.start().asyncio_loop is asyncio.get_running_loop()
    assert IOLoop.current() is runner.loop
    runner.stop()


def test_no_current_loop() -> None:
    assert IOLoop.current(instance=False) is None
    with pytest.raises(RuntimeError):
        IOLoop.current()
    with pytest.raises(TypeError, match="asyncio_loop"):
        IOLoop.of(3)


def test_one_facade_a_loop(loop: IOLoop) -> None:
    async def current() -> IOLoop | None:
        return IOLoop.current()

    assert IOLoop.of(loop.asyncio_loop) is loop
    assert sync(loop, current) is loop


def test_the_clock_is_that_of_the_wall(loop: IOLoop) -> None:
    before = time.time()
    assert before <= loop.time() <= time.time()


def test_callbacks_from_other_threads(loop: IOLoop, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    seen: list[Any] = []

    async def coroutine(x: int, y: int) -> None:
        seen.append((x, y, threading.current_thread().name))

    def explode() -> None:
        raise KeyError("callback")

    loop.add_callback(coroutine, 1, y=2)
    loop.add_callback(explode)
    loop.add_callback(fail)
    loop.add_callback(lambda: loop.call_later(0.001, seen.append, "later"))
    loop.add_callback(lambda: loop.add_timeout(datetime.timedelta(seconds=0.002), seen.append, "delta"))
    loop.add_callback(lambda: loop.add_timeout(loop.time() + 0.01, done.set))
    loop.add_callback(lambda: loop.remove_timeout(loop.call_later(0, seen.append, "never")))
    assert done.wait(10)
    seen.remove((1, 2, "IO loop"))  # a coroutine starts in the next round of the loop, where a timer may be due, too
    assert seen == ["later", "delta"]
    assert caplog.text.count("Exception in callback") == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
def test_a_forked_child_starts_its_own() -> None:
    code = """
import os, sys, warnings
warnings.simplefilter("ignore")
from headrace.rpc import LoopRunner, sync
async def one(): return 1
parent = LoopRunner(); parent.start()
child = os.fork()
if not child:
    runner = LoopRunner(); runner.start()
    ok = sync(runner.loop, one) == 1 and runner.loop is not parent.loop
    runner.stop()
    os._exit(0 if ok else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", code], timeout=60, env=environment, check=False).returncode == 0


def test_run() -> None:
    assert run(add(1)) == 2


async def test_periodic_callbacks(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[float] = []
    enough, released = asyncio.Event(), asyncio.Event()

    def tick() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            enough.set()
        raise KeyError("tick")

    periodic = PeriodicCallback(tick, 2)
    assert not periodic.is_running()
    periodic.start()
    periodic.start()
    assert periodic.is_running()
    assert not calls
    await asyncio.wait_for(enough.wait(), 10)
    periodic.stop()
    assert not periodic.is_running()
    assert "periodic callback" in caplog.text
    running = 0

    async def slow() -> None:
        nonlocal running
        running += 1
        assert running == 1
        await released.wait()
        running -= 1
        enough.set()

    periodic = PeriodicCallback(slow, 1)
    periodic.start()
    enough.clear()
    others: list[int] = []
    beside = PeriodicCallback(lambda: others.append(1), 1)
    beside.start()
    await async_poll_for(lambda: len(others) >= 5, timeout=10, period=0.001)
    beside.stop()
    released.set()
    await asyncio.wait_for(enough.wait(), 10)
    periodic.stop()
    with pytest.raises(ValueError, match="positive"):
        PeriodicCallback(tick, 0)


@pytest.mark.skipif(os.name != "posix", reason="a shell closes its descriptors")
def test_a_process_whose_standard_input_is_closed_can_have_loops() -> None:
    code = "from headrace.rpc import run; import asyncio; run(asyncio.sleep(0)); print('done')"
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (said.returncode, said.stdout) == (0, "done\n"), said.stderr


async def test_failures_of_a_callback_are_logged_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    done = asyncio.Event()

    def fail() -> None:
        calls.append(len(calls))
        if len(calls) == 20:
            done.set()
        raise ZeroDivisionError

    callback = PeriodicCallback(fail, 1)
    callback.start()
    async with asyncio.timeout(10):
        await done.wait()
    callback.stop()
    assert 1 <= len(caplog.records) < 20
    callback._said_at = float("-inf")  # a second later
    callback.start()
    before = len(caplog.records)
    async with asyncio.timeout(10):
        while len(caplog.records) == before:
            await asyncio.sleep(0)
    callback.stop()
    assert re.search(r"\(\d+ more like this before\)", caplog.records[-1].getMessage())


def test_facades_of_one_loop_are_equal(loop: IOLoop) -> None:
    class Foreign:
        """Has what an IOLoop of tornado has."""

        asyncio_loop = loop.asyncio_loop

    twin = IOLoop(loop.asyncio_loop)
    assert twin is not loop
    assert twin == loop
    assert hash(twin) == hash(loop)
    assert loop == Foreign()
    assert Foreign() == loop
    other = IOLoop()
    try:
        assert other != loop
        assert loop != "no loop"
    finally:
        other.asyncio_loop.close()
