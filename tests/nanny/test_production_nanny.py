"""The production nanny alone, without the documented members; and what subclasses of the public one may do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import distributed.nanny
from headrace import Client, LocalCluster, Nanny, Scheduler
from headrace.nanny.server import NannyServer
from headrace.rpc import rpc
from headrace.rpc.server import takes_by_name
from headrace.testing.clusters import gen_cluster
from headrace.worker.server import WorkerServer


@gen_cluster(nthreads=[], client=True)
async def test_it_keeps_a_worker(c: Client, s: Scheduler) -> None:
    async with NannyServer(s.address, name="a", nthreads=1) as nanny:
        assert await c.submit(os.getpid, pure=False) == nanny.pid
        first = nanny.pid
        assert await nanny.restart() == "OK"
        assert await c.submit(os.getpid, pure=False) == nanny.pid != first
        assert not hasattr(nanny, "start_services")
        assert not hasattr(nanny, "worker_dir")


@pytest.mark.parametrize("kind", [NannyServer, WorkerServer])
async def test_its_operations_are_given_what_they_have_parameters_for(kind: Any) -> None:
    server = kind("tcp://127.0.0.1:1", nthreads=1)
    operations = {name: one for name, one in server.server.operations.items() if not one.takes_over}
    assert set(operations) == set(server.server.handlers)
    given = {name: (one.takes_comm, one.takes_serializers) for name, one in operations.items()}
    assert given == {name: takes_by_name(one.function) for name, one in operations.items()}


def test_the_public_class_has_the_public_name() -> None:
    assert distributed.nanny.Nanny is Nanny
    assert issubclass(Nanny, NannyServer)
    assert distributed.nanny.WorkerProcess.__module__ == "headrace.nanny.worker_process"


class Curious(Nanny):
    """Looks at who asks."""

    def echo(self, data: Any = None, comm: Any = None) -> Any:
        return data, comm.peer_address


@gen_cluster(nthreads=[])
async def test_a_method_of_a_subclass_is_given_the_comm_that_it_has_a_parameter_for(s: Scheduler) -> None:
    async with Curious(s.address, nthreads=1) as nanny, rpc(nanny.address) as remote:
        data, peer = await remote.echo(data=1)
        assert data == 1
        assert peer.startswith("tcp://")
        assert (await remote.identity())["type"] == "Curious"


async def test_a_cluster_of_a_users_nannies(tmp_path: Path) -> None:
    async with LocalCluster(
        n_workers=1, threads_per_worker=1, worker_class=Curious, asynchronous=True, local_directory=str(tmp_path)
    ) as cluster:
        [nanny] = cluster.workers.values()
        assert type(nanny) is Curious
        assert cluster.processes
