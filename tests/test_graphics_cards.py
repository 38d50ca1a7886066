"""What is said of graphics cards, by a library that makes them up."""

from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import dask
import pytest

from headrace import graphics_cards
from headrace.graphics_cards import CudaContext, CudaDeviceInfo


class _Failed(Exception):
    """What the library raises."""


class _Library(ModuleType):
    """A `pynvml` with two cards; the second one is split into instances, of which there is number 1 only."""

    NVMLError = _Failed

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.users: dict[str, list[int]] = {"GPU-0": [], "GPU-1": [], "MIG-1-1": []}
        self.nvmlDeviceGetComputeRunningProcesses = self.processes

    def nvmlInit(self) -> None:
        """Be ready."""

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return ["GPU-0", "GPU-1"][index]

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes) -> str:
        return uuid.decode()

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return handle

    def nvmlDeviceGetIndex(self, handle: str) -> int:
        return int(handle[-1])

    def nvmlDeviceGetMigMode(self, handle: str) -> list[int]:
        if handle == "GPU-0":
            raise _Failed("not supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: str) -> int:
        return 2

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: str, index: int) -> str:
        if index != 1:
            raise _Failed("not found")
        return "MIG-1-1"

    def processes(self, handle: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=pid) for pid in self.users[handle]]

    def nvmlDeviceGetName(self, handle: str) -> bytes:
        return f"card {handle}".encode()

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(total=1000, used=10)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        raise _Failed("not supported")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> _Library:
    made = _Library()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.setattr(graphics_cards, "_loaded", None)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(graphics_cards, "_loaded", None)


def _without_cards() -> None:
    assert graphics_cards.device_get_count() == 0
    assert graphics_cards.has_cuda_context() == CudaContext(False, None)
    assert not graphics_cards.is_initialized()
    questions: list[Any] = [
        graphics_cards.real_time,
        graphics_cards.one_time,
        lambda: graphics_cards.get_device_index_and_uuid(0),
        lambda: graphics_cards.get_device_mig_mode(0),
    ]
    for question in questions:
        with pytest.raises(RuntimeError, match="nvidia-ml-py"):
            question()


def test_without_the_library(nothing: None) -> None:
    _without_cards()


def test_switched_off(library: _Library) -> None:
    with dask.config.set({"distributed.diagnostics.nvml": False}):
        _without_cards()


def test_without_a_driver(library: _Library, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise _Failed("no driver")

    monkeypatch.setattr(library, "nvmlInit", init)
    _without_cards()


def test_cards_by_number_and_uuid(library: _Library) -> None:
    assert not graphics_cards.is_initialized()
    graphics_cards.init_once()
    assert graphics_cards.is_initialized()
    assert graphics_cards.device_get_count() == 2
    for device in (0, "0", "GPU-0", b"GPU-0"):
        assert graphics_cards.get_device_index_and_uuid(device) == CudaDeviceInfo("GPU-0", 0, None)
        assert graphics_cards.get_device_mig_mode(device) == 0
    assert graphics_cards.get_device_mig_mode(1) == 1
    assert graphics_cards.get_device_index_and_uuid("MIG-1-1") == CudaDeviceInfo("MIG-1-1", 1, 1)


@pytest.mark.parametrize(
    ("user", "info"), [("GPU-0", CudaDeviceInfo("GPU-0", 0)), ("MIG-1-1", CudaDeviceInfo("MIG-1-1", 1, 1))]
)
def test_who_uses_a_card(library: _Library, user: str, info: CudaDeviceInfo) -> None:
    library.users["GPU-0"] = [os.getpid() + 1]
    assert not graphics_cards.has_cuda_context().has_context
    library.users[user] = [os.getpid()]
    assert graphics_cards.has_cuda_context() == CudaContext(True, info)


@pytest.mark.parametrize(("visible", "name"), [("", "card GPU-0"), ("1,0", "card GPU-1"), ("GPU-1", "card GPU-1")])
def test_readings_of_ones_own_card(library: _Library, monkeypatch: pytest.MonkeyPatch, visible: str, name: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert graphics_cards.one_time() == {"memory-total": 1000, "name": name}
    assert graphics_cards.real_time() == {"utilization": None, "memory-used": 10}


def test_a_child_process_loads_it_anew(library: _Library, monkeypatch: pytest.MonkeyPatch) -> None:
    graphics_cards.init_once()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert not graphics_cards.is_initialized()
    assert graphics_cards.device_get_count() == 2
    assert graphics_cards.is_initialized()
