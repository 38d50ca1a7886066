"""Tasks that run longer than they may, in real worker processes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, Retry, TaskTimeout, get_worker, rejoin, secede
from headrace.testing.helpers.polling import poll_for

from .conftest import PATIENCE


def spin() -> None:
    while True:
        pass


def stubborn() -> None:
    while True:
        with contextlib.suppress(Exception):
            while True:
                time.sleep(0.05)


async def sleep_for_ever() -> None:
    await asyncio.sleep(10_000)


async def stubborn_coroutine() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(10_000)


def seceding() -> None:
    secede()
    while True:
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (spin, ()),
        (time.sleep, (10_000,)),
        (sleep_for_ever, ()),
        (stubborn, ()),
        (stubborn_coroutine, ()),
        (seceding, ()),
    ],
    ids=["python", "C", "async", "stubborn", "stubborn-async", "seceded"],
)
def test_it_errs_and_its_thread_is_freed(client: Client, function: Any, args: Any) -> None:
    future = client.submit(function, *args, timeout="50 ms", pure=False)
    after = client.submit(abs, -5, pure=False)  # for the only thread
    with pytest.raises(TaskTimeout) as caught:
        future.result(timeout=PATIENCE)
    assert future.status == "error"
    assert caught.value.task == future.key
    assert caught.value.timeout == 0.05
    assert caught.value.worker in client.scheduler_info()["workers"]
    assert after.result(timeout=PATIENCE) == 5


def swallows(path: str) -> str:
    try:
        while True:
            time.sleep(0.001)
    except TaskTimeout as error:
        Path(path).write_text(str(error))
    return "as if nothing had happened"


def test_the_task_may_clean_up_but_not_go_on(client: Client, tmp_path: Path) -> None:
    future = client.submit(swallows, str(tmp_path / "said"), timeout=0.05)
    assert isinstance(future.exception(timeout=PATIENCE), TaskTimeout)
    assert str(future.key) in (tmp_path / "said").read_text()


def test_the_traceback_says_where_it_was(client: Client) -> None:
    future = client.submit(spin, timeout=0.05, pure=False)
    future.exception(timeout=PATIENCE)
    traceback = future.traceback()
    assert traceback is not None
    assert traceback.tb_frame.f_code.co_name == "spin"


def test_what_is_fast_enough_is_not_touched(client: Client) -> None:
    futures = client.map(lambda x: x + 1, range(100), timeout="1 minute", pure=False)
    assert client.gather(futures) == list(range(1, 101))


def test_waiting_for_a_thread_does_not_count(client: Client) -> None:
    first = client.submit(time.sleep, 0.3, pure=False)
    second = client.submit(abs, -2, timeout=0.1, pure=False)
    assert second.result(timeout=PATIENCE) == 2
    first.result(timeout=PATIENCE)


def takes_its_own(timeout: Any = None) -> Any:
    return timeout


def takes_any(**kwargs: Any) -> Any:
    return kwargs


def test_functions_with_a_timeout_of_their_own_get_it(client: Client) -> None:
    assert client.submit(takes_its_own, timeout="1 ms").result(timeout=PATIENCE) == "1 ms"
    assert client.submit(takes_any, timeout=5).result(timeout=PATIENCE) == {"timeout": 5}
    assert client.gather(client.map(takes_its_own, [], timeout=1)) == []


def test_annotations_limit_any_task(client: Client) -> None:
    with dask.annotate(timeout="50 ms"):
        future = client.submit(takes_its_own, timeout=3)
        assert future.result(timeout=PATIENCE) == 3
        late = client.submit(spin, pure=False)
    assert isinstance(late.exception(timeout=PATIENCE), TaskTimeout)
    with dask.annotate(timeout=0.05):
        graph = dask.delayed(spin)()
        future = client.compute(graph, optimize_graph=False)
    assert isinstance(future.exception(timeout=PATIENCE), TaskTimeout)


def test_a_bad_limit_is_refused_at_once(client: Client) -> None:
    with pytest.raises(ValueError, match="timeout"):
        client.submit(abs, 1, timeout="whenever")


def slow_at_first(path: str) -> int:
    with open(path, "a") as file:
        file.write("x")
    if len(Path(path).read_text()) < 3:
        spin()
    return 7


def test_a_timeout_is_a_failure_like_others(client: Client, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")
    assert client.submit(slow_at_first, path, timeout=0.05, retries=2).result(timeout=PATIENCE) == 7
    assert len(Path(path).read_text()) == 3
    policy = Retry(5, delay=0, on=ConnectionError)
    future = client.submit(slow_at_first, str(tmp_path / "other"), timeout=0.05, retries=policy)
    assert isinstance(future.exception(timeout=PATIENCE), TaskTimeout)
    assert len((tmp_path / "other").read_text()) == 1


def works_for(seconds: float, number: int) -> int:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return number


def nothing(number: int) -> int:
    return number


def test_another_limit_makes_another_call(client: Client) -> None:
    short = client.submit(time.sleep, 0.3, timeout=0.1)
    assert isinstance(short.exception(timeout=30), TaskTimeout)
    long = [client.submit(time.sleep, 0.3, timeout=limit) for limit in (60, "60 s", "1 minute")]
    free = [client.submit(time.sleep, 0.3, timeout=None), client.submit(time.sleep, 0.3)]
    client.gather([*long, *free])
    assert [len({future.key for future in some}) for some in (long, free, [short, *long, *free])] == [1, 1, 3]
    mapped = [client.map(abs, [1], **limit)[0] for limit in ({}, {"timeout": 60}, {"timeout": "60 s"}, {"timeout": 9})]
    assert len({future.key for future in mapped}) == 3


def test_neighbours_are_never_hit(client: Client) -> None:
    """Limits that are over just when the task ends, in between tasks without any limit, in the same thread."""
    draw = random.Random(1)
    limited = []
    others = []
    for number in range(400):
        limited.append(client.submit(works_for, draw.uniform(0, 0.004), number, timeout=0.002, pure=False))
        others += client.map(nothing, [number, -number], pure=False)
    assert client.gather(others) == [value for number in range(400) for value in (number, -number)]
    ended = {"finished": 0, "error": 0}
    for number, future in enumerate(limited):
        error = future.exception(timeout=PATIENCE)
        ended[future.status] += 1
        if error is None:
            assert future.result() == number
        else:
            assert isinstance(error, TaskTimeout)
            assert error.task == future.key
    assert ended["finished"], "some are quick"
    threads = client.run(lambda: sum("Headrace-Tasks" in thread.name for thread in threading.enumerate()))
    assert list(threads.values()) <= [1 + 3], "no thread too many, those aside that others have left behind"


def test_abandoned_results_are_dropped(client: Client) -> None:
    """A thread that comes back late brings nothing, also when its task has been computed meanwhile."""
    key = "late"
    future = client.submit(time.sleep, 1.0, key=key, timeout=0.05)
    assert isinstance(future.exception(timeout=PATIENCE), TaskTimeout)
    del future
    poll_for(lambda: not client.run_on_scheduler(lambda dask_scheduler: key in dask_scheduler.tasks), PATIENCE)
    again = client.submit(nothing, 3, key=key)
    assert again.result(timeout=PATIENCE) == 3

    def left(dask_worker: Any) -> int:
        return sum("Headrace-Tasks" in thread.name for thread in threading.enumerate())

    before = max(client.run(left).values())
    poll_for(lambda: max(client.run(left).values()) <= before, PATIENCE)
    assert again.result() == 3
    assert client.submit(nothing, 4, pure=False).result(timeout=PATIENCE) == 4


def secede_and_return() -> str:
    secede()
    rejoin()
    return str(get_worker().address)


def test_seceding_tasks_race_with_their_limits(client: Client) -> None:
    """However it ends, the pool has its one place afterwards."""
    draw = random.Random(2)
    futures = [client.submit(secede_and_return, timeout=draw.uniform(0.0001, 0.002), pure=False) for _ in range(100)]
    for future in futures:
        error = future.exception(timeout=PATIENCE)
        assert error is None or isinstance(error, TaskTimeout)
    assert client.submit(nothing, 4, pure=False).result(timeout=PATIENCE) == 4
    (members,) = client.run(lambda dask_worker: dask_worker.task_executor.pool._members).values()
    assert members == 1
