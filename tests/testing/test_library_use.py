"""`distributed.utils_test` as the authors of libraries use it: workers that wait, stories, certificates, guards."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
import time
from typing import Any

import pytest
from dask.sizeof import sizeof

from distributed import Client, Nanny, Scheduler, Worker
from distributed.utils_test import (
    NO_AMM,
    BarrierGetData,
    BlockedExecute,
    BlockedGatherDep,
    BlockedGetData,
    BlockedInstantiateNanny,
    BlockedKillNanny,
    BrokenComm,
    LockedComm,
    NoSchedulerDelayWorker,
    SizeOf,
    TaskStateMetadataPlugin,
    assert_can_connect,
    assert_can_connect_from_everywhere_4,
    assert_can_connect_locally_4,
    assert_cannot_connect,
    assert_story,
    assert_valid_story,
    async_poll_for,
    bump_rlimit,
    captured_context_meter,
    check_instances,
    check_invalid_task_states,
    check_invalid_worker_transitions,
    check_worker_fail_hard,
    cleanup_global_workers,
    config_for_cluster_tests,
    ensure_no_new_clients,
    fetch_metrics_body,
    freeze_batched_send,
    freeze_data_fetching,
    gen_cluster,
    gen_nbytes,
    gen_test,
    get_cert,
    get_client_ssl_context,
    get_dashboard_port,
    get_server_ssl_context,
    has_pytestmark,
    inc,
    name_of_test,  # noqa: F401
    nodebug,
    nodebug_setup_module,
    nodebug_teardown_module,
    padded_time,
    raises_with_cause,
    relative_frame_linenumber,
    requires_ipv6,
    run_nanny,
    run_scheduler,
    run_worker,
    save_sys_modules,
    slowinc,
    term_or_kill_active_children,
    tls_cluster_context,
    tls_only_security,
    tls_security,
    validate_state,
    wait_active_children,
    wait_for_state,
    wait_for_stimulus,
    ws,  # noqa: F401
    ws_with_running_task,  # noqa: F401
)
from headrace.exceptions import CommClosedError
from headrace.worker.state.events import ExecuteDone


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_transfer_is_held_where_it_begins(c: Any, s: Any, a: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    async with BlockedGatherDep(s.address, validate=True, host="127.0.0.1") as b:
        y = c.submit(inc, x, key="y", workers=[b.address])
        await b.in_gather_dep.wait()
        await wait_for_state("x", "flight", b)
        assert b.state.tasks["y"].state == "waiting"
        b.block_gather_dep.set()
        assert await y == 3
        assert_story(b.story("x"), [("x", "fetch", "flight", "flight", {}), ("x", "flight", "memory", "memory", {})])
        assert isinstance(await wait_for_stimulus(ExecuteDone, b, key="y"), ExecuteDone)
        validate_state(s, a, b)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], Worker=BlockedGetData)
async def test_a_transfer_is_held_where_it_is_answered(c: Any, s: Any, a: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    async with Worker(s.address, host="127.0.0.1") as b:
        y = c.submit(inc, x, key="y", workers=[b.address])
        await a.in_get_data.wait()
        await wait_for_state("x", "flight", b)
        a.block_get_data.set()
        assert await y == 3


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1, {"barrier_count": 2})], Worker=BarrierGetData)
async def test_answers_wait_for_each_other(c: Any, s: Any, a: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    async with Worker(s.address, host="127.0.0.1") as b, NoSchedulerDelayWorker(s.address, host="127.0.0.1") as d:
        first = c.submit(inc, x, key="y", workers=[b.address])
        await wait_for_state("x", "flight", b)
        second = c.submit(inc, x, key="z", workers=[d.address])
        assert await c.gather([first, second]) == [3, 3]


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], Worker=BlockedExecute)
async def test_a_task_is_held_before_it_begins_and_after_its_end(c: Any, s: Any, a: Any) -> None:
    x = c.submit(inc, 1, key="x")
    await a.in_execute.wait()
    assert a.state.tasks["x"].state == "executing"
    assert not a.in_execute_exit.is_set()
    a.block_execute.set()
    await a.in_execute_exit.wait()
    assert a.state.tasks["x"].state == "executing"
    a.block_execute_exit.set()
    assert await x == 2
    assert await c.submit(inc, x) == 3  # it goes on


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], config=NO_AMM)
async def test_the_first_of_several_events_is_found(c: Any, s: Any, a: Any) -> None:
    assert not s.extensions["amm"].running
    for key in "xy":
        await c.submit(inc, 1, key=key)
    assert (await wait_for_stimulus(ExecuteDone, a)).key == "x"
    assert (await wait_for_stimulus(ExecuteDone, a, key="y")).key == "y"


@gen_cluster(client=True)
async def test_fetching_can_be_frozen(c: Any, s: Any, a: Any, b: Any) -> None:
    x = c.submit(inc, 1, key="x", workers=[a.address])
    await x
    with freeze_data_fetching(b, jump_start=True):
        y = c.submit(inc, x, key="y", workers=[b.address])
        await wait_for_state("x", "fetch", b)
    assert await y == 3


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_messages_can_be_frozen(c: Any, s: Any, a: Any) -> None:
    with freeze_batched_send(a.batched_stream) as locked:
        x = c.submit(inc, 1, key="x")
        await wait_for_state("x", "memory", a)
        peer, messages = await locked.write_queue.get()
        assert peer == locked.peer_address
        assert messages
        assert s.tasks["x"].state == "processing"
    assert await x == 2


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)], worker_kwargs={"plugins": [TaskStateMetadataPlugin()]})
async def test_times_of_tasks_are_noted(c: Any, s: Any, a: Any) -> None:
    before = await padded_time()
    x = c.submit(inc, 1, key="x")
    await x
    noted = a.state.tasks["x"].metadata
    assert before < noted["start_time"] <= noted["stop_time"] < await padded_time()


@gen_test()
async def test_nannies_are_held() -> None:
    async with Scheduler(host="127.0.0.1", port=0) as s:
        starting = BlockedInstantiateNanny(s.address, nthreads=1, host="127.0.0.1")
        task = asyncio.ensure_future(starting.start())
        await starting.in_instantiate.wait()
        assert not s.workers
        starting.wait_instantiate.set()
        await task
        assert len(s.workers) == 1
        await starting.close()
        ending = await BlockedKillNanny(s.address, nthreads=1, host="127.0.0.1")
        closing = asyncio.ensure_future(ending.close())
        await ending.in_kill.wait()
        assert ending.is_alive()
        ending.wait_kill.set()
        await closing
        assert isinstance(ending, Nanny)


async def test_a_broken_comm_and_a_locked_one() -> None:
    broken = BrokenComm()
    assert broken.closed()
    with pytest.raises(CommClosedError):
        await broken.read()
    with pytest.raises(CommClosedError):
        await broken.write("x")
    await broken.close()

    class Echo(BrokenComm):
        async def read(self, deserializers: Any = None) -> Any:  # type: ignore[override]
            return "answer"

        async def write(self, msg: Any, serializers: Any = None, on_error: Any = None) -> None:  # type: ignore[override]
            self.written = msg

    inner = Echo()
    queue_: asyncio.Queue[Any] = asyncio.Queue()
    locked = LockedComm(inner, asyncio.Event(), asyncio.Queue(), asyncio.Event(), queue_)
    writing = asyncio.ensure_future(locked.write("question"))
    assert await queue_.get() == ("", "question")
    assert not hasattr(inner, "written")
    locked.write_event.set()  # type: ignore[union-attr]
    await writing
    assert inner.written == "question"
    locked.read_event.set()  # type: ignore[union-attr]
    assert await locked.read() == "answer"


def test_stories() -> None:
    now = time.time()
    story = [("x", "released", "waiting", "a", now - 1), ("x", "waiting", "processing", "b", now)]
    assert_story(story, [("x", lambda state: state == "released", "waiting")])
    assert_story(story, [("x", "waiting", "processing", "b", now)])
    assert_story(story, [line[:3] for line in story], strict=True)
    for expected, strict in [([story[1], story[0]], False), ([story[1]], True), ([story[0]], True)]:
        with pytest.raises(AssertionError, match="assert_story"):
            assert_story(story, expected, strict=strict)
    assert_valid_story(story[::-1], ordered_timestamps=False)
    with pytest.raises(AssertionError, match="Malformed"):
        assert_valid_story(story[::-1])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ((), "short"),
        (("s", 0.0), "short"),
        (["x", "s", 0.0], "tuple"),
        (("x", 1, 0.0), "no stimulus"),
        (("x", "", 0.0), "empty"),
        (("x", "s", "now"), "no time"),
        (("x", "s", 10.0), "not come yet"),
        (("x", "s", -3700.0), "before"),
    ],
)
def test_lines_that_are_none_of_a_story(line: Any, why: str) -> None:
    if line and isinstance(line[-1], float):
        line = type(line)((*line[:-1], time.time() + line[-1]))
    with pytest.raises(AssertionError, match=f"Malformed.*{why}"):
        assert_valid_story([line])


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_what_workers_reported_is_looked_at(s: Any, a: Any) -> None:
    for check, topic in [
        (check_invalid_worker_transitions, "invalid-worker-transition"),
        (check_invalid_task_states, "invalid-worker-task-state"),
        (check_worker_fail_hard, "worker-fail-hard"),
    ]:
        check(s)
        a.log_event(topic, {"key": "x"})
        await async_poll_for(lambda topic=topic: bool(s.get_events(topic)), timeout=5)  # type: ignore[misc]
        with pytest.raises(AssertionError, match="reported"):
            check(s)
        s.events.clear()


def test_measurements_are_captured() -> None:
    from distributed.metrics import context_meter

    with captured_context_meter() as sums:
        context_meter.digest_metric(("read", "disk"), 5, "bytes")
        context_meter.digest_metric("wait", 1, "seconds")
        context_meter.digest_metric("wait", 1, "seconds")
    assert sums == {("read", "disk", "bytes"): 5, ("wait", "seconds"): 2}


def test_sizes() -> None:
    assert sizeof(SizeOf(1000)) == sizeof(gen_nbytes(1000)) == 1000
    with pytest.raises(ValueError, match="too small"):
        SizeOf(1)
    with pytest.raises(TypeError, match="integer"):
        SizeOf(1.5)  # type: ignore[arg-type]


@gen_cluster(nthreads=[], scheduler_kwargs={"dashboard_address": ":0"})
async def test_reaching(s: Any) -> None:
    await assert_can_connect(s.address)
    await assert_can_connect_locally_4(s.port)
    with pytest.raises(pytest.fail.Exception):
        await assert_cannot_connect(s.address)
    unused = 1
    await assert_cannot_connect(f"tcp://127.0.0.1:{unused}")
    with pytest.raises(OSError, match=r"\S"):
        await assert_can_connect_from_everywhere_4(unused, timeout=0.1)
    with pytest.raises(OSError, match=r"\S"):
        await fetch_metrics_body(unused)


def test_certificates(tmp_path: Any) -> None:
    assert get_cert("tls-cert.pem").endswith(".pem")
    for given in (tls_security(), tls_only_security()):  # the same certificates: who asks twice must be trusted
        assert given.tls_ca_file == get_cert("tls-ca-cert.pem")
        assert given.require_encryption
    with pytest.raises(FileNotFoundError, match=r"tls-cert\.pem"):
        get_cert("other.pem")
    assert get_server_ssl_context().check_hostname is False
    assert get_client_ssl_context().check_hostname is False
    with tls_cluster_context(nworkers=1) as (scheduler, _):
        assert scheduler["address"].startswith("tls://")
        with Client(scheduler["address"], security=tls_only_security()) as client:
            assert client.submit(inc, 1).result(10) == 2
            with pytest.raises(ValueError, match="dashboard"):
                get_dashboard_port(client)


@pytest.mark.timeout(5)
def marked() -> None: ...


def test_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_pytestmark(marked, "timeout")
    assert not has_pytestmark(test_guards, "timeout")
    with raises_with_cause(ValueError, "outer", KeyError, "inner"):
        raise ValueError("the outer one") from KeyError("the inner one")
    with pytest.raises(AssertionError), raises_with_cause(ValueError, None, TypeError, None):
        raise ValueError from KeyError("x")
    assert relative_frame_linenumber(sys._getframe()) > 3
    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")

    @nodebug
    def seen() -> Any:
        import os

        return os.environ.get("PYTHONASYNCIODEBUG")

    assert seen() is None
    module = type(sys)("module")
    nodebug_setup_module(module)
    nodebug_teardown_module(module)
    before = sys.path[:]
    with save_sys_modules():
        sys.path.append("/nowhere")
        sys.modules["nowhere_to_be_found"] = module
    assert sys.path == before
    assert "nowhere_to_be_found" not in sys.modules
    with config_for_cluster_tests(some_setting=5):
        import dask.config

        assert dask.config.get("some_setting") == 5
        assert dask.config.get("distributed.scheduler.validate") is True
    assert has_pytestmark(requires_ipv6(seen), "skipif")
    if sys.platform != "win32":
        import resource

        bump_rlimit(resource.RLIMIT_NOFILE, 10)


async def test_what_stays_open_is_found() -> None:
    scheduler = Scheduler(host="127.0.0.1", port=0)
    with pytest.raises(AssertionError, match="still open"), check_instances():
        await scheduler
    with pytest.raises(AssertionError, match="new clients"), ensure_no_new_clients():
        client = await Client(scheduler.address, asynchronous=True, set_as_default=False)
    await client.close()
    worker = await Worker(scheduler.address, host="127.0.0.1")
    await cleanup_global_workers()
    assert worker.status.name == "closed"
    await scheduler.close()


def test_the_fixtures_of_a_worker_state(ws: Any, ws_with_running_task: Any, name_of_test: str) -> None:  # noqa: F811
    assert ws is ws_with_running_task
    assert ws.tasks["x"].state in ("executing", "long-running")
    assert "test_the_fixtures_of_a_worker_state" in name_of_test


def test_servers_in_processes_of_ones_own() -> None:
    context = multiprocessing.get_context("spawn")
    addresses: Any = context.Queue()
    workers: Any = context.Queue()
    scheduler = context.Process(target=run_scheduler, args=(addresses, 3, {}), kwargs={"validate": True})
    worker = context.Process(target=run_worker, args=(workers, addresses, {}), kwargs={"nthreads": 1})
    nanny = context.Process(target=run_nanny, args=(workers, addresses, {}), kwargs={"nthreads": 1})
    processes = [scheduler, worker, nanny]
    for process in processes:
        process.start()
    try:
        with Client(addresses.get(timeout=30), timeout=30) as client:
            found = {workers.get(timeout=30), workers.get(timeout=30)}
            assert set(client.scheduler_info()["workers"]) == found
            assert client.submit(slowinc, 1, delay=0).result(30) == 2
            assert wait_active_children(timeout=0)
    finally:
        term_or_kill_active_children(timeout=10)
    assert not multiprocessing.active_children()
