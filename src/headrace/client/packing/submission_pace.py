"""Turns for a scheduler in this process while a large submission is packed."""

from __future__ import annotations

import asyncio
import threading

#: Turns of the loop after a part: it passes the part on, the scheduler takes it, and hears of what workers have done.
TURNS = 3
#: Seconds after which a loop is taken to be busy with something else, which a submission does not wait for.
PATIENCE = 0.2


class Pace:
    """Between the parts of a submission, lets the loop that a scheduler shares with the client go round.

    A thread that packs thousands of tasks keeps the interpreter to itself, 5 ms at a time. Workers are done with what
    they have of short tasks before that, and would wait.

    Args:
        loop: the client's.
        in_process: whether the scheduler is in this process; without, there is nothing to wait for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None, in_process: bool) -> None:
        own = in_process and loop is not asyncio._get_running_loop()
        self._loop = loop if own else None

    def turn(self) -> None:
        """Wait until the loop has gone round; for one that is busy, not again."""
        loop = self._loop
        if loop is None:
            return
        gate = threading.Lock()
        gate.acquire()

        def go_on(turns: int) -> None:
            if turns > 1:
                loop.call_soon(go_on, turns - 1)
            else:
                gate.release()

        try:
            loop.call_soon_threadsafe(go_on, TURNS)
        except RuntimeError:  # the loop is closed, as the next message will say
            return
        if not gate.acquire(timeout=PATIENCE):
            self._loop = None
