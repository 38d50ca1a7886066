"""Requests of code that runs inside a task: for its worker, a client, a place outside the thread pool.

Also `thread_state`, where dask and joblib look for what the current thread runs.
"""

from __future__ import annotations

import builtins
import contextvars
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TextIO
from weakref import WeakSet

from headrace.common.current_run import register_context, worker_here
from headrace.common.keys import Key, from_wire
from headrace.exceptions import Reschedule
from headrace.rpc.held_locks import holds_locks

from .execution.threads import pool_of_thread

if TYPE_CHECKING:
    from .server import WorkerServer

__all__ = [
    "Reschedule",
    "get_current_task",
    "get_worker",
    "local_client",
    "print",
    "rejoin",
    "secede",
    "thread_state",
    "warn",
    "worker_client",
]

#: Per thread, while a task runs in it: `key`, `start_time` (monotonic), `execution_state` (with "worker") and
#: `asynchronous`.
thread_state: Any = threading.local()

#: The worker and the key of what runs, for code on the event loop: coroutines and `Client.run`.
running: contextvars.ContextVar[tuple[WorkerServer, Key | None] | None] = contextvars.ContextVar(
    "running", default=None
)

#: Where callbacks come from that a task's thread has had called on the loop: the worker, its keys by thread (of the
#: latest task each), and the thread. Set once a thread.
origin: contextvars.ContextVar[tuple[WorkerServer, Mapping[int, Key], int] | None] = contextvars.ContextVar(
    "origin", default=None
)

#: Workers of this process that have not closed.
workers: WeakSet[WorkerServer] = WeakSet()


def get_worker() -> WorkerServer:
    """The worker that runs the calling task, or the calling method of an actor.

    Raises:
        ValueError: called from elsewhere: a thread that a task started, a plugin, a function for `Client.run`.
    """
    state = getattr(thread_state, "execution_state", None)
    if state:
        return state["worker"]  # type: ignore[no-any-return]
    context = running.get()
    if context is not None and context[1] is not None:
        return context[0]
    raise ValueError(
        "No worker found: get_worker() works inside tasks and actors; a function for Client.run may take a parameter "
        "dask_worker, and a plugin is given its worker"
    )


def get_current_task() -> Any:
    """The key of the calling task.

    Raises:
        ValueError: not called from a task.
    """
    key = current_key()
    if key is None:
        raise ValueError("not called from a task")
    return from_wire(key)


def current_key() -> Key | None:
    """The wire form of the calling task's key, or None."""
    key: Key | None = getattr(thread_state, "key", None)
    if key is None:
        context = running.get()
        key = context[1] if context is not None else None
    return key


def asking_task() -> tuple[WorkerServer, Key | None] | None:
    """The worker of the task that the caller runs in, or on behalf of, and that task's key if it is known; or None."""
    context = running.get()
    if context is not None and context[1] is not None:
        return context
    thread = origin.get()
    return None if thread is None else (thread[0], thread[1].get(thread[2]))


def secede(adjust: bool = True) -> None:
    """The calling task no longer counts as one of the worker's threads; another task takes its place.

    For tasks that wait for other tasks. Also for what runs in a `distributed.threadpoolexecutor.ThreadPoolExecutor`.

    Args:
        adjust: let another thread of such an executor take its place at once; a task's always does.

    Raises:
        ValueError: not called from a task's own thread, or it has seceded already.
    """
    pool = pool_of_thread()
    if pool is not None:
        if adjust:
            pool.secede()
        else:
            pool.leave()
        return
    worker, key = _calling_task("secede")
    if not worker.task_executor.secede(key, time.monotonic() - thread_state.start_time):
        raise ValueError(f"the task {from_wire(key)!r} has seceded already, or runs in an executor of the user's")


def rejoin() -> None:
    """The calling task, which has seceded, counts again; waits until a thread is free.

    A task that holds a `Lock`, `MultiLock` or `Semaphore` stays outside: those in its way may wait for just that.

    Raises:
        ValueError: not called from a task's own thread.
    """
    pool = pool_of_thread()
    if pool is not None:
        pool.rejoin()
        return
    worker, _ = _calling_task("rejoin")
    if not holds_locks():
        worker.task_executor.rejoin()


def _calling_task(what: str) -> tuple[WorkerServer, Key]:
    key = getattr(thread_state, "key", None)
    if key is None:
        raise ValueError(f"{what}() can only be called from the thread of a running task")
    return thread_state.execution_state["worker"], key


@contextmanager
def worker_client(timeout: float | str | None = None, separate_thread: bool = True) -> Iterator[Any]:
    """A client for use inside a task, during which the task does not take a thread of its worker.

    Args:
        timeout: seconds, or text such as "5s", to connect.
        separate_thread: whether to secede for that time.

    Raises:
        ValueError: not called from a task.
    """
    worker = get_worker()
    client = worker.get_client(timeout=timeout)
    worker.task_clients.log("worker-client", client, timeout)
    seceded = separate_thread and _seceded()
    try:
        yield client
    finally:
        if seceded:
            rejoin()


def _seceded() -> bool:
    """Secede, unless that has been done further out."""
    try:
        secede()
    except ValueError:
        return False
    return True


def local_client(*args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
    """Give a client as `worker_client` does; the older name."""
    return worker_client(*args, **kwargs)


def print(
    *args: object, sep: str | None = " ", end: str | None = "\n", file: TextIO | None = None, flush: bool = False
) -> None:
    """Print as the builtin does, and inside a task also in the terminals of all clients.

    Raises:
        TypeError: `sep` or `end` is not text, or in a task `file` is neither None nor `sys.stdout` or `sys.stderr`.
    """
    if sep is not None and not isinstance(sep, str):
        raise TypeError(f"sep must be None or a string, not {type(sep).__name__}")
    if end is not None and not isinstance(end, str):
        raise TypeError(f"end must be None or a string, not {type(end).__name__}")
    worker = worker_here()
    if worker is not None and file is not None and file is not sys.stdout and file is not sys.stderr:
        raise TypeError(
            f"a task can print to None, sys.stdout or sys.stderr, which the clients have too, and not to {file!r}: use "
            "the builtin print for a file of the worker's machine"
        )
    builtins.print(*args, sep=sep, end=end, file=file, flush=flush)
    if worker is None:
        return
    name = None if file is None else 1 if file is sys.stdout else 2
    message = {"args": tuple(map(str, args)), "sep": sep, "end": end, "file": name, "flush": flush}
    worker.send_event(["print"], message)


def warn(
    message: str | Warning,
    category: type[Warning] | None = UserWarning,
    stacklevel: int = 1,
    source: object = None,
) -> None:
    """Warn as `warnings.warn` does, and inside a task also in all clients."""
    worker = worker_here()
    if worker is not None:
        from headrace.protocol import dumps

        worker.send_event(["warn"], {"message": dumps(message), "category": dumps(category)})
    warnings.warn(message, category, stacklevel=stacklevel + 1, source=source)


register_context(sys.modules[__name__])
