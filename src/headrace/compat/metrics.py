"""Clocks, and meters: a piece of code measures its use of something, and callbacks that were set around it are told."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Coroutine, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from time import monotonic, perf_counter, process_time, thread_time, time
from typing import Any, Literal, TypeVar

from headrace.common.current_run import key_here, worker_here

__all__ = [
    "ContextMeter",
    "DelayedMetricsLedger",
    "MeterOutput",
    "context_meter",
    "context_meter_to_server_digest",
    "meter",
    "monotonic",
    "perf_counter",
    "process_time",
    "thread_time",
    "time",
]

#: Called with the label of a measurement, its value, and its unit.
Callback = Callable[[Hashable, float, str], None]
Method = TypeVar("Method", bound=Callable[..., Coroutine[Any, Any, Any]])


@dataclass
class MeterOutput:
    """A meter's readings.

    Attributes:
        start, stop: readings before and after; `stop` is nan until the end.
        delta: the difference, without the parts of inner meters; nan until the end.
    """

    start: float
    stop: float
    delta: float

    __slots__ = ("delta", "start", "stop")


@contextmanager
def meter(func: Callable[[], float] = perf_counter, floor: float | Literal[False] = 0.0) -> Iterator[MeterOutput]:
    """Read a function before and after the code in this context.

    Args:
        func: the function to read: a clock, or any count that grows.
        floor: least value of the difference, as some clocks go backwards now and then; False for no bound.
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
    """Passes measurements that are made deep inside of some code to callbacks that were set around it.

    The callbacks are in a context variable, so that each task of an event loop, and each thread, has its own.

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
        """Have a callback called for each measurement in this context.

        Args:
            callback: called with the arguments of `digest_metric`.
            key: replaces a callback that was set further out under the same key.
            allow_offload: whether measurements in other threads are passed to the callback in the thread of the event
                loop that runs here.
        """
        chosen = _on_this_loop(callback) if allow_offload else callback
        token = self._callbacks.set({**self._callbacks.get(), (object() if key is None else key): chosen})
        try:
            yield
        finally:
            self._callbacks.reset(token)

    @contextmanager
    def clear_callbacks(self) -> Iterator[None]:
        """Have none of the callbacks that were set further out called in this context, nor the task's worker told."""
        token = self._callbacks.set({_CLEARED: _drop})
        try:
            yield
        finally:
            self._callbacks.reset(token)

    def digest_metric(self, label: Hashable, value: float, unit: str) -> None:
        """Tell the callbacks of a measurement; in a task, the worker is told as well, for `Span` and the scheduler."""
        callbacks = self._callbacks.get()
        for callback in callbacks.values():
            callback(label, value, unit)
        if self is context_meter and _CLEARED not in callbacks:
            _tell_worker(label, value, unit)

    @contextmanager
    def meter(
        self,
        label: Hashable,
        unit: str = "seconds",
        func: Callable[[], float] = perf_counter,
        floor: float | Literal[False] = 0.0,
    ) -> Iterator[MeterOutput]:
        """Measure the code in this context, and tell the callbacks.

        From seconds, those of inner meters are subtracted, so that the parts add up to the whole.

        Args:
            label: name of the measurement.
            unit: unit of `func`'s values.
            func: the function to read before and after.
            floor: least value; False for no bound.
        """
        if not self._callbacks.get() and (
            self is not context_meter or worker_here() is None
        ):  # without callbacks, only the reading itself costs time
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


#: The key under which it is noted that callbacks set further out are not to be called.
_CLEARED = object()


def _drop(_: Hashable, value: float, unit: str) -> None:
    """The callback where there is to be none."""


def _tell_worker(label: Hashable, value: float, unit: str) -> None:
    """Have the worker of the task that runs here, if one does, note a measurement; others pay nothing."""
    worker, key = worker_here(), key_here()
    if worker is not None and key is not None:
        task = worker.core.tasks.get(key)
        annotations = task.annotations if task is not None else {}
        worker.activities.measure(worker.task_executor.run_of(key), key, annotations, (label, value, unit))


def _on_this_loop(callback: Callback) -> Callback:
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    def call(label: Hashable, value: float, unit: str) -> None:
        if threading.get_ident() == thread:
            callback(label, value, unit)
        else:
            loop.call_soon_threadsafe(partial(callback, label, value, unit))

    return call


#: The meter that all code shares.
context_meter = ContextMeter()


def context_meter_to_server_digest(digest_tag: str) -> Callable[[Method], Method]:
    """A decorator of a server's coroutine method: measurements in it go to the server's `digest_metric`.

    Args:
        digest_tag: first part of the names `(digest_tag, label, unit)`; a label that is a tuple is spread out.
    """

    def decorate(function: Method) -> Method:
        @wraps(function)
        async def call(self: Any, *args: object, **kwargs: object) -> Any:
            def tell(label: Hashable, value: float, unit: str) -> None:
                parts = label if isinstance(label, tuple) else (label,)
                self.digest_metric((digest_tag, *parts, unit), value)

            with context_meter.add_callback(tell, allow_offload=True):
                return await function(self, *args, **kwargs)

        return call  # type: ignore[return-value]

    return decorate


@dataclass
class DelayedMetricsLedger:
    """Keeps the measurements of code that is no single block until it has ended, and it is known how to report them.

    Attributes:
        func: the clock, read when the ledger is made and at the end.
        start: the first reading.
        metrics: the measurements so far, as (label, value, unit).
    """

    func: Callable[[], float] = perf_counter
    start: float = field(init=False)
    metrics: list[tuple[Hashable, float, str]] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.start = self.func()

    @contextmanager
    def record(self, *, key: Hashable | None = None) -> Iterator[None]:
        """Keep the measurements in this context; for `key` see `ContextMeter.add_callback`."""

        def keep(label: Hashable, value: float, unit: str) -> None:
            self.metrics.append((label, value, unit))

        with context_meter.add_callback(keep, key=key):
            yield

    def finalize(
        self, coarse_time: str | Literal[False] = False, floor: float | Literal[False] = 0.0
    ) -> Iterator[tuple[Hashable, float, str]]:
        """Yield the measurements to report, once the code has ended.

        Args:
            coarse_time: a label under which all seconds are reported as one measurement; if false, each is reported as
                it was measured, and the rest of the time as "other".
            floor: least value of that one measurement, or of the rest; False for no bound.
        """
        left = self.func() - self.start
        for label, value, unit in self.metrics:
            if unit != "seconds" or not coarse_time:
                yield label, value, unit
            if unit == "seconds" and not coarse_time:
                left -= value
        yield coarse_time or "other", _at_least(left, floor), "seconds"
