"""What HTTP costs: `python -m benchmarks.http_costs` prints the figures of the HTTP server in one run.

Each figure is a ratio, or a time of one run next to what it is to stay under; compare figures of one run only.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable

import psutil

from headrace import Client, LocalCluster, Scheduler, Worker

REQUEST = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def _request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: bytes) -> int:
    writer.write(REQUEST % path)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return len(await reader.readexactly(length))


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def _double(x: int) -> int:
    return 2 * x


def health_under_load() -> dict[str, float]:
    """Milliseconds of `/health`, on a quiet cluster and while 100,000 tasks run."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        port = cluster.scheduler.http_server.port
        stop = threading.Event()

        def probe(into: list[float]) -> None:
            async def run() -> None:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while not stop.is_set():
                    began = time.perf_counter()
                    await _request(reader, writer, b"/health")
                    into.append(1000 * (time.perf_counter() - began))
                    await asyncio.sleep(0.01)
                writer.close()

            asyncio.run(run())

        found: dict[str, list[float]] = {}
        for name in ("quiet", "loaded"):
            stop.clear()
            found[name] = []
            thread = threading.Thread(target=probe, args=(found[name],))
            thread.start()
            if name == "loaded":
                for _ in range(5):
                    client.gather(client.map(_double, range(20_000), pure=False))
            else:
                time.sleep(3)
            stop.set()
            thread.join()
    return {
        "/health, quiet, median ms": statistics.median(found["quiet"]),
        "/health, 100k tasks run, median ms": statistics.median(found["loaded"]),
        "/health, 100k tasks run, p99 ms (under 20)": _percentile(found["loaded"], 0.99),
    }


async def idle_cost() -> dict[str, float]:
    """CPU of a process with a scheduler and a worker, with HTTP (asked once) and without, for the same time."""
    used: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(4):
        for with_http in (True, False):
            address = ":0" if with_http else None
            async with (
                Scheduler(host="127.0.0.1", dashboard_address=address) as scheduler,
                Worker(scheduler.address, nthreads=1, dashboard_address=address),
            ):
                if with_http:
                    reader, writer = await asyncio.open_connection("127.0.0.1", scheduler.http_server.port)
                    await _request(reader, writer, b"/health")
                    writer.close()
                await asyncio.sleep(1)
                began = time.process_time()
                await asyncio.sleep(4)
                used[with_http].append(time.process_time() - began)
    return {"idle CPU, with HTTP / without": statistics.median(used[True]) / statistics.median(used[False])}


async def many_requests() -> dict[str, float]:
    """What 10,000 requests leave in the process: file descriptors, objects, bytes."""
    async with Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler:
        port = scheduler.http_server.port
        process = psutil.Process()

        async def ask(count: int) -> None:
            for number in range(count // 10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                for _ in range(9):
                    await _request(reader, writer, b"/metrics" if number % 10 == 0 else b"/health")
                await _request(reader, writer, b"/nowhere")
                writer.close()
                await writer.wait_closed()
            await asyncio.sleep(0.2)
            gc.collect()

        await ask(2_000)
        before = (len(os.listdir("/proc/self/fd")), len(gc.get_objects()), process.memory_info().rss)
        await ask(10_000)
        after = (len(os.listdir("/proc/self/fd")), len(gc.get_objects()), process.memory_info().rss)
    return {
        "10,000 requests, descriptors more": after[0] - before[0],
        "10,000 requests, objects more": after[1] - before[1],
        "10,000 requests, MB more": (after[2] - before[2]) / 1e6,
    }


#: 500 connections that each send a byte of a request every two seconds.
SLOW = """
import socket, sys, time
connections = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(500)]
print("connected", flush=True)
while True:
    for connection in connections:
        try:
            connection.send(b"G")
        except OSError:
            pass
        time.sleep(0.004)
"""


async def slow_connections() -> dict[str, float]:
    """Seconds of a `submit().result()` with 500 slow connections at the scheduler, over those without."""
    async with (
        Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler,
        Worker(scheduler.address, nthreads=1),
        Client(scheduler.address, asynchronous=True) as client,
    ):

        async def trips(count: int) -> float:
            began = time.perf_counter()
            for number in range(count):
                await client.submit(_double, number, pure=False)
            return (time.perf_counter() - began) / count

        await trips(300)
        ratios = []
        for _ in range(5):
            without = await trips(1000)
            slow = await asyncio.create_subprocess_exec(
                sys.executable, "-c", SLOW, str(scheduler.http_server.port), stdout=asyncio.subprocess.PIPE
            )
            assert slow.stdout is not None
            await slow.stdout.readline()
            ratios.append(await trips(1000) / without)
            slow.kill()
            await slow.wait()
    return {"submit().result(), 500 slow connections / none (under 1.1)": statistics.median(ratios)}


def starts() -> dict[str, float]:
    """Seconds until a LocalCluster with a worker process has started, with HTTP over without."""
    used: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(6):
        for with_http in (True, False):
            address = ":0" if with_http else None
            began = time.perf_counter()
            with LocalCluster(
                n_workers=1, threads_per_worker=1, dashboard_address=address, worker_dashboard_address=address
            ):
                used[with_http].append(time.perf_counter() - began)
    return {
        "start of a LocalCluster, with HTTP / without": statistics.median(used[True]) / statistics.median(used[False])
    }


def main() -> None:
    """Measure all, and print a line for each figure."""
    measured: list[Callable[[], dict[str, float]]] = [
        starts,
        lambda: asyncio.run(idle_cost()),
        lambda: asyncio.run(many_requests()),
        lambda: asyncio.run(slow_connections()),
        health_under_load,
    ]
    for measure in measured:
        for name, value in measure().items():
            print(f"{name:60} {value:10.3f}", flush=True)


if __name__ == "__main__":
    main()
