"""What running tasks are doing, on real workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, Scheduler, Worker
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import poll_for


def hold(path: str) -> None:
    """Runs until a file is there."""
    Path(path + ".held").touch()
    innermost(path)


def innermost(path: str) -> None:
    deadline = time.monotonic() + 30
    while not Path(path).exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture(params=[True, False], ids=["processes", "threads"])
def client(request: Any) -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1, processes=request.param) as connected:
        yield connected


def test_frames_of_running_tasks(client: Client, tmp_path: Path) -> None:
    assert client.call_stack() == {}
    keys = [("held", 0), b"held-1"]
    paths = [str(tmp_path / str(number)) for number in range(2)]
    futures = [client.submit(hold, path, key=key) for key, path in zip(keys, paths, strict=True)]
    poll_for(lambda: all(Path(path + ".held").exists() for path in paths))
    poll_for(lambda: sum("in innermost" in str(stacks) for stacks in client.call_stack().values()) == 2)
    found = client.call_stack()
    assert sorted(found) == sorted(client.scheduler_info()["workers"])
    stacks = {key: stack for each in found.values() for key, stack in each.items()}
    assert set(stacks) == set(keys)
    for stack in stacks.values():
        text = "".join(stack)
        assert text.index("in hold") < text.index("in innermost"), "outermost first"
        assert __file__ in text
    (one,) = client.call_stack(futures[0]).values()
    assert list(one) == [keys[0]]
    (one,) = client.call_stack(keys=[keys[1]]).values()
    assert list(one) == [keys[1]]
    assert client.call_stack(keys=["unknown"]) == {}
    assert client.call_stack(keys=[]) == {}
    assert client.call_stack(futures=[]) == {}
    for path in paths:
        Path(path).touch()
    client.gather(futures)
    assert client.call_stack() == {}
    assert client.call_stack(futures) == {}


@gen_cluster(nthreads=[("127.0.0.1", 1)], client=True)
async def test_servers_agree(c: Client, s: Scheduler, w: Worker) -> None:
    assert await s.get_call_stack() == {}
    assert await s.get_call_stack(keys=["x"]) == {}
    assert await c.call_stack() == {}
