"""A soak: all that users do, again and again on real processes, after which nothing may be left of it.

`make soak` runs for 20 minutes (SECONDS=180 for less). A scheduler, workers with nannies and one client stay; work of
all kinds, other clients and whole clusters come and go, workers are killed while they serve, clients are stopped. After
a round that warms up, and at the end, everything is released and each process counted: memory, descriptors, threads and
records (`census`). The table has both, and the status is 1 if something has grown beyond the margins below.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask

from headrace import (
    Client,
    Event,
    Future,
    LocalCluster,
    Lock,
    MultiLock,
    Queue,
    Retry,
    Semaphore,
    Variable,
    as_completed,
    get_client,
    get_worker,
    rejoin,
    secede,
    wait,
)
from tests.integration.census import census

#: Seconds that anything may take.
PATIENCE = 60
#: Seconds in which everything is to be let go of once it is not used any more.
SETTLE = 45
#: How much more than after the warm-up there may be at the end: memory in bytes and as a share, and the rest as counts.
#: An allocator keeps what is scattered among live objects; sockets to workers come and go.
RSS_BYTES = 40_000_000
RSS_SHARE = 0.25
DESCRIPTORS = 12
THREADS = 3
RECORDS = 12
RECORDS_SHARE = 0.1
WORKERS = 2
#: What is kept for people to look at: full after the warm-up.
CONFIGURATION = """
distributed:
  admin:
    low-level-log-length: 2000
  diagnostics:
    computations:
      max-history: 1
    erred-tasks:
      max-history: 5
  scheduler:
    events-cleanup-delay: 20s
  worker:
    task-logs:
      total-bytes: 5 kB
