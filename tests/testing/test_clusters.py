"""The help for tests: decorators give and hide arguments, clusters of processes come and go."""

from __future__ import annotations

import inspect
import io
import logging
import sys
import threading
from typing import Any

import dask.config
import pytest

from headrace import Client
from headrace.compat.utils_test.child_processes import popen
from headrace.compat.utils_test.fixtures import cleanup, loop, loop_in_thread  # noqa: F401
from headrace.testing.clusters import cluster, gen_cluster, gen_test
from headrace.testing.configuration import new_config, reset_config
from headrace.testing.helpers.log_reading import captured_handler, captured_logger
from headrace.testing.helpers.polling import poll_for
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


def test_what_is_given_is_hidden_from_pytest() -> None:
    assert list(inspect.signature(test_workers_are_as_asked_for).parameters) == ["tmp_path"]
    with pytest.raises(TypeError, match="coroutine"):
        gen_cluster()(inc)


def test_a_test_that_takes_too_long_fails() -> None:
    @gen_cluster(nthreads=[], timeout=0.01)
    async def endless(s: Any) -> None:
        await s.finished()

    with pytest.raises(TimeoutError, match="longer than"):
        endless()


def test_a_cluster_of_processes(loop: Any) -> None:  # noqa: F811
    with (
        check_process_leak(),
        cluster(nworkers=1, worker_kwargs={"nthreads": 2}) as (scheduler, [worker]),
        Client(scheduler["address"], loop=loop) as client,
    ):
        assert client.submit(slowinc, 1, delay=0).result() == 2
        assert client.nthreads() == {worker["address"]: 2}


def test_a_worker_that_cannot_start_is_an_error() -> None:
    with (
        pytest.raises(RuntimeError, match="did not start"),
        cluster(nworkers=1, worker_kwargs={"bogus": 1}),
    ):
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


def test_a_thread_left_behind_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.testing.leaks._GRACE", 0.01)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="left")
    with pytest.raises(AssertionError, match="left"), check_thread_leak():
        thread.start()
    end.set()
    thread.join()


def test_polling_ends() -> None:
    with pytest.raises(AssertionError, match="not so"):
        poll_for(lambda: False, 0.01, period=0.001)
    failed = []
    poll_for(lambda: False, 0.01, lambda: failed.append(1), period=0.001)
    assert failed
