"""Interrupts running tasks: those that run longer than they may, and those that nobody wants any more.

In a thread, an exception is raised between two instructions of the task's Python code. A thread that does not come
back in time (it is in C code, or the task goes on regardless) is abandoned: the task counts as ended, another thread
takes the place, and what the old one still returns is dropped. Coroutines are cancelled. What runs in another process
is given up.

The exception must hit nothing but the task's own code. So each run has an entry in `open` while its function runs,
which either the thread takes out, when the function has ended, or the interrupter, before it raises; `set.remove` is
atomic, so exactly one of them has it. A thread that finds its entry gone waits until the exception is under way, and
takes it back if it has not struck (`come_back`). What a run does otherwise costs no lock.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from headrace.common.keys import from_wire
from headrace.exceptions import TaskCancelled, TaskTimeout
from headrace.worker.state.effects import TaskRun

if TYPE_CHECKING:
    from .executor import TaskExecutor

logger = logging.getLogger("distributed.worker")

#: Seconds between two looks of a thread whether the exception meant for it is under way.
_MOMENT = 0.0005


class Watch:
    """The reasons for which a run may be interrupted, and how far its interruption has come.

    Attributes:
        limit: seconds that it may run; None for no limit.
        began: when its function was called, by the monotonic clock; 0 until then.
        error: what it is interrupted with, and reported to have raised; None until then.
        kind: the class that is raised in its thread.
        sent: whether that has been done, so that no exception follows any more.
        ended: whether its thread is out of the function.
        abandoned: whether it has been reported although its thread is not.
        force: whether to have the worker restarted rather than leave the thread behind.
    """

    __slots__ = ("abandoned", "began", "ended", "error", "force", "kind", "limit", "lock", "sent")

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.began = 0.0
        self.error: BaseException | None = None
        self.kind: type[BaseException] = TaskCancelled
        self.sent = False
        self.ended = False
        self.abandoned = False
        self.force = False
        #: held for moments, by threads into which no exception is raised any more
        self.lock = Lock()


class Interrupts:
    """The interrupter of one worker's executor.

    Args:
        executor: whose runs.
        address: of the worker, for messages.
        grace: seconds that a task has to end once it was interrupted.
        restart: called with the key of a task that has not, and was cancelled with `force`.
    """

    def __init__(self, executor: TaskExecutor, address: str, grace: float, restart: Callable[[Any], None]) -> None:
        self._executor = executor
        self._address = address
        self._grace = grace
        self._restart = restart
        self._loop = asyncio.get_running_loop()
        #: runs whose function runs and has not been interrupted
        self.open: set[TaskRun] = set()
        #: of what runs in other processes
        self.futures: dict[TaskRun, Future[Any]] = {}
        self._limited: dict[TaskRun, None] = {}
        self._timer: asyncio.Handle | None = None
        self._look_at = 0.0
        self._closed = False

    # on the loop

    def limit(self, run: TaskRun, seconds: float) -> None:
        """A run that is handed out may take so many seconds, from when its function is called."""
        run.watch = Watch(seconds)
        self._limited[run] = None
        self._look_by(self._loop.time() + seconds)

    def forget(self, run: TaskRun) -> None:
        """A run has been reported, or was taken back."""
        self._limited.pop(run, None)

    def cancel(self, run: TaskRun, force: bool) -> None:
        """Nobody wants the result of a run."""
        watch = run.watch
        if watch is not None and watch.error is not None:
            if force and not watch.force:
                watch.force = True
                if watch.abandoned:
                    self._restart(run.key)
            return
        self._interrupt(run, TaskCancelled(from_wire(run.key)), force)

    def close(self) -> None:
        """Interrupt nothing more."""
        self._closed = True
        self._limited.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _look_by(self, when: float) -> None:
        if self._timer is not None:
            if self._look_at <= when:
                return
            self._timer.cancel()
        self._look_at = when
        self._timer = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Interrupt what has run for too long, and look again when the next may have."""
        self._timer = None
        now = time.monotonic()
        soonest = float("inf")
        for run in list(self._limited):
            watch = run.watch
            assert watch is not None
            assert watch.limit is not None
            left = watch.limit if not watch.began else watch.began + watch.limit - now
            if left <= 0:
                del self._limited[run]
                if watch.error is None:
                    self._interrupt(run, TaskTimeout(from_wire(run.key), watch.limit, self._address))
            else:
                soonest = min(soonest, left)
        if self._limited:
            self._look_by(self._loop.time() + soonest)

    def _interrupt(self, run: TaskRun, error: BaseException, force: bool = False) -> None:
        watch = run.watch
        if watch is None:
            watch = run.watch = Watch()
        watch.force = force
        watch.kind = _raised_as(error)
        watch.error = error  # the last of these: a thread that is about to call the function looks at it
        coroutine = self._executor.coroutines.get(run)
        if coroutine is not None:
            coroutine.cancel()
        else:
            try:
                self.open.remove(run)
            except KeyError:
                pass  # before its function, where `begin` sees this, or after it
            else:
                if run in self.futures:
                    self._give_up_future(run, watch)
                    return
                _raise_in(run.thread, watch.kind)
                watch.sent = True
        self._loop.call_later(self._grace, self._look_after, run)

    def _give_up_future(self, run: TaskRun, watch: Watch) -> None:
        """Forget a run in another process, which cannot be interrupted: it ends there in its own time."""
        if not self.futures.pop(run).cancel():
            logger.warning("The task %r goes on in its executor, and its result is dropped", from_wire(run.key))
            if watch.force:
                self._restart(run.key)
        watch.abandoned = True
        self._executor.give_up(run)

    def _look_after(self, run: TaskRun) -> None:
        """A task that was interrupted has had its time to end."""
        watch = run.watch
        if self._closed or watch is None or not self._executor.is_out(run):
            return
        if not watch.sent and run not in self._executor.coroutines:
            # It loads what it needs, waits for its place, or has ended: no place for exceptions.
            if watch.force:
                self._restart(run.key)
            else:
                self._loop.call_later(self._grace, self._look_after, run)
            return
        with watch.lock:
            if watch.ended:
                return
            watch.abandoned = True
        if watch.sent:
            logger.warning(
                "The task %r was interrupted and has not ended within %g s; its thread is left to itself",
                from_wire(run.key),
                self._grace,
            )
        self._executor.give_up(run)
        if watch.force:
            self._restart(run.key)

    # in the threads

    def begin(self, run: TaskRun) -> None:
        """The function of a run that is watched is about to be called; raises if it was interrupted before."""
        if self.was_interrupted(run):
            raise run.watch.kind

    def was_interrupted(self, run: TaskRun) -> bool:
        """Whether a run was interrupted before it was entered into `open`; else its time counts from now."""
        watch = run.watch
        if watch is None:
            return False
        if not watch.began:
            watch.began = time.monotonic()
        if watch.error is None:
            return False
        try:
            self.open.remove(run)
        except KeyError:  # afterwards: the interrupter has seen the entry
            return False
        watch.sent = True
        return True

    def come_back(self, run: TaskRun) -> bool:
        """The thread of an interrupted run is out of its function; returns whether it is still to be reported.

        The exception may strike in here, once; then call it again. After it has returned none follows.
        """
        watch = run.watch
        assert watch is not None
        while not watch.sent:
            time.sleep(_MOMENT)
        _take_back(get_ident())
        with watch.lock:
            watch.ended = True
            return not watch.abandoned

    def leave_function(self, run: TaskRun) -> bool:
        """The calling thread's task enters code of ours that must not be interrupted; returns whether that was needed.

        Raises what it is being interrupted with.
        """
        try:
            self.open.remove(run)
        except KeyError:
            watch = run.watch
            if watch is None or watch.error is None:
                return False
            while not watch.sent:
                time.sleep(_MOMENT)
            _take_back(get_ident())
            raise watch.kind from None
        return True

    def enter_function(self, run: TaskRun) -> None:
        """The calling thread's task is back in its own code."""
        self.open.add(run)
        self.begin(run)


def _raised_as(error: BaseException) -> type[BaseException]:
    """The class to raise in a thread: Python makes the exception there itself, without arguments."""
    kind = type(error)
    made: Any = error.__reduce__()  # also for a copy of it that is pickled, by a task that passes it on

    def initialise(self: BaseException) -> None:
        kind.__init__(self, *made[1])

    def reduce(self: BaseException) -> Any:
        return made[:2]

    body = {"__init__": initialise, "__reduce__": reduce, "__module__": kind.__module__, "__doc__": kind.__doc__}
    return type(kind.__name__, (kind,), body)


def _raise_in(thread: int, kind: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(kind))


def _take_back(thread: int) -> None:
    """Forget an exception that was to be raised in a thread."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), None)