"""


# What tasks do


def inc(x: int) -> int:
    return x + 1


def add(*values: int) -> int:
    return sum(values)


def content(size: int, _: Any = None) -> bytes:
    return bytes(size)


def size(value: bytes) -> int:
    return len(value)


def fail(text: str) -> None:
    raise ValueError(text)


def fail_sometimes(number: int) -> int:
    if random.random() < 0.5:
        raise OSError(number)
    return number


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def inside(number: int) -> int:
    """A task with tasks of its own."""
    client = get_client()
    futures = client.map(inc, range(number), pure=False)
    secede()
    total = sum(client.gather(futures))
    rejoin()
    return total


def printing(number: int) -> int:
    print("from a task", number)
    get_worker().log_event("soak", {"number": number})
    return number


def locked(name: str) -> int:
    with Lock(name), Semaphore(max_leases=2, name=f"{name}-semaphore"):
        return 1


class Counter:
    """An actor."""

    def __init__(self) -> None:
        self.n = 0

    def add(self, n: int) -> int:
        self.n += n
        return self.n


def uploaded() -> int:
    import soak_uploaded  # type: ignore[import-not-found]

    return int(soak_uploaded.VALUE)


class Soak:
    """The cluster that stays, and what is done with it.

    Args:
        seed: of all that is drawn.
        folder: for files.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)
        self.folder = folder
        self.number = 0
        self.done: dict[str, int] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Soak:
        file = self.folder / "scheduler.json"
        (self.folder / "dask.yaml").write_text(CONFIGURATION)
        command = [sys.executable, "-m", "headrace.cli.main"]
        with contextlib.ExitStack() as stack:
            scheduler = [
                "scheduler",
                "--host",
                "127.0.0.1",
                "--port",
                "0",
                "--no-dashboard",
                "--scheduler-file",
                str(file),
            ]
            stack.enter_context(child([*command, *scheduler], self.folder / "scheduler.log"))
            deadline = time.monotonic() + PATIENCE
            while not file.exists() or not file.read_text():
                assert time.monotonic() < deadline, "the scheduler did not start"
                time.sleep(0.05)
            worker = ["worker", "--scheduler-file", str(file), "--nworkers", str(WORKERS), "--nthreads", "2"]
            worker += ["--host", "127.0.0.1", "--name", "soak", "--memory-limit", "2GB", "--no-dashboard"]
            worker += ["--local-directory", str(self.folder)]
            stack.enter_context(child([*command, *worker], self.folder / "workers.log"))
            self.client = stack.enter_context(Client(scheduler_file=str(file), timeout=PATIENCE))
            self.client.wait_for_workers(WORKERS, timeout=PATIENCE)
            self.address = self.client.scheduler.address
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    # What users do

    def submissions(self) -> None:
        client = self.client
        assert client.gather(client.map(inc, range(300), pure=False)) == list(range(1, 301))
        chain = client.submit(inc, 0, pure=False)
        for _ in range(30):
            chain = client.submit(inc, chain, pure=False)
        assert chain.result(PATIENCE) == 31
        parts = client.map(content, [2_000_000] * 8, range(8), pure=False)
        assert sum(client.gather(client.map(size, parts, pure=False))) == 16_000_000
        assert len(parts[0].result(PATIENCE)) == 2_000_000
        graph = dask.delayed(add)(*[dask.delayed(inc)(number) for number in range(50)])
        assert client.compute(graph).result(PATIENCE) == sum(range(1, 51))
        assert client.submit(inside, 10, pure=False).result(PATIENCE) == 55
        assert client.gather(client.map(printing, range(5), pure=False)) == list(range(5))
        [data] = client.scatter([bytes(1_000_000)], broadcast=self.random.random() < 0.5)
        assert client.submit(size, data, pure=False).result(PATIENCE) == 1_000_000
        for future in as_completed(client.map(inc, range(20), pure=False)):
            future.result(PATIENCE)
        done: list[Future[Any]] = []
        future = client.submit(inc, 1, pure=False)
        future.add_done_callback(done.append)
        wait(future, timeout=PATIENCE)
        with client.get_executor() as executor:
            assert list(executor.map(inc, range(10))) == list(range(1, 11))

    def failures(self) -> None:
        client = self.client
        failed = client.submit(fail, "as it is to", pure=False)
        after = client.submit(inc, failed, pure=False)
        assert isinstance(after.exception(PATIENCE), ValueError)
        assert after.traceback(PATIENCE) is not None
        policy = Retry(30, delay=0.01, backoff=1, jitter=0)
        assert client.gather(client.map(fail_sometimes, range(20), retries=policy, pure=False)) == list(range(20))
        naps = client.map(nap, [0.2] * 20, pure=False)
        client.cancel(naps[5:])
        long = client.submit(nap, 30, pure=False)
        time.sleep(0.05)
        client.cancel([long], running=True)
        assert client.gather(naps[:5]) == [0.2] * 5

    def actors(self) -> None:
        counter = self.client.submit(Counter, actor=True, pure=False).result(PATIENCE)
        assert [counter.add(1).result() for _ in range(10)] == list(range(1, 11))

    def primitives(self) -> None:
        client, name = self.client, f"soak-{self.number}"
        assert client.gather(client.map(locked, [name] * 8, pure=False)) == [1] * 8
        with MultiLock([f"{name}-a", f"{name}-b"]):
            pass
        semaphore = Semaphore(max_leases=2, name=f"{name}-semaphore")
        with semaphore:
            pass
        semaphore.close()
        event = Event(f"{name}-event")
        event.set()
        assert event.wait(PATIENCE)
        event.clear()
        queue: Queue = Queue(f"{name}-queue")
        queue.put(1)
        queue.put(client.submit(inc, 1, pure=False))
        assert queue.get() == 1
        assert queue.get().result(PATIENCE) == 2
        queue.close()
        variable = Variable(f"{name}-variable")
        variable.set(client.submit(inc, 2, pure=False))
        assert variable.get().result(PATIENCE) == 3
        variable.delete()
        client.publish_dataset(**{f"{name}-data": client.submit(inc, 3, pure=False)})
        assert client.get_dataset(f"{name}-data").result(PATIENCE) == 4
        client.unpublish_dataset(f"{name}-data")
        heard: list[Any] = []
        client.subscribe_topic("soak", heard.append)
        client.log_event("soak", self.number)
        deadline = time.monotonic() + PATIENCE
        while not heard:
            assert time.monotonic() < deadline, "no event came"
            time.sleep(0.01)
        client.unsubscribe_topic("soak")

    def clients(self) -> None:
        for _ in range(3):
            with Client(self.address, set_as_default=False) as other:
                futures = other.map(inc, range(50), pure=False)
                assert other.gather(futures)[-1] == 50
                other.submit(nap, 0.5, pure=False)  # left behind

    def clusters(self) -> None:
        processes = self.random.random() < 0.5
        with (
            LocalCluster(n_workers=1, threads_per_worker=2, processes=processes, dashboard_address=None) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            assert client.submit(inc, 1).result(PATIENCE) == 2
            assert size(client.submit(content, 3_000_000).result(PATIENCE)) == 3_000_000

    def broken_fetches(self) -> None:
        """A worker dies while it serves large data to another, or to a client."""
        pids = {name: pid for pid, name in self.client.run(_who).values()}
        serving, asking = self.random.sample(sorted(pids), 2)
        data = self.client.submit(content, 200_000_000, workers=[serving], pure=False)
        wait(data, timeout=PATIENCE)
        stopped = self.random.random() < 0.5
        if stopped:
            os.kill(pids[serving], signal.SIGSTOP)
        asked = self.client.submit(size, data, workers=[asking], pure=False)
        time.sleep(self.random.choice([0.0, 0.01, 0.03, 0.1]))
        if stopped:
            os.kill(pids[serving], signal.SIGCONT)
            time.sleep(self.random.choice([0.0, 0.01, 0.03]))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[serving], signal.SIGKILL)
        assert asked.result(PATIENCE) == 200_000_000
        assert len(data.result(PATIENCE)) == 200_000_000
        self.client.wait_for_workers(WORKERS, timeout=PATIENCE)

    def stopped_clients(self) -> None:
        """A client's process stops for a while, amid work and events for it."""
        command = [sys.executable, "-m", "tests.integration.soak", "--client", self.address]
        environment = {**os.environ, "PYTHONPATH": _path()}
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"works\n"
            process.send_signal(signal.SIGSTOP)
            for number in range(20):  # each is kept, up to EVENTS_KEPT
                self.client.log_event("soak", number)
            self.client.gather(
                self.client.map(printing, range(100), pure=False)
            )  # what tasks print goes to all clients
            time.sleep(self.random.choice([0.2, 1.0]))
            process.send_signal(signal.SIGCONT)
            if self.random.random() < 0.3:
                process.kill()
            else:
                process.stdin.close()
                assert process.wait(PATIENCE) == 0

    def uploads(self) -> None:
        file = self.folder / "soak_uploaded.py"
        file.write_text(f"VALUE = {self.number}\n" + f"# {'x' * self.number}\n")
        self.client.upload_file(str(file))
        values = {
            self.client.submit(uploaded, pure=False, workers=[f"soak-{n}"]).result(PATIENCE) for n in range(WORKERS)
        }
        assert values == {self.number}, values

    #: All of these, in an order that is drawn.
    ACTIVITIES = (
        submissions,
        failures,
        actors,
        primitives,
        clients,
        clusters,
        broken_fetches,
        stopped_clients,
        uploads,
    )

    def round(self, leave_out: tuple[str, ...] = ()) -> None:
        """Do everything once."""
        self.number += 1
        activities: list[Callable[[Soak], None]] = list(self.ACTIVITIES)
        self.random.shuffle(activities)
        for activity in activities:
            if activity.__name__ not in leave_out:
                activity(self)
                self.done[activity.__name__] = self.done.get(activity.__name__, 0) + 1

    # What is left

    def count(self) -> dict[str, dict[str, Any]]:
        """The census of each kind of process; of workers the most that any of them has."""
        self.client.wait_for_workers(WORKERS, timeout=PATIENCE)
        assert self.client.submit(inc, 0, pure=False).result(PATIENCE) == 1  # the latest computation, which is kept
        workers = list(self.client.run(census).values())
        most = {name: max(worker[name] for worker in workers) for name in ("rss", "fds", "threads")}
        names = {name for worker in workers for name in worker["records"]}
        records = {name: max(worker["records"].get(name, 0) for worker in workers) for name in names}
        return {
            "scheduler": self.client.run_on_scheduler(census),
            "worker": {**most, "records": records},
            "client": census(),
        }

    def settled(
        self, before: dict[str, dict[str, Any]] | None, memory: bool = True
    ) -> tuple[dict[str, dict[str, Any]], list[str]]:
        """A census once nothing has grown any more since `before`, or time is up; and what has."""
        deadline = time.monotonic() + SETTLE
        last = self.count()
        while True:
            time.sleep(1.0)
            now = self.count()
            # at first until nothing goes any more, later until nothing is more than before
            grown = growth(now, last, 0.0, memory) if before is None else growth(before, now, 1.0, memory)
            left = now["scheduler"]["records"].get("headrace.scheduler.state.core.SchedulerCore.tasks", 0)
            if (not grown and not left) or time.monotonic() > deadline:
                return now, grown
            last = now


