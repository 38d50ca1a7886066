"""Programs that watch workers come and go over a connection of their own, as gateways do."""

from __future__ import annotations

from typing import Any

from headrace import Worker
from headrace.rpc import rpc
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for


@gen_cluster(nthreads=[("127.0.0.1", 1)])
async def test_news_of_workers_come_in_batches(s: Any, a: Any) -> None:
    """The first answer is the scheduler's identity; each later one is a list of pairs."""
    plugins = set(s.plugins)
    scheduler = rpc(s.address)
    comm = await scheduler.live_comm()
    await comm.write({"op": "subscribe_worker_status"})
    identity = await comm.read()
    assert {"type", "id", "address", "started", "n_workers", "workers"} <= identity.keys()
    assert list(identity["workers"]) == [a.address]
    async with Worker(s.address, host="127.0.0.1", name="new") as worker:
        [(op, news)] = await comm.read()
        assert op == "add"
        assert news["workers"][worker.address]["name"] == "new"
    [(op, address)] = await comm.read()
    assert (op, address) == ("remove", worker.address)
    comm.abort()
    await scheduler.close_rpc()
    async with Worker(s.address, host="127.0.0.1"):  # the next news show that nobody listens
        pass
    await async_poll_for(lambda: set(s.plugins) == plugins, timeout=10)
