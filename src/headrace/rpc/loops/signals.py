"""Signals that a server's process handles itself, and that its forked children must not handle.

A forked child has its parent's handlers, and the descriptor by which an event loop learns of signals is the parent's
own: a signal to the child would reach the parent, and the child would go on. So a child gets the default handlers
before anything else runs in it. The thread that forks blocks these signals meanwhile: a signal that comes to the child
earlier waits until the child has the default handlers.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

#: Signals that this process handles.
_handled: set[int] = set()
_forking = threading.local()


def handle(loop: asyncio.AbstractEventLoop, number: int, callback: Callable[..., Any], *args: object) -> None:
    """Have the loop of the main thread call a function when a signal comes."""
    loop.add_signal_handler(number, callback, *args)
    _handled.add(number)


def release(loop: asyncio.AbstractEventLoop, number: int) -> None:
    """Handle a signal no more."""
    _handled.discard(number)
    loop.remove_signal_handler(number)


def take_no_notice(number: int) -> None:
    """Have a signal do nothing here. Unlike an ignored one, it has its usual effect on programs started from here."""
    signal.signal(number, _do_nothing)
    _handled.add(number)


def _do_nothing(number: int, frame: FrameType | None) -> None:
    pass


def _before_fork() -> None:
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _handled) if _handled else None


def _after_in_parent() -> None:
    if (mask := getattr(_forking, "mask", None)) is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    if not _handled:
        return
    signal.set_wakeup_fd(-1)
    for number in _handled:
        signal.signal(number, signal.SIG_DFL)
    _after_in_parent()
    interruptible = signal.SIGINT in _handled
    _handled.clear()
    if interruptible:  # last: a KeyboardInterrupt within this function would be lost
        signal.signal(signal.SIGINT, signal.default_int_handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
