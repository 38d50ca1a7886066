"""Memory for frames is writable, lazy, and used again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headrace.comm import frame_memory
from headrace.comm.frame_memory import MAPPED_BYTES, allocate

LARGE = MAPPED_BYTES + 1000


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> Any:
    kept = frame_memory._Kept()
    monkeypatch.setattr(frame_memory, "_kept", kept)
    return kept


@pytest.mark.parametrize("nbytes", [0, 1, 65_536, MAPPED_BYTES, LARGE])
def test_allocated_memory_is_writable(nbytes: int) -> None:
    frame = allocate(nbytes)
    assert len(frame) == nbytes
    assert frame.format == "B"
    if nbytes:
        frame[nbytes - 1] = 3


def test_too_much_memory() -> None:
    with pytest.raises(MemoryError):
        allocate(1 << 62)


async def test_what_is_discarded_is_not_kept(nothing_kept: Any) -> None:
    kept, half = allocate(LARGE), allocate(LARGE)
    frame_memory.discard(half)
    frame_memory.discard(allocate(100_000))
    assert [record.mapping for record in nothing_kept.records] == [kept.obj]
    half[0] = 1


def test_nothing_is_kept_without_a_loop(nothing_kept: Any) -> None:
    del (frame := [allocate(LARGE)])[:]
    assert not frame
    assert not nothing_kept.records


async def test_unused_memory_is_used_again(nothing_kept: Any) -> None:
    frame = allocate(LARGE)
    frame[0] = 77
    assert allocate(LARGE)[0] == 0  # in use: another
    part = frame[:10]
    del frame
    nothing_kept.records[1:] = []
    assert allocate(LARGE)[0] == 0  # a part of it is in use
    nothing_kept.records[1:] = []
    del part
    again = allocate(LARGE - 100)
    assert again[0] == 77
    assert len(again) == LARGE - 100
    del again
    assert allocate(2 * LARGE)[0] == 0  # too small


async def test_arrays_hold_their_memory(nothing_kept: Any) -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.frombuffer(allocate(LARGE), "u1")[5:10]
    array[:] = 9
    other = allocate(LARGE)
    other[:10] = bytes(10)
    assert array.tolist() == [9] * 5


async def test_unused_memory_is_given_back(nothing_kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_memory, "LOOK_EVERY", 0.001)
    used = allocate(LARGE)
    allocate(LARGE)
    async with asyncio.timeout(20):
        while nothing_kept.records:  # what is in use is not followed for ever
            await asyncio.sleep(0.001)
    used[0] = 1
    assert nothing_kept._timer is None
    allocate(LARGE)
    assert nothing_kept._timer is not None


async def test_little_unused_memory_is_kept(nothing_kept: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [allocate(LARGE) for _ in range(4)]
    monkeypatch.setattr(frame_memory, "KEPT_BYTES", 2 * LARGE)
    frames.clear()
    nothing_kept.look()
    assert len(nothing_kept.records) == 2
    for _ in range(frame_memory.IDLE_LOOKS - 1):
        nothing_kept.look()
    assert not nothing_kept.records
