"""The hooks of users' plugins."""

from __future__ import annotations

import asyncio
from typing import Any

import dask
import pytest

from headrace import Client, Nanny, NannyPlugin, Scheduler, SchedulerPlugin, Worker, WorkerPlugin
from headrace.testing.clusters import gen_cluster, gen_test
from headrace.testing.helpers.polling import async_poll_for


def inc(x: int) -> int:
    return x + 1


def fail(x: int) -> int:
    raise ValueError(x)


class Recorder(SchedulerPlugin):
    """Notes what it is told."""

    name = "recorder"

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.transitions: list[tuple[Any, str, str, dict[str, Any]]] = []
        self.graphs: list[dict[str, Any]] = []

    async def start(self, scheduler: Scheduler) -> None:
        self.heard.append(("start",))

    async def before_close(self) -> None:
        self.heard.append(("before_close",))

    async def close(self) -> None:
        self.heard.append(("close",))

    def update_graph(self, scheduler: Scheduler, **kwargs: Any) -> None:
        assert not self.transitions or self.transitions[-1][0] not in kwargs["tasks"]
        self.graphs.append(kwargs)

    def restart(self, scheduler: Scheduler) -> None:
        self.heard.append(("restart",))

    def transition(self, key: Any, start: str, finish: str, *args: Any, stimulus_id: str, **kwargs: Any) -> None:
        self.transitions.append((key, start, finish, {**kwargs, "stimulus_id": stimulus_id}))

    async def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.heard.append(("add_worker", worker))

    async def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:  # type: ignore[override]
        self.heard.append(("remove_worker", worker))

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        self.heard.append(("add_client", client))

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        self.heard.append(("remove_client", client))

    def log_event(self, topic: str, msg: Any) -> None:
        if topic == "mine":
            self.heard.append(("log_event", msg))

    def valid_workers_downscaling(self, scheduler: Scheduler, workers: list[Any]) -> list[Any]:
        return [worker for worker in workers if worker.name != "keep"]


