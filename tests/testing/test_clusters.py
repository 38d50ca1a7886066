"""The help for tests: decorators give and hide arguments, clusters of processes come and go."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import logging
import multiprocessing
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import dask.config
import psutil
import pytest

from headrace import Client
from headrace.compat.utils_test.child_processes import popen
from headrace.compat.utils_test.fixtures import cleanup, loop, loop_in_thread  # noqa: F401
from headrace.testing.clusters import cluster, gen_cluster, gen_test, server_process
from headrace.testing.configuration import new_config, reset_config
from headrace.testing.helpers.log_reading import captured_handler, captured_logger
from headrace.testing.helpers.polling import async_poll_for, poll_for
from headrace.testing.helpers.sample_functions import (
    inc,
    map_varying,
    slowinc,
    varying,
)
from headrace.testing.leaks import check_process_leak, check_thread_leak


@gen_cluster(client=True)
async def test_client_scheduler_and_two_workers_are_given(c: Any, s: Any, a: Any, b: Any) -> None:
    assert await c.submit(inc, 1) == 2
    assert set(s.workers) == {a.address, b.address}
    assert [s.workers[worker.address].nthreads for worker in (a, b)] == [1, 2]


@gen_cluster(nthreads=[("127.0.0.1", 3, {"resources": {"GPU": 1}})], config={"x.y": 5})
async def test_workers_are_as_asked_for(s: Any, a: Any, tmp_path: Any) -> None:
    assert tmp_path.exists()  # fixtures still work
    assert dask.config.get("x.y") == 5
    assert s.workers[a.address].resources == {"GPU": 1}


@gen_test()
async def test_a_coroutine_becomes_a_plain_test() -> None:
    assert dask.config.get("x.y", None) is None


@pytest.mark.parametrize("number", [3])
@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 3)
async def test_a_test_may_take_all_workers_at_once(c: Any, s: Any, *workers: Any, number: int, tmp_path: Any) -> None:
    assert [worker.address in s.workers for worker in workers] == [True] * number
    assert tmp_path.exists()


@pytest.mark.parametrize("number", [3])
@gen_test()
async def test_a_coroutine_takes_keywords(tmp_path: Any, *, number: int) -> None:
    assert number == 3
    assert tmp_path.exists()


def test_what_is_given_is_hidden_from_pytest() -> None:
    async def some(c: Any, s: Any, *workers: Any, fixture: Any, more: int = 3, **rest: Any) -> None: ...

    assert list(inspect.signature(test_workers_are_as_asked_for).parameters) == ["tmp_path"]
    test = gen_cluster(client=True)(some)
    assert str(inspect.signature(test)) == "(*, fixture: 'Any', more: 'int' = 3, **rest: 'Any') -> 'None'"
    assert test.__wrapped__ is some  # type: ignore[attr-defined]
    assert not inspect.iscoroutinefunction(test)


@pytest.mark.parametrize("decorator", [gen_cluster(), gen_test()])
@pytest.mark.parametrize("kind", [TypeError, RuntimeError])
def test_only_coroutine_functions_are_decorated(decorator: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="coroutine functions"):
        decorator(inc)


def test_a_test_that_takes_too_long_fails() -> None:
    @gen_cluster(nthreads=[], timeout=0.01)
    async def endless(s: Any) -> None:
        await s.finished()

    with pytest.raises(TimeoutError, match=r"(?s)longer than 0.01 s.*in endless.*s\.finished"):
        endless()


def test_a_test_that_takes_too_long_fails_though_it_catches_its_cancellation() -> None:
    @gen_test(timeout=0.01)
    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()

    with pytest.raises(TimeoutError, match="longer than"):
        stubborn()


def test_a_cluster_of_processes(loop: Any) -> None:  # noqa: F811
    with (
        check_process_leak(),
        cluster(nworkers=1, worker_kwargs={"nthreads": 2}) as (scheduler, [worker]),
        Client(scheduler["address"], loop=loop) as client,
    ):
        assert client.submit(slowinc, 1, delay=0).result() == 2
        assert client.nthreads() == {worker["address"]: 2}


def test_the_process_of_a_server_is_used_like_one_of_multiprocessing() -> None:
    with cluster(nworkers=1) as (_, [worker]):
        process = worker["proc"]()
        assert process.is_alive()
        assert process.exitcode is None
        process.kill()
        process.join(10)
        assert not process.is_alive()
        assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("server", ["worker_kwargs", "scheduler_kwargs"])
def test_what_keeps_a_server_from_starting_is_raised(server: str) -> None:
    with (
        pytest.raises(TypeError, match="bogus") as raised,
        cluster(nworkers=1, **{server: {"bogus": 1}}),  # type: ignore[arg-type]
    ):
        pass
    assert "did not start" in raised.value.__notes__[0]


class Unpicklable(Exception):
    """Cannot be made of its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_an_exception_that_cannot_travel_is_told_by_its_text() -> None:
    with pytest.raises(RuntimeError, match="Unpicklable: 1 and 2"), server_process(f"{__name__}:raise_it", (), {}):
        pass


