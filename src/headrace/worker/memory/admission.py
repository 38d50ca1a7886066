"""Admission of tasks while memory is short: a task's likely result must fit below the level at which the worker pauses.

The process's memory is looked at every tenth of a second; in that time the threads can take many times what is left.
Asked in the threads that run tasks, and only while the process nears its limits.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable

from headrace import machine
from headrace.common.keys import Key

from .buffer import SpillBuffer
from .relief import Relief


class Admission:
    """Lets tasks start.

    Args:
        ceiling: bytes that the process shall not exceed.
        buffer: what can be evicted.
        relief: has it evicted.
        process_memory: gives the bytes that the process takes now.
    """

    def __init__(
        self,
        ceiling: float,
        buffer: SpillBuffer,
        relief: Relief,
        process_memory: Callable[[], int] = machine.process_memory,
    ) -> None:
        self._process_memory = process_memory
        self._ceiling = ceiling
        self._buffer = buffer
        self._relief = relief
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        #: tasks that were let in and run: what they were expected to add, and what the process took before
        self._admitted: dict[int, tuple[int, int]] = {}

    def wait(self, dependencies: Iterable[Key] | None) -> int:
        """Wait until a task may start; returns a number for `release`, or 0 if nothing has to be released.

        Args:
            dependencies: keys of the values that it needs.
        """
        buffer = self._buffer
        buffer.wait_for_room()
        if not buffer.tight:
            return 0
        need = buffer.expected_need(dependencies or ())
        while True:
            number = self._admit(need)
            if number or not buffer.wait_a_moment():
                return number

    def release(self, number: int) -> None:
        """A task has ended."""
        with self._lock:
            self._admitted.pop(number, None)

    def _admit(self, need: int) -> int:
        with self._lock:
            process = self._process_memory()
            # What those that run were expected to add and have not added yet.
            promised = sum(max(0, added - max(0, process - before)) for added, before in self._admitted.values())
            if process + promised + need > self._ceiling:
                if self._buffer.evictable_bytes:
                    self._relief.aim(process, max(0.0, self._ceiling - promised - need))
                    return 0
                if self._admitted or process > self._ceiling:
                    return 0
                # Nothing can make more room than there is now.
            number = next(self._numbers)
            self._admitted[number] = (need, process)
            return number
