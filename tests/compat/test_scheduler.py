"""The documented state and methods of a Scheduler, row by row; those of other topics have tests of their own."""

from __future__ import annotations

import asyncio
import pickle
import time
from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.comm import connect
from headrace.messages import ToWorker
from headrace.messages.base import TaskOptions
from headrace.messages.client import KeyInMemory, Restarted
from headrace.messages.worker import WorkerEvent
from headrace.protocol import dumps, unwrap
from headrace.rpc import Stream
from headrace.scheduler import ClientState, TaskState
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for

TWO = [("127.0.0.1", 1)] * 2
NONE: list[Any] = []


def call(value: Any) -> tuple[bytes, bytes]:
    return pickle.dumps(abs), pickle.dumps(((value,), {}))


async def with_tasks(s: Scheduler, *keys: str, **options: Any) -> ClientState:
    """A client of the state alone, with tasks that no worker runs yet."""
    client = s.state.add_client("alice", {}, time.time())
    s.update_graph("alice", {key: call(-1) for key in keys}, options=TaskOptions(**options))
    return client


# State


@gen_cluster(nthreads=TWO, client=True)
async def test_state(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    future = c.submit(abs, -1, key="x")
    await future
    assert isinstance(s.tasks["x"], TaskState)
    assert set(s.workers) == {a.address, b.address}
    assert set(s.idle) == {a.address, b.address}
    assert s.saturated == set()
    assert s.unrunnable == {}
    assert s.host_info["127.0.0.1"] == {"nthreads": 2, "addresses": {a.address, b.address}}
    assert set(s.clients) == set(s.client_comms) == {c.id}
    assert set(s.stream_comms) == {a.address, b.address}
    assert s.task_duration.keys() == {"x"}
    assert s.services == {"dashboard": s.http_server}
    assert s.loop is not None
    assert s.total_nthreads == 2
    assert s.total_occupancy == 0
    assert s.total_memory == a.memory_limit + b.memory_limit
    assert s.n_tasks == 1
    assert s.running == set(s.workers.values())
    assert set(s.task_groups) == set(s.task_prefixes) == {"x"}
    assert s.aliases == {a.name: a.address, b.name: b.address}


@gen_cluster(nthreads=NONE)
async def test_unrunnable(s: Scheduler) -> None:
    await with_tasks(s, "x")
    assert list(s.unrunnable) == [s.tasks["x"]]


# Work in


@gen_cluster(nthreads=TWO, client=True)
async def test_update_graph(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    from dask._task_spec import TaskRef

    tasks = {"y": (pickle.dumps(abs), dumps(((TaskRef("x"),), {}))), "x": call(-7)}
    s.update_graph(c.id, tasks, keys=["y"], dependencies={"y": ["x"]})
    await async_poll_for(lambda: s.tasks["y"].state == "memory", 15)
    assert s.tasks["y"].who_wants == {s.clients[c.id]}
    assert s.tasks["x"].who_wants == set()
    s.update_graph(c.id, {"z": (pickle.dumps(abs), dumps(((TaskRef("y"),), {})))}, dependencies={"z": ["y"]})
    await async_poll_for(lambda: s.tasks["z"].state == "memory", 15)
    assert pickle.loads((await s.gather(["z"]))["data"]["z"].payload) == 7
    with pytest.raises(ValueError, match="circle"):
        s.update_graph(c.id, {"p": call(1), "q": call(1)}, dependencies={"p": ["q"], "q": ["p"]})
    with pytest.raises(KeyError, match="nobody"):
        s.update_graph("nobody", {"p": call(1)})


@gen_cluster(nthreads=NONE)
async def test_clients(s: Scheduler) -> None:
    client = await with_tasks(s, "x", "y")
    client.last_seen = 0.0
    s.client_heartbeat("alice")
    assert client.last_seen > 0
    s.client_releases_keys(["x"], "alice")
    assert set(s.tasks) == {"y"}
    s.remove_client("alice")
    assert not s.tasks
    assert not s.clients
    with pytest.raises(KeyError, match="alice"):
        s.client_heartbeat("alice")


@gen_cluster(nthreads=NONE)
async def test_cancelling(s: Scheduler) -> None:
    await with_tasks(s, "x", "y", "z")
    s.stimulus_cancel(["x"], "alice")
    s.cancel_key("y", "alice", force=True)
    assert set(s.tasks) == {"z"}


# Placement


@gen_cluster(nthreads=TWO, client=True, config={"distributed.scheduler.bandwidth": 100})
async def test_placement(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    here, there = s.workers[a.address], s.workers[b.address]
    x = c.submit(abs, -1, key="x", workers=a.address)
    await x
    await with_tasks(s)
    s.update_graph("alice", {"y": call(1)}, dependencies={"y": ["x"]}, options=TaskOptions(resources={"none": 1}))
    y = s.tasks["y"]
    nbytes = s.tasks["x"].nbytes
    assert s.get_comm_cost(y, here) == 0
    assert s.get_comm_cost("y", b.address) == pytest.approx(nbytes / 100)
    assert s.worker_objective(y, here) == (0, nbytes)
    assert s.worker_objective(y, there) == (pytest.approx(nbytes / 100), 0)
    assert s.valid_workers(y) == set()
    assert s.decide_worker(y) is None
    assert s.valid_workers("x") == {here}
    assert s.decide_worker("x") is here
    s.update_graph("alice", {"free": call(2)})
    assert s.valid_workers("free") is None
    await async_poll_for(lambda: s.tasks["free"].state == "memory", 15)
    chosen = s.decide_worker("free")  # of two with as much either one: the first to register, which may be `there`
    assert chosen in (here, there)
    assert chosen.nbytes == min(here.nbytes, there.nbytes)
    assert s.get_task_duration(y) == 0.5
    assert s.get_task_duration(y, default=2) == 2
    assert 0 <= s.get_task_duration("x") < 0.5
    s.check_idle_saturated(here)
    assert a.address in s.idle
    with pytest.raises(KeyError, match="unknown"):
        s.decide_worker("unknown")
    with pytest.raises(KeyError, match="no worker"):
        s.worker_objective("x", "tcp://127.0.0.1:1")


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_send_task_to_worker(s: Scheduler, w: Worker) -> None:
    await with_tasks(s, "x", workers=["nobody"])
    assert s.tasks["x"].state == "no-worker"
    s.send_task_to_worker(w.address, "x")
    await async_poll_for(lambda: s.tasks["x"].state == "memory", 15)
    with pytest.raises(ValueError, match="queued"):
        s.send_task_to_worker(w.address, "x")


# Transitions


@gen_cluster(nthreads=NONE)
async def test_transition_and_transitions(s: Scheduler) -> None:
    await with_tasks(s, "x")
    assert s.transition("x", "released", "by-hand") == {"x": "waiting"}
    assert s.tasks["x"].state == "released"
    s.transitions({"x": "waiting"}, "by-hand")
    assert s.tasks["x"].state == "no-worker"
    assert {line.stimulus_id for line in s.story("x")} >= {"by-hand"}
    assert len(s.story("by-hand")) == 3


class Placed:
    """A scheduler with a worker that is only a record: what it is sent, nobody does."""

    def __init__(self, s: Scheduler) -> None:
        from headrace.scheduler import WorkerState

        self.worker = WorkerState("tcp://127.0.0.1:1", name="w", services={"dashboard": 8787}, nanny="tcp://10.0.0.1:2")
        s.state.add_worker(self.worker, {}, time.time())


@gen_cluster(nthreads=NONE)
async def test_task_finished(s: Scheduler) -> None:
    worker = Placed(s).worker
    await with_tasks(s, "x")
    times = [{"action": "transfer", "start": 1.0, "stop": 2.0}, {"action": "compute", "start": 2.0, "stop": 5.0}]
    s.stimulus_task_finished(
        "w", "stimulus", "x", nbytes=12, typename="int", startstops=times, metadata={"rows": 1}, ignored=None
    )
    task = s.tasks["x"]
    assert (task.state, task.nbytes, task.type, task.metadata) == ("memory", 12, "int", {"rows": 1})
    assert task.who_has == {worker}
    assert task.group.all_durations == {"compute": 3.0, "transfer": 1.0}
    s.stimulus_missing_data("x", worker=worker)
    assert task.state == "processing"
    assert task.who_has == set()


@gen_cluster(nthreads=NONE)
async def test_task_erred(s: Scheduler) -> None:
    Placed(s)
    await with_tasks(s, "x", "y")
    s.stimulus_task_erred("w", "test", "x", exception=b"e", traceback=b"t", exception_text="boom")
    assert s.tasks["x"].state == "erred"
    assert s.tasks["x"].exception == b"e"
    assert s.tasks["x"].exception_text == "boom"
    s.stimulus_task_erred("w", "test", "y", run_id=-5)
    assert s.tasks["y"].state == "processing", "an assignment of long ago"


@gen_cluster(nthreads=NONE)
async def test_reschedule_and_long_running(s: Scheduler) -> None:
    worker = Placed(s).worker
    await with_tasks(s, "x")
    task = s.tasks["x"]
    before = task.run_id
    s.reschedule("x", "w")
    assert task.state == "processing"
    assert task.run_id > before
    s.handle_long_running("x", "w", compute_duration=3.0)
    assert worker.long_running == {task}
    assert task.prefix.duration_average == 3.0
    assert worker.occupancy == 0


# Looking


@gen_cluster(nthreads=NONE)
async def test_addresses_and_services(s: Scheduler) -> None:
    Placed(s)
    assert s.coerce_hostname("w") == "127.0.0.1"
    assert s.coerce_hostname("elsewhere") == "elsewhere"
    assert s.coerce_address("w") == "tcp://127.0.0.1:1"
    assert s.get_worker_service_addr("w", "dashboard") == ("127.0.0.1", 8787)
    assert s.get_worker_service_addr("w", "dashboard", protocol=True) == "tcp://127.0.0.1:8787"
    assert s.get_worker_service_addr("w", "nanny") == ("10.0.0.1", 2)
    assert s.get_worker_service_addr("w", "nanny", protocol=True) == "tcp://10.0.0.1:2"
    assert s.get_worker_service_addr("w", "unknown") is None
    assert s.workers_list(None) == s.workers_list(["w"]) == s.workers_list(["127.0.0.1"]) == ["tcp://127.0.0.1:1"]
    assert s.workers_list(["elsewhere"]) == []


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True)
async def test_identity_broadcast_and_proxy(c: Client, s: Scheduler, w: Worker) -> None:
    identity = s.identity()
    assert identity["type"] == "Scheduler"
    assert identity["address"] == s.address
    assert set(identity["workers"]) == {w.address}
    assert s.identity(n_workers=0)["workers"] == {}
    assert await s.broadcast({"op": "ping"}) == {w.address: b"pong"}
    assert await s.proxy({"op": "ping"}, w.address) == b"pong"
    reply = await s.run_function(None, dumps(lambda dask_scheduler: dask_scheduler.id), dumps(()))
    assert reply["status"] == "OK"
    assert unwrap(reply["result"]) == s.id


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True)
async def test_report(c: Client, s: Scheduler, w: Worker) -> None:
    future = c.submit(abs, -1, key="x", resources={"nobody has this": 1})
    await async_poll_for(lambda: "x" in s.tasks, 15)
    s.report(KeyInMemory("x", "int"), ts="x")
    await async_poll_for(future.done, 15)
    s.report(Restarted(), client="nobody")
    s.report(Restarted(), client=c.id)
    await async_poll_for(lambda: future.status == "cancelled", 15)
    s.report(Restarted())


@gen_cluster(nthreads=NONE)
async def test_feed(s: Scheduler) -> None:
    ended: list[Any] = []
    s.extensions["ended"] = ended
    comm = await connect(s.address)
    await comm.write(
        {
            "op": "feed",
            "setup": dumps(lambda scheduler: [scheduler.id]),
            "function": dumps(lambda scheduler, state: {"id": state[0], "tasks": len(scheduler.tasks)}),
            "teardown": dumps(lambda scheduler, state: scheduler.extensions["ended"].append(state[0])),
            "interval": "5 ms",
        }
    )
    assert [await comm.read() for _ in range(3)] == [{"id": s.id, "tasks": 0}] * 3
    await comm.close()
    await async_poll_for(lambda: ended == [s.id], 15)


# Constructor and life


async def test_life() -> None:
    s = Scheduler(host="127.0.0.1", port=0)
    assert s.status.name == "created"
    with pytest.raises(RuntimeError, match="started"):
        await s.finished()
    assert await s is s
    assert s.status.name == "running"
    finished = asyncio.ensure_future(s.finished())
    assert await s.close() == "OK"
    await finished
    assert s.status.name == "closed"
    with pytest.raises(RuntimeError, match="cannot be started again"):
        await s.start()
    assert await s.close() == "OK"


async def test_keywords(tmp_path: Any) -> None:
    file = tmp_path / "scheduler.json"
    keywords = {
        "loop": None,
        "delete_interval": "1s",
        "synchronize_worker_interval": "60s",
        "services": None,
        "service_kwargs": None,
        "allowed_failures": 7,
        "extensions": {},
        "validate": True,
        "scheduler_file": str(file),
        "security": None,
        "interface": None,
        "host": "127.0.0.1",
        "port": 0,
        "protocol": "tcp",
        "dashboard_address": None,
    }
    async with Scheduler(**keywords) as s:
        assert s.validate
        assert s.state.options.allowed_failures == 7
        assert s.extensions == {}
        assert file.exists()
        assert s.address.startswith("tcp://127.0.0.1:")
        assert s.ip == s.host == "127.0.0.1"
        assert s.address.endswith(f":{s.port}")
    assert not file.exists()
    with pytest.raises(TypeError, match="nonsense"):
        Scheduler(nonsense=1)


@gen_cluster(nthreads=NONE)
async def test_handle_worker_takes_messages_until_the_connection_closes(s: Scheduler) -> None:
    worker = Placed(s).worker
    ended = asyncio.Event()

    async def take(comm: Any, address: str) -> None:
        await s.handle_worker(comm, address)
        ended.set()

    s.server.takeovers["be-a-worker"] = take
    comm = await connect(s.address)
    await comm.write({"op": "be-a-worker", "address": worker.address})
    stream = Stream(comm, ToWorker, lambda messages: None, lambda error: None)
    stream.send(WorkerEvent(["greetings"], "hello"))
    await async_poll_for(lambda: "greetings" in s.events, 10)
    assert [event for _, event in s.get_events("greetings")] == ["hello"]
    assert s.stream_comms[worker.address].peer_address == comm.local_address
    assert not ended.is_set()
    await stream.close()
    await asyncio.wait_for(ended.wait(), 10)
    await async_poll_for(lambda: worker.address not in s.workers, 10)
    with pytest.raises(KeyError, match="there is no worker"):
        await s.handle_worker(comm, "tcp://127.0.0.1:1")


@gen_cluster(nthreads=NONE)
async def test_ip_is_where_it_listens(s: Scheduler) -> None:
    assert s.ip == "127.0.0.1"
    async with Scheduler(host="localhost", port=0, dashboard_address=None) as named:
        assert named.ip == named.listen_address.split("://")[1].rpartition(":")[0]


@gen_cluster(nthreads=TWO, client=True)
async def test_bandwidths_come_from_the_workers_measurements(
    client: Client, scheduler: Scheduler, first: Worker, second: Worker
) -> None:
    before = scheduler.bandwidth
    data = client.submit(bytes, 20_000_000, workers=[first.address])
    await client.submit(len, data, workers=[second.address])
    second.session.heartbeat()
    pair = (second.address, first.address)
    await async_poll_for(lambda: pair in scheduler.bandwidth_workers)
    assert scheduler.bandwidth != before
    assert set(scheduler.bandwidth_types) == {"bytes"}
    assert set(scheduler.bandwidth_workers) == {pair}


@gen_cluster(nthreads=TWO, client=True)
async def test_get_task_prefix_states_counts_what_is_there(
    client: Client, scheduler: Scheduler, first: Worker, second: Worker
) -> None:
    assert scheduler.get_task_prefix_states() == {}
    futures = client.map(abs, range(3))
    await client.gather(futures)
    assert scheduler.get_task_prefix_states() == {
        "abs": {"memory": 3, "erred": 0, "released": 0, "processing": 0, "waiting": 0}
    }
    del futures
    await async_poll_for(lambda: not scheduler.tasks)
    assert scheduler.get_task_prefix_states() == {}
