"""Where only ancestors may read memory, the processes of a LocalCluster allow its owner and each other."""

from __future__ import annotations

import os
from typing import Any

import dask.config
import pytest

from headrace import Client, LocalCluster
from headrace.comm.lent_memory.yama import READER
from headrace.deploy import local


def told(cluster: Any) -> set[str | None]:
    return {(spec["options"].get("env") or {}).get(READER) for spec in cluster.worker_spec.values()}


def test_workers_are_told_and_do_not_pass_it_on(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[int] = []
    monkeypatch.setattr(local, "restricts_siblings", lambda: True)
    monkeypatch.setattr(local, "allow_reading", allowed.append)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, env={"MINE": "1"}) as cluster,
        Client(cluster) as client,
    ):
        assert allowed == [os.getpid()]
        assert told(cluster) == {str(os.getpid())}
        (seen,) = client.run(lambda: (os.environ.get(READER), os.environ.get("MINE"))).values()
        assert seen == (None, "1")


@pytest.mark.parametrize("why", ["unrestricted", "switched off", "inproc"])
def test_nothing_is_allowed_without_need(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[int] = []
    monkeypatch.setattr(local, "restricts_siblings", lambda: why != "unrestricted")
    monkeypatch.setattr(local, "allow_reading", allowed.append)
    with (
        dask.config.set({"distributed.comm.same-machine-memory": why != "switched off"}),
        LocalCluster(n_workers=0, processes=why != "inproc") as cluster,
    ):
        assert not allowed
        assert not told(cluster) - {None}
