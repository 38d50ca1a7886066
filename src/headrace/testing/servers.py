"""Servers as the targets of processes that a test starts itself, and what their HTTP side says."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import dask.config

from headrace.rpc import run


def run_scheduler(q: Any, nputs: int, config: dict[str, Any], port: int = 0, **kwargs: Any) -> None:
    """Run a scheduler in this process until it closes; the target of a `multiprocessing.Process`.

    Args:
        q: a queue between processes, that gets the address.
        nputs: how many times: once for each who waits for it.
        config: configuration of this process.
        port, kwargs: for the Scheduler.
    """
    from headrace import Scheduler

    async def serve() -> None:
        async with Scheduler(host="127.0.0.1", port=port, **kwargs) as scheduler:
            for _ in range(nputs):
                q.put(scheduler.address)
            await scheduler.finished()

    with dask.config.set(config):
        run(serve())


def run_worker(q: Any, scheduler_q: Any, config: dict[str, Any], **kwargs: Any) -> None:
    """Likewise a worker.

    Args:
        q: a queue between processes, that gets the address.
        scheduler_q: a queue that has the scheduler's.
        config: configuration of this process.
        kwargs: for the Worker.
    """
    from headrace.worker import Worker

    _run_under(Worker, q, scheduler_q, config, kwargs)


def run_nanny(q: Any, scheduler_q: Any, config: dict[str, Any], **kwargs: Any) -> None:
    """Likewise a nanny; see `run_worker`. The queue gets the worker's address."""
    from headrace.nanny import Nanny

    _run_under(Nanny, q, scheduler_q, config, kwargs)


def _run_under(kind: Any, q: Any, scheduler_q: Any, config: dict[str, Any], kwargs: dict[str, Any]) -> None:
    async def serve() -> None:
        address = await asyncio.get_running_loop().run_in_executor(None, scheduler_q.get)
        async with kind(address, **{"host": "127.0.0.1", **kwargs}) as server:
            q.put(server.worker_address)
            await server.finished()

    with dask.config.set(config):
        run(serve())


async def fetch_metrics_body(port: int) -> str:
    """What a server of this machine answers at `/metrics`.

    Raises:
        OSError: nothing listens at the port.
        ValueError: the answer is no success.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status = head.split(b"\r\n")[0].decode()
    if " 200 " not in f"{status} ":
        raise ValueError(f"http://127.0.0.1:{port}/metrics answered {status!r}")
    return body.decode()


async def fetch_metrics(port: int, prefix: str | None = None) -> dict[str, Any]:
    """The families of metrics at a port by name, parsed by `prometheus_client`.

    Args:
        prefix: only those whose names begin with it.
    """
    from prometheus_client.parser import text_string_to_metric_families

    text = await fetch_metrics_body(port)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {name: family for name, family in families.items() if prefix is None or name.startswith(prefix)}


async def fetch_metrics_sample_names(port: int, prefix: str | None = None) -> set[str]:
    """The names of all samples of these families; those of counters end in `_total`."""
    families = (await fetch_metrics(port, prefix)).values()
    return {sample.name for family in families for sample in family.samples}


def get_dashboard_port(client: Any) -> int:
    """Port of the scheduler's dashboard.

    Raises:
        ValueError: there is none.
    """
    port = urlsplit(client.dashboard_link or "").port
    if port is None:
        raise ValueError("the scheduler has no dashboard")
    return port
