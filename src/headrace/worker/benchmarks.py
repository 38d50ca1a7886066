"""Speed of this machine's disk, memory and network, measured by moving random bytes for a moment."""

from __future__ import annotations

import asyncio
import os
import pathlib
import random
import tempfile
from collections.abc import Iterable
from time import perf_counter
from typing import Any

from headrace.config import parse_bytes, parse_seconds
from headrace.protocol import Serialize


def benchmark_disk(
    rootdir: str | None = None,
    sizes: Iterable[str] = ("1 kiB", "100 kiB", "1 MiB", "10 MiB", "100 MiB"),
    duration: str = "1 s",
) -> dict[str, float]:
    """Bytes per second written to a folder on disk.

    Args:
        rootdir: where to make the folder; it is removed afterwards.
        sizes: of the files, as text with a unit.
        duration: how long to measure each size.

    Returns:
        {size: bytes per second}
    """
    seconds = parse_seconds(duration)
    found = {}
    for size_text in sizes:
        size = parse_bytes(size_text)
        with tempfile.TemporaryDirectory(dir=rootdir) as folder:
            data = os.urandom(size)
            total, start = 0, perf_counter()
            while (elapsed := perf_counter() - start) < seconds or not total:
                path = pathlib.Path(folder) / str(random.randrange(100))
                with path.open("ab") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                total += size
                if path.stat().st_size > 100 * size:
                    path.unlink()
            found[size_text] = total / max(elapsed, perf_counter() - start)
    return found


def benchmark_memory(
    sizes: Iterable[str] = ("2 kiB", "10 kiB", "100 kiB", "1 MiB", "10 MiB"), duration: str = "200 ms"
) -> dict[str, float]:
    """Bytes per second copied in memory; parameters as of `benchmark_disk`."""
    seconds = parse_seconds(duration)
    found = {}
    for size_text in sizes:
        size = parse_bytes(size_text)
        data = bytearray(os.urandom(size))
        total, start = 0, perf_counter()
        while (elapsed := perf_counter() - start) < seconds or not total:
            bytes(data)
            total += size
        found[size_text] = total / max(elapsed, 1e-9)
    return found


async def benchmark_network(
    address: str,
    rpc: Any,
    sizes: Iterable[str] = ("1 kiB", "10 kiB", "100 kiB", "1 MiB", "10 MiB", "50 MiB"),
    duration: str = "1 s",
) -> dict[str, float]:
    """Bytes per second to another server and back.

    Args:
        address: of the server.
        rpc: calls servers: a `ConnectionPool`, or the class `rpc`.
        sizes, duration: as of `benchmark_disk`.
    """
    seconds = parse_seconds(duration)
    found = {}
    async with rpc(address) as peer:
        for size_text in sizes:
            size = parse_bytes(size_text)
            data = Serialize(os.urandom(size))
            total, start = 0, perf_counter()
            while (elapsed := perf_counter() - start) < seconds or not total:
                await peer.echo(data=data)
                total += 2 * size
            found[size_text] = total / max(elapsed, 1e-9)
            await asyncio.sleep(0)
    return found
