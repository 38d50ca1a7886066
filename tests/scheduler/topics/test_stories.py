"""A task's story, as the scheduler, the workers and the client tell it."""

from __future__ import annotations

import operator
import time
from collections.abc import Iterator
from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.scheduler import Transition
from headrace.testing.clusters import gen_cluster


@pytest.fixture(params=[True, False], ids=["processes", "threads"])
def client(request: Any) -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1, processes=request.param) as connected:
        yield connected


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True)
async def test_scheduler(c: Client, s: Scheduler, w: Worker) -> None:
    before = time.time()
    x = c.submit(abs, -1, key="x")
    await c.submit(operator.neg, x, key="y")
    story = s.story("x")
    assert [(line.start, line.finish) for line in story] == [
        ("released", "waiting"),
        ("waiting", "processing"),
        ("processing", "memory"),
    ]
    assert all(isinstance(line, Transition) and line.key == "x" and line.recommendations == {} for line in story)
    times = [line.timestamp for line in story]
    assert before - 1 < times[0]
    assert times == sorted(times)
    assert s.transition_story(s.tasks["x"]) == story
    assert {line.key for line in s.story("x", "y")} == {"x", "y"}
    assert {line.key for line in s.story(story[0].stimulus_id)} == {"x", "y"}, "by what brought it about"
    assert s.story("unknown") == []
    assert [line for line in s.transition_log if line.key == "x"] == story
    assert s.transition_counter >= len(s.transition_log)


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True)
async def test_worker(c: Client, s: Scheduler, w: Worker) -> None:
    before = time.time()
    await c.submit(abs, -1, key="x")
    story = w.story("x")
    assert [line[3] for line in story][-1] == "memory"
    for key, _, _, _, recommendations, stimulus, when in story:
        assert key == "x"
        assert recommendations == {}
        assert stimulus
        assert before - 1 < when < time.time() + 1
    assert story[-1][5] == "ExecuteDone"
    assert w.story(w.tasks["x"]) == story
    assert w.story("unknown") == []
    assert {entry[0] for entry in w.log} == {"x"}


@pytest.mark.parametrize("key", ["x", b"x", ("x", 1), 5])
def test_client(client: Client, key: Any) -> None:
    future = client.submit(abs, -1, key=key)
    future.result()
    story = client.story(key)
    assert story == client.story(future)
    tellers = [line[0] for line in story]
    (address,) = client.who_has(future)[key]
    assert set(tellers) == {"scheduler", address}
    assert tellers == sorted(tellers, key=lambda teller: teller != "scheduler"), "the scheduler first"
    assert {line[1] for line in story} == {key}
    for line in story:
        assert isinstance(line[-2], str)
        assert isinstance(line[-1], float)
    assert client.story("unknown") == []


def test_what_to_do_about_errors(client: Client) -> None:
    with pytest.raises(ValueError, match="on_error"):
        client.story("x", on_error="retry")
    assert client.story("x", on_error="ignore") == []


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True, config={"distributed.admin.low-level-log-length": 10})
async def test_logs_are_bounded(c: Client, s: Scheduler, w: Worker) -> None:
    await c.gather(c.map(abs, range(20)))
    assert len(s.transition_log) == 10
    assert len(w.log) == 10
    assert s.transition_counter > 10
