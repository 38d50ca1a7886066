"""`distributed._signals`."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from headrace.compat._signals import wait_for_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_is_waited_for_and_handled_no_more(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    waiting = asyncio.ensure_future(wait_for_signals())
    try:
        await asyncio.sleep(0)
        os.kill(os.getpid(), number)
        async with asyncio.timeout(10):
            assert await waiting == number
        assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    finally:
        signal.signal(number, before)
