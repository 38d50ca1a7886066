"""Event loops in threads, and calls to them from other threads.

`IOLoop` wraps an asyncio loop in the few methods that users of the documented `loop` attribute call. `LoopRunner`
shares one background loop per process among all synchronous clients and clusters.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, ClassVar, TypeVar

from headrace.containment import log_raised

logger = logging.getLogger("distributed.core")

T = TypeVar("T")

#: Seconds to wait for a loop's thread to start or stop.
THREAD_TIMEOUT = 10
#: Descriptors up to this one are the standard input, output and errors, if they are open.
STANDARD_ERROR = 2
#: Seconds after which a blocked thread looks for signals: the system may deliver one to another thread, where it does
#: not interrupt the wait.
_SIGNAL_POLL = 0.1


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop of the kind that `distributed.admin.event-loop` names; asyncio's own where uvloop is not installed.

    Raises:
        ValueError: the setting names no kind of loop.
    """
    from headrace.config import get

    kind = get("distributed.admin.event-loop")
    if kind not in ("uvloop", "asyncio", "tornado"):  # tornado's own is asyncio's
        raise ValueError(f"Expected distributed.admin.event-loop to be one of uvloop, asyncio, tornado; got {kind!r}")
    if kind == "uvloop":
        with contextlib.suppress(ImportError):
            import uvloop

            fill_standard_descriptors()
            loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
            return loop
    return asyncio.new_event_loop()


