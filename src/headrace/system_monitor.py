"""Readings of this process and its machine over time: processor, memory, network, disks, open files, graphics card.

Reads the system's tables and nothing else; nothing is read unless somebody calls `update`.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from headrace import config, graphics_cards
from headrace.common.display.units import bytes_in_words
from headrace.machine import process_memory

#: Bytes of a sector in the system's table of disks.
SECTOR = 512
#: Stands for "as configured", where None means without limit.
CONFIGURED: Any = object()


class SystemMonitor:
    """Keeps the latest readings, the first of which is made with it.

    Args:
        maxlen: readings to keep; None for all. By default `distributed.admin.system-monitor.log-length`.
        monitor_disk_io, monitor_host_cpu: whether disks, and all processors of the machine, are read as well; by
            default `distributed.admin.system-monitor.disk` and `.host-cpu`.
        monitor_gil_contention: accepted for compatibility: the interpreter's lock is not watched.

    Attributes:
        quantities: the readings by name, oldest first: `cpu` in percent of one processor, `memory` in bytes, `time` in
            seconds since the epoch, `num_fds`, `host_net_io.read_bps` and `.write_bps` in bytes per second,
            `host_disk_io.` likewise, `host_cpu.` the share of the time by kind, `gpu_utilization` in percent and
            `gpu_memory_used` in bytes.
        count: how many readings have been made.
        last_time: when the latest was, in seconds of the monotonic clock.
        gpu_name, gpu_memory_total: of the card that this process uses; None and -1 without one.
    """

    def __init__(
        self,
        maxlen: int | None = CONFIGURED,
        monitor_disk_io: bool | None = None,
        monitor_host_cpu: bool | None = None,
        monitor_gil_contention: bool | None = None,
    ) -> None:
        if maxlen is CONFIGURED:
            maxlen = config.get("distributed.admin.system-monitor.log-length")
        self.maxlen = None if maxlen is None else max(1, int(maxlen))
        self.monitor_net_io = True
        self.monitor_disk_io = _chosen(monitor_disk_io, "disk")
        self.monitor_host_cpu = _chosen(monitor_host_cpu, "host-cpu")
        self.monitor_gil_contention = False
        self.quantities: dict[str, deque[Any]] = {}
        self.count = 0
        self.last_time = time.monotonic()
        self._used = time.process_time()
        self._before: dict[str, tuple[int, int]] = {}
        self._host_before: dict[str, float] = {}
        self.gpu_name: str | None = None
        self.gpu_memory_total = -1
        if graphics_cards.device_get_count():
            card = graphics_cards.one_time()
            self.gpu_name, self.gpu_memory_total = card["name"], card["memory-total"]
        self.update()

    def __repr__(self) -> str:
        now = self.recent()
        return f"<SystemMonitor: cpu: {now['cpu']:.0f}% memory: {bytes_in_words(now['memory'])} fds: {now['num_fds']}>"

    @property
    def proc(self) -> Any:
        """This process, as `psutil.Process`."""
        import psutil

        return psutil.Process()

    def get_process_memory(self) -> int:
        """Bytes that this process takes now. A worker decides by it when to spill and pause: tests may replace it."""
        return process_memory()

    def update(self) -> dict[str, Any]:
        """Make a reading, and give it: values by name."""
        now, used = time.monotonic(), time.process_time()
        seconds = now - self.last_time
        busy = round(100 * (used - self._used) / seconds, 1) if self.count and seconds > 0 else 0.0
        self.last_time, self._used = now, used
        reading: dict[str, Any] = {"cpu": busy, "memory": self.get_process_memory(), "time": time.time()}
        if self.monitor_net_io:
            self._add_speeds(reading, "host_net_io", network_bytes, seconds)
        if self.monitor_disk_io:
            self._add_speeds(reading, "host_disk_io", disk_bytes, seconds)
        if self.monitor_host_cpu:
            self._add_host_cpu(reading, seconds)
        reading["num_fds"] = open_files()
        if self.gpu_name is not None:
            card = graphics_cards.real_time()
            reading["gpu_utilization"], reading["gpu_memory_used"] = card["utilization"], card["memory-used"]
        for name, value in reading.items():
            kept = self.quantities.get(name)
            if kept is None:
                kept = self.quantities[name] = deque(maxlen=self.maxlen)
            kept.append(value)
        self.count += 1
        return reading

    def _add_speeds(
        self, reading: dict[str, Any], name: str, total: Callable[[], tuple[int, int] | None], seconds: float
    ) -> None:
        totals = total()
        if totals is None:  # this system does not tell
            return
        before = self._before.get(name, totals)
        self._before[name] = totals
        for which, now, then in zip(("read_bps", "write_bps"), totals, before, strict=True):
            reading[f"{name}.{which}"] = (now - then) / seconds if seconds > 0 else 0.0

    def _add_host_cpu(self, reading: dict[str, Any], seconds: float) -> None:
        import psutil

        times = psutil.cpu_times()._asdict()
        for name, value in times.items():
            gone = value - self._host_before.get(name, value)
            reading[f"host_cpu.{name}"] = gone / seconds if seconds > 0 else 0.0
        self._host_before = times

    def recent(self) -> dict[str, Any]:
        """The latest reading."""
        return {name: values[-1] for name, values in self.quantities.items()}

    def range_query(self, start: int) -> dict[str, list[Any]]:
        """Readings from one on.

        Args:
            start: number of the first, counted from the beginning; as `count` was when others were asked for.
        """
        wanted = max(0, self.count - start)
        return {name: list(values)[max(0, len(values) - wanted) :] for name, values in self.quantities.items()}

    def close(self) -> None:
        """Make no more readings; nothing has to be given back."""


def _chosen(given: bool | None, setting: str) -> bool:
    return config.truth(f"distributed.admin.system-monitor.{setting}") if given is None else bool(given)


def network_bytes() -> tuple[int, int] | None:
    """Bytes that this machine has received and sent since it started; None where that cannot be known."""
    try:
        with open("/proc/net/dev", "rb") as file:
            rows = [line.rpartition(b":")[2].split() for line in file.readlines()[2:]]
        return sum(int(row[0]) for row in rows), sum(int(row[8]) for row in rows)
    except (OSError, IndexError, ValueError):
        return _of_psutil("net_io_counters", "bytes_recv", "bytes_sent")


def disk_bytes() -> tuple[int, int] | None:
    """Bytes that were read from this machine's disks and written to them; None where that cannot be known."""
    try:
        disks = {name.encode() for name in os.listdir("/sys/block") if not name.startswith(("loop", "ram"))}
        with open("/proc/diskstats", "rb") as file:
            rows = [row for row in map(bytes.split, file) if row[2] in disks]
        return SECTOR * sum(int(row[5]) for row in rows), SECTOR * sum(int(row[9]) for row in rows)
    except (OSError, IndexError, ValueError):
        return _of_psutil("disk_io_counters", "read_bytes", "write_bytes")


def _of_psutil(question: str, read: str, written: str) -> tuple[int, int] | None:
    import psutil

    try:
        answer = getattr(psutil, question)()
    except (OSError, RuntimeError, psutil.Error):
        return None
    return None if answer is None else (getattr(answer, read), getattr(answer, written))


def open_files() -> int:
    """Descriptors (on Windows, handles) that this process has open."""
    try:
        return len(os.listdir("/proc/self/fd")) - 1  # but the one that is read here
    except OSError:
        import psutil

        process = psutil.Process()
        return int(process.num_fds() if hasattr(process, "num_fds") else process.num_handles())
