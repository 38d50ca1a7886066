"""Functions in other threads and processes, and what a thread knows of what it runs."""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from multiprocessing.context import BaseContext
from typing import ParamSpec, TypeVar

from headrace import config
from headrace.worker.context import thread_state

P = ParamSpec("P")
T = TypeVar("T")


async def run_in_executor_with_context(
    executor: Executor | None, func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Call a function in an executor of threads, with the context variables of the caller.

    Args:
        executor: the loop's default one if it is None.
    """
    context = contextvars.copy_context()
    call: Callable[[], T] = partial(context.run, func, *args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(executor, call)


@lru_cache(maxsize=1)
def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="Headrace-Offload")


def offload(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
    """Call a function in a thread that all such calls of the process share, one after the other; returns an awaitable.

    For what takes milliseconds or more and would hold the loop up. It has the caller's context variables.
    """
    return run_in_executor_with_context(_one_thread(), func, *args, **kwargs)


@contextmanager
def set_thread_state(**kwargs: object) -> Iterator[None]:
    """Set attributes of `thread_state` for this thread, while the body runs."""
    missing = object()
    before = {name: getattr(thread_state, name, missing) for name in kwargs}
    for name, value in kwargs.items():
        setattr(thread_state, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                delattr(thread_state, name)
            else:
                setattr(thread_state, name, value)


def in_async_call(loop: object, default: bool = False) -> bool:
    """Whether this is called on a loop.

    Args:
        loop: an asyncio loop, or anything with `.asyncio_loop`.
        default: the answer where no loop runs in this thread.
    """
    running = asyncio._get_running_loop()
    if running is None:
        return default
    return running is getattr(loop, "asyncio_loop", loop)


def get_mp_context() -> BaseContext:
    """The context of `multiprocessing` that `distributed.worker.multiprocessing-method` names.

    Modules that `distributed.worker.multiprocessing.preload` lists are imported by a forkserver beforehand.
    """
    method = config.get("distributed.worker.multiprocessing-method")
    context: BaseContext = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["headrace.worker"])
    return context
