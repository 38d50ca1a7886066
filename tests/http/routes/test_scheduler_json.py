"""`/json/...`: the keys that are recorded of the peer, and valid JSON whatever users name things."""

from __future__ import annotations

import json
from typing import Any

from headrace import Client, Event, Worker
from headrace.http.json_values import json_bytes, json_value
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.gate import Gate
from tests.http.http_calls import ask

#: The keys of `/json/counts.json`.
COUNTS = {
    "bytes",
    "clients",
    "cores",
    "erred",
    "hosts",
    "idle",
    "memory",
    "processing",
    "released",
    "saturated",
    "tasks",
    "unrunnable",
    "waiting",
    "waiting_data",
    "workers",
    "desired_workers",
}
IDENTITY = {
    "type",
    "id",
    "address",
    "services",
    "started",
    "n_workers",
    "total_threads",
    "total_memory",
    "security",
    "workers",
}
WORKER = {
    "type",
    "id",
    "host",
    "resources",
    "local_directory",
    "name",
    "nthreads",
    "memory_limit",
    "last_seen",
    "services",
    "metrics",
    "status",
    "nanny",
}
#: Metrics of a worker, with the keys that those have which are objects.
METRICS: dict[str, list[str]] = {
    "task_counts": [],
    "bandwidth": ["total", "workers", "types"],
    "digests_total_since_heartbeat": [],
    "managed_bytes": [],
    "spilled_bytes": ["memory", "disk"],
    "transfer": [
        "incoming_bytes",
        "incoming_count",
        "incoming_count_total",
        "outgoing_bytes",
        "outgoing_count",
        "outgoing_count_total",
    ],
    "event_loop_interval": [],
    "cpu": [],
    "memory": [],
    "time": [],
    "host_net_io": ["read_bps", "write_bps"],
    "host_disk_io": ["read_bps", "write_bps"],
    "num_fds": [],
}


def refuse(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


async def get(scheduler: Any, path: str) -> Any:
    answer = await ask(scheduler.http_server.port, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    return json.loads(answer.body, parse_constant=refuse)


def fail() -> None:
    raise ValueError("x")


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)] * 2)
async def test_counts(c: Client, s: Any, a: Worker, b: Worker) -> None:
    counts = await get(s, "/json/counts.json")
    assert set(counts) == COUNTS
    assert counts == {**dict.fromkeys(COUNTS, 0), "clients": 1, "cores": 2, "hosts": 1, "idle": 2, "workers": 2}
    value = c.submit(bytes, 1000)
    await value
    await c.replicate([value])
    failed = c.submit(fail)
    await failed.exception()
    nowhere = c.submit(int, 1, resources={"X": 1})
    gate = await Event("go", client=c)
    running = [c.submit(_wait, number) for number in range(2)]
    after = c.submit(len, running)
    await async_poll_for(lambda: sum(len(worker.processing) for worker in s.workers.values()) == 2, 10)
    await async_poll_for(lambda: bool(s.unrunnable) and len(s.tasks) == 6, 10)
    counts = await get(s, "/json/counts.json")
    known = {"erred": 1, "memory": 2, "processing": 2, "unrunnable": 1, "tasks": 6, "waiting": 1, "released": 0}
    assert {name: counts[name] for name in known} == known
    assert counts["bytes"] == sum(worker.nbytes for worker in s.workers.values()) >= 2000
    assert counts["desired_workers"] == s.adaptive_target()
    await gate.set()
    await after
    del nowhere


def _wait(number: int) -> int:
    Event("go").wait()
    return number


@gen_cluster(nthreads=[("127.0.0.1", 2)], worker_kwargs={"resources": {"GPU": 2}})
async def test_identity_has_all_that_readers_count_on(s: Any, a: Worker) -> None:
    await async_poll_for(lambda: bool(s.workers[a.address].metrics), 5)
    identity = await get(s, "/json/identity.json")
    assert set(identity) == IDENTITY
    assert identity["services"] == {"dashboard": s.http_server.port}
    worker = identity["workers"][a.address]
    assert set(worker) == WORKER
    assert worker["resources"] == {"GPU": 2}
    for name, inner in METRICS.items():
        found = worker["metrics"][name]
        assert set(inner) <= set(found if inner else ()), name
    assert (worker["status"], worker["nthreads"], worker["metrics"]["memory"] > 0) == ("running", 2, True)


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_identity_is_json_whatever_users_name_things(s: Any, a: Worker) -> None:
    record = s.workers[a.address]
    record.metrics = {"nan": float("nan"), "inf": float("-inf"), ("a", 1): {2, 3}, "odd": object(), "bytes": b"\xff"}
    name, record.name = record.name, ("grüße", 7)
    record.resources = {"<b>": float("inf")}
    identity = await get(s, "/json/identity.json")
    record.name, record.resources = name, {}
    worker = identity["workers"][a.address]
    assert worker["name"] == ["grüße", 7]
    assert worker["resources"] == {"<b>": None}
    assert worker["metrics"]["nan"] is worker["metrics"]["inf"] is None
    assert worker["metrics"]["('a', 1)"] == [2, 3]
    assert set(worker["metrics"]["transfer"]) == set(METRICS["transfer"])
    page = await ask(s.http_server.port, "/json/index.html")
    assert (page.status, "counts.json" in page.text, "identity.json" in page.text) == (200, True, True)


def test_values_that_fail_when_they_are_looked_at() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert "Bad" in json_value({"x": [Bad()]})["x"][0]
    assert json.loads(json_bytes({Gate: "\ud800"}))  # keys of any type, text that is no Unicode
    deep: Any = []
    for _ in range(1000):
        deep = [deep]
    assert json_bytes(deep)
