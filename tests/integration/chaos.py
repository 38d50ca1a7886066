"""A round of chaos: array and dataframe work on real worker processes, while a seed kills, stops, forks and cuts.

`make chaos ROUNDS=50` runs many. A round fails if a value is wrong, an error comes, or it does not end in time; it
names its seed, and `make chaos ROUNDS=1 ARGS="--seed 17"` runs it again.
Faults are drawn from the seed; when they strike depends on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import dask
import numpy as np

from headrace import Client, Future, Nanny, Scheduler
from headrace.rpc import LoopRunner, sync
from tests.integration.proxy import Proxy

#: Seconds that a round may take.
LIMIT = 90
WORKERS = 3
#: Deaths in a round: fewer than `allowed-failures`, for a task may be under all of them.
MOST_KILLS = 3


class Cluster:
    """A scheduler here, worker processes with nannies, and a network that can be cut between all of them.

    Attributes:
        client: connected by way of `to_clients`.
        to_clients, to_workers: proxies in front of the scheduler.
        between: per worker, the proxy that stands for its address.
    """

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Cluster:
        with contextlib.ExitStack() as stack:
            self._runner = LoopRunner()
            self._loop = self._runner.start()
            stack.callback(self._runner.stop)
            self.to_clients, self.to_workers = stack.enter_context(Proxy()), stack.enter_context(Proxy())
            self.between = [stack.enter_context(Proxy()) for _ in range(WORKERS)]
            self.scheduler = Scheduler(host="127.0.0.1", validate=True, dashboard_address=None)
            sync(self._loop, self._start)
            stack.callback(sync, self._loop, self._close)
            self.client = stack.enter_context(Client(self.to_clients.address, loop=self._loop, set_as_default=True))
            self.client.wait_for_workers(WORKERS, timeout=60)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    async def _start(self) -> None:
        import asyncio

        await self.scheduler
        self.to_clients.target = self.to_workers.target = self.scheduler.address
        self.nannies = [
            Nanny(
                self.to_workers.address,
                name=number,
                nthreads=1,
                host="127.0.0.1",
                worker_port=_free_port(),
                worker_class=BehindProxy,
                proxy_address=proxy.address,
            )
            for number, proxy in enumerate(self.between)
        ]
        for nanny, proxy in zip(self.nannies, self.between, strict=True):
            proxy.target = f"tcp://127.0.0.1:{nanny._worker_kwargs['port']}"
        await asyncio.gather(*self.nannies)

    async def _close(self) -> None:
        import asyncio

        await asyncio.gather(*[nanny.close() for nanny in self.nannies])
        await self.scheduler.close()

    def pids(self) -> list[int]:
        """Of the worker processes that run."""
        return [pid for nanny in self.nannies if nanny.is_alive() and (pid := nanny.pid) is not None]


def _behind_proxy() -> Any:
    from headrace import Worker

    class Behind(Worker):
        """A worker that others reach through a proxy."""

        def __init__(self, *args: Any, proxy_address: str, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "contact_address": proxy_address})

    return Behind


BehindProxy = _behind_proxy()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Faults:
    """Strikes at random until it is told to stop; afterwards all processes run again.

    Attributes:
        done: what it did, with the seconds since the start.
    """

    def __init__(self, cluster: Cluster, chance: random.Random) -> None:
        self.cluster, self._chance = cluster, chance
        self.done: list[tuple[float, str]] = []
        self._start = time.monotonic()
        self._over = threading.Event()
        self._kills = 0
        self._children: list[Future] = []
        self._thread = threading.Thread(target=self._run, name="faults")

    def __enter__(self) -> Faults:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        codes = self.cluster.client.gather(self._children)
        assert set(codes) <= {-signal.SIGTERM}, f"terminated children ended with {codes}"

    def _run(self) -> None:
        strikes: list[Callable[[], str]] = [
            *(self.kill, self.terminate, self.stop, self.fork),
            *(self.cut_client, self.cut_workers, self.cut_between),
        ]
        while not self._over.wait(self._chance.uniform(0.05, 0.7)):
            what = self._chance.choice(strikes)()
            self.done.append((round(time.monotonic() - self._start, 2), what))

    def kill(self) -> str:
        return self._end(signal.SIGKILL, "killed")

    def terminate(self) -> str:
        return self._end(signal.SIGTERM, "terminated")

    def _end(self, number: int, done: str) -> str:
        pids = self.cluster.pids()
        if not pids or self._kills >= MOST_KILLS:
            return "nobody to kill"
        self._kills += 1
        pid = self._chance.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return f"{done} {pid}"

    def fork(self) -> str:
        """A task forks children beside those that run, and terminates them at once or after a moment."""
        seconds = self._chance.choice([0, 0, 0.1, 0.5])
        self._children.append(self.cluster.client.submit(_terminated_child, seconds, pure=False))
        return f"forked a child, to be terminated after {seconds} s"

    def stop(self) -> str:
        pids = self.cluster.pids()
        if not pids:
            return "nobody to stop"
        pid, seconds = self._chance.choice(pids), self._chance.uniform(0.1, 1.5)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            self._over.wait(seconds)
            os.kill(pid, signal.SIGCONT)
        return f"stopped {pid} for {seconds:.2f} s"

    def cut_client(self) -> str:
        return self._cut(self.cluster.to_clients, "the client's")

    def cut_workers(self) -> str:
        return self._cut(self.cluster.to_workers, "the workers'")

    def cut_between(self) -> str:
        number = self._chance.randrange(WORKERS)
        return self._cut(self.cluster.between[number], f"worker {number}'s")

    def _cut(self, proxy: Proxy, whose: str) -> str:
        seconds = self._chance.choice([0, 0, 0.2, 1.3])
        proxy.refuse = bool(seconds)
        count = proxy.cut()
        if seconds:
            self._over.wait(seconds)
            proxy.refuse = False
        return f"cut {count} of {whose} connections for {seconds} s"


def _terminated_child(seconds: float) -> int:
    child = os.fork()
    if not child:
        time.sleep(LIMIT)
        os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGTERM)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# The work: each returns whether its values are right


def transposed_sum(chance: random.Random) -> None:
    import dask.array as da

    size = chance.choice([400, 800])
    x = da.from_array(np.arange(size * size, dtype="f8").reshape(size, size), chunks=100)
    expected = np.arange(size * size, dtype="f8").reshape(size, size)
    assert float((x + x.T).sum().compute()) == float((expected + expected.T).sum())
    assert np.array_equal((x @ x[:, :100]).compute(), expected @ expected[:, :100])


def svd_like(chance: random.Random) -> None:
    import dask.array as da

    x = da.ones((1000, 100), chunks=(100, 100)) * da.arange(100, chunks=100)
    mean = x.mean(axis=0).persist()
    assert np.allclose((x - mean).std(axis=0).compute(), 0)
    assert np.array_equal(mean.compute(), np.arange(100.0))


def grouped(chance: random.Random) -> None:
    import dask.dataframe as dd
    import pandas as pd

    rows = 6_000
    frame = pd.DataFrame({"key": np.arange(rows) % 17, "value": np.arange(rows, dtype="i8")})
    partitioned = dd.from_pandas(frame, npartitions=12)
    found = partitioned.groupby("key").value.sum().compute().sort_index()
    assert found.equals(frame.groupby("key").value.sum().sort_index())
    shuffled = partitioned.shuffle("key").compute()
    assert sorted(shuffled.value) == list(range(rows))
    merged = partitioned.merge(partitioned.groupby("key").value.max().reset_index(), on="key").compute()
    assert len(merged) == rows


def mapped(chance: random.Random) -> None:
    from headrace import get_client

    client = get_client()
    firsts = client.map(_slow_square, range(200), pure=False)
    total = client.submit(sum, firsts)
    seconds = client.map(_add, firsts[:-1], firsts[1:], pure=False)
    assert total.result(timeout=LIMIT) == sum(x * x for x in range(200))
    assert client.gather(seconds) == [x * x + (x + 1) ** 2 for x in range(199)]


def _slow_square(x: int) -> int:
    time.sleep(0.005)
    return x * x


def _add(x: int, y: int) -> int:
    return x + y


WORK = (transposed_sum, svd_like, grouped, mapped)


def run_round(seed: int, cluster: Cluster, seconds: float = 3.0) -> list[tuple[float, str]]:
    """Work for some seconds under faults; returns what they were.

    Raises:
        AssertionError: a value is wrong, or the round did not end in time.
    """
    chance = random.Random(seed)
    with _bounded(seed, cluster), Faults(cluster, chance) as faults:
        deadline = time.monotonic() + seconds
        try:
            while True:
                chance.choice(WORK)(chance)
                if time.monotonic() > deadline:
                    break
        except BaseException as error:
            error.add_note(f"chaos round with seed {seed}; faults: {faults.done}")
            raise
    cluster.client.wait_for_workers(WORKERS, timeout=60)
    return faults.done


@contextlib.contextmanager
def _bounded(seed: int, cluster: Cluster) -> Iterator[None]:
    """Say what everybody is waiting for, and end the process, when a round hangs."""

    def give_up() -> None:
        import faulthandler

        state = cluster.scheduler.state
        print(f"chaos round with seed {seed} did not end in {LIMIT} s", flush=True)
        print("workers:", list(state.workers.values()), flush=True)
        waiting = [task for task in state.tasks.values() if task.state not in ("memory", "released")]
        print("tasks:", [(task, task.processing_on) for task in waiting[:20]], flush=True)
        for task in waiting[:3]:
            print("story:", *state.story(task.key), sep="\n  ", flush=True)
        print("client:", cluster.client.status, list(cluster.client.held.core.futures.values())[:20], flush=True)
        faulthandler.dump_traceback()
        for pid in cluster.pids():
            os.kill(pid, signal.SIGKILL)
        os._exit(3)

    timer = threading.Timer(LIMIT, give_up)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--log", help="write what the servers log to this file")
    options = parser.parse_args()
    if options.log:
        logging.basicConfig(filename=options.log, level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    counts: dict[str, int] = {}
    start = time.monotonic()
    with dask.config.set({"distributed.comm.timeouts.connect": "60s"}), Cluster() as cluster:
        for seed in range(options.seed, options.seed + options.rounds):
            began = time.monotonic()
            done = run_round(seed, cluster, options.seconds)
            for _, what in done:
                counts[what.split()[0]] = counts.get(what.split()[0], 0) + 1
            print(f"seed {seed}: {time.monotonic() - began:.1f} s, {len(done)} faults", flush=True)
    print(f"{options.rounds} rounds in {time.monotonic() - start:.0f} s, all values right; faults: {counts}")


if __name__ == "__main__":
    from tests.integration.chaos import main  # by its name, so that workers find the functions

    main()
