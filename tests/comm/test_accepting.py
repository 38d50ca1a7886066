"""A process that has used up its descriptors says so, and accepts again when it has some."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Iterator

import pytest

from headrace.comm import Comm, CommClosedError, accepting
from tests.comm.transports import Transport


@contextlib.contextmanager
def descriptors_used_up() -> Iterator[list[int]]:
    """All but none; those that are given back by closing what this yields."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield taken
    finally:
        for one in taken:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.skipif(sys.platform != "linux", reason="what is left of a limit is the system's")
async def test_it_says_so_and_goes_on(
    socket_transport: Transport, logs: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = 0
    wait = accepting.Acceptor._wait_for_better_times

    def counted(self: accepting.Acceptor, error: OSError) -> None:
        nonlocal attempts
        attempts += 1
        wait(self, error)

    monkeypatch.setattr(accepting.Acceptor, "_wait_for_better_times", counted)

    async def echo(comm: Comm) -> None:
        with contextlib.suppress(CommClosedError):
            while True:
                await comm.write(await comm.read())

    async with socket_transport.listening(echo) as listener:
        before = await socket_transport.connect(listener)
        with descriptors_used_up() as taken:
            os.close(taken.pop())  # for the connecting end
            connecting = asyncio.ensure_future(socket_transport.connect(listener))
            async with asyncio.timeout(20):
                while not logs.records:
                    await asyncio.sleep(0.005)
            turns = 0
            while attempts < 2:
                turns += 1
                await asyncio.sleep(0)
            assert turns > 10  # the loop has not been busy with accepting
            await before.write("others are served")
            assert await before.read() == "others are served"
        after = await connecting
        await after.write("here we are")
        assert await after.read() == "here we are"
        lines = [record.getMessage() for record in logs.records]
        assert "Cannot accept connections" in lines[0]
        assert "Too many open files" in lines[0]
        assert len([line for line in lines if "Cannot accept" in line]) <= 2
        await before.close()
        await after.close()
