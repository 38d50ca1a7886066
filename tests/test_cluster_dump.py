"""Dumps of a whole cluster's state, in both formats, to paths and URLs."""

from __future__ import annotations

import gzip
import json
import operator
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import msgspec
import pytest
import yaml

from headrace import Client, Scheduler, Worker
from headrace.cluster_dump import load_cluster_dump, path_of, write_state
from headrace.common.plain import plain
from headrace.compat.diagnostics.cluster_dump import ClusterDump
from headrace.testing.clusters import gen_cluster


def fail() -> None:
    raise ZeroDivisionError("on purpose")


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1) as connected:
        yield connected


def test_values_as_plain_data() -> None:
    class Thing:
        def __repr__(self) -> str:
            return "<Thing>"

    value = {("x", 1): (1, 2.5, None, True), b"k": {Thing()}, "d": deque([2**80]), 5: frozenset(), "m": {"a": Thing}}
    assert plain(value) == {
        "('x', 1)": [1, 2.5, None, True],
        "b'k'": ["<Thing>"],
        "d": [str(2**80)],
        "5": [],
        "m": {"a": repr(Thing)},
    }
    nested: list[Any] = []
    nested.append(nested)
    assert json.dumps(plain(nested))


def test_suffixes() -> None:
    assert path_of("x", "msgpack") == path_of("x.msgpack.gz", "msgpack") == "x.msgpack.gz"
    assert path_of("s3://bucket/x", "yaml") == "s3://bucket/x.yaml"
    with pytest.raises(ValueError, match=r"Unsupported format 'json'"):
        path_of("x", "json")
    assert path_of(Path("x"), "yaml") == "x.yaml"
    with pytest.raises(ValueError, match=r"no dump"):
        load_cluster_dump("x.json")


@pytest.mark.parametrize("format", ["msgpack", "yaml"])
def test_what_is_in_it(client: Client, tmp_path: Path, format: str) -> None:
    x = client.submit(abs, -1, key=("x", 0), workers=next(iter(client.scheduler_info()["workers"])))
    y = client.submit(operator.neg, x, key="y")
    bad = client.submit(fail, key="bad")
    bad.exception()
    y.result()
    client.dump_cluster_state(str(tmp_path / "dump"), format=format)
    state = load_cluster_dump(path_of(str(tmp_path / "dump"), format))
    assert sorted(state) == ["scheduler", "versions", "workers"]
    scheduler = state["scheduler"]
    workers = sorted(client.scheduler_info()["workers"])
    assert sorted(scheduler["workers"]) == sorted(state["workers"]) == sorted(state["versions"]["workers"]) == workers
    assert set(scheduler["tasks"]) == {"('x', 0)", "y", "bad"}
    task = scheduler["tasks"]["y"]
    assert task["state"] == "memory"
    assert task["type"] == "int"
    assert task["dependencies"] == ["<TaskState ('x', 0) memory>"]
    assert "run_spec" not in task
    assert "ZeroDivisionError" in scheduler["tasks"]["bad"]["exception_text"]
    assert scheduler["task_groups"]["y"]["states"]["memory"] == 1
    assert client.id in scheduler["clients"]
    assert scheduler["status"] == "running"
    assert any(line[0] == "y" and line[2] == "memory" for line in scheduler["transition_log"])
    assert "all" in scheduler["events"]
    (holder,) = client.who_has(y)["y"]
    worker = state["workers"][holder]
    assert worker["tasks"]["y"]["state"] == "memory"
    assert "y" in worker["data"]
    assert worker["status"] == "running"
    assert any(line[0] == "y" for line in worker["log"])
    assert worker["config"]["distributed"]["worker"]
    assert worker["logs"]
    assert scheduler["workers"][holder]["metrics"]
    assert state["versions"]["scheduler"]["packages"]["dask"]


def test_others_can_read_it(client: Client, tmp_path: Path) -> None:
    client.dump_cluster_state(str(tmp_path / "dump"))
    with gzip.open(tmp_path / "dump.msgpack.gz") as file:
        assert msgspec.msgpack.decode(file.read())["scheduler"]["type"] == "Scheduler"
    client.dump_cluster_state(str(tmp_path / "dump"), format="yaml")
    text = (tmp_path / "dump.yaml").read_text()
    assert yaml.safe_load(text)["scheduler"]["type"] == "Scheduler"


