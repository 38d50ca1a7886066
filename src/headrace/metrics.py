"""Clocks, and meters: how much of something a piece of code took, told to whoever set a callback around it."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter, process_time, thread_time, time
from typing import Any, Literal

__all__ = [
    "ContextMeter",
    "MeterOutput",
    "context_meter",
    "meter",
    "monotonic",
    "perf_counter",
    "process_time",
    "thread_time",
    "time",
]

#: Called with what was measured, how much of it, and in which unit.
Callback = Callable[[Hashable, float, str], None]


@dataclass
class MeterOutput:
    """What a meter measures.

    Attributes:
        start, stop: readings before and after; `stop` is nan until the end.
        delta: the difference, without what inner meters took; nan until the end.
    """

    start: float
    stop: float
    delta: float

    __slots__ = ("delta", "start", "stop")


@contextmanager
def meter(func: Callable[[], float] = perf_counter, floor: float | Literal[False] = 0.0) -> Iterator[MeterOutput]:
    """Read a function before and after the code in this context.

    Args:
        func: what to read: a clock, or any count that grows.
        floor: the least that counts as the difference, for what goes backwards now and then; False for no such bound.
    """
    output = MeterOutput(func(), math.nan, math.nan)
    try:
        yield output
    finally:
        output.stop = func()
        output.delta = _at_least(output.stop - output.start, floor)


def _at_least(value: float, floor: float | Literal[False]) -> float:
    return value if floor is False else max(floor, value)


class ContextMeter:
    """Brings measurements that are made deep inside of some code to callbacks that were set around it.

    Callbacks are in a context variable, so tasks of an event loop and threads that copy the context have their own.

    >>> meters = ContextMeter()
    >>> with meters.add_callback(lambda label, value, unit: print(label, value, unit)):
    ...     meters.digest_metric("written", 10, "bytes")
    written 10 bytes
    """

    _callbacks: ContextVar[dict[Hashable, Callback]]

    def __init__(self) -> None:
        self._callbacks = ContextVar(f"headrace_meter_{id(self)}", default={})  # noqa: B039 - never changed

    def __reduce__(self) -> Any:
        return "context_meter" if self is context_meter else (ContextMeter, ())

    @contextmanager
    def add_callback(
        self, callback: Callback, *, key: Hashable | None = None, allow_offload: bool = False
    ) -> Iterator[None]:
        """Have a callback called for what is measured in this context.

        Args:
            callback: takes what `digest_metric` takes.
            key: a callback set further out under the same key is not called here.
            allow_offload: what other threads measure is told to the callback in the thread of the event loop that runs
                here.
        """
        chosen = _on_this_loop(callback) if allow_offload else callback
        token = self._callbacks.set({**self._callbacks.get(), (object() if key is None else key): chosen})
        try:
            yield
        finally:
            self._callbacks.reset(token)

    @contextmanager
    def clear_callbacks(self) -> Iterator[None]:
        """Have no callback that was set further out called in this context."""
        token = self._callbacks.set({})
        try:
            yield
        finally:
            self._callbacks.reset(token)

    def digest_metric(self, label: Hashable, value: float, unit: str) -> None:
        """Tell the callbacks of a measurement."""
        for callback in self._callbacks.get().values():
            callback(label, value, unit)

    @contextmanager
    def meter(
        self,
        label: Hashable,
        unit: str = "seconds",
        func: Callable[[], float] = perf_counter,
        floor: float | Literal[False] = 0.0,
    ) -> Iterator[MeterOutput]:
        """Measure the code in this context, and tell the callbacks.

        Of seconds, what inner meters have told is taken off, so that the parts add up to the whole.

        Args:
            label: what it is called.
            unit: of what `func` returns.
            func: what to read before and after.
            floor: the least that counts; False for no such bound.
        """
        if not self._callbacks.get():  # nobody to tell: nothing but the reading itself
            with meter(func, floor=floor) as output:
                yield output
            return
        inner = 0.0

        def note(_: Hashable, value: float, told_unit: str) -> None:
            nonlocal inner
            if told_unit == unit == "seconds":
                inner += value

        try:
            with self.add_callback(note), meter(func, floor=False) as output:
                yield output
        finally:
            output.delta = _at_least(output.delta - inner, floor)
            self.digest_metric(label, output.delta, unit)


def _on_this_loop(callback: Callback) -> Callback:
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    def call(label: Hashable, value: float, unit: str) -> None:
        if threading.get_ident() == thread:
            callback(label, value, unit)
        else:
            loop.call_soon_threadsafe(partial(callback, label, value, unit))

    return call


#: The meter that all share.
context_meter = ContextMeter()
