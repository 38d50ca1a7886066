"""The scheduler as a composition: operations with one owner each, tables of messages, and users' subclasses."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, get_args

import pytest

from distributed.diagnostics.plugin import SchedulerPlugin
from headrace import Scheduler
from headrace.comm import connect
from headrace.messages import FromClient, FromWorker
from headrace.messages.client import CloseClient, KeyInMemory, ReleaseKeys, SubmitGraph
from headrace.messages.worker import AddKeys, ComputeTask, TaskFinished, WorkerEvent
from headrace.rpc import RequestServer, rpc, send_recv
from headrace.rpc.server import Operation
from headrace.scheduler.connections import clients, workers
from headrace.scheduler.shell import Shell, shell_of
from headrace.scheduler.state.core import CLIENT_MESSAGES, WORKER_MESSAGES
from tests.scheduler.test_server import join_client, join_worker, running


@pytest.mark.parametrize(
    ("own", "cores", "union"),
    [
        (clients.FROM_CLIENT, CLIENT_MESSAGES, FromClient),
        (workers.FROM_WORKER, WORKER_MESSAGES, FromWorker),
    ],
)
def test_each_message_has_one_receiver(own: dict[type, Any], cores: dict[type, Any], union: Any) -> None:
    assert set(own) | set(cores) == set(get_args(union))
    assert not set(own) & set(cores)


class Watching(SchedulerPlugin):
    def __init__(self) -> None:
        self.seen: list[Any] = []

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        self.seen.append((key, finish))

    def log_event(self, topic: str, msg: Any) -> None:
        if topic == "mine":
            self.seen.append(msg)


async def test_a_workers_batch_is_taken_in_its_order() -> None:
    plugin = Watching()
    async with running(plugins=[plugin]) as scheduler:
        worker, client = await join_worker(scheduler), await join_client(scheduler)
        client.stream.send(SubmitGraph(1, [b"f"], ["x"], [b"a"]))
        task = await worker.next(ComputeTask)
        plugin.seen.clear()
        worker.stream.send_all(
            [
                WorkerEvent(["mine"], "before"),
                TaskFinished("x", task.attempt, 8, "int", 0.0, 0.1),
                WorkerEvent(["mine"], "after"),
            ]
        )
        await client.next(KeyInMemory)
        assert plugin.seen == ["before", ("x", "memory"), "after"]


async def test_a_message_of_a_client_that_nobody_takes_ends_its_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "distributed")
    monkeypatch.delitem(CLIENT_MESSAGES, ReleaseKeys)
    async with running() as scheduler:
        bad, good = await join_client(scheduler, "bad"), await join_client(scheduler, "good")
        bad.stream.send(ReleaseKeys(["x"]))
        async with asyncio.timeout(10):
            await bad.closed.wait()
        assert not good.closed.is_set()
        assert "bad" not in scheduler.clients
    [line] = [record for record in caplog.records if "ReleaseKeys" in record.getMessage()]
    assert "client bad" in line.getMessage()
    assert not line.exc_info


async def test_a_message_of_a_worker_that_nobody_takes_ends_its_connection(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "distributed")
    monkeypatch.delitem(WORKER_MESSAGES, AddKeys)
    async with running() as scheduler:
        bad = await join_worker(scheduler)
        bad.stream.send_all([WorkerEvent(["mine"], "taken"), AddKeys(["x"]), WorkerEvent(["mine"], "lost")])
        async with asyncio.timeout(10):
            await bad.closed.wait()
        assert [msg for _, msg in scheduler.get_events("mine")] == ["taken"]
    [line] = [record for record in caplog.records if "AddKeys" in record.getMessage()]
    assert not line.exc_info


def test_an_operation_has_one_owner() -> None:
    server = RequestServer({"echo": print})
    server.add_operations("Questions", {"identity": dict, "gather": Operation(dict, repeatable=True)})
    with pytest.raises(ValueError, match="Others cannot register the operation 'gather': it belongs to Questions"):
        server.add_operations("Others", {"another": dict, "gather": dict})
    assert "another" not in server.handlers
    with pytest.raises(ValueError, match="handlers"):
        server.add_operations("Others", {"echo": dict})
    assert server.repeatable == ["gather"]


async def test_clients_are_told_what_they_may_ask_twice() -> None:
    async with running() as scheduler:
        comm = await connect(scheduler.address)
        welcome = await send_recv(comm, op="register-client", client="alice")
        assert {"who_has", "gather", "identity"} <= set(welcome["repeatable"])
        assert not {"restart", "scatter", "run_function"} & set(welcome["repeatable"])
        await comm.close()


class Counting(Scheduler):
    """Overrides documented methods that are operations, or that the scheduler calls itself."""

    def __init__(self, **keywords: Any) -> None:
        self.calls: list[str] = []
        super().__init__(**keywords)

    async def gather(self, keys: Any, serializers: Any = None) -> Any:
        self.calls.append("gather")
        return await super().gather(keys, serializers)

    def identity(self, n_workers: int = -1) -> dict[str, Any]:
        return {**super().identity(n_workers), "own": "identity"}

    async def add_worker(self, comm: Any, **keywords: Any) -> None:
        self.calls.append("add_worker")
        await super().add_worker(comm, **keywords)

    def remove_client(self, client: str, stimulus_id: str | None = None) -> None:
        self.calls.append("remove_client")
        super().remove_client(client, stimulus_id)

    def get_ncores(self, workers: Any = None, comm: Any = None) -> Any:
        assert comm is not None
        return {"own": 1}

    def log_event(self, topic: Any, msg: Any) -> None:
        super().log_event(topic, {**msg, "own": True} if isinstance(msg, dict) else msg)

    async def close(self, *args: Any, **keywords: Any) -> str:
        self.calls.append("close")
        return await super().close(*args, **keywords)


async def test_a_subclasss_methods_answer_requests_and_are_called_from_within() -> None:
    async with Counting(host="127.0.0.1") as scheduler:
        await join_worker(scheduler)
        client = await join_client(scheduler)
        async with rpc(scheduler.address) as scheduler_rpc:
            assert (await scheduler_rpc.identity())["own"] == "identity"
            assert (await scheduler_rpc.gather(keys=[]))["status"] == "OK"
            assert await scheduler_rpc.ncores() == {"own": 1}
            with_own = [msg for _, msg in scheduler.get_events("alice")]
            assert with_own == [{"action": "add-client", "client": "alice", "own": True}]
            client.stream.send(CloseClient())
            async with asyncio.timeout(10):
                await client.closed.wait()
            await scheduler_rpc.terminate()
        async with asyncio.timeout(10):
            await scheduler.finished()
    assert scheduler.calls == ["add_worker", "gather", "remove_client", "close", "close"]


def test_the_public_class_has_few_bases() -> None:
    assert len(Scheduler.__mro__) <= 6


async def test_users_extensions_are_made_with_the_public_scheduler() -> None:
    async with running(extensions={"own": lambda scheduler: ("made with", scheduler)}) as scheduler:
        assert scheduler.extensions == {"own": ("made with", scheduler)}
        assert isinstance(shell_of(scheduler), Shell)
        assert shell_of(scheduler.shell) is shell_of(scheduler)


async def test_thresholds_are_set_on_the_scheduler() -> None:
    async with running() as scheduler:
        scheduler.MEMORY_REBALANCE_HALF_GAP = 0.2
        assert scheduler.shell.memory_settings.half_gap == 0.2
        scheduler.worker_ttl = 5.0
        assert scheduler.parts.silence.worker_ttl == 5.0


def test_a_limit_of_transitions_stays_when_a_plugin_comes() -> None:
    scheduler = Scheduler(transition_counter_max=1)
    scheduler.add_plugin(Watching())
    scheduler.core.add_client("alice", None, 0.0)
    with pytest.raises(AssertionError, match="more than 1 transitions"):
        scheduler.update_graph("alice", {"x": (b"f", b"a")})
