"""What 100 k no-op tasks cost the scheduler's process: CPU time from submission to the last result, and memory kept."""

from __future__ import annotations

from typing import Any

import psutil


def no_op(x: int) -> int:
    return x


def run(session: Any) -> dict[str, float]:
    from distributed import wait

    client, count = session.client, session.size(100_000)
    wait(client.map(no_op, range(-1_000, 0)))
    process = psutil.Process(session.scheduler_pid)
    cpu, memory = _cpu_seconds(process), process.memory_info().rss
    futures = client.map(no_op, range(count))
    wait(futures)
    assert futures[-1].result() == count - 1
    return {
        "cpu_microseconds": (_cpu_seconds(process) - cpu) / count * 1e6,
        "bytes_per_task": (process.memory_info().rss - memory) / count,
    }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
