"""One process with a scheduler, two workers and a client: prints what is imported between their start and the end of a
first, varied round of work.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any

from headrace import Client, Event, Lock, Queue, Scheduler, Semaphore, Variable, Worker, wait


class Finder:
    """Sees what is about to be imported."""

    names: list[str] = []  # noqa: RUF012 - there is one

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        self.names.append(name)


def inc(x: int) -> int:
    return x + 1


async def slow(x: int) -> int:
    await asyncio.sleep(0.01)
    return x


def fail() -> None:
    raise ValueError("x")


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def inc(self) -> int:
        self.n += 1
        return self.n


async def tasks(client: Client) -> None:
    assert await client.submit(inc, 1) == 2
    assert sum(await client.gather(client.map(slow, range(20)))) == 190
    failing = client.submit(fail, retries=1)
    await wait(failing)
    await client.retry([failing])
    await wait(failing)
    unpicklable = client.submit(lambda: (x for x in range(3)), pure=False)
    await wait(unpicklable)
    await client.cancel(client.map(slow, range(100, 140)))
    await wait(client.submit(time.sleep, 1, timeout="0.1s", pure=False))
    counter = await client.submit(Counter, actor=True)
    assert await counter.inc() == 1


async def data(client: Client) -> None:
    scattered = await client.scatter(bytes(3_000_000))
    assert await client.gather([client.submit(len, scattered, workers=[name]) for name in "ab"]) == [3_000_000] * 2
    large = client.submit(lambda: bytes(30_000_000), workers=["a"], pure=False)
    assert len(await large) == await client.submit(len, large, workers=["b"]) == 30_000_000
    await client.rebalance()
    await client.replicate(scattered, n=2)
    await client.who_has()
    await client.has_what()


async def coordination(client: Client) -> None:
    async with Lock("l"), Semaphore(2, name="s"):
        await Event("e").set()
    queue: Any = Queue("q")
    await queue.put(1)
    await queue.get()
    await Variable("v").set(1)
    await client.publish_dataset(a=1)
    await client.get_dataset("a")
    await client.log_event("t", 1)
    await client.get_events("t")


async def main() -> None:
    async with (
        Scheduler(host="127.0.0.1") as scheduler,
        Worker(scheduler.address, host="127.0.0.1", name="a", nthreads=2) as first,
        Worker(scheduler.address, host="127.0.0.1", name="b"),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]
        await tasks(client)
        await data(client)
        await coordination(client)
        await client.retire_workers(["b"])
        left = client.submit(inc, 7)
        assert await left == 8
        await first.close()
        await client.cancel(left)
        del sys.meta_path[0]
    print(" ".join(Finder.names))


if __name__ == "__main__":
    asyncio.run(main())
