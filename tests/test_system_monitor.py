"""Readings of a process and its machine."""

from __future__ import annotations

import os

import dask
import pytest

from headrace import graphics_cards
from headrace.system_monitor import SystemMonitor, disk_bytes, network_bytes, open_files

USUAL = {
    "cpu",
    "memory",
    "time",
    "num_fds",
    "host_net_io.read_bps",
    "host_net_io.write_bps",
    "host_disk_io.read_bps",
    "host_disk_io.write_bps",
}


def test_the_latest_readings_are_kept() -> None:
    monitor = SystemMonitor(maxlen=3)
    assert monitor.count == 1
    readings = [monitor.update() for _ in range(4)]
    assert monitor.count == 5
    assert monitor.recent() == readings[-1]
    assert readings[-1].keys() == USUAL
    assert monitor.quantities["time"].maxlen == 3
    for start, number in [(0, 3), (2, 3), (3, 2), (4, 1), (5, 0), (9, 0), (-1, 3)]:
        assert {len(values) for values in monitor.range_query(start).values()} == {number}
    assert monitor.range_query(4) == {name: [value] for name, value in readings[-1].items()}
    assert monitor.proc.pid == os.getpid()
    assert monitor.get_process_memory() > 2**20
    assert "memory: " in repr(monitor)
    monitor.close()


def test_what_is_read_is_configured_or_said() -> None:
    assert SystemMonitor(monitor_disk_io=False).recent().keys() == {name for name in USUAL if "disk" not in name}
    assert "host_cpu.user" in SystemMonitor(monitor_host_cpu=True).recent()
    assert SystemMonitor(maxlen=None).maxlen is None
    section = "distributed.admin.system-monitor"
    with dask.config.set({f"{section}.log-length": 2, f"{section}.disk": False, f"{section}.host-cpu": True}):
        monitor = SystemMonitor()
    assert monitor.maxlen == 2
    assert "host_disk_io.read_bps" not in monitor.quantities
    assert "host_cpu.idle" in monitor.quantities


def test_speeds_are_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = iter([(1000, 50), (3000, 50)])
    monkeypatch.setattr("headrace.system_monitor.network_bytes", lambda: next(totals))
    monitor = SystemMonitor()
    assert monitor.recent()["host_net_io.read_bps"] == 0
    before = monitor.last_time
    reading = monitor.update()
    assert reading["host_net_io.read_bps"] == pytest.approx(2000 / (monitor.last_time - before))
    assert reading["host_net_io.write_bps"] == 0


def test_what_is_counted() -> None:
    before = open_files()
    with open(os.devnull):
        assert open_files() == before + 1
    for total in (network_bytes(), disk_bytes()):
        assert total is not None
        assert min(total) >= 0


def test_a_graphics_card_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphics_cards, "device_get_count", lambda: 1)
    monkeypatch.setattr(graphics_cards, "one_time", lambda: {"name": "card", "memory-total": 100})
    monkeypatch.setattr(graphics_cards, "real_time", lambda: {"utilization": 7, "memory-used": 30})
    monitor = SystemMonitor()
    assert (monitor.gpu_name, monitor.gpu_memory_total) == ("card", 100)
    assert monitor.recent()["gpu_utilization"] == 7
    assert monitor.recent()["gpu_memory_used"] == 30
