"""Clients whose scheduler is not there: each call says so, and nothing waits for ever."""

from __future__ import annotations

import asyncio

import pytest

from headrace import Client, LocalCluster
from headrace.client import ClosedClientError, FutureCancelledError
from headrace.exceptions import ConnectTimeoutError
from headrace.rpc import LoopRunner

NOBODY = "tcp://127.0.0.1:1"


async def test_futures_of_a_client_that_nobody_awaited() -> None:
    async with asyncio.timeout(30):
        client = Client(NOBODY, asynchronous=True, timeout=0.2)
        future = client.submit(abs, -1)
        with pytest.raises(FutureCancelledError, match=f"could not connect: .*{NOBODY}"):
            await future
        with pytest.raises(ClosedClientError, match=f"could not connect: .*{NOBODY}"):
            client.submit(abs, -2)
        with pytest.raises(ConnectTimeoutError):
            await client
        await client.close()


def test_a_closed_cluster() -> None:
    cluster = LocalCluster(n_workers=0, dashboard_address=None, processes=False)
    cluster.close()
    with pytest.raises(RuntimeError, match=r"LocalCluster.*closed or closing"):
        Client(cluster)
    for change in (cluster.adapt, lambda: cluster.scale(1)):
        with pytest.raises(RuntimeError, match="the cluster is closed"):
            change()


def test_a_closed_loop() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="loop is closed"):
        LoopRunner(loop).start()
