"""What other people's programs read off a client, and what they may give it."""

from __future__ import annotations

from typing import Any

import dask
import pytest

from headrace import Client, Scheduler
from headrace.compat.client import _get_global_client
from headrace.deploy import LocalCluster
from headrace.security import Security
from headrace.testing.clusters import gen_cluster

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


@gen_cluster(client=True, nthreads=[])
async def test_the_connection(client: Client, s: Scheduler) -> None:
    assert client.scheduler.__dict__["addr"] == s.address
    assert not client.scheduler_comm.comm.closed()
    assert (await client.rpc.rpc(s.address).identity())["id"] == s.id
    about_certificates = {"ssl_context": None, "require_encryption": False, "extra_conn_args": {}}
    assert client.connection_args.items() >= about_certificates.items()
    assert _get_global_client() is client


@gen_cluster(nthreads=[])
async def test_the_name_by_the_configuration(s: Scheduler) -> None:
    with dask.config.set({"client-name": "hello"}):
        async with Client(s.address, asynchronous=True) as client:
            assert client.id.startswith("Client-hello-")
        async with Client(s.address, asynchronous=True, name="own") as client:
            assert client.id.startswith("Client-own-")


@pytest.mark.parametrize("given", [None, False, {}])
async def test_there_is_always_a_security(given: Any) -> None:
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard_address=":0") as scheduler,
        Client(scheduler.address, asynchronous=True, security=given) as client,
    ):
        assert isinstance(client.security, Security)
        assert client.security.require_encryption is False


def test_what_is_no_security() -> None:
    with pytest.raises(TypeError, match="security must be a Security"):
        Client("tcp://127.0.0.1:1", security="tls", timeout=0.1)  # type: ignore[arg-type]


def test_a_class_in_place_of_a_cluster() -> None:
    with pytest.raises(TypeError, match="must be a string or a Cluster instance"):
        Client(LocalCluster, timeout=0.1)


@gen_cluster(client=True, nthreads=[])
async def test_nested_metadata_take_the_place_of_a_value(client: Client, s: Scheduler) -> None:
    await client.set_metadata("a", 1)
    await client.set_metadata(["a", "b", "c"], 2)
    assert await client.get_metadata("a") == {"b": {"c": 2}}


def test_keywords_of_a_cluster_are_refused_where_a_scheduler_is_named() -> None:
    for kind in (TypeError, ValueError):
        with pytest.raises(kind, match=r"Unexpected keyword arguments: \['n_workers', 'nonsense'\]"):
            Client("tcp://127.0.0.1:1", n_workers=1, nonsense=2)
