"""What a task was called with lives as long as a result that refers to it weakly, and no longer."""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from headrace import Client, wait
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for


class Box:
    """Something that can be referred to weakly, with a number in it."""

    def __init__(self, number: int) -> None:
        self.number = number


def number_in(result: Any) -> int:
    if isinstance(result, weakref.WeakSet):
        result = next(iter(result))
    if type(result) in (list, dict):
        result = result[0]
    if type(result) is weakref.ref:
        result = result()
    return int(result.number)


WAYS: dict[str, Callable[[Any], Any]] = {
    "proxy": weakref.proxy,
    "reference": weakref.ref,
    "list": lambda box: [weakref.proxy(box)],
    "dictionary": lambda box: {0: weakref.proxy(box)},
    "set": lambda box: weakref.WeakSet([box]),
}


@pytest.mark.parametrize("name", WAYS)
def test_a_result_refers_weakly_to_an_argument(client: Client, name: str) -> None:
    (worker,) = list(client.scheduler_info()["workers"])[:1]
    future = client.submit(WAYS[name], Box(7), workers=worker)
    wait(future)
    assert client.submit(number_in, future, workers=worker).result(timeout=30) == 7


def test_a_result_refers_weakly_to_what_the_functions_closure_keeps(client: Client) -> None:
    kept: list[Box] = []

    def make(number: int) -> Any:
        kept.append(Box(number))
        return weakref.proxy(kept[-1])

    (worker,) = list(client.scheduler_info()["workers"])[:1]
    future = client.submit(make, 8, workers=worker)
    wait(future)
    assert client.submit(number_in, future, workers=worker).result(timeout=30) == 8


def test_a_coroutines_result_refers_weakly_to_an_argument(client: Client) -> None:
    async def make(box: Box) -> Any:
        await asyncio.sleep(0)
        return weakref.proxy(box)

    (worker,) = list(client.scheduler_info()["workers"])[:1]
    future = client.submit(make, Box(9), workers=worker)
    wait(future)
    assert client.submit(number_in, future, workers=worker).result(timeout=30) == 9


class Counted:
    """Counts its instances in this process."""

    alive: ClassVar[weakref.WeakSet[Counted]] = weakref.WeakSet()

    def __init__(self) -> None:
        Counted.alive.add(self)

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return Counted, ()


@gen_cluster(client=True, nthreads=[("", 1)])
async def test_what_was_kept_goes_with_the_result(c: Client, s: Any, a: Any) -> None:
    argument = Counted()
    strong = c.submit(lambda argument: os.getpid(), argument, pure=False)
    await wait(strong)
    gc.collect()
    await async_poll_for(lambda: len(Counted.alive) == 1, 10)  # what was sent has gone

    weak = c.submit(lambda argument: weakref.ref(argument), argument, pure=False)
    await wait(weak)
    gc.collect()
    assert len(Counted.alive) == 2
    weak.release()
    await async_poll_for(lambda: gc.collect() >= 0 and len(Counted.alive) == 1, 10)
