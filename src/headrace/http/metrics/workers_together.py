"""The metrics of many workers in one text: asked for through the scheduler, for where workers cannot be scraped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from headrace.rpc import PooledRPCCall

from .text_formats import check_family

#: The operation by which a worker tells its metrics.
OPERATION = "plain_metrics"
#: Workers that are asked at a time.
ASKED_AT_A_TIME = 50
#: Samples in one text at most: what a careful scraper still takes.
MOST_SAMPLES = 500_000
#: Label with the address of the worker that a sample is of; and what the user's own label of that name is called then.
LABEL = "worker"
USERS_LABEL = "exported_worker"


async def ask_workers(
    worker_rpc: Callable[[str], PooledRPCCall], addresses: Iterable[str], timeout: float
) -> dict[str, list[Any]]:
    """What workers tell, by their addresses; those that fail, or do not answer in `timeout` seconds, are left out."""
    gate = asyncio.Semaphore(ASKED_AT_A_TIME)

    async def ask(address: str) -> list[Any]:
        async with gate:
            answer = await worker_rpc(address).call(OPERATION)
        if not isinstance(answer, (list, tuple)):
            raise TypeError(f"the worker at {address} did not tell metrics")
        for name, kind, text, samples in answer:
            check_family(name, kind, text, samples)
        return list(answer)

    asked = {asyncio.ensure_future(ask(address)): address for address in addresses}
    if not asked:
        return {}
    try:
        done, late = await asyncio.wait(asked, timeout=timeout)
    except asyncio.CancelledError:  # who asked has left
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        raise
    for task in late:
        task.cancel()
    if late:
        await asyncio.wait(late)
    return {asked[task]: task.result() for task in done if task.exception() is None}


def join(own: Iterable[Any], answers: dict[str, list[Any]]) -> list[Any]:
    """Families of a scheduler and its workers, each once; a family that differs in kind from the first is left out."""
    joined: dict[str, Any] = {}
    families_by_sample: dict[str, str] = {}
    left = MOST_SAMPLES
    for address, families in [("", own), *answers.items()]:
        for name, kind, text, samples in families:
            if kind == "counter" and not name.endswith("_total"):
                name += "_total"  # a gauge may have the name without
            family = joined.setdefault(name, (kind, text, []))
            left -= len(samples)
            if family[0] != kind or left < 0:
                continue
            for sample, labels, value in samples:
                if families_by_sample.setdefault(sample, name) != name:
                    continue  # a user's family with a sample named like one of ours
                if address:
                    if LABEL in labels:
                        labels = {**labels, USERS_LABEL: labels[LABEL]}
                    labels = {**labels, LABEL: address}
                family[2].append((sample, labels, value))
    return [(name, *family) for name, family in joined.items()]


def render(families: Iterable[Any]) -> bytes:
    """The text of families; takes long where there are many workers, and is for a thread."""
    from prometheus_client import generate_latest

    return bytes(generate_latest(_Joined(families)))


class _Joined:
    """Stands for a registry."""

    def __init__(self, families: Iterable[Any]) -> None:
        self._families = families

    def collect(self) -> Iterable[Any]:
        from prometheus_client import Metric

        for name, kind, text, samples in self._families:
            metric = Metric(name.removesuffix("_total") if kind == "counter" else name, text, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, labels, value)
            yield metric
