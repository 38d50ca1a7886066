"""What workers log: events that name the worker, clients in tasks, and the worker's own life."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Client, Scheduler, Worker, get_client, get_worker, wait, worker_client
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.gate import Gate, hold

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


def logged(scheduler: Scheduler, topic: str) -> list[Any]:
    return [event for _, event in scheduler.get_events(topic)]


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_dictionaries_name_the_worker(client: Client, s: Scheduler, a: Worker) -> None:
    def tell() -> None:
        worker = get_worker()
        worker.log_event(["t", "u"], {"a": 1, "worker": "mine"})
        worker.log_event("t", "text")
        worker.log_event(worker.address, {"a": 2})

    await client.submit(tell)
    await async_poll_for(lambda: {"a": 2} in logged(s, a.address), timeout=5)
    assert logged(s, "t") == [{"a": 1, "worker": a.address}, "text"]
    assert [event for _, event in await client.get_events("u")] == [{"a": 1, "worker": a.address}]
    assert await client.get_events("nothing") == ()


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_clients_in_tasks_are_logged(client: Client, s: Scheduler, a: Worker) -> None:
    def ask() -> None:
        with worker_client(timeout="7s"):
            get_client(timeout=8)

    await client.submit(ask)
    await async_poll_for(lambda: len(logged(s, "worker-get-client")) == 2, timeout=5)
    event = {"client": client.id, "worker": a.address}
    assert logged(s, "worker-client") == [{**event, "timeout": 7}]
    assert logged(s, "worker-get-client") == [{**event, "timeout": 7}, {**event, "timeout": 8}]


@gen_cluster(client=True)
async def test_the_life_of_a_worker(client: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    await a.close(reason="enough")
    assert {"action": "closing-worker", "reason": "enough"} in logged(s, a.address)
    actions = [event["action"] for event in logged(s, a.address)]
    assert actions[0] == "add-worker"
    assert actions[-1] == "remove-worker"
    await s.retire_workers([b.address])
    actions = [event["action"] for event in logged(s, b.address)]
    assert actions[:2] == ["add-worker", "worker-status-change"]
    assert actions[-4:] == ["worker-status-change", "remove-worker", "retired", "closing-worker"]
    event = {"action": "worker-status-change", "prev-status": "running", "status": "closing_gracefully"}
    assert logged(s, b.address)[2].items() >= event.items()
    retired = logged(s, "all")[-1]
    assert (retired["action"], retired["retired"], retired["could-not-retire"]) == ("retire-workers", [b.address], [])
    assert retired["stimulus_id"] == logged(s, b.address)[-3]["stimulus_id"] == logged(s, b.address)[-2]["stimulus_id"]


@gen_cluster(client=True)
async def test_what_a_worker_leaves_behind(client: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    Gate.close()
    computed = client.submit(abs, -1, key="computed", workers=[a.address], allow_other_workers=True)
    await wait(computed)
    (scattered,) = await client.scatter([1], workers=[a.address])
    running = client.submit(hold, key=b"running", workers=[a.address], allow_other_workers=True)
    await async_poll_for(Gate.entered.is_set, timeout=15)
    await s.remove_worker(a.address, stimulus_id="me")
    Gate.opened.set()
    gone = {
        "action": "remove-worker",
        "processing-tasks": {b"running"},
        "lost-computed-tasks": {"computed"},
        "lost-scattered-tasks": {scattered.key},
        "stimulus_id": "me",
        "expected": False,
        "reason": "removed",
    }
    assert gone in logged(s, a.address)
    assert {**gone, "worker": a.address} in [event for _, event in await client.get_events("all")], "sets travel"
    count = {"action": "scatter", "client": client.id, "count": 1}
    assert count in logged(s, "all")
    assert count in logged(s, client.id)
    del running


@gen_cluster(client=True)
async def test_restarts(client: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    await s.restart_workers([a.address], client=client.id, wait_for_workers=False)
    event = {"action": "restart-workers", "workers": [a.address], "client": client.id}
    assert event in logged(s, "all")
    assert {"action": "closing-worker", "reason": "restart of a worker without nanny"} in logged(s, a.address)


@gen_cluster(client=True, nthreads=[])
async def test_a_subscription_that_is_not_awaited(client: Client, s: Scheduler) -> None:
    heard: list[Any] = []

    async def handler(event: tuple[float, Any]) -> None:
        heard.append(event[1])

    client.subscribe_topic("news", handler)
    await async_poll_for(lambda: "news" in s.shell.event_subscribers, timeout=5)
    s.log_event("news", 1)
    await async_poll_for(lambda: heard == [1], timeout=5)
    client.unsubscribe_topic("news")
    await async_poll_for(lambda: "news" not in s.shell.event_subscribers, timeout=5)
