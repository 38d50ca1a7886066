"""Readings of memory add up, and the settings that judge them come from the configuration."""

from __future__ import annotations

import dask
import pytest

from headrace.scheduler import MemoryState, WorkerState
from headrace.scheduler.memory_settings import MemorySettings
from headrace.scheduler.state.records.memory_readings import UnmanagedHistory


def test_readings_add_up() -> None:
    memory = MemoryState(process=100, unmanaged_old=15, managed=68, spilled=12)
    assert (memory.unmanaged, memory.unmanaged_recent) == (32, 17)
    assert (memory.optimistic, memory.managed_total) == (83, 80)
    total = MemoryState.sum(memory, memory)
    assert (total.process, total.spilled, total.unmanaged_recent) == (200, 24, 34)
    assert MemoryState.sum() == MemoryState(process=0, unmanaged_old=0, managed=0, spilled=0)
    assert "unmanaged (recent)" in repr(memory)


def test_readings_of_different_moments_do_not_exceed_the_whole() -> None:
    memory = MemoryState(process=100, unmanaged_old=50, managed=130, spilled=0)
    assert (memory.managed, memory.unmanaged, memory.unmanaged_old, memory.unmanaged_recent) == (100, 0, 0, 0)
    memory = MemoryState(process=100, unmanaged_old=50, managed=-3, spilled=0)
    assert (memory.managed, memory.unmanaged, memory.unmanaged_old) == (0, 100, 50)


def test_the_least_over_a_time_that_slides() -> None:
    history = UnmanagedHistory()
    assert history.least == 0
    found = []
    for now, unmanaged in enumerate([5, 3, 8, 9, 4, 7, 7]):
        history.add(now, unmanaged, seconds=2)
        found.append(history.least)
    assert found == [5, 3, 3, 3, 4, 4, 4]


def test_a_worker_before_and_after_its_first_heartbeat() -> None:
    worker = WorkerState("tcp://127.0.0.1:1")
    worker.nbytes = 30
    assert worker.memory == MemoryState(process=0, unmanaged_old=0, managed=0, spilled=0)
    worker.on_metrics({"memory": 100, "spilled_bytes": {"memory": 10, "disk": 4}}, 1.0, 30.0)
    assert worker.memory == MemoryState(process=100, unmanaged_old=80, managed=20, spilled=4)
    worker.on_metrics({"memory": 150}, 2.0, 30.0)
    assert (worker.memory.unmanaged_old, worker.memory.unmanaged_recent) == (80, 40)


def test_settings() -> None:
    with dask.config.set(
        {
            "distributed.worker.memory.recent-to-old-time": "5s",
            "distributed.worker.memory.rebalance.measure": "managed",
            "distributed.worker.memory.rebalance.sender-recipient-gap": 0.2,
        }
    ):
        settings = MemorySettings.from_config()
    assert settings == MemorySettings(5.0, "managed", 0.3, 0.6, 0.1)
    with (
        dask.config.set({"distributed.worker.memory.rebalance.measure": "weight"}),
        pytest.raises(ValueError, match="measure is 'weight'; it can be one of"),
    ):
        MemorySettings.from_config()