async def raise_it() -> None:
    raise Unpicklable(1, 2)


def test_a_process_that_ends_in_silence() -> None:
    with pytest.raises(RuntimeError, match="exit status 3"), server_process("os:_exit", (3,), {}):
        pass


def test_varying_takes_the_next_each_time() -> None:
    function = varying([1, ZeroDivisionError("two"), 3])
    assert function() == 1
    with pytest.raises(ZeroDivisionError):
        function()
    assert function() == 3
    with pytest.raises(IndexError):
        function()
    call, functions = map_varying([[1], [2]])
    assert [call(function) for function in functions] == [1, 2]


def test_logs_are_captured_and_the_logger_is_put_back() -> None:
    logger = logging.getLogger("distributed.example")
    before = logger.level, logger.handlers[:]
    with captured_logger(logger, logging.WARNING) as log:
        logger.info("no")
        logger.warning("yes")
    assert log.getvalue() == "yes\n"
    assert (logger.level, logger.handlers) == before
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    with captured_handler(handler) as log:
        handler.emit(logging.makeLogRecord({"msg": "here"}))
    assert log.getvalue() == "here\n"
    assert not stream.getvalue()


def test_configuration_is_put_back() -> None:
    with reset_config():
        dask.config.set({"a.b": 1})
    assert dask.config.get("a.b", None) is None
    with new_config({"only": 1}):
        assert dask.config.get("only") == 1
        assert dask.config.get("distributed.comm.timeouts.connect")
    assert dask.config.get("only", None) is None


def test_a_program_is_interrupted_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import time\ntry:\n  print('up', flush=True)\n  time.sleep(60)\nexcept KeyboardInterrupt: print('down')"
    with popen([sys.executable, "-c", code], capture_output=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
    assert process.returncode == 0
    assert "down" in capsys.readouterr().out


def test_a_program_may_say_much_as_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import time\ntry:\n  print('up', flush=True)\n  time.sleep(60)\nexcept KeyboardInterrupt: print('x' * 10**6)"
    )
    with popen([sys.executable, "-c", code], capture_output=True, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
    assert process.returncode == 0
    assert "x" * 10**6 in capsys.readouterr().out


def test_a_program_that_is_not_to_be_interrupted_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(popen([sys.executable, "-c", code], capture_output=True, terminate_timeout=0.01))
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            stack.close()
    assert process.returncode == -signal.SIGKILL


def test_a_thread_left_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.testing.leaks._GRACE", 0.01)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left")
    with pytest.raises(AssertionError, match="left"), check_thread_leak():
        thread.start()
    end.set()
    thread.join()


def test_a_process_left_behind_is_found_and_ended() -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=time.sleep, args=(60,))
    with pytest.raises(AssertionError, match="processes were left behind"), check_process_leak(check_timeout=0.01):
        process.start()
    assert process.pid is not None
    assert not psutil.pid_exists(process.pid)
    assert (process.exitcode, process.is_alive()) == (-signal.SIGTERM, False)
    assert process not in multiprocessing.active_children()


def test_the_helpers_of_multiprocessing_may_stay() -> None:
    code = """
import multiprocessing, time
from distributed.utils_test import check_process_leak
if __name__ == "__main__":
    for kind in "spawn", "forkserver":
        with check_process_leak(check_timeout=0.01):
            process = multiprocessing.get_context(kind).Process(target=time.sleep, args=(0,))
            process.start()
            process.join()
"""
    with popen([sys.executable, "-c", code]) as process:
        assert process.wait(60) == 0


def test_polling_ends() -> None:
    with pytest.raises(AssertionError, match="not so"):
        poll_for(lambda: False, 0.01, period=0.001)
    failed = []
    with pytest.raises(AssertionError, match="not so"):
        poll_for(lambda: False, 0.01, lambda: failed.append(1), period=0.001)
    assert failed


async def test_polling_ends_on_a_loop() -> None:
    failed = []
    with pytest.raises(AssertionError, match="not so"):
        await async_poll_for(lambda: False, 0.01, lambda: failed.append(1), period=0.001)
    assert failed
