"""How fast this machine's disk and memory, and the network to another worker, are. Each takes some seconds."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from typing import Any

from headrace.config import parse_bytes, parse_seconds

DISK_SIZES = ("1 kiB", "100 kiB", "1 MiB", "10 MiB", "100 MiB")
MEMORY_SIZES = ("2 kiB", "10 kiB", "100 kiB", "1 MiB", "10 MiB")
NETWORK_SIZES = ("1 kiB", "10 kiB", "100 kiB", "1 MiB", "10 MiB", "50 MiB")


def benchmark_disk(
    rootdir: str | None = None, sizes: Iterable[str] = DISK_SIZES, duration: float | str = "1 s"
) -> dict[str, float]:
    """Write files of several sizes, for some time each; they are removed.

    Args:
        rootdir: a directory on the disk; that of temporary files by default.
        sizes: of the files.
        duration: seconds, or text, a size.

    Returns:
        {size: bytes a second}.
    """
    found = {}
    with tempfile.TemporaryDirectory(dir=rootdir, prefix="headrace-benchmark-") as directory:
        names = [os.path.join(directory, str(number)) for number in range(100)]
        for size in sizes:
            data = os.urandom(parse_bytes(size))
            turn = 0

            def write(data: bytes = data) -> int:
                nonlocal turn
                turn += 1
                with open(names[turn % (100 if len(data) <= 1 << 20 else 3)], "wb", buffering=0) as file:
                    file.write(data)
                    os.fsync(file.fileno())
                return len(data)

            found[size] = _speed(write, parse_seconds(duration))
    return found


def benchmark_memory(sizes: Iterable[str] = MEMORY_SIZES, duration: float | str = "200 ms") -> dict[str, float]:
    """Copy blocks of several sizes, for some time each.

    Args:
        sizes: of the blocks.
        duration: seconds, or text, a size.

    Returns:
        {size: bytes a second}.
    """
    found = {}
    for size in sizes:
        data = bytearray(os.urandom(parse_bytes(size)))

        def copy(data: bytearray = data) -> int:
            return len(data[:-1]) + 1

        found[size] = _speed(copy, parse_seconds(duration))
    return found


def _speed(act: Callable[[], int], seconds: float) -> float:
    start = time.perf_counter()
    end, total = start + seconds, act()
    while (now := time.perf_counter()) < end:
        total += act()
    return total / (now - start)


async def benchmark_network(
    address: str, rpc: Any, sizes: Iterable[str] = NETWORK_SIZES, duration: float | str = "1 s"
) -> dict[str, float]:
    """Send blocks of several sizes to another server and back, for some time each.

    Args:
        address: of the other one.
        rpc: connections: called with the address it gives something with an `echo`.
        sizes: of the blocks.
        duration: seconds, or text, a size.

    Returns:
        {size: bytes a second, both ways together}.
    """
    found = {}
    other = rpc(address)
    for size in sizes:
        data = os.urandom(parse_bytes(size))
        start = time.perf_counter()
        end, total = start + parse_seconds(duration), 0
        while (now := time.perf_counter()) < end or not total:
            await other.echo(data=data)
            total += 2 * len(data)
        found[size] = total / (now - start)
    return found


class BenchmarkMethods:
    """What a `Worker` offers of these."""

    rpc: Any
    local_directory: str

    async def benchmark_disk(self) -> dict[str, float]:
        """Speed of the disk that this worker spills to: {size: bytes a second}."""
        return await _in_thread(benchmark_disk, self.local_directory or None)

    async def benchmark_memory(self) -> dict[str, float]:
        """Speed of memory: {size: bytes a second}."""
        return await _in_thread(benchmark_memory)

    async def benchmark_network(self, address: str) -> dict[str, float]:
        """Speed of the network to another worker: {size: bytes a second}."""
        return await benchmark_network(address=address, rpc=self.rpc.rpc)


async def _in_thread(function: Callable[..., dict[str, float]], *args: Any) -> dict[str, float]:
    import asyncio

    return await asyncio.to_thread(function, *args)
