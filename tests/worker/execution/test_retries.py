"""Retries by policy, in a real cluster: what happens in which order, never when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client, Retry, Scheduler
from headrace.testing.helpers.polling import poll_for

from .conftest import PATIENCE


class Unlucky(ConnectionError):
    pass


def fails_until(path: str, run: int, kind: type[Exception] = ConnectionResetError) -> int:
    with open(path, "a") as file:
        file.write("x")
    if len(Path(path).read_text()) < run:
        raise kind("not yet")
    return run


def story(client: Client, key: str) -> list[tuple[str, str, str]]:
    lines = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.state.story(key))
    return [line[1:4] for line in lines]


@pytest.mark.slow
def test_it_waits_between_attempts(client: Client, tmp_path: Path) -> None:
    policy = Retry(5, delay="20ms", backoff=2, jitter=0.5, on=ConnectionError)
    future = client.submit(fails_until, str(tmp_path / "runs"), 3, retries=policy, key="waits")
    assert future.result(timeout=PATIENCE) == 3
    again = [("processing", "released", "worker"), ("released", "waiting", "worker")]
    again += [("waiting", "processing", "retry-due")]
    begin = [("released", "waiting", "update-graph"), ("waiting", "processing", "update-graph")]
    assert story(client, "waits") == [*begin, *again, *again, ("processing", "memory", "worker")]


def test_others_run_while_it_waits_and_it_can_be_seen(client: Client, tmp_path: Path) -> None:
    future = client.submit(fails_until, str(tmp_path / "runs"), 2, retries=Retry(1, delay="1h"), key="later")

    def record(dask_scheduler: Scheduler) -> Any:
        task = dask_scheduler.tasks.get("later")
        return None if task is None else (task.state, task.retries, task.retry_at > 0)

    poll_for(lambda: client.run_on_scheduler(record) == ("waiting", 0, True), PATIENCE, period=0.01)
    assert client.submit(abs, -5, pure=False).result(timeout=PATIENCE) == 5
    assert future.status == "pending"
    future.cancel()
    poll_for(lambda: client.run_on_scheduler(record) is None, PATIENCE, period=0.01)
    assert not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.state.delays))
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.parametrize(
    ("on", "runs"), [((KeyError, ValueError), 1), (OSError, 3), (Unlucky, 3), ("builtins.ConnectionError", 3)]
)
def test_only_after_the_exceptions_it_names(client: Client, tmp_path: Path, on: Any, runs: int) -> None:
    path = tmp_path / "runs"
    future = client.submit(fails_until, str(path), 9, Unlucky, retries=Retry(2, delay=0, on=on))
    with pytest.raises(ConnectionError, match="not yet"):
        future.result(timeout=PATIENCE)
    assert path.read_text() == "x" * runs


def test_map_compute_and_annotations_take_policies(client: Client, tmp_path: Path) -> None:
    policy = Retry(3, delay=0)
    paths = [str(tmp_path / f"map-{number}") for number in range(3)]
    assert client.gather(client.map(fails_until, paths, [1, 2, 3], retries=policy)) == [1, 2, 3]
    graph = dask.delayed(fails_until)(str(tmp_path / "compute"), 3)
    assert client.compute(graph, retries=policy.to_dict()).result(timeout=PATIENCE) == 3
    with dask.annotate(retries=policy):
        graph = dask.delayed(fails_until)(str(tmp_path / "annotated"), 3)
        assert client.compute(graph, optimize_graph=False).result(timeout=PATIENCE) == 3
        assert client.gather(client.map(fails_until, [str(tmp_path / "map")], [3])) == [3]
    assert client.submit(fails_until, str(tmp_path / "number"), 3, retries=2).result(timeout=PATIENCE) == 3


def test_after_its_retries_it_has_failed_and_can_be_retried_by_hand(client: Client, tmp_path: Path) -> None:
    future = client.submit(fails_until, str(tmp_path / "runs"), 3, retries=Retry(1, delay="1ms"))
    assert isinstance(future.exception(timeout=PATIENCE), ConnectionResetError)
    future.retry()
    assert future.result(timeout=PATIENCE) == 3
