"""The thread that writes values to disk and removes their files; started when there is something to do.

It holds no lock while it pickles, writes or removes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from headrace.containment import log_raised

if TYPE_CHECKING:
    from .buffer import SpillBuffer

logger = logging.getLogger("distributed.worker")

#: Asks the thread to end.
_END = ""


class Spiller:
    """Evicts what a buffer wants evicted.

    Attributes:
        alive: False once it was closed.
        before_eviction: called in the thread before it begins to evict.
        after_eviction: called in the thread after each eviction, with the answer of `SpillBuffer.evict`.
    """

    def __init__(self, buffer: SpillBuffer) -> None:
        self._buffer = buffer
        #: paths of files to remove; None wakes the thread. Putting is safe even in a finalizer.
        self._orders: SimpleQueue[str | None] = SimpleQueue()
        self._woken = False
        self._retry_at: float | None = None
        self._thread: threading.Thread | None = None
        self.alive = True
        self.before_eviction: Callable[[], None] | None = None
        self.after_eviction: Callable[[int], None] | None = None

    def wake(self) -> None:
        """Have the thread look whether the buffer wants room. With the buffer's lock."""
        if not self._woken and self.alive:
            self._woken = True
            self._orders.put(None)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="Headrace-Spill", daemon=True)
                self._thread.start()

    def remove_later(self, path: str) -> None:
        """Have a file removed; takes no lock."""
        self._orders.put(path)

    def remove_now(self) -> None:
        """Remove the files that were given to `remove_later`; in the thread."""
        again = False
        with contextlib.suppress(Empty):
            while True:
                path = self._orders.get_nowait()
                if path:
                    _unlink(path)
                    continue
                again = True
                if path == _END:
                    self.alive = False
        if again:
            self._orders.put(None)

    def retry_in(self, seconds: float) -> None:
        """Try again after so many seconds what could not be written; in the thread."""
        self._retry_at = time.monotonic() + seconds

    def _work(self) -> None:
        orders = self._orders
        while self.alive:
            try:
                order = orders.get(timeout=self._seconds_to_retry())
            except Empty:
                self._retry_at = None
                self._buffer.try_again()
                order = None
            if order is None:
                self._woken = False
                try:
                    self._make_room()
                except BaseException as raised:  # nothing must stop spilling for good
                    log_raised(logger, raised, "Spilling failed")
            elif order == _END:
                break
            else:
                _unlink(order)

    def _seconds_to_retry(self) -> float | None:
        return None if self._retry_at is None else max(0.0, self._retry_at - time.monotonic())

    def _make_room(self) -> None:
        if self.before_eviction is not None:
            self.before_eviction()
        while self.alive and self._buffer.wants_room:
            freed = self._buffer.evict()
            if self.after_eviction is not None:
                self.after_eviction(freed)
            if freed < 0:
                return
            self.remove_now()

    def close(self) -> None:
        """End the thread, after what it is writing."""
        self.alive = False
        self._orders.put(_END)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._thread = None


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
