"""What a connection held goes with it, at once: nothing waits for the cyclic collector, nothing is kept by an error."""

from __future__ import annotations

import asyncio
import gc
import struct
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from headrace.comm import CommClosedError
from headrace.common.tracebacks import without_frames
from headrace.messages import FromWorker
from headrace.messages.worker import ReleasedData
from headrace.protocol import Frames
from tests.comm.transports import Collected, Transport


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def gone(reference: Any) -> None:
    """Wait until something is no more (transports say goodbye in later turns of the loop)."""
    async with asyncio.timeout(20):
        while reference() is not None:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("ends_by", ["peer", "itself", "malformed data"])
async def test_half_a_message(socket_transport: Transport, no_collector: None, ends_by: str) -> None:
    """The memory of a frame under way, and the comm itself, while somebody still has what the reader raised."""
    async with socket_transport.pair() as (near, far):
        reading: Any = asyncio.ensure_future(far.read())
        if ends_by == "malformed data":
            near._write_buffers([struct.pack("<IQQ", 2, 100_000, 1 << 62), bytes(16), b"x" * 100_000])
        near._write_buffers([struct.pack("<IQ", 1, 20 << 20), b"x" * 1_000_000])
        reader: Any = far._reader
        async with asyncio.timeout(20):
            while reader._target is None and not far.closed():
                await asyncio.sleep(0.005)
        memory = None if reader._target is None else weakref.ref(reader._target)
        if ends_by == "itself":
            far.abort()
        else:
            near.abort()
        with pytest.raises(CommClosedError) as caught:
            await reading
        await far._lost.wait()
        assert reader._target is None
        assert reader.idle
        if memory is not None:
            assert memory() is None
        assert caught.value.__cause__ is None or caught.value.__cause__.__traceback__ is None


async def test_a_comm_that_has_ended(transport: Transport, no_collector: None) -> None:
    if transport.scheme == "tls":
        pytest.skip("the interpreter's TLS protocol is a circle of its own, without what was received")
    accepted: list[Any] = []
    done = asyncio.Event()

    async def handle(comm: Any) -> None:
        accepted.append(comm)
        await comm.read()
        done.set()
        await comm.read()

    async with transport.listening(handle) as listener:
        near: Any = await transport.connect(listener)
        await near.write({"x": Frames([b"x", bytes(100_000)])})
        await done.wait()
        ends = weakref.ref(near), weakref.ref(accepted.pop())
        await near.close()
        del near
        for end in ends:
            await gone(end)


async def test_a_stream_that_has_ended(transport: Transport, no_collector: None) -> None:
    """Whom its messages were for goes as well."""

    class Receiver(Collected):
        pass

    async with transport.pair() as (near, far):
        near_end, far_end = Receiver(), Receiver()
        near.start_stream(FromWorker, near_end.on_batch, near_end.on_close)
        far.start_stream(FromWorker, far_end.on_batch, far_end.on_close)
        near.send([ReleasedData("x")])
        await far_end.wait_for(1)
        await near.close()
        await near_end.wait_closed()
        await far_end.wait_closed()
        ends = weakref.ref(near_end), weakref.ref(far_end)
        del near_end, far_end
        for end in ends:
            await gone(end)


def test_errors_that_are_kept_have_no_frames() -> None:
    def fail() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ExceptionGroup("several", [ValueError("second")]) from error

    try:
        fail()
    except ExceptionGroup as error:
        kept = error
    assert kept.__traceback__ is not None
    assert without_frames(kept) is kept
    assert kept.__traceback__ is None
    assert kept.__cause__ is not None
    assert kept.__cause__.__traceback__ is None
    kept.__cause__.__cause__ = kept  # a circle
    without_frames(kept)
