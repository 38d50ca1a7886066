"""The scheduler's shell over real sockets, with workers and clients that speak the wire by hand."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, Scheduler, Worker
from headrace.comm import CommClosedError, connect
from headrace.common.package_versions import VersionMismatchWarning
from headrace.messages import ToClient, ToWorker
from headrace.messages.client import (
    CancelledKeys,
    CloseClient,
    GraphRefused,
    KeyInMemory,
    ReleaseKeys,
    SchedulerClosing,
    SubmitGraph,
    TaskErred,
)
from headrace.messages.worker import ComputeTask, TaskFailed, TaskFinished, WorkerEvent, WorkerHeartbeat
from headrace.protocol import Serialize, dumps, loads
from headrace.rpc import Stream, rpc, send_recv
from headrace.scheduler.state.core import CLIENT_MESSAGES


class Peer:
    """One end of a stream, whose messages can be waited for."""

    def __init__(self, comm: Any, incoming: Any) -> None:
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.stream = Stream(comm, incoming, self._batch, lambda error: self.closed.set())

    def _batch(self, messages: list[Any]) -> None:
        for message in messages:
            self.messages.put_nowait(message)

    async def next(self, kind: type) -> Any:
        """The next message of a kind; others before it are passed over."""
        async with asyncio.timeout(10):
            while True:
                message = await self.messages.get()
                if isinstance(message, kind):
                    return message


async def join_client(scheduler: Scheduler, name: str = "alice") -> Peer:
    comm = await connect(scheduler.address)
    reply = await send_recv(comm, op="register-client", client=name)
    assert reply["status"] == "OK"
    return Peer(comm, ToClient)


async def join_worker(scheduler: Scheduler, address: str = "tcp://127.0.0.1:1", **details: Any) -> Peer:
    comm = await connect(scheduler.address)
    reply = await send_recv(comm, op="register-worker", address=address, **{"nthreads": 1, **details})
    assert reply["status"] == "OK"
    return Peer(comm, ToWorker)


@asynccontextmanager
async def running(**keywords: Any) -> AsyncIterator[Scheduler]:
    async with Scheduler(host="127.0.0.1", validate=True, **keywords) as scheduler:
        yield scheduler


async def test_task_from_client_to_worker_and_back() -> None:
    async with running() as scheduler:
        worker = await join_worker(scheduler)
        client = await join_client(scheduler)
        client.stream.send(SubmitGraph(1, [b"f"], ["x"], [b"a"]))
        task = await worker.next(ComputeTask)
        assert (task.key, task.report) == ("x", True)
        worker.stream.send(TaskFinished("x", task.attempt, 4, "int", 0.0, 1.0, b"result"))
        answer = await client.next(KeyInMemory)
        assert (answer.key, answer.type, answer.result) == ("x", "int", b"result")
        client.stream.send(ReleaseKeys(["x"]))
        client.stream.send(CloseClient())
        async with asyncio.timeout(10):
            await client.closed.wait()
        assert not scheduler.tasks
        assert not scheduler.clients


async def test_failure_travels_as_it_was_pickled() -> None:
    async with running() as scheduler:
        worker = await join_worker(scheduler)
        client = await join_client(scheduler)
        client.stream.send(SubmitGraph(1, [b"f"], [("x", 0)], [b"a"]))
        task = await worker.next(ComputeTask)
        worker.stream.send(TaskFailed(task.key, task.attempt, b"E", b"T", "boom", "line", 0.0, 1.0))
        answer = await client.next(TaskErred)
        assert (answer.key, answer.exception, answer.traceback) == (("x", 0), b"E", b"T")


async def test_bad_graph_harms_nobody_else() -> None:
    async with running() as scheduler:
        worker = await join_worker(scheduler)
        bad, good = await join_client(scheduler, "bad"), await join_client(scheduler, "good")
        bad.stream.send(SubmitGraph(1, [b"f"], ["a", "b"], [b""]))
        good.stream.send(SubmitGraph(1, [b"f"], ["x"], [b"a"]))
        assert (await bad.next(GraphRefused)).keys == ["a", "b"]
        assert (await worker.next(ComputeTask)).key == "x"


async def test_malformed_message_closes_that_connection_only() -> None:
    async with running() as scheduler:
        bad, good = await join_client(scheduler, "bad"), await join_client(scheduler, "good")
        bad.stream.comm.send([["SubmitGraph", "not a number"]])
        async with asyncio.timeout(10):
            await bad.closed.wait()
        good.stream.send(SubmitGraph(1, [b"f"], ["x"], [b"a"]))
        worker = await join_worker(scheduler)
        assert (await worker.next(ComputeTask)).key == "x"
        assert set(scheduler.clients) == {"good"}


async def test_worker_that_goes_loses_nothing() -> None:
    async with running() as scheduler:
        first = await join_worker(scheduler, "tcp://127.0.0.1:1")
        client = await join_client(scheduler)
        client.stream.send(SubmitGraph(1, [b"f"], ["x"], [b"a"]))
        await first.next(ComputeTask)
        second = await join_worker(scheduler, "tcp://127.0.0.1:2")
        first.stream.abort()
        assert (await second.next(ComputeTask)).key == "x"
        assert list(scheduler.workers) == ["tcp://127.0.0.1:2"]


async def test_worker_s_name_is_taken_once() -> None:
    async with running() as scheduler:
        await join_worker(scheduler, "tcp://127.0.0.1:1", name="w")
        comm = await connect(scheduler.address)
        reply = await send_recv(comm, op="register-worker", address="tcp://127.0.0.1:2", name="w")
        assert reply["status"] == "error"
        assert "'w'" in reply["message"]
        assert "tcp://127.0.0.1:1" in reply["message"]
        comm.abort()


async def test_heartbeats_and_events_are_kept() -> None:
    async with running() as scheduler:
        worker = await join_worker(scheduler, "tcp://127.0.0.1:1")
        worker.stream.send(WorkerHeartbeat(1e9, {"memory": 123}))
        worker.stream.send(WorkerEvent(["topic"], {"a": 1}))
        async with rpc(scheduler.address) as remote, asyncio.timeout(10):
            while not await remote.events(topic="topic"):
                await asyncio.sleep(0)
        state = scheduler.workers["tcp://127.0.0.1:1"]
        assert state.metrics == {"memory": 123}
        assert state.memory.process == 123


async def test_run_function_here_with_the_scheduler() -> None:
    async with running() as scheduler, rpc(scheduler.address) as remote:
        function = dumps(lambda x, dask_scheduler=None: (x, dask_scheduler.id))
        reply = await remote.run_function(function=function, args=dumps((1,)))
        assert reply["result"] == (1, scheduler.id)

        def fail() -> None:
            raise ZeroDivisionError("here")

        reply = await remote.run_function(function=dumps(fail))
        assert reply["status"] == "error"
        assert isinstance(loads(reply["exception"]), ZeroDivisionError)


async def test_metadata_and_echo_keep_types() -> None:
    async with running() as scheduler, rpc(scheduler.address) as remote:
        await remote.set_metadata(keys=["a", ("b", 1)], value={"x": (1, 2)})
        assert await remote.get_metadata(keys=["a", ("b", 1)]) == {"x": (1, 2)}
        assert await remote.get_metadata(keys=["absent"], default=None) is None
        with pytest.raises(KeyError, match="absent"):
            await remote.get_metadata(keys=["absent"])
        assert await remote.echo(data=("t", b"b", 1.5, None)) == ("t", b"b", 1.5, None)


async def test_scattered_data_and_where_it_is() -> None:
    async with running() as scheduler, rpc(scheduler.address) as remote:
        await join_worker(scheduler, "tcp://127.0.0.1:1")
        client = await join_client(scheduler)
        await remote.update_data(
            who_has={"d": ["tcp://127.0.0.1:1"]}, nbytes={"d": 10}, client="alice", types={"d": "bytes"}
        )
        assert (await client.next(KeyInMemory)).key == "d"
        assert await remote.who_has(keys=["d", "e"]) == {"d": ["tcp://127.0.0.1:1"], "e": []}
        assert await remote.has_what() == {"tcp://127.0.0.1:1": ["d"]}
        assert await remote.nbytes(summary=False) == {"d": 10}
        assert await remote.ncores() == {"tcp://127.0.0.1:1": 1}


async def test_lost_data_is_said_to_be_lost() -> None:
    async with running() as scheduler, rpc(scheduler.address) as remote:
        worker = await join_worker(scheduler, "tcp://127.0.0.1:1")
        client = await join_client(scheduler)
        await remote.update_data(who_has={"d": ["tcp://127.0.0.1:1"]}, nbytes={"d": 10}, client="alice")
        await client.next(KeyInMemory)
        worker.stream.abort()
        answer = await client.next(CancelledKeys)
        assert answer.keys == ["d"]
        assert "lost" in answer.reason


async def test_plugins_hear_of_what_happens() -> None:
    heard: list[tuple[Any, ...]] = []

    class Plugin:
        name = "spy"

        def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
            heard.append((key, start, finish))

        def add_worker(self, scheduler: Scheduler, worker: str) -> None:
            heard.append(("worker", worker))

        def update_graph(self, scheduler: Scheduler, **kwargs: Any) -> None:
            heard.append(("graph", kwargs["keys"]))

        async def close(self) -> None:
            heard.append(("closed",))

    async with running(plugins=[Plugin()]) as scheduler:
        worker = await join_worker(scheduler)
        client = await join_client(scheduler)
        client.stream.send(SubmitGraph(1, [b"f"], ["x"], [b"a"]))
        await worker.next(ComputeTask)
    assert ("worker", "tcp://127.0.0.1:1") in heard
    assert ("x", "waiting", "processing") in heard
    assert ("graph", {"x"}) in heard
    assert heard[-1] == ("closed",)


async def test_scheduler_file_is_there_while_it_runs(tmp_path: Path) -> None:
    path = tmp_path / "scheduler.json"
    async with running(scheduler_file=str(path)) as scheduler:
        assert json.loads(path.read_text())["address"] == scheduler.address
    assert not path.exists()


async def test_closing_tells_clients_and_can_be_waited_for() -> None:
    async with running() as scheduler:
        client = await join_client(scheduler)
        waiter = asyncio.create_task(scheduler.finished())
        async with rpc(scheduler.address) as remote:
            await remote.terminate(reason="test")
        assert (await client.next(SchedulerClosing)).reason == "test"
        async with asyncio.timeout(10):
            await waiter
        assert scheduler.status.name == "closed"


async def test_long_submissions_do_not_hold_up_others() -> None:
    async with running() as scheduler:
        scheduler.state.validate = False
        worker = await join_worker(scheduler)
        big, small = await join_client(scheduler, "big"), await join_client(scheduler, "small")
        for number in range(40):
            keys = [f"big-{number}-{i}" for i in range(1000)]
            big.stream.send(SubmitGraph(number, [b"f"], keys, [b""] * 1000))
        big.stream.flush()
        small.stream.send(SubmitGraph(1, [b"f"], ["small"], [b""]))
        async with asyncio.timeout(10):
            while "small" not in scheduler.tasks:
                await asyncio.sleep(0)
        assert len(scheduler.tasks) < 40_001, "the small submission was taken before the end of the long one"
        await worker.next(ComputeTask)


def test_unknown_keyword_is_named() -> None:
    with pytest.raises(TypeError, match="prot"):
        Scheduler(prot="tcp")


def test_value_marked_for_the_peer_is_plain_here() -> None:
    from headrace.scheduler.shell import opened

    assert opened(Serialize(3)) == 3
    assert opened(dumps({"a": 1})) == {"a": 1}
    assert opened("text") == "text"


async def test_a_worker_without_a_scheme_is_known_by_its_whole_address() -> None:
    """By all doors; when it goes, it is gone."""
    async with running() as scheduler:
        worker = await join_worker(scheduler, "127.0.0.1:1", name="w", nanny="127.0.0.1:2")
        assert list(scheduler.workers) == ["tcp://127.0.0.1:1"]
        assert scheduler.workers["tcp://127.0.0.1:1"].nanny == "tcp://127.0.0.1:2"
        client = await join_client(scheduler)
        options = [[0.0, 0, ["localhost:1"]]]
        client.stream.comm.send([["SubmitGraph", 1, [b"f"], ["x"], [b"a"], [], [], [], [], options]])
        assert (await worker.next(ComputeTask)).key == "x"
        assert scheduler.heartbeat_worker(address="127.0.0.1:1")["status"] == "OK"
        assert scheduler.add_resources("127.0.0.1:1", {"A": 1}) == "OK"
        scheduler.update_data(who_has={"y": ["127.0.0.1:1"]}, nbytes={"y": 5}, client="alice")
        assert scheduler.get_who_has(["y"]) == {"y": ["tcp://127.0.0.1:1"]}
        worker.stream.abort()
        async with asyncio.timeout(10):
            while scheduler.workers:
                await asyncio.sleep(0.005)
        assert not scheduler.stream_comms


JUNK: list[dict[str, Any]] = [
    {"address": address}
    for address in (
        "junk",
        "",
        None,
        5,
        "tcp://",
        "tcp://:5",
        "tcp://a:b",
        "nope://a:1",
        "tcp://a:1\nb",
        "x" * 5_000_000,
    )
]
JUNK += [{"nthreads": count} for count in (-5, None, "abc", float("nan"), 1.5, 10**9, True, [1])]
JUNK += [{"name": name} for name in ("x" * 5_000_000, [1], {"a": 1}, float("nan"), ("a", ["b"]))]
JUNK += [{"memory_limit": size} for size in (-1, "lots", float("nan"), float("inf"))]
JUNK += [{"keys": keys} for keys in ({"x": -5}, {"x": None}, {"x": float("nan")}, [1, 2], "x")]
JUNK += [{"resources": amounts} for amounts in ({"A": "x"}, {"A": -1.0}, {"A": float("nan")}, [1], {5: 1.0})]
JUNK += [{"status": "banana"}, {"status": None}, {"nanny": "junk"}, {"nanny": [1]}, {"versions": 5}, {"extra": "x"}]
JUNK += [{"services": 5}, {"pid": "x"}, {"server_id": [1]}, {"local_directory": 5}, {"scattered": 5}, {"lifetime": "x"}]
JUNK += [{"hostname": "x" * 5_000_000}]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: str(junk)[:40])
async def test_a_registration_that_makes_no_sense(junk: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """It is refused in one line, and nothing is left behind."""
    caplog.set_level(logging.WARNING, "distributed")
    async with running() as scheduler:
        comm = await connect(scheduler.address)
        registration = {"address": "tcp://127.0.0.1:1", "nthreads": 1, **junk}
        reply = await send_recv(comm, op="register-worker", **registration)
        assert reply["status"] == "error"
        assert len(reply["message"]) < 500
        assert [len(record.getMessage()) < 600 and not record.exc_info for record in caplog.records] == [True]
        with pytest.raises(CommClosedError):
            await comm.read()
        assert not scheduler.workers
        assert not scheduler.aliases
        assert not scheduler.host_info
        assert not scheduler.stream_comms
        await comm.close()


@pytest.mark.parametrize("name", [None, "", 5, [1, [2]], {"a": 1}, "x" * 5_000_000])
async def test_a_client_s_name_that_makes_no_sense(name: Any) -> None:
    async with running() as scheduler:
        comm = await connect(scheduler.address)
        assert (await send_recv(comm, op="register-client", client=name))["status"] == "error"
        assert not scheduler.clients
        await comm.close()


@pytest.mark.parametrize("name", ["w", 5, 0, 1.5, ("a", 1), b"x"])
async def test_names_that_workers_may_have(name: Any) -> None:
    async with running() as scheduler:
        await join_worker(scheduler, name=name, nthreads=0, memory_limit=None, resources={"A": float("inf")})
        assert scheduler.aliases == {name: "tcp://127.0.0.1:1"}


async def test_where_a_scheduler_says_that_it_is() -> None:
    async with running(contact_address="localhost") as scheduler:
        assert scheduler.address == f"tcp://localhost:{scheduler.server.port}"
        async with Worker(scheduler.address, host="127.0.0.1", contact_address="localhost", name="w") as worker:
            assert worker.address == f"tcp://localhost:{worker.server.port}"
            assert list(scheduler.workers) == [worker.address]
            assert (await scheduler.broadcast(msg={"op": "echo", "data": 1}))[worker.address] == 1


async def test_a_scheduler_that_listens_at_several_addresses(unused_tcp_port_factory: Any) -> None:
    ports = [unused_tcp_port_factory(), unused_tcp_port_factory()]
    async with Scheduler(host="127.0.0.1", protocol=["tcp", "tcp"], port=ports) as scheduler:
        addresses = [f"tcp://127.0.0.1:{port}" for port in ports]
        assert [listener.contact_address for listener in scheduler.listeners] == addresses
        assert scheduler.address == addresses[0]
        for address in addresses:
            async with rpc(address) as proxy:
                assert await proxy.echo(data=1) == 1


async def test_a_scheduler_for_its_process_and_for_others() -> None:
    async with Scheduler(host="127.0.0.1", protocol=["inproc", "tcp"]) as scheduler:
        schemes = [listener.contact_address.partition(":")[0] for listener in scheduler.listeners]
        assert schemes == ["inproc", "tcp"]
        over_tcp = Worker(scheduler.listeners[1].contact_address, nthreads=1, host="127.0.0.1")
        async with over_tcp, Worker(scheduler.address, nthreads=1):
            assert sorted(address.partition(":")[0] for address in scheduler.workers) == schemes


@pytest.mark.parametrize("host", ["", "0.0.0.0"])
async def test_a_worker_on_all_interfaces_is_told_by_the_address_that_faces_the_scheduler(host: str) -> None:
    async with running() as scheduler, Worker(scheduler.address, nthreads=1, host=host) as worker:
        assert worker.listen_address == f"tcp://0.0.0.0:{worker.port}"
        assert worker.address == f"tcp://127.0.0.1:{worker.port}"


async def test_a_client_that_goes_on_sending_nonsense_is_disconnected(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise ValueError("this makes no sense")

    caplog.set_level(logging.WARNING, "distributed")
    monkeypatch.setitem(CLIENT_MESSAGES, ReleaseKeys, fail)
    async with running() as scheduler:
        bad, good = await join_client(scheduler, "bad"), await join_client(scheduler, "good")
        bad.stream.send_all([ReleaseKeys([f"a{n}"]) for n in range(1000)])
        async with asyncio.timeout(10):
            await bad.closed.wait()
        assert len(caplog.records) <= 4
        assert "Client bad is disconnected" in caplog.text
        good.stream.send(SubmitGraph(1, [b"f"], ["x"], [b"a"]))
        worker = await join_worker(scheduler)
        assert (await worker.next(ComputeTask)).key == "x"


async def test_a_client_hears_of_versions_that_differ() -> None:
    async with running() as scheduler, Worker(scheduler.address, nthreads=1, host="127.0.0.1") as worker:
        scheduler.workers[worker.address].versions["packages"]["dask"] = "0.0.0"
        with pytest.warns(VersionMismatchWarning, match=r"dask .*0\.0\.0"):
            async with Client(scheduler.address, asynchronous=True):
                pass
        scheduler.workers[worker.address].versions["packages"]["dask"] = dask.__version__
        async with Client(scheduler.address, asynchronous=True) as client:  # warnings are errors here
            worker.server.handlers["versions"] = lambda packages=None: {"packages": {"dask": "0.0.0"}}
            with pytest.warns(UserWarning, match=r"dask .*0\.0\.0"):
                await client.get_versions(check=True)
