"""Who the calling code runs for: a worker's task or actor, or a client's user.

For code that must not import the packages of workers and clients. These register here as they are imported, so that
nothing is known of a worker in a process that has none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from .keys import Key


class RunContext(Protocol):
    """`headrace.worker.context`: the part of it that code outside of workers uses."""

    #: per thread, while a task runs in it: `execution_state`, a dictionary with "worker"
    thread_state: Any
    #: the worker and the key of what runs, for code on the event loop
    running: ContextVar[Any]

    def current_key(self) -> Key | None:
        """The wire form of the calling task's key."""

    def secede(self, adjust: bool = True) -> None:
        """Give up the calling task's place among the worker's threads."""

    def rejoin(self) -> None:
        """Take such a place again; waits until one is free."""


_context: RunContext | None = None
_find_client: Callable[[], Any] | None = None


def register_context(context: RunContext) -> None:
    """Code may run in tasks from now on, and this knows which."""
    global _context
    _context = context


def register_client_finder(find_client: Callable[[], Any]) -> None:
    """There may be clients from now on, and this returns the one that is meant where none is named, or None."""
    global _find_client
    _find_client = find_client


def run_context() -> RunContext | None:
    """The registered context; None in a process that has not loaded the worker's package."""
    return _context


def worker_here() -> Any:
    """The worker whose task or actor runs here, or None."""
    context = _context
    if context is None:
        return None
    state = getattr(context.thread_state, "execution_state", None)
    if state:
        return state["worker"]
    running = context.running.get()
    return running[0] if running is not None else None


def key_here() -> Key | None:
    """The wire form of the key of the task that runs here, or None."""
    return None if _context is None else _context.current_key()


def client_here() -> Any:
    """The client that is meant where none is named, or None; the client's package is not loaded for it."""
    return None if _find_client is None else _find_client()
