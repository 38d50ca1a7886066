"""Every documented attribute of the worker's `TaskState`, row by row, on real workers."""

from __future__ import annotations

import asyncio
import inspect
import operator
import pickle
import time
from typing import Any, get_args

import dask
import pytest

from headrace import Client, Scheduler, Worker, get_worker
from headrace.client import FutureCancelledError
from headrace.diagnostics.plugin import WorkerPlugin
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for, wait_for_state
from headrace.worker.state import TaskState
from headrace.worker.state.tasks import StateName
from tests.gate import Gate, hold

ONE = [("127.0.0.1", 1)]
TWO = [("127.0.0.1", 1)] * 2


def fail() -> None:
    hold()
    raise ZeroDivisionError("on purpose")


@gen_cluster(nthreads=ONE, client=True)
async def test_key_state_type_nbytes_and_run_spec(c: Client, s: Scheduler, w: Worker) -> None:
    x = c.submit(abs, -1, key=("x", 1))
    await x
    task = w.tasks[("x", 1)]
    assert (task.key, task.state, task.type) == (("x", 1), "memory", "int")
    assert task.nbytes == s.tasks[("x", 1)].nbytes
    assert task.run_spec is None, "what is not needed any more takes no memory"
    assert task.prefix == "x"
    assert "memory" in repr(task)


@gen_cluster(nthreads=ONE, client=True)
async def test_dependencies_dependents_and_waiting_for_data(c: Client, s: Scheduler, w: Worker) -> None:
    Gate.close()
    x = c.submit(hold, key="x")
    await async_poll_for(Gate.entered.is_set, 15)
    y = c.submit(operator.neg, x, key="y")
    assert w.tasks["x"].state == "executing"
    function, arguments = w.tasks["x"].run_spec or ("", "")
    assert pickle.loads(function) is hold
    assert pickle.loads(arguments) == ((), {})
    Gate.opened.set()
    await y
    # what is needed here only is sent when it is there, so it is known as data that are here
    assert w.tasks["y"].waiting_for_data == set()


