"""`distributed._signals`: a program that runs until it is told to stop."""

from __future__ import annotations

import asyncio
import signal

from headrace.rpc.loops import signals


async def wait_for_signals() -> int:
    """Wait for SIGINT or SIGTERM, which do not end the process meanwhile; returns the signal's number.

    A second signal has its usual effect again.
    """
    loop = asyncio.get_running_loop()
    received: asyncio.Future[int] = loop.create_future()

    def on_signal(number: int) -> None:
        if not received.done():
            received.set_result(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        signals.handle(loop, number, on_signal, int(number))
    try:
        return await received
    finally:
        for number in numbers:
            signals.release(loop, number)


__all__ = ["wait_for_signals"]
