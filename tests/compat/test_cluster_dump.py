"""Dumps of a cluster's state by the documented names: `distributed.cluster_dump`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace import Client, Scheduler, Worker, wait
from headrace.compat.cluster_dump import DumpArtefact, load_cluster_dump, write_state
from headrace.testing.clusters import gen_cluster


def inc(x: int) -> int:
    return x + 1


@gen_cluster(client=True)
async def test_questions_to_a_dump(c: Client, s: Scheduler, a: Worker, b: Worker, tmp_path: Path) -> None:
    futures = [c.submit(inc, number, key=f"x{number}", workers=[a.address]) for number in range(3)]
    await wait(futures)
    await c.dump_cluster_state(tmp_path / "dump")
    dump = DumpArtefact.from_url(tmp_path / "dump.msgpack.gz")
    assert sorted(dump) == ["scheduler", "versions", "workers"]
    assert dump["scheduler"]["address"] == s.address
    assert sorted(task["key"] for task in dump.scheduler_tasks_in_state("memory")) == ["x0", "x1", "x2"]
    assert len(dump.scheduler_tasks_in_state()) == 3
    assert dump.scheduler_tasks_in_state("erred") == []
    assert sorted(task["key"] for task in dump.worker_tasks_in_state("memory")) == ["x0", "x1", "x2"]
    assert len(dump.worker_tasks_in_state()) == 3
    story = dump.scheduler_story("x0", "x1", "unknown")
    assert list(story) == ["x0", "x1"]
    assert [line[:3] for line in story["x0"]] == [line[:3] for line in s.story("x0")]
    cause = story["x0"][0][4]
    assert story["x0"][0] in dump.scheduler_story(cause)[cause]
    assert list(dump.worker_story("x0", "unknown")) == ["x0"]
    assert dump.missing_workers() == []


def test_workers_that_have_not_answered() -> None:
    dump = DumpArtefact(
        {
            "scheduler": {"workers": {"tcp://a": {}, "tcp://b": {}, "tcp://c": {}}},
            "workers": {"tcp://a": {"tasks": {}, "log": []}, "tcp://b": "OSError('no answer')"},
        }
    )
    assert dump.missing_workers() == ["tcp://b", "tcp://c"]
    assert dump.worker_tasks_in_state() == []
    assert dump.worker_story("x") == {}


@gen_cluster(client=True, nthreads=[("127.0.0.1", 1)])
async def test_a_dump_in_many_files(c: Client, s: Scheduler, a: Worker, tmp_path: Path) -> None:
    assert await c.submit(inc, 1, key="x") == 2
    dump = DumpArtefact(await s.get_cluster_state())
    dump.to_yamls(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([a.id, "scheduler"])
    written = {path.name: yaml.safe_load(path.read_text()) for path in (tmp_path / "scheduler").iterdir()}
    assert {"events.yaml", "general.yaml", "tasks.yaml", "workers.yaml"} <= set(written)
    assert written["workers.yaml"] == dump["scheduler"]["workers"]
    assert written["general.yaml"]["address"] == s.address
    assert "workers" not in written["general.yaml"]
    dump.to_yamls(tmp_path / "few", worker_expand_keys=["config"], scheduler_expand_keys=())
    assert [path.name for path in (tmp_path / "few" / "scheduler").iterdir()] == ["general.yaml"]
    assert sorted(path.name for path in (tmp_path / "few" / a.id).iterdir()) == ["config.yaml", "general.yaml"]


@gen_cluster(nthreads=[])
async def test_writing_what_a_coroutine_gives(s: Scheduler, tmp_path: Path) -> None:
    async def state() -> dict[str, Any]:
        return {"a": 1}

    for format, name in (("msgpack", "dump.msgpack.gz"), ("yaml", "dump.yaml")):
        await write_state(state, tmp_path / "dump", format)  # type: ignore[arg-type]
        assert load_cluster_dump(tmp_path / name) == {"a": 1}
    with pytest.raises(ValueError, match="Unsupported format"):
        await write_state(state, tmp_path / "dump", "json")  # type: ignore[arg-type]