@gen_test()
async def test_a_scheduler_plugin_hears_of_everything() -> None:
    plugin = Recorder()
    async with Scheduler(host="127.0.0.1", port=0, plugins=[plugin]) as scheduler:
        async with Worker(scheduler.address, name="keep") as worker:
            async with Client(scheduler.address, asynchronous=True) as client:
                scheduler.log_event("mine", 1)
                with dask.annotate(priority=3, mood="good"):
                    assert await client.submit(inc, 1, key=("tuple", 0), workers="keep") == 2
                assert scheduler.workers_to_close(n=1) == []
                await client.restart(wait_for_workers=False)
            await async_poll_for(lambda: ("remove_client", client.id) in plugin.heard, timeout=10)
        await async_poll_for(lambda: ("remove_worker", worker.address) in plugin.heard, timeout=10)
    assert [line for line in plugin.heard if line[0] != "remove_client"] == [
        ("start",),
        ("add_worker", worker.address),
        ("add_client", client.id),
        ("log_event", 1),
        ("restart",),
        ("remove_worker", worker.address),
        ("before_close",),
        ("close",),
    ]
    (graph,) = plugin.graphs
    assert graph["client"] == client.id
    assert graph["keys"] == {("tuple", 0)}
    assert graph["tasks"] == [("tuple", 0)]
    assert graph["annotations"] == {
        "priority": {("tuple", 0): 3},
        "mood": {("tuple", 0): "good"},
        "workers": {("tuple", 0): ["keep"]},
    }
    assert graph["priority"][("tuple", 0)][0] == -3
    assert graph["stimulus_id"]
    states = [(start, finish) for key, start, finish, _ in plugin.transitions if key == ("tuple", 0)]
    assert states[:3] == [("released", "waiting"), ("waiting", "processing"), ("processing", "memory")]
    known = next(kwargs for _, _, finish, kwargs in plugin.transitions if finish == "memory")
    assert known["worker"] == worker.address
    assert known["nbytes"] > 0
    assert known["typename"] == "int"
    (step,) = known["startstops"]
    assert step["action"] == "compute"
    assert step["stop"] >= step["start"] > 0


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_what_is_known_of_failures(c: Client, s: Scheduler, a: Worker) -> None:
    plugin = Recorder()
    s.add_plugin(plugin)
    with pytest.raises(ValueError, match="5"):
        await c.submit(fail, 5, key="f")
    known = next(kwargs for key, _, finish, kwargs in plugin.transitions if (key, finish) == ("f", "erred"))
    assert known["worker"] == a.address
    assert "ValueError" in known["exception_text"]
    assert known["startstops"]


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_what_no_plugin_overrides_costs_nothing(c: Client, s: Scheduler, a: Worker) -> None:
    s.add_plugin(SchedulerPlugin(), name="bare")
    a.plugins["bare"] = WorkerPlugin()
    a.watch_transitions()
    assert s.state.observers == ()
    assert s.state.graph_observer is None
    assert not a.core.watched
    assert await c.submit(inc, 1) == 2
    assert s.state.report is None
    s.add_plugin(Recorder())
    assert s.state.observers
    s.remove_plugin("recorder")
    assert s.state.observers == ()
    assert s.state.graph_observer is None


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_plugin_that_fails_does_no_harm(c: Client, s: Scheduler, a: Worker, caplog: Any) -> None:
    class Broken(SchedulerPlugin):
        def transition(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError("broken transition")

        def update_graph(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError("broken update_graph")

        async def add_worker(self, **kwargs: Any) -> None:  # type: ignore[override]
            raise ValueError("broken add_worker")

    s.add_plugin(Broken())
    assert await c.submit(inc, 1) == 2
    async with Worker(s.address, name="later"):
        await async_poll_for(lambda: "broken add_worker" in caplog.text, timeout=10)
    assert "broken transition" in caplog.text
    assert "broken update_graph" in caplog.text


class Idempotent(WorkerPlugin):
    name = "once"
    idempotent = True

    def __init__(self, number: int) -> None:
        self.number = number


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_registering_again(c: Client, s: Scheduler, a: Worker) -> None:
    await c.register_plugin(Idempotent(1))
    await c.register_plugin(Idempotent(2))
    assert a.plugins["once"].number == 1
    await c.unregister_worker_plugin("once")
    assert "once" not in a.plugins
    with pytest.raises(ValueError, match="once"):
        await c.unregister_worker_plugin("once")
    await c.register_plugin(Recorder())
    first = s.plugins["recorder"]
    with pytest.warns(UserWarning, match="named 'recorder' was there already"):
        await c.register_plugin(Recorder())
    assert s.plugins["recorder"] is not first
    assert first.heard[-1] == ("close",)
    await c.unregister_scheduler_plugin("recorder")
    with pytest.raises(ValueError, match="recorder"):
        await c.unregister_scheduler_plugin("recorder")
    with pytest.raises(TypeError, match="inherit"):
        await c.register_plugin(object())


@gen_cluster(nthreads=[])
async def test_a_plugin_takes_the_place_of_one_of_its_name(s: Scheduler) -> None:
    first, second = Recorder(), Recorder()
    s.add_plugin(first)
    s.add_plugin(second, idempotent=True)
    assert s.plugins["recorder"] is first
    with pytest.warns(UserWarning, match="named 'recorder' was there already"):
        s.add_plugin(second)
    assert s.plugins["recorder"] is second
    s.log_event("mine", 1)
    assert (first.heard, second.heard) == ([], [("log_event", 1)])


class InAnyOrder(SchedulerPlugin):
    """Has the hooks' parameters in an order of its own, or takes some by `**kwargs`."""

    name = "in-any-order"

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def add_worker(self, worker: str, scheduler: Scheduler) -> None:  # type: ignore[override]
        self.heard.append(("add_worker", worker, scheduler))

    def remove_worker(self, *, worker: str, **kwargs: Any) -> None:  # type: ignore[override]
        self.heard.append(("remove_worker", worker, kwargs["scheduler"]))

    def add_client(self, client: str, scheduler: Scheduler) -> None:  # type: ignore[override]
        self.heard.append(("add_client", client, scheduler))

    def remove_client(self, **kwargs: Any) -> None:  # type: ignore[override]
        self.heard.append(("remove_client", kwargs["client"], kwargs["scheduler"]))


@gen_cluster(nthreads=[])
async def test_hooks_are_given_their_arguments_by_name(s: Scheduler) -> None:
    plugin = InAnyOrder()
    s.add_plugin(plugin)
    async with Worker(s.address) as worker:
        pass
    async with Client(s.address, asynchronous=True) as client:
        pass
    await async_poll_for(lambda: len(plugin.heard) == 4, timeout=10)
    assert sorted(plugin.heard[:2], key=lambda line: line[0]) == [
        ("add_worker", worker.address, s),
        ("remove_worker", worker.address, s),
    ]
    assert plugin.heard[2:] == [("add_client", client.id, s), ("remove_client", client.id, s)]


class OfAWorkerByName(WorkerPlugin):
    name = "by-name"

    def setup(self, *, worker: Worker) -> None:
        self.heard = [("setup", worker)]

    def teardown(self, *, worker: Worker) -> None:
        self.heard.append(("teardown", worker))


class OfANannyByName(NannyPlugin):
    name = "by-name"

    def setup(self, *, nanny: Nanny) -> None:
        self.heard = [("setup", nanny)]

    def teardown(self, *, nanny: Nanny) -> None:
        self.heard.append(("teardown", nanny))


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_hooks_of_workers_and_nannies_are_given_theirs_by_name(s: Scheduler, a: Worker) -> None:
    plugin = OfAWorkerByName()
    await a.plugin_add(plugin)
    await a.plugin_remove("by-name")
    assert plugin.heard == [("setup", a), ("teardown", a)]
    on_nanny, nanny = OfANannyByName(), Nanny(s.address)
    await nanny.plugin_add(on_nanny)
    await nanny.plugin_remove("by-name")
    assert on_nanny.heard == [("setup", nanny), ("teardown", nanny)]


class Patient(SchedulerPlugin):
    """Takes its time over workers, until the test opens the gate."""

    name = "patient"

    def __init__(self) -> None:
        self.began, self.gate = asyncio.Event(), asyncio.Event()
        self.removed: list[str] = []

    async def add_worker(self, scheduler: Scheduler, worker: str) -> None:  # type: ignore[override]
        assert worker in scheduler.workers
        self.began.set()
        await self.gate.wait()

    async def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.removed.append(worker)


@gen_cluster(client=True, nthreads=[])
async def test_a_worker_begins_when_coroutines_of_plugins_have_ended(c: Client, s: Scheduler) -> None:
    plugin = Patient()
    s.add_plugin(plugin)
    future = c.submit(inc, 1)
    worker = Worker(s.address)
    starting = asyncio.ensure_future(worker.start())
    await plugin.began.wait()
    await async_poll_for(lambda: s.tasks[future.key].state == "processing", timeout=10)
    assert not worker.is_running  # the task waits for it here
    assert not starting.done()
    plugin.gate.set()
    await starting
    assert await future == 2
    assert await s.remove_worker(worker.address) == "OK"
    assert plugin.removed == [worker.address]
    await worker.close()
    async with Worker(s.address) as other:
        await s.retire_workers([other.address])
        assert plugin.removed == [worker.address, other.address]


@gen_cluster(nthreads=[])
async def test_a_worker_that_is_removed_meanwhile_registers_again(s: Scheduler) -> None:
    plugin = Patient()
    s.add_plugin(plugin)
    worker = Worker(s.address)
    starting = asyncio.ensure_future(worker.start())
    await plugin.began.wait()
    record = s.workers[worker.address]
    await s.remove_worker(worker.address, close=False)
    assert not s.workers
    plugin.gate.set()
    await starting
    assert s.workers[worker.address] is not record
    await worker.close()


class NannyRecorder(NannyPlugin):
    name = "nanny-recorder"

    def setup(self, nanny: Nanny) -> None:
        nanny.env["SET_BY_PLUGIN"] = "1"
        nanny.pids_at_setup = nanny.pid  # type: ignore[attr-defined]

    async def teardown(self, nanny: Nanny) -> None:  # type: ignore[override]
        nanny.torn_down = True  # type: ignore[attr-defined]


@gen_cluster(client=True, nthreads=[])
async def test_a_nanny_that_comes_later_has_the_plugins_before_its_worker(c: Client, s: Scheduler) -> None:
    await c.register_plugin(NannyRecorder())
    nanny: Any
    async with Nanny(s.address, nthreads=1) as nanny:
        assert nanny.pids_at_setup is None
        assert "nanny-recorder" in nanny.plugins
        await c.unregister_worker_plugin("nanny-recorder", nanny=True)
        assert nanny.torn_down


class BrokenOnWorker(WorkerPlugin):
    name = "broken"

    def setup(self, worker: Worker) -> None:
        raise ZeroDivisionError("in setup")

    def teardown(self, worker: Worker) -> None:
        raise ZeroDivisionError("in teardown")


class BrokenOnNanny(NannyPlugin):
    name = "broken"

    def setup(self, nanny: Nanny) -> None:
        raise ZeroDivisionError("in setup")

    def teardown(self, nanny: Nanny) -> None:
        raise ZeroDivisionError("in teardown")


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_what_fails_in_adding_and_removing_a_plugin_is_the_answer(s: Scheduler, a: Worker) -> None:
    nanny = Nanny(s.address)
    places: list[tuple[Any, Any, Any]] = [
        (a, OfAWorkerByName(), BrokenOnWorker()),
        (nanny, OfANannyByName(), BrokenOnNanny()),
    ]
    for place, sound, broken in places:
        assert await place.plugin_add(sound) == {"status": "OK"}
        assert await place.plugin_add(sound, name="by-name") == {"status": "OK"}
        assert await place.plugin_remove("by-name") == {"status": "OK"}
        unknown = await place.plugin_remove("by-name")
        assert unknown["status"] == "error"
        assert "there is no" in unknown["exception_text"]
        for failed in (await place.plugin_add(broken), await place.plugin_remove("broken")):
            assert failed["status"] == "error"
            assert "ZeroDivisionError" in failed["exception_text"]
        assert "broken" not in place.plugins


class UntilTheEnd(SchedulerPlugin):
    """Remembers in which order it hears of the end."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def before_close(self) -> None:
        self.heard.append("before_close")

    async def close(self) -> None:
        self.heard.append("close")

    async def remove_worker(self, scheduler: Scheduler, worker: str, **kwargs: Any) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.heard.append(worker)

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        self.heard.append(client)


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1), ("127.0.0.1", 1)])
async def test_plugins_hear_of_workers_and_clients_that_the_closing_scheduler_leaves(
    c: Client, s: Scheduler, a: Worker, b: Worker
) -> None:
    plugin = UntilTheEnd()
    s.add_plugin(plugin)
    await s.close()
    assert plugin.heard[:2] == ["before_close", "close"]
    assert sorted(plugin.heard[2:]) == sorted([c.id, a.address, b.address])
