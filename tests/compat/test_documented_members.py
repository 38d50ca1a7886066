"""Documented members of schedulers and workers that plugins and tools of others use: each does what it says."""

from __future__ import annotations

from typing import Any

import pytest

from distributed.client import get_collections_metadata, redict_collection
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import (
    CollectTaskMetaDataPlugin,
    Scheduler,
    SchedulerState,
    WorkerState,
    decide_worker,
    heartbeat_interval,
    validate_state,
    validate_task_state,
    validate_unrunnable,
    validate_worker_state,
)
from distributed.utils_test import async_poll_for, div, gen_cluster, inc
from distributed.worker import (
    benchmark_disk,
    benchmark_memory,
    benchmark_network,
    convert_args_to_str,
    convert_kwargs_to_str,
    dumps_function,
    get_data_from_worker,
    get_msg_safe_str,
)


@gen_cluster(client=True)
async def test_questions_about_placement(c: Any, s: Any, a: Any, b: Any) -> None:
    assert isinstance(s, SchedulerState)
    x = c.submit(inc, 1, key="x", workers=[a.address])
    y = c.submit(inc, x, key="y")
    assert await y == 3
    tx, ty = s.tasks["x"], s.tasks["y"]
    wa, wb = s.workers[a.address], s.workers[b.address]
    assert s.is_idle
    assert not s.is_rootish(ty)
    assert s.is_unoccupied(wa, 0, 0)
    assert s.decide_worker_non_rootish(ty) in (wa, wb)
    assert s.decide_worker_rootish_queuing_enabled() in (wa, wb)
    assert s.decide_worker_rootish_queuing_disabled(ty) in (wa, wb)
    assert decide_worker(ty, s.workers.values(), None, lambda worker: worker.occupancy) is wa
    assert s.idle_task_count == {wa, wb}
    assert [n for _, n in s.total_nthreads_history][-1] == 3
    assert (s.UNKNOWN_TASK_DURATION, s.WORKER_SATURATION) == (0.5, 1.1)
    assert (wa.scheduler, wa.task_prefix_count, wa.needs_what) == (s, {}, {})
    assert wa.clean().has_what == {}
    for check in (s.validate_memory, s.validate_key):
        check("x")
    with pytest.raises(AssertionError, match="should be waiting"):
        s.validate_waiting("x")
    validate_state(s.tasks, s.workers, s.clients)
    validate_task_state(tx)
    validate_worker_state(wa)
    validate_unrunnable(s.unrunnable)
    with pytest.raises(AssertionError):
        validate_unrunnable({tx: 1.0})


