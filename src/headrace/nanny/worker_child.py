"""The process of a worker: one worker, orders from the parent, and an end when the parent ends.

Starts with as little as possible: no dask, no numpy, until a task brings them. Signals that end a process end this one
at once: they are no orders of the parent's, which has the pipe for that, and what a task brings about is no end in good
order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import current_process
from typing import Any

from headrace import config
from headrace.comm.lent_memory.yama import allow_as_told
from headrace.common.importing import import_late
from headrace.logging_setup import initialize_where_configured
from headrace.rpc.loops import signals
from headrace.rpc.loops.loop import new_event_loop

from .tuning import tune_interpreter

#: Seconds without work, from the start on, after which a worker imports dask.
IMPORT_AFTER = 0.3


def main(replies: int) -> None:
    """Run a worker until it closes.

    Args:
        replies: file descriptor for words to the parent: one JSON object a line.
    """
    os.set_inheritable(replies, False)
    signals.take_no_notice(signal.SIGINT)  # Ctrl-C is the parent's business
    for number in (signal.SIGTTIN, signal.SIGTTOU):  # in a group of its own, the terminal could stop it
        signal.signal(number, signal.SIG_IGN)
    size = int.from_bytes(_read_exactly(8), "little")
    options = _read_exactly(size)
    orders = os.dup(0)
    os.set_inheritable(orders, False)
    with open(os.devnull) as nothing:  # tasks that read the standard input get its end
        os.dup2(nothing.fileno(), 0)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        code = runner.run(WorkerChild(replies, orders).run(options))
    _leave(code)


def _read_exactly(size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(0, size - len(data))
        if not piece:
            os._exit(1)  # the parent is gone
        data += piece
    return data


def _leave(code: int) -> None:
    """End the process without waiting for threads that tasks have left behind, nor for the teardown of modules."""
    import atexit

    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _become_daemon() -> None:
    """Forbid tasks to start processes with `multiprocessing` unless `distributed.worker.daemon` is false.

    A worker's tasks fill its CPUs already; libraries such as joblib look at this flag to stay within one process.
    """
    from multiprocessing import process

    process.current_process()._config["daemon"] = config.truth("distributed.worker.daemon")  # type: ignore[attr-defined]


class WorkerChild:
    """The worker of this process and the pipes to its parent."""

    def __init__(self, replies: int, orders: int) -> None:
        self._replies = replies
        self._orders = orders
        self._buffer = b""
        self._worker: Any = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, options: bytes) -> int:
        """Start the worker, say so, and wait for its end; returns the process's exit code."""
        loop = asyncio.get_running_loop()
        os.set_blocking(self._orders, False)
        loop.add_reader(self._orders, self._read)
        try:
            await self._start(options)
        except BaseException as error:
            self._say_failure(error)
            return 1
        worker = self._worker
        _become_daemon()
        self._say(
            {
                "op": "started",
                "address": worker.address,
                "name": worker.name,
                "local_directory": worker.local_directory,
            }
        )
        tune_interpreter()
        loop.call_later(IMPORT_AFTER, self._import_dask, worker.core.transition_counter)
        await worker.finished()
        for task in list(self._tasks):
            with contextlib.suppress(Exception):
                await task
        self._say(
            {
                "op": "closed",
                "reason": worker.close_reason,
                "restart": worker.nanny_restarts,
                "cause": worker.death_cause,
            }
        )
        return 0

    async def _start(self, encoded: bytes) -> None:
        initialize_where_configured()
        from headrace.protocol import loads

        allow_as_told()
        worker_class, options = loads(encoded)
        if worker_class is None:
            from headrace import Worker

            worker_class = Worker
        elif isinstance(worker_class, str):
            from importlib import import_module

            module, _, name = worker_class.replace(":", ".").rpartition(".")
            worker_class = getattr(import_module(module), name)
        if config.truth("distributed.worker.daemon"):
            # Libraries that start processes of their own look at this, and use threads inside workers.
            current_process().daemon = True
        self._worker = worker_class(**options)
        await self._worker

    def _say(self, words: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):
            os.write(self._replies, json.dumps(words, default=str).encode() + b"\n")

    def _say_failure(self, error: BaseException) -> None:
        from headrace.protocol import Frames, dumps_exception

        dumped = dumps_exception(error)
        payload = b"" if isinstance(dumped.exception, Frames) else dumped.exception
        self._say({"op": "failed", "exception": payload.hex(), "text": dumped.exception_text})

    def _read(self) -> None:
        try:
            data = os.read(self._orders, 1 << 16)
        except BlockingIOError:
            return
        if not data:
            asyncio.get_running_loop().remove_reader(self._orders)
            if self._worker is not None:
                self._worker.die_of("its nanny's process has ended without closing it")
            self._close("its parent process has ended", 0.5)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            take = ORDERS.get(order.pop("op"))
            if take is None:  # the pipe stays open: it also tells of the parent's end
                print(f"The worker's parent is not understood: it says {line!r}", file=sys.stderr)
            else:
                take(self, **order)

    def _close(self, reason: str, timeout: float) -> None:
        """Close the worker; if that takes longer than `timeout` seconds the process ends all the same."""
        if self._worker is None:
            os._exit(1)
        asyncio.get_running_loop().call_later(timeout + 1, os._exit, 1)
        task = asyncio.ensure_future(
            self._worker.close(reason=reason, timeout=max(0.0, timeout - 0.5), executor_wait=False)
        )
        self._tasks.add(task)

    def _import_dask(self, transitions: int) -> None:
        """Import, while there is nothing to do, what most tasks with dependencies need.

        Args:
            transitions: how many the worker had made when this was asked for; more of them since are work, perhaps one
                short task after another, that an import would delay.
        """
        if "dask" in sys.modules or self._worker is None or not self._worker.is_running:
            return
        state = self._worker.core
        if state.tasks or state.transition_counter != transitions:
            asyncio.get_running_loop().call_later(IMPORT_AFTER, self._import_dask, state.transition_counter)
            return
        asyncio.get_running_loop().run_in_executor(None, import_late)


#: The function for each order of the parent; see `worker_process.WorkerProcess`.
ORDERS: dict[str, Callable[..., None]] = {"close": WorkerChild._close}