def fill_standard_descriptors() -> None:
    """Open the standard descriptors that are closed, so that no other file gets their numbers.

    libuv ends the process when it is asked to close one of these.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        pass
    os.close(descriptor)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as the main work of a process, as `asyncio.run` does, on a loop of the configured kind."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


class IOLoop:
    """A facade of an asyncio loop with methods that any thread may call.

    Attributes:
        asyncio_loop: the loop itself.
    """

    _known: ClassVar[weakref.WeakValueDictionary[int, IOLoop]] = weakref.WeakValueDictionary()

    def __init__(self, asyncio_loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.asyncio_loop = asyncio_loop if asyncio_loop is not None else new_event_loop()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._known.setdefault(id(self.asyncio_loop), self)

    def __eq__(self, other: object) -> bool:
        """Whether both are facades of one loop; a `tornado.ioloop.IOLoop` is one, too."""
        loop = getattr(other, "asyncio_loop", None)
        return NotImplemented if loop is None else loop is self.asyncio_loop

    def __hash__(self) -> int:
        return hash(self.asyncio_loop)

    @classmethod
    def current(cls, instance: bool = True) -> IOLoop | None:
        """The facade of the running loop; with a false `instance`, None where no loop runs.

        Raises:
            RuntimeError: no loop runs here, and `instance` is true.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if instance:
                raise
            return None
        return cls.of(loop)

    @classmethod
    def of(cls, loop: object) -> IOLoop:
        """The facade of the `loop` that a user gave: an asyncio loop, or an object with an attribute `asyncio_loop`.

        Raises:
            TypeError: the object is neither.
        """
        if isinstance(loop, cls):
            return loop
        asyncio_loop = loop if isinstance(loop, asyncio.AbstractEventLoop) else getattr(loop, "asyncio_loop", None)
        if not isinstance(asyncio_loop, asyncio.AbstractEventLoop):
            raise TypeError(f"loop must be an asyncio loop or have an attribute asyncio_loop, not {loop!r}")
        facade = cls._known.get(id(asyncio_loop))
        return cls(asyncio_loop) if facade is None else facade

    @property
    def runs_here(self) -> bool:
        """Whether the caller is on this loop."""
        return asyncio._get_running_loop() is self.asyncio_loop

    def add_callback(self, callback: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Call a function (or run a coroutine function) on the loop soon; from any thread. Exceptions are logged."""
        self.asyncio_loop.call_soon_threadsafe(self._run_callback, callback, args, kwargs)

    def add_callback_from_signal(self, callback: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Same as `add_callback`."""
        self.add_callback(callback, *args, **kwargs)

    def spawn_callback(self, callback: Callable[..., Any], *args: object, **kwargs: object) -> None:
        """Same as `add_callback`."""
        self.add_callback(callback, *args, **kwargs)

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: object, **kwargs: object
    ) -> asyncio.TimerHandle:
        """Call a function after `delay` seconds; returns a handle with `cancel()`. On the loop's thread."""
        return self.asyncio_loop.call_later(delay, self._run_callback, callback, args, kwargs)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: object, **kwargs: object
    ) -> asyncio.TimerHandle:
        """Call a function when `time()` is `when`; a clock that is set meanwhile does not matter."""
        return self.call_later(when - self.time(), callback, *args, **kwargs)

    def add_timeout(
        self, deadline: float | timedelta, callback: Callable[..., Any], *args: object, **kwargs: object
    ) -> asyncio.TimerHandle:
        """Call a function at a time by `time()`, or, if the deadline is a `timedelta`, after that time."""
        if isinstance(deadline, timedelta):
            return self.call_later(deadline.total_seconds(), callback, *args, **kwargs)
        return self.call_at(deadline, callback, *args, **kwargs)

    def remove_timeout(self, handle: asyncio.TimerHandle) -> None:
        """Cancel a call by the handle that `call_later`, `call_at` or `add_timeout` returned."""
        handle.cancel()

    def time(self) -> float:
        """Seconds since the epoch, as `time.time()` tells them: the documented loop's clock is not asyncio's."""
        return time.time()

    def start(self) -> None:
        """Run the loop in this thread until `stop`."""
        asyncio.set_event_loop(self.asyncio_loop)
        try:
            self.asyncio_loop.run_forever()
        finally:
            asyncio.set_event_loop(None)

    def stop(self) -> None:
        """Stop the loop; from any thread."""
        with contextlib.suppress(RuntimeError):  # closed already
            self.asyncio_loop.call_soon_threadsafe(self.asyncio_loop.stop)

    def close(self, all_fds: bool = False) -> None:
        """Cancel the tasks left on a stopped loop and close it."""
        loop = self.asyncio_loop
        if loop.is_closed():
            return
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=1))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def run_sync(self, function: Callable[..., Any], timeout: float | None = None) -> Any:
        """Run a coroutine function on the stopped loop until it ends."""

        async def work() -> Any:
            async with asyncio.timeout(timeout):
                return await function()

        return self.asyncio_loop.run_until_complete(work())

    def _run_callback(self, callback: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        try:
            result = callback(*args, **kwargs)
            if not inspect.isawaitable(result):
                return
            task = asyncio.ensure_future(result)
        except BaseException as raised:
            log_raised(logger, raised, "Exception in callback %r", callback)
            return
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (raised := task.exception()) is not None:
            log_raised(logger, raised, "Exception in callback %r", task)


def sync(
    loop: object,
    func: Callable[..., Any],
    *args: object,
    callback_timeout: float | str | None = None,
    **kwargs: object,
) -> Any:
    """Run a coroutine function on a loop that runs in another thread, and return its result.

    Ctrl-C cancels the coroutine and is raised here at once.

    Args:
        callback_timeout: seconds (or text such as "5s") after which the coroutine is cancelled.

    Raises:
        TimeoutError: `callback_timeout` is over.
        RuntimeError: called on the loop's own thread, or the loop is closed.
    """
    if callback_timeout is not None:
        from headrace.config import parse_seconds

        callback_timeout = parse_seconds(callback_timeout)
    asyncio_loop = IOLoop.of(loop).asyncio_loop
    if asyncio_loop.is_closed():
        raise RuntimeError("the event loop is closed")
    if asyncio_loop in _inherited:
        raise RuntimeError(
            "the event loop runs in the process that this one was forked from: make a new Client or cluster here"
        )
    if asyncio._get_running_loop() is asyncio_loop:
        raise RuntimeError("cannot wait for the event loop on its own thread: use the asynchronous form (await)")

    async def work() -> Any:
        async with asyncio.timeout(callback_timeout):
            result = func(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

    future = asyncio.run_coroutine_threadsafe(work(), asyncio_loop)
    try:
        while True:
            try:
                return future.result(_SIGNAL_POLL)
            except TimeoutError as error:
                if type(error) is not TimeoutError:  # raised by the coroutine, or into the task that waits here
                    raise
                if future.done():
                    return future.result()
                if asyncio_loop.is_closed():
                    raise RuntimeError("the event loop was closed during the call") from None
    except BaseException:
        future.cancel()
        raise
    finally:
        del future  # its exception's traceback holds this frame: the frame must not hold the exception


class LoopRunner:
    """Provides a loop: the caller's own, or the background loop of this process, which all users share.

    Args:
        loop: an asyncio loop, or an object with an attribute `asyncio_loop`; `None` for the running loop if
            `asynchronous`, else the background loop.
        asynchronous: whether the user is on the loop and awaits.
    """

    _lock = threading.Lock()
    _shared: _LoopThread | None = None
    _users = 0

    def __init__(self, loop: object = None, asynchronous: bool = False) -> None:
        self._asynchronous = asynchronous
        self._given = IOLoop.of(loop) if loop is not None else None
        self._thread: _LoopThread | None = None
        self._own_thread = False
        self._started = False
        if self._given is None and asynchronous:
            self._given = IOLoop.of(asyncio.get_running_loop())

    @property
    def loop(self) -> IOLoop:
        """The facade of the loop (starts nothing if the loop was given).

        Raises:
            RuntimeError: `start` was not called yet, and no loop was given.
        """
        if self._given is not None:
            return self._given
        if self._thread is None:
            raise RuntimeError("the loop runner was not started")
        return self._thread.loop

    def is_started(self) -> bool:
        """Whether `start` was called, and `stop` was not."""
        return self._started

    def start(self) -> IOLoop:
        """Have the loop run, in a background thread unless it runs already or the user is on it.

        Raises:
            RuntimeError: the given loop is closed.
        """
        if self._started:
            return self.loop
        if self._given is not None and self._given.asyncio_loop.is_closed():
            raise RuntimeError("the event loop is closed: give another, or none")
        self._started = True
        if self._given is not None:
            if not self._asynchronous and not self._given.asyncio_loop.is_running():
                self._thread, self._own_thread = _LoopThread(self._given), True
            return self._given
        with LoopRunner._lock:
            if LoopRunner._shared is None or not LoopRunner._shared.alive:
                LoopRunner._shared, LoopRunner._users = _LoopThread(IOLoop()), 0
            self._thread = LoopRunner._shared
            LoopRunner._users += 1
        return self.loop

    def stop(self, timeout: float = THREAD_TIMEOUT) -> None:
        """Give the loop back; the last user of the background loop stops its thread."""
        if not self._started:
            return
        self._started = False
        thread, self._thread = self._thread, None
        if thread is None:
            return
        if self._own_thread:
            thread.stop(timeout, close=False)
            return
        self._given = thread.loop  # still readable afterwards
        with LoopRunner._lock:
            if LoopRunner._shared is not thread:
                return
            LoopRunner._users -= 1
            if LoopRunner._users > 0:
                return
            LoopRunner._shared = None
        thread.stop(timeout)

    def run_sync(self, func: Callable[..., Any], *args: object, **kwargs: Any) -> Any:
        """Start, run a coroutine function from this thread, and stop."""
        self.start()
        try:
            return sync(self.loop, func, *args, **kwargs)
        finally:
            self.stop()


class _LoopThread:
    """A daemon thread that runs a loop."""

    def __init__(self, loop: IOLoop) -> None:
        self.loop = loop
        self._ready = threading.Event()
        self._close = True
        _loop_threads.add(self)
        self._thread = threading.Thread(target=self._run, name="IO loop", daemon=True)
        self._thread.start()
        if not self._ready.wait(THREAD_TIMEOUT):
            raise RuntimeError("the event loop's thread did not start")

    @property
    def alive(self) -> bool:
        """Whether the loop runs (it does not in a forked child)."""
        return self._thread.is_alive()

    def _run(self) -> None:
        self.loop.asyncio_loop.call_soon(self._ready.set)
        try:
            while not self._run_until_stopped():
                pass
        finally:
            if self._close:
                self.loop.close()

    def _run_until_stopped(self) -> bool:
        """Run the loop; returns False if `sys.exit()` or the like in a callback has ended it, though others need it."""
        try:
            self.loop.start()
        except (SystemExit, KeyboardInterrupt, GeneratorExit):
            logger.exception("A callback tried to end the event loop's thread; the loop goes on")
            return False
        return True

    def stop(self, timeout: float, close: bool = True) -> None:
        """Stop the loop and wait for the thread, unless called on it."""
        self._close = close
        self.loop.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout)


_loop_threads: weakref.WeakSet[_LoopThread] = weakref.WeakSet()
#: Loops of the process that this one was forked from. They are kept: to free them would act on descriptors of both.
_inherited: set[asyncio.AbstractEventLoop] = set()


def _after_fork() -> None:
    """Give up the parent's loops in a forked child, which has the parent's objects but not its threads."""
    _inherited.update(thread.loop.asyncio_loop for thread in _loop_threads)
    LoopRunner._lock = threading.Lock()
    LoopRunner._shared = None
    LoopRunner._users = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