@gen_cluster(client=True)
async def test_records_are_kept_in_step(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    wb = s.workers[b.address]
    s.add_replica("x", wb)
    assert s.replicated_tasks == {s.tasks["x"]}
    assert "x" in {task.key for task in wb.has_what}
    s.remove_replica("x", wb)
    assert s.replicated_tasks == set()
    task = s.new_task("new", None, "released")
    assert s.tasks["new"] is task
    with pytest.raises(ValueError, match="known already"):
        s.new_task("new", None, "released")
    s.transitions({"new": "forgotten"}, "test")
    s.set_restrictions({"x": [a.address]})
    assert s.tasks["x"].worker_restrictions == {a.address}
    prefix = s.task_prefixes["inc"] if "inc" in s.task_prefixes else s.tasks["x"].prefix
    prefix.add_exec_time(100)
    prefix.add_duration("compute", 1.0, 3.0)
    assert prefix.max_exec_time >= 100


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_failures_metadata_and_messages(c: Any, s: Any, a: Any) -> None:
    s.start_task_metadata("watch")
    failing = c.submit(div, 1, 0, key="failing")
    await failing.exception()
    assert await c.submit(inc, 1, key="x") == 2
    assert [line.key for line in s.erred_tasks] == ["failing"]
    assert s.erred_tasks[0].erred_on == {a.address}
    assert "ZeroDivisionError" in s.erred_tasks[0].exception_text
    found = s.stop_task_metadata("watch")
    assert found["state"] == {"failing": "erred", "x": "memory"}
    with pytest.raises(ValueError, match="watch"):
        s.stop_task_metadata("watch")
    s.log_worker_event(a.address, "topic", {"x": 1})
    assert s.get_events("topic")[0][1] == {"x": 1, "worker": a.address}
    s.handle_worker_status_change("paused", a.address, "test")
    assert s.workers[a.address].status.name == "paused"
    s.handle_worker_status_change("running", a.address, "test")
    assert s.heartbeat_worker(address=a.address, metrics={"memory": 5})["status"] == "OK"
    assert s.heartbeat_worker(address="tcp://127.0.0.1:1", metrics={})["status"] == "missing"
    await s.check_worker_ttl()
    assert issubclass(CollectTaskMetaDataPlugin, SchedulerPlugin)
    assert [heartbeat_interval(n) for n in (1, 10, 20, 1000)] == [0.5, 0.5, 1, 6]


async def test_endless_transitions_are_found() -> None:
    s = Scheduler(transition_counter_max=2)
    for key in ("x", "y", "z"):
        s.new_task(key, None, "released")
    s.transitions({"x": "forgotten", "y": "forgotten"}, "test")
    with pytest.raises(AssertionError, match="more than"):
        s.transitions({"z": "forgotten"}, "test")


@gen_cluster(client=True)
async def test_what_a_worker_offers(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    reply = await get_data_from_worker(b.rpc, ["x"], a.address)
    assert reply == {"status": "OK", "data": {"x": 2}}
    assert await b.gather({"x": [a.address]}) == {"status": "OK"}
    await async_poll_for(lambda: "x" in b.data, timeout=5)
    assert (await a.get_metrics())["cpu"] >= 0
    assert a.get_monitor_info(recent=True)["count"] >= 1
    assert len((await s.get_worker_monitor_info())[b.address]["range_query"]["memory"]) >= 1
    assert (await a.get_story(["x"]))[-1][3] == "memory"
    assert (await a.run(None, dumps_function(lambda: 5)))["status"] == "OK"
    b.send_to_worker(a.address, {"op": "ping"})
    a.handle_worker_status_change("paused", "test")
    assert a.status.name == "paused"
    a.handle_worker_status_change("running", "test")
    await a.heartbeat()
    a.find_missing()
    assert isinstance(a.get_call_stack(), dict)
    assert a.update_data({"d": 5})["nbytes"].keys() == {"d"}


class Counter:
    n = 0

    def add(self, by: int) -> int:
        self.n += by
        return self.n


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_actors_by_key(c: Any, s: Any, a: Any) -> None:
    await c.submit(Counter, key="counter", actor=True)
    assert (await a.actor_execute("counter", "add", (3,)))["result"].value == 3
    assert a.actor_attribute("counter", "n")["result"].value == 3
    assert a.actor_attribute("counter", "nothing")["status"] == "error"
    assert (await a.actor_execute("nobody", "add"))["status"] == "error"


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_benchmarks(s: Any, a: Any, tmp_path: Any) -> None:
    assert benchmark_disk(str(tmp_path), ["1 kiB"], "1 ms")["1 kiB"] > 0
    assert benchmark_memory(["1 kiB"], "1 ms")["1 kiB"] > 0
    assert (await benchmark_network(a.address, s.rpc, ["1 kiB"], "1 ms"))["1 kiB"] > 0
    assert not list(tmp_path.iterdir())


class Shy:
    def __repr__(self) -> str:
        raise ValueError("no")


def test_texts() -> None:
    assert convert_args_to_str((1, Shy()), max_len=30) == "(1, <a Shy whose repr fails>)"
    assert convert_kwargs_to_str({"a": 1}) == "{'a': 1}"
    assert get_msg_safe_str({"op": "x", "args": (Shy(),), "kwargs": {"y": 2}}).startswith("{'op': 'x', 'args': (<a Shy")


def test_collections() -> None:
    da = pytest.importorskip("dask.array")
    x = da.ones(3, chunks=3)
    assert get_collections_metadata(x) == {"type": "Array"}
    assert redict_collection(x, x.__dask_graph__()).compute().sum() == 3
    with pytest.raises(TypeError, match="no collection"):
        redict_collection(5, {})
    assert WorkerState("tcp://127.0.0.1:1").scheduler is None
