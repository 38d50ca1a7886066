"""The threads that run tasks: fixed in number, fed from one queue, and able to leave it for a while.

A `concurrent.futures.Executor`, so that users may submit to it; tasks come as they are and are given to `run`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Executor, Future
from itertools import count
from queue import SimpleQueue
from typing import Any, TypeVar

from headrace.containment import described

T = TypeVar("T")

logger = logging.getLogger("distributed.worker")

_numbers = count()
_current = threading.local()
#: What a forked child ends with when its parent's task, of which it is a copy, comes to its end; None in parents.
_child_code: int | None = None


class _Call:
    """A function that a user submitted."""

    __slots__ = ("args", "function", "future", "kwargs")

    def __init__(self, future: Future[Any], function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.future = future
        self.function = function
        self.args = args
        self.kwargs = kwargs

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.function(*self.args, **self.kwargs)
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class _Leave:
    """Asks one thread to end, because another comes back."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = threading.Event()


class _Seat:
    """A thread of the pool, whether it takes one of the places, and whether the pool does without it for good."""

    __slots__ = ("abandoned", "member", "thread")

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.member = True
        self.abandoned = False


class TaskPool(Executor):
    """Threads that run tasks.

    Args:
        nthreads: how many.
        run: called in a thread with each object given to `feed`; has to report what becomes of it, whatever happens. If
            it raises all the same, that is logged, and the thread goes on.
        name: of the threads.
        initializer: called in each new thread.
    """

    def __init__(
        self,
        nthreads: int,
        run: Callable[[Any], None],
        name: str = "Headrace-Tasks",
        initializer: Callable[[], None] | None = None,
    ) -> None:
        self._max_workers = nthreads
        self._run = run
        self._name = name
        self._initializer = initializer
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._local = threading.local()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._seats: dict[int, _Seat] = {}
        self._members = 0
        self._closed = False
        #: give the pool one task; it is run by the next free thread
        self.feed = self._queue.put
        for _ in range(nthreads):
            self._add_thread()

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{self._name}-{next(_numbers)}", daemon=True)
        with self._lock:
            self._members += 1
            self._threads.add(thread)
        thread.start()

    def _work(self) -> None:
        seat = self._local.seat = _current.seat = _Seat()
        with self._lock:
            self._seats[threading.get_ident()] = seat
        if self._initializer is not None:
            self._initializer()
        get, run = self._queue.get, self._run
        try:
            while seat.member:
                item = get()
                kind = type(item)
                try:
                    if kind is _Call:
                        item.run()
                    elif kind is _Leave:
                        self._leave()
                        item.left.set()
                    elif item is None:
                        self._leave()
                    else:
                        run(item)
                except BaseException as raised:  # else the pool would have one thread less for good
                    _log_escaped(raised)
                item = None  # a thread that waits holds on to nothing
            if _child_code is not None:
                leave_child(_child_code)
        finally:
            with self._lock:
                self._threads.discard(seat.thread)
                del self._seats[threading.get_ident()]

    def _leave(self) -> None:
        with self._lock:
            self._local.seat.member = False
            self._members -= 1

    def is_member(self) -> bool:
        """Whether the calling thread is one of the pool's that has not seceded."""
        seat = getattr(self._local, "seat", None)
        return seat is not None and seat.member

    def secede(self) -> None:
        """The calling thread leaves the pool after what it runs now; another takes its place at once."""
        if self.is_member():
            self._leave()
            if not self._closed:
                self._add_thread()

    def leave(self) -> None:
        """Secede, but let no other thread take the place."""
        if self.is_member():
            self._leave()

    def rejoin(self) -> None:
        """The calling thread, which has seceded, takes another's place as soon as one is free."""
        if self.is_member() or self._closed or self._local.seat.abandoned:
            return
        request = _Leave()
        self._queue.put(request)
        request.left.wait()
        with self._lock:
            self._local.seat.member = True
            self._members += 1

    def abandon(self, thread: int) -> bool:
        """Do without a thread that does not come back from what it runs: another takes its place, if it has one.

        It ends by itself when what it runs ends, and nothing waits for that.

        Args:
            thread: its identity.

        Returns:
            Whether it is one of the pool's.
        """
        with self._lock:
            seat = self._seats.get(thread)
            if seat is None:
                return False
            self._threads.discard(seat.thread)
            seat.abandoned = True
            had_place, seat.member = seat.member, False
            if had_place:
                self._members -= 1
        if had_place and not self._closed:
            self._add_thread()
        return True

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Call a function in a free thread.

        Raises:
            RuntimeError: the pool is shut down.
        """
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        future: Future[T] = Future()
        self._queue.put(_Call(future, function, args, kwargs))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None) -> None:
        """End the threads after what is queued, or at once after what they run now with `cancel_futures`.

        Args:
            timeout: seconds to wait for them all; a thread that runs longer is left behind (they are daemons).
        """
        if not self._closed:
            self._closed = True
            waiting = self._empty_queue() if cancel_futures else []
            for item in waiting:
                if type(item) is _Call:
                    item.future.cancel()
                elif type(item) is _Leave:
                    item.left.set()
            for _ in range(self._members):
                self._queue.put(None)
        if wait:
            for thread in list(self._threads):
                if thread is not threading.current_thread():
                    thread.join(timeout)

    def _empty_queue(self) -> list[Any]:
        items = []
        while not self._queue.empty():
            items.append(self._queue.get())
        return items


def note_end(error: BaseException) -> None:
    """Handle an exception that ended what a thread ran; in a forked child, end the child."""
    global _child_code
    if _child_code is None:
        return
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
        _child_code = 1
    elif isinstance(error.code, int) or error.code is None:
        _child_code = error.code or 0
    else:
        print(error.code, file=sys.stderr)
        _child_code = 1


def leave_child(code: int) -> None:
    """End a forked child without the teardown of what is its parent's."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code & 0xFF)


def _after_fork() -> None:
    """A child that a task forked is a copy of this thread alone: it must not wait for more to run."""
    global _child_code
    seat = getattr(_current, "seat", None)
    if seat is not None:
        seat.member = False
        _child_code = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _log_escaped(raised: BaseException) -> None:
    try:
        logger.error("A thread's work failed: %s", described(raised))
    except BaseException as failure:  # of a handler of the user's; or an interruption that struck late
        del failure


class LeavablePool(TaskPool):
    """A pool of a user's own, whose functions may call `secede` and `rejoin` as tasks do."""

    def _work(self) -> None:
        _current.pool = self
        super()._work()


def pool_of_thread() -> LeavablePool | None:
    """The user's own pool that the calling thread belongs, or belonged, to."""
    return getattr(_current, "pool", None)
