"""Signals that a process handles, and its forked children do not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from headrace.containment import contained
from headrace.exceptions import UserCodeError
from headrace.rpc.loops import signals
from headrace.rpc.loops.loop import new_event_loop

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SCRIPT = """
import asyncio, os, signal, sys, threading, time
from headrace.rpc.loops import signals
from headrace.rpc.loops.loop import new_event_loop

heard = []

def children():
    codes = set()
    for number in (signal.SIGTERM, signal.SIGINT):
        for _ in range(50):
            process = os.fork()
            if not process:
                sys.stderr = None
                try:
                    time.sleep(60)
                except KeyboardInterrupt:
                    os._exit(7)
                os._exit(1)
            os.kill(process, number)  # at once: it may not have run yet
            codes.add(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
    return codes

async def main():
    loop = asyncio.get_running_loop()
    signals.handle(loop, signal.SIGTERM, heard.append, "terminated")
    signals.take_no_notice(signal.SIGINT)
    codes = await loop.run_in_executor(None, children)
    assert codes <= {-signal.SIGTERM, 7, -signal.SIGINT}, codes
    assert -signal.SIGTERM in codes
    assert not heard
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    while not heard:
        await asyncio.sleep(0.01)
    signals.release(loop, signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    program = await asyncio.create_subprocess_exec("sleep", "60")
    program.send_signal(signal.SIGINT)
    assert await program.wait() == -signal.SIGINT
    print("done")

with asyncio.Runner(loop_factory=new_event_loop) as runner:
    runner.run(main())
"""


def test_forked_children_end_by_signals_that_their_parent_handles() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, timeout=60, env=environment
    )
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, new_event_loop])
def test_a_server_takes_its_ctrl_c_from_its_loop(make_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """What says KeyboardInterrupt in its process is the user's code."""

    async def on_a_loop() -> list[BaseException]:
        loop = asyncio.get_running_loop()
        signals.handle(loop, signal.SIGINT, list)
        handled = contained(KeyboardInterrupt())
        signals.release(loop, signal.SIGINT)
        signals.take_no_notice(signal.SIGINT)
        return [handled, contained(KeyboardInterrupt())]

    before = signal.getsignal(signal.SIGINT)
    try:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            assert [type(error) for error in runner.run(on_a_loop())] == [UserCodeError, UserCodeError]
    finally:
        signal.signal(signal.SIGINT, before)
        signals._handled.discard(signal.SIGINT)