def test_exclude(client: Client, tmp_path: Path) -> None:
    future = client.submit(abs, -1, key="x")
    future.result()
    client.dump_cluster_state(str(tmp_path / "dump"), exclude=["logs", "config", "events", "who_has", "log"])
    state = load_cluster_dump(str(tmp_path / "dump.msgpack.gz"))
    assert "events" not in state["scheduler"]
    assert "who_has" not in state["scheduler"]["tasks"]["x"]
    for worker in state["workers"].values():
        assert not {"logs", "config", "log"} & set(worker)


@pytest.mark.parametrize("write_from_scheduler", [None, True, False])
def test_urls_are_written_by_the_scheduler(client: Client, tmp_path: Path, write_from_scheduler: bool | None) -> None:
    url = f"file://{tmp_path}/by-url"
    client.dump_cluster_state(url, write_from_scheduler=write_from_scheduler, auto_mkdir=True)
    assert load_cluster_dump(f"{url}.msgpack.gz")["scheduler"]["n_workers"] == 2


def test_memory_filesystem_of_the_schedulers_process(client: Client) -> None:
    try:
        client.dump_cluster_state("memory://cluster-dump", format="yaml")
        assert load_cluster_dump("memory://cluster-dump.yaml")["scheduler"]["n_workers"] == 2
    finally:
        fsspec.filesystem("memory").store.clear()


def test_bad_requests(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Unsupported format 'pickle'"):
        client.dump_cluster_state(str(tmp_path / "dump"), format="pickle")
    (tmp_path / "file").touch()
    for at_scheduler in (False, True):
        with pytest.raises(OSError, match="file"):
            client.dump_cluster_state(str(tmp_path / "file" / "dump"), write_from_scheduler=at_scheduler)
    assert client.submit(abs, -2).result() == 2


@gen_cluster(nthreads=[("127.0.0.1", 1)] * 2, client=True)
async def test_asynchronous(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    future = c.submit(abs, -1, key="x")
    await future
    state = await s.get_cluster_state(exclude=("config",))
    assert set(state["workers"]) == {a.address, b.address}
    assert state["scheduler"]["tasks"]["x"]["state"] == "memory"
    assert s.dump_state(exclude=("workers", "id")).keys() & {"workers", "id"} == set()


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_a_worker_that_cannot_be_asked_is_there_with_its_error(s: Scheduler, w: Worker) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("not today")

    w.server.handlers["dump_state"] = refuse
    state = await s.get_cluster_state()
    assert "not today" in state["workers"][w.address]


async def test_plugin_dumps_when_the_scheduler_closes(tmp_path: Path) -> None:
    url = str(tmp_path / "last")
    plugin = ClusterDump(url, format_="yaml")
    async with Scheduler(port=0, host="127.0.0.1", plugins=[plugin]) as s, Worker(s.address) as worker:
        address = worker.address
        await s.close()
    state = load_cluster_dump(url + ".yaml")
    assert set(state["workers"]) == {address}
    with pytest.raises(ValueError, match="Unsupported format"):
        ClusterDump(url, format_="json")


def test_write_and_load(tmp_path: Path) -> None:
    for format in ("msgpack", "yaml"):
        write_state({"a": [1, None, "ü"]}, str(tmp_path / "x"), format)
        assert load_cluster_dump(path_of(str(tmp_path / "x"), format)) == {"a": [1, None, "ü"]}


@gen_cluster(client=True)
async def test_paths_are_taken_as_paths(c: Client, s: Scheduler, a: Worker, b: Worker, tmp_path: Path) -> None:
    await c.dump_cluster_state(tmp_path / "here")
    await c.dump_cluster_state(tmp_path / "there", write_from_scheduler=True, format="yaml")
    await s.dump_cluster_state_to_url(tmp_path / "scheduler")
    plugin = ClusterDump(tmp_path / "closing")
    await plugin.start(s)
    await plugin.before_close()
    names = ["closing.msgpack.gz", "here.msgpack.gz", "scheduler.msgpack.gz", "there.yaml"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        assert load_cluster_dump(tmp_path / name)["scheduler"]["address"] == s.address