def growth(
    before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]], shares: float = 1.0, memory: bool = True
) -> list[str]:
    """What has grown beyond its margin, in words.

    Args:
        shares: how much of the margins counts.
        memory: whether memory is compared; it takes many rounds until it tells more than chance does.
    """
    grown = []
    for process, now in after.items():
        then = before[process]
        margins = {
            "rss": max(2e6, shares * (RSS_BYTES + RSS_SHARE * then["rss"])) if memory else float("inf"),
            "fds": shares * DESCRIPTORS,
            "threads": shares * THREADS,
        }
        for name, margin in margins.items():
            if now[name] > then[name] + margin:
                grown.append(f"{process} {name}: {then[name]} -> {now[name]}")
        for name, count in sorted(now["records"].items()):
            known = then["records"].get(name, 0)
            if count > known + shares * (RECORDS + RECORDS_SHARE * known):
                grown.append(f"{process} {name}: {known} -> {count}")
    return grown


def table(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> str:
    """What was and is there, with the records that differ most."""
    lines = [f"{'':10}{'':70}{'warm':>12}{'end':>12}"]
    for process, now in after.items():
        then = before[process]
        lines.append(f"{process:10}{'memory, MB':70}{then['rss'] / 1e6:12.1f}{now['rss'] / 1e6:12.1f}")
        lines += [f"{process:10}{label:70}{then[name]:12}{now[name]:12}" for name, label in _COUNTS]
        totals = [sum(each["records"].values()) for each in (then, now)]
        lines.append(f"{process:10}{'records, all':70}{totals[0]:12}{totals[1]:12}")
        changed = {name: now["records"].get(name, 0) - then["records"].get(name, 0) for name in now["records"]}
        for name in sorted(changed, key=lambda name: -changed[name])[:8]:
            if changed[name] > 0:
                row = f"  {name.removeprefix('headrace.')}"
                lines.append(f"{process:10}{row:70}{then['records'].get(name, 0):12}{now['records'].get(name, 0):12}")
    return "\n".join(lines)


_COUNTS = (("fds", "descriptors"), ("threads", "threads"))


def _who(dask_worker: Any) -> tuple[int, str]:
    return os.getpid(), str(dask_worker.name)


def _path() -> str:
    root = Path(__file__).resolve().parents[2]
    return os.pathsep.join([str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")])


@contextlib.contextmanager
def child(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that ends with the block; what it says goes to a file."""
    with open(log, "wb") as file:
        environment = {**os.environ, "PYTHONPATH": _path(), "DASK_CONFIG": str(log.parent / "dask.yaml")}
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def be_client(address: str) -> None:
    """Another client's process: it works and listens until its input ends."""
    with Client(address) as client:
        client.subscribe_topic("soak", lambda event: None)
        futures = client.map(content, [200_000] * 20, range(20), pure=False)
        client.gather(futures)
        more = client.map(nap, [0.1] * 10, pure=False)
        print("works", flush=True)
        sys.stdin.read()
        client.gather(more)


def run(seconds: float, seed: int, folder: Path) -> int:
    """Soak for so long; prints the table, and returns the status."""
    with Soak(seed, folder) as soak:
        began = time.monotonic()
        soak.round()
        soak.round()
        before, _ = soak.settled(None)
        print(f"warm after {time.monotonic() - began:.0f} s", flush=True)
        shown = time.monotonic()
        while time.monotonic() - began < seconds:
            soak.round()
            if time.monotonic() - shown > 60:
                shown = time.monotonic()
                found = soak.count()
                rss = {process: f"{each['rss'] / 1e6:.0f} MB" for process, each in found.items()}
                print(f"{shown - began:.0f} s, round {soak.number}: {rss}", flush=True)
        after, grown = soak.settled(before)
        print(table(before, after))
        print(f"{soak.number} rounds in {time.monotonic() - began:.0f} s: {soak.done}")
        for line in grown:
            print("GROWN", line)
        print("nothing is left over" if not grown else f"{len(grown)} things have grown")
    return bool(grown)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--client", help="be another client of this scheduler")
    options = parser.parse_args()
    if options.client:
        be_client(options.client)
        return
    with tempfile.TemporaryDirectory(prefix="headrace-soak-") as folder:
        sys.exit(run(options.seconds, options.seed, Path(folder)))


if __name__ == "__main__":
    from tests.integration.soak import main  # by its name, so that workers find the functions

    main()
