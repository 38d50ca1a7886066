"""The process of a fork server: it has imported what workers need, and forks a worker's process for each request.

Its process is a fresh interpreter (see `forkserver`), which never runs a thread, an event loop or code of the user's: a
copy of it is as clean as an interpreter of its own. What differs from worker to worker, the environment, the module
path and the directory, each of them sets before anything else. Nothing may be imported here that draws random numbers,
reads variables or looks at the clock as it is imported.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import Any, NoReturn

from headrace import config
from headrace.rpc.loops.loop import fill_standard_descriptors

#: What a worker has imported soon after its start; what is not installed is left out.
MODULES = (
    "headrace.nanny.worker_child",
    "headrace.worker.server",
    "headrace.comm.opening.socket_opening",
    "headrace.comm.lent_memory.memory_link",
    "headrace.comm.tcp",
    "headrace.common.tracebacks",
    "headrace.common.package_versions",
    "importlib.metadata",
    "cloudpickle",
    "dask._task_spec",
    "dask.sizeof",
    "lz4.block",
    "uvloop",
)
#: Descriptors that come with a request: the orders to the worker, its replies, the news of its life, output and errors.
DESCRIPTORS = 5
#: Bytes in front of each piece that says how long it is.
LENGTH_BYTES = 8


def main(connection: int) -> NoReturn:
    """Fork until the other end of the connection is closed.

    Args:
        connection: descriptor of a socket on which requests come, one message each.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the business of those that have started this
    fill_standard_descriptors()  # none that comes with a request is to be one that a copy has to give away
    for name in MODULES:
        with contextlib.suppress(Exception):  # workers that need it will say what is wrong
            importlib.import_module(name)
    with contextlib.suppress(Exception):
        from headrace import Worker  # noqa: F401  what a nanny makes unless it is told otherwise
    config.register_defaults()
    gc.collect()
    gc.freeze()  # else collections in the workers would write to, and so copy, every page of what is here
    _Copier(socket.socket(fileno=connection)).serve()


class _Copier:
    """Children by a descriptor that tells of their end: process id, and where that is to be told."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._children: dict[int, tuple[int, int]] = {}

    def serve(self) -> NoReturn:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        while True:
            for descriptor, _ in poll.poll():
                if descriptor != self._connection.fileno():
                    poll.unregister(descriptor)
                    self._bury(descriptor)
                elif (child := self._answer()) is not None:
                    poll.register(child, select.POLLIN)

    def _answer(self) -> int | None:
        message, descriptors, _, _ = socket.recv_fds(self._connection, 1, DESCRIPTORS)
        if not message:  # nobody is there who could ask for more; workers see the end of their orders
            os._exit(0)
        if len(descriptors) != DESCRIPTORS:  # no descriptors were left to take them
            for descriptor in descriptors:
                os.close(descriptor)
            return None
        orders, replies, news, output, errors = descriptors
        try:
            pid = os.fork()
        except OSError:
            pid = -1
        if pid == 0:
            self._become_worker(orders, replies, news, output, errors)
        for descriptor in (orders, replies, output, errors):
            os.close(descriptor)
        if pid < 0:
            os.close(news)
            return None
        ended = os.pidfd_open(pid)
        self._children[ended] = (pid, news)
        _tell(news, f"pid {pid}")
        return ended

    def _bury(self, ended: int) -> None:
        pid, news = self._children.pop(ended)
        _, status = os.waitpid(pid, 0)
        _tell(news, f"exit {os.waitstatus_to_exitcode(status)}")
        os.close(news)
        os.close(ended)

    def _become_worker(self, orders: int, replies: int, news: int, output: int, errors: int) -> NoReturn:
        code = 1
        try:
            self._connection.close()
            os.close(news)
            for ended, (_, other) in self._children.items():
                os.close(ended)
                os.close(other)
            for descriptor, number in ((orders, 0), (output, 1), (errors, 2)):
                os.dup2(descriptor, number)
                os.close(descriptor)
            os.setpgid(0, 0)  # a task that signals its process group means what it has started, not the other workers
            signal.signal(signal.SIGINT, signal.default_int_handler)
            gc.enable()
            _set_up(json.loads(read_piece(0)))
            from .worker_child import main as run_worker

            run_worker(replies)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
        os._exit(code)


def _set_up(given: dict[str, Any]) -> None:
    """Have the given environment, module path and directory, as if this had been started with them."""
    os.environ.clear()
    os.environ.update(given["environment"])
    sys.path[:] = given["path"]
    importlib.invalidate_caches()
    with contextlib.suppress(OSError):
        os.chdir(given["directory"])
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=number == 2 or os.isatty(number))
    config.start_anew()


def read_piece(descriptor: int) -> bytes:
    """Read a piece that has its length in front; end the process if the other end is closed."""
    return _read_exactly(descriptor, int.from_bytes(_read_exactly(descriptor, LENGTH_BYTES), "little"))


def _read_exactly(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            os._exit(1)  # the parent is gone
        data += piece
    return data


def _tell(news: int, words: str) -> None:
    with contextlib.suppress(OSError):
        os.write(news, words.encode() + b"\n")
