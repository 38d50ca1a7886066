"""`distributed.process`: a child process that a loop can wait for; it does not outlive its parent."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import threading
import weakref
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from headrace.config import parse_seconds

from .utils import get_mp_context


class AsyncProcess:
    """A `multiprocessing.Process` with methods that are awaited. The child ends when this process does.

    Args:
        loop: the loop on which the exit callback is called; the running one by default.
        target, args, kwargs: what the child calls; they must be picklable unless it is forked.
        name: of the process.

    Raises:
        TypeError: `target` cannot be called.
    """

    def __init__(
        self,
        loop: Any = None,
        target: Callable[..., Any] | None = None,
        name: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        if not callable(target):
            raise TypeError(f"`target` needs to be callable, not {target!r}")
        self._loop: asyncio.AbstractEventLoop | None = getattr(loop, "asyncio_loop", loop)
        context = get_mp_context()
        # the child waits for the end of this pipe, which nobody writes to: it comes with the death of this process
        alive, self._alive = context.Pipe(duplex=False)
        self._child_end: Connection | None = alive
        self._process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_run, name=name, args=(target, args, kwargs or {}, alive)
        )
        self._name: str = self._process.name
        self._exit_callback: Callable[[AsyncProcess], None] | None = None
        self._exited: asyncio.Future[int] | None = None
        self._pid: int | None = None
        self._exitcode: int | None = None
        self._closed = False
        self._finalizer = weakref.finalize(self, self._alive.close)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name}>"

    def start(self) -> asyncio.Future[None]:
        """Start the child; awaited, it is there.

        Raises:
            ValueError: it has been closed.
            AssertionError: it has been started.
        """
        self._check_closed()
        assert self._exited is None, "cannot start a process twice"
        loop = self._loop = self._loop or asyncio.get_running_loop()
        self._exited = loop.create_future()
        return asyncio.ensure_future(self._start(loop))

    async def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        await loop.run_in_executor(None, self._process.start)
        assert self._child_end is not None
        self._child_end.close()
        self._child_end = None
        self._pid = self._process.pid
        me = weakref.ref(self)
        watcher = threading.Thread(
            target=_watch, args=(self._process, loop, me), name=f"AsyncProcess {self._name} watch", daemon=True
        )
        watcher.start()

    def _on_exit(self, code: int) -> None:
        self._exitcode = code
        if self._exited is not None and not self._exited.done():
            self._exited.set_result(code)
        if self._exit_callback is not None:
            self._exit_callback(self)

    def _check_started(self) -> None:
        assert self._pid is not None, "the process has not been started"

    def _check_closed(self) -> None:
        if self._closed:
            raise ValueError("invalid operation on closed AsyncProcess")

    def terminate(self) -> asyncio.Future[None]:
        """Ask the child to end (SIGTERM)."""
        return self._signal("terminate")

    def kill(self) -> asyncio.Future[None]:
        """End the child (SIGKILL)."""
        return self._signal("kill")

    def _signal(self, how: str) -> asyncio.Future[None]:
        self._check_closed()
        self._check_started()
        assert self._loop is not None
        done: asyncio.Future[None] = self._loop.create_future()
        if self._exitcode is None:
            getattr(self._process, how)()
        done.set_result(None)
        return done

    async def join(self, timeout: float | str | None = None) -> None:
        """Wait for the child's end, for so many seconds at most."""
        self._check_closed()
        self._check_started()
        assert self._exited is not None
        if self._exitcode is None:
            await asyncio.wait([self._exited], timeout=None if timeout is None else parse_seconds(timeout))

    def close(self) -> None:
        """Let go of the child; it is not ended by this, but when this object goes."""
        if not self._closed:
            self._closed = True
            self._exit_callback = None
            if self._pid is None:
                self._finalizer()

    def set_exit_callback(self, func: Callable[[AsyncProcess], None]) -> None:
        """Have a function called on the loop with this object once the child has ended; before `start`.

        Raises:
            TypeError: no function, or a coroutine function.
        """
        if not callable(func) or asyncio.iscoroutinefunction(func):
            raise TypeError(f"the exit callback must be an ordinary function, not {func!r}")
        assert self._pid is None, "the exit callback is set before the start"
        self._exit_callback = func

    def is_alive(self) -> bool:
        """Whether the child runs."""
        return self._pid is not None and self._exitcode is None

    @property
    def pid(self) -> int | None:
        """The process id of the child; None before the start."""
        return self._pid

    @property
    def exitcode(self) -> int | None:
        """The exit code of the child, as of `multiprocessing.Process`; None before its end."""
        return self._exitcode

    @property
    def name(self) -> str:
        """The name of the process."""
        return self._name

    @property
    def daemon(self) -> bool:
        """Whether the child is a daemon, as of `multiprocessing.Process`; set before the start."""
        return bool(self._process.daemon)

    @daemon.setter
    def daemon(self, value: bool) -> None:
        self._process.daemon = value


def _watch(process: BaseProcess, loop: asyncio.AbstractEventLoop, owner: weakref.ref[AsyncProcess]) -> None:
    """Wait for the child's end, in a thread."""
    process.join()
    code = -signal.SIGKILL if process.exitcode is None else process.exitcode

    def tell() -> None:
        one = owner()
        if one is not None:
            one._on_exit(code)

    if not loop.is_closed():
        loop.call_soon_threadsafe(tell)


def _run(target: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], alive: Connection) -> None:
    """Call the target in the child, which is watched by a thread for the end of its parent."""
    threading.Thread(target=_end_with_parent, args=(alive,), name="AsyncProcess parent watch", daemon=True).start()
    target(*args, **kwargs)


def _end_with_parent(alive: Connection) -> None:
    parent = multiprocessing.parent_process()
    wait([alive, parent.sentinel] if parent is not None else [alive])
    os._exit(255)


__all__ = ["AsyncProcess"]