@gen_cluster(nthreads=TWO, client=True)
async def test_data_from_elsewhere(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    x = c.submit(abs, -5, key="x", workers=a.address)
    await x
    event = asyncio_event_of_served_requests(a)
    y = c.submit(operator.neg, x, key="y", workers=b.address)
    await async_poll_for(lambda: "x" in b.tasks, 15)
    there = b.tasks["x"]
    await async_poll_for(lambda: there.state == "flight", 15)
    assert there.run_spec is None, "another worker computes it"
    assert there.who_has == {a.address}
    assert there.coming_from == a.address
    assert there.dependents == {b.tasks["y"]}
    assert b.tasks["y"].state == "waiting"
    assert b.tasks["y"].dependencies == b.tasks["y"].waiting_for_data == {there}
    event.set()
    assert await y == -5
    assert there.state == "memory"
    assert there.coming_from is None


def asyncio_event_of_served_requests(worker: Worker) -> Any:
    """Holds the worker's answers back until the event that is returned is set."""
    event = asyncio.Event()
    serve = worker.server.handlers["get_data"]

    async def held(comm: Any, **kwargs: Any) -> Any:
        await event.wait()
        answer = serve(comm=comm, **kwargs)
        return await answer if inspect.isawaitable(answer) else answer

    worker.server.handlers["get_data"] = held
    return event


@gen_cluster(nthreads=TWO, client=True)
async def test_startstops(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    before = time.time()
    x = c.submit(abs, -5, key="x", workers=a.address)
    z = c.submit(abs, -6, key="z", workers=a.address)
    y = c.submit(operator.add, x, z, key="y", workers=b.address)
    assert await y == 11
    (compute,) = a.tasks["x"].startstops
    assert compute["action"] == "compute"
    assert before - 1 < compute["start"] <= compute["stop"]
    *transfers, compute = b.tasks["y"].startstops
    assert compute["action"] == "compute"
    assert 1 <= len(transfers) <= 2
    for transfer in transfers:
        assert transfer["action"] == "transfer"
        assert before - 1 < transfer["start"] <= transfer["stop"] <= compute["stop"]
    durations = s.tasks["y"].group.all_durations
    assert durations.keys() == {"compute", "transfer"}
    assert b.tasks["y"].start_time == compute["start"]
    assert b.tasks["y"].stop_time == compute["stop"]
    assert b.tasks["x"].startstops == []


@gen_cluster(nthreads=ONE, client=True)
async def test_duration_and_priority(c: Client, s: Scheduler, w: Worker) -> None:
    await c.submit(abs, -1, key="x-1", priority=3)
    x = c.submit(abs, -2, key="x-2", priority=3)
    await x
    task = w.tasks["x-2"]
    assert task.duration >= 0
    assert task.priority[0] == -3
    assert task.priority == s.tasks["x-2"].priority


@gen_cluster(nthreads=ONE, client=True)
async def test_exception_and_traceback(c: Client, s: Scheduler, w: Worker) -> None:
    Gate.close()
    future = c.submit(fail, key="x")
    await async_poll_for(Gate.entered.is_set, 15)
    task = w.tasks["x"]
    Gate.opened.set()
    with pytest.raises(ZeroDivisionError):
        await future
    assert "error" in [line[3] for line in w.story("x")]
    assert "on purpose" in task.exception_text
    assert "fail" in task.traceback_text
    assert task.exception is None, "the scheduler has it"
    assert task.start_time <= task.stop_time


@gen_cluster(nthreads=ONE, client=True, worker_kwargs={"resources": {"GPU": 1}})
async def test_resource_restrictions(c: Client, s: Scheduler, w: Worker) -> None:
    Gate.close()
    x = c.submit(hold, 1, key="x", resources={"GPU": 1})
    await async_poll_for(Gate.entered.is_set, 15)
    y = c.submit(hold, 2, key="y", resources={"GPU": 1})
    await wait_for_state("y", "constrained", w)
    assert w.tasks["x"].resource_restrictions == {"GPU": 1}
    assert w.available_resources == {"GPU": 0}
    Gate.opened.set()
    await c.gather([x, y])
    assert w.available_resources == w.total_resources == {"GPU": 1}


@gen_cluster(nthreads=ONE, client=True)
async def test_annotations(c: Client, s: Scheduler, w: Worker) -> None:
    with dask.annotate(foo="bar"):
        x = c.submit(abs, -1, key="x")
    await x
    assert w.tasks["x"].annotations == {"foo": "bar"}
    y = c.submit(abs, -2, key="y")
    await y
    assert w.tasks["y"].annotations == {}


@gen_cluster(nthreads=ONE, client=True)
async def test_metadata_that_a_task_sets_reaches_the_scheduler(c: Client, s: Scheduler, w: Worker) -> None:
    def work() -> None:
        worker = get_worker()
        worker.tasks[worker.get_current_task()].metadata["rows"] = 5

    x = c.submit(work, key="x")
    await x
    assert w.tasks["x"].metadata == {"rows": 5}
    assert s.tasks["x"].metadata == {"rows": 5}
    y = c.submit(abs, -1, key="y")
    await y
    assert w.tasks["y"].metadata == s.tasks["y"].metadata == {}


class Notes(WorkerPlugin):
    """Notes when tasks begin and end, in their metadata."""

    def setup(self, worker: Any) -> None:
        self.worker = worker

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        self.worker.tasks[key].metadata[finish] = start


@gen_cluster(nthreads=ONE, client=True)
async def test_metadata_that_plugins_set_reaches_the_scheduler(c: Client, s: Scheduler, w: Worker) -> None:
    await c.register_plugin(Notes())
    x = c.submit(abs, -1, key="x")
    await x
    assert s.tasks["x"].metadata["memory"] == "executing"
    assert "executing" in s.tasks["x"].metadata


@gen_cluster(nthreads=ONE, client=True)
async def test_forgotten_with_the_last_future(c: Client, s: Scheduler, w: Worker) -> None:
    x = c.submit(abs, -1, key="x")
    await x
    task = w.tasks["x"]
    x.release()
    await async_poll_for(lambda: "x" not in w.tasks, 15)
    assert task.state == "forgotten"


@gen_cluster(nthreads=ONE, client=True)
async def test_cancelled_while_it_runs(c: Client, s: Scheduler, w: Worker) -> None:
    Gate.close()
    x = c.submit(hold, key="x")
    await async_poll_for(Gate.entered.is_set, 15)
    await c.cancel(x)
    await wait_for_state("x", "cancelled", w)
    assert w.tasks["x"].previous == "executing"
    with pytest.raises(FutureCancelledError):
        await x
    Gate.opened.set()
    await async_poll_for(lambda: "x" not in w.tasks, 15)


def test_every_documented_state() -> None:
    assert set(get_args(StateName)) >= {
        "waiting",
        "ready",
        "constrained",
        "executing",
        "fetch",
        "flight",
        "memory",
        "long-running",
        "rescheduled",
        "error",
        "missing",
        "cancelled",
        "resumed",
        "released",
        "forgotten",
    }


def test_suspicious_count_and_defaults() -> None:
    task = TaskState("x")
    assert (task.suspicious_count, task.exception, task.type, task.coming_from) == (0, None, None, None)
    assert (task.dependencies, task.dependents, task.who_has, task.startstops) == (set(), set(), set(), [])
    assert task.nbytes == -1
    assert task.get_nbytes() > 0
