"""The printed and logged lines of tasks, kept by key for those who ask.

A task pays nothing for it: which one runs is looked up when something is written, by the thread or context that writes.
`sys.stdout` and `sys.stderr` are replaced by streams that pass everything on, the factory of log records by one that
calls the one before. What processes, C code or threads started by a task write is not seen. Memory is bounded.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
import traceback
import weakref
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headrace import config
from headrace.common.keys import Key
from headrace.worker.context import current_key, running, thread_state

if TYPE_CHECKING:
    from headrace.worker.server import WorkerServer

#: (time, source, level, text)
Line = tuple[float, str, str, str]

_lock = threading.Lock()
_installed: _Capture | None = None
_all: weakref.WeakSet[TaskLogs] = weakref.WeakSet()


class TaskLogs:
    """The lines of one worker's tasks.

    Args:
        task_bytes: characters kept a task: the first half of them and the latest.
        total_bytes: characters kept in all: tasks that have not written for longest are dropped first.
    """

    def __init__(self, task_bytes: int, total_bytes: int) -> None:
        self._task_bytes = task_bytes
        self._total_bytes = total_bytes
        self._lock = threading.Lock()
        _all.add(self)
        self._by_key: OrderedDict[Key, _Lines] = OrderedDict()
        self._size = 0

    @classmethod
    def from_config(cls) -> TaskLogs | None:
        """Make logs as configured under `distributed.worker.task-logs`; None if nothing is to be kept."""
        values = config.get("distributed.worker.task-logs")
        if not config.truth("distributed.worker.task-logs.enabled"):
            return None
        return cls(
            config.parse_bytes(values["task-bytes"]),
            config.parse_bytes(values["total-bytes"]),
        )

    def add(self, key: Key, source: str, level: str, text: str) -> None:
        """Keep what a task wrote: whole lines or parts of them."""
        now = time.time()
        with self._lock:
            lines = self._by_key.get(key)
            if lines is None:
                lines = self._by_key[key] = _Lines(self._task_bytes)
                before = 0
            else:
                self._by_key.move_to_end(key)
                before = lines.size
            lines.add(now, source, level, text)
            self._size += lines.size - before
            while self._size > self._total_bytes and len(self._by_key) > 1:
                self._size -= self._by_key.popitem(last=False)[1].size

    def get(self, keys: Iterable[Key]) -> dict[Key, list[Line]]:
        """The lines of these tasks, oldest first; those that have none are left out."""
        with self._lock:
            return {key: self._by_key[key].read() for key in keys if key in self._by_key}


def _after_fork() -> None:
    """Threads that are not in the child may have held the locks."""
    global _lock
    _lock = threading.Lock()
    for logs in _all:
        logs._lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Lines:
    """The lines of a task: all, or the first ones and the latest."""

    #: what a line costs beside its text
    OVERHEAD = 100

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._first: list[Line] = []
        self._latest: OrderedDict[int, Line] = OrderedDict()
        self._number = 0
        self._head = 0
        self._dropped = 0
        self._open: dict[str, str] = {}
        self._kept = 0

    @property
    def size(self) -> int:
        """Bytes that the lines of a task cost, the record of the task itself and unfinished lines included."""
        return self._kept + self.OVERHEAD + sum([len(rest) + self.OVERHEAD for rest in self._open.values()])

    def add(self, now: float, source: str, level: str, text: str) -> None:
        if level:
            self._append((now, source, level, text[: self._limit]))
            return
        text = self._open.pop(source, "") + text
        *whole, rest = text.split("\n")
        for line in whole:
            self._append((now, source, "", line[: self._limit]))
        if rest:
            self._open[source] = rest[-self._limit :]

    def _append(self, line: Line) -> None:
        cost = len(line[3]) + self.OVERHEAD
        if not self._latest and self._head + cost <= self._limit // 2:
            self._first.append(line)
            self._head += cost
            self._kept += cost
            return
        self._number += 1
        self._latest[self._number] = line
        self._kept += cost
        while self._kept > self._limit and len(self._latest) > 1:
            _, old = self._latest.popitem(last=False)
            self._kept -= len(old[3]) + self.OVERHEAD
            self._dropped += 1

    def read(self) -> list[Line]:
        found = list(self._first)
        latest = list(self._latest.values())
        if self._dropped:
            found.append((latest[0][0], "headrace", "INFO", f"… {self._dropped} lines were dropped …"))
        found += latest
        now = time.time()
        return found + [(now, source, "", rest) for source, rest in self._open.items()]


def _current_logs() -> tuple[TaskLogs, Key] | None:
    """The logs that take what the caller writes, if the caller is a task."""
    key = current_key()
    if key is None:
        return None
    state = getattr(thread_state, "execution_state", None)
    context = running.get() if not state else None
    worker = state["worker"] if state else context[0] if context is not None else None
    logs = getattr(worker, "task_logs", None)
    return (logs, key) if logs is not None else None


class _Stream:
    """A stream that is like another one, and notes what tasks write to it."""

    def __init__(self, original: Any, source: str) -> None:
        self._original = original
        self._source = source

    def write(self, text: str) -> Any:
        written = self._original.write(text)
        found = _current_logs()
        # What the logging module writes has been noted already, as a record.
        if found is not None and sys._getframe(1).f_globals.get("__name__") != "logging":
            found[0].add(found[1], self._source, "", text)
        return written

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def __iter__(self) -> Any:
        return iter(self._original)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> object:
        return self._original.__exit__(*error)


class _Capture:
    """The parts of this process that are replaced while it has workers."""

    def __init__(self) -> None:
        self.users: set[str] = set()
        self._streams = {}
        for name in ("stdout", "stderr"):
            original = getattr(sys, name)
            if original is not None:
                self._streams[name] = _Stream(original, name)
                setattr(sys, name, self._streams[name])
        self._previous = previous = logging.getLogRecordFactory()

        def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = previous(*args, **kwargs)
            found = _current_logs()
            if found is not None:
                found[0].add(found[1], record.name, record.levelname, _text_of(record))
            return record

        self._factory = make
        logging.setLogRecordFactory(make)

    def undo(self) -> None:
        """Put back what was there, unless somebody has replaced it since."""
        for name, stream in self._streams.items():
            if getattr(sys, name) is stream:
                setattr(sys, name, stream._original)
        if logging.getLogRecordFactory() is self._factory:
            logging.setLogRecordFactory(self._previous)


def _text_of(record: logging.LogRecord) -> str:
    try:
        text = record.getMessage()
    except Exception:  # the logging module says so itself
        text = f"{record.msg} {record.args}"
    if record.exc_info and record.exc_info[0] is not None:
        text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return text


def start(worker: WorkerServer) -> None:
    """Note what tasks write in this process, from now on until the last worker that asked for it ends."""
    global _installed
    if worker.task_logs is None:
        return
    with _lock:
        if _installed is None:
            _installed = _Capture()
        _installed.users.add(worker.id)


def stop(worker: WorkerServer) -> None:
    """A worker that called `start` ends."""
    global _installed
    if worker.task_logs is None:
        return
    with _lock:
        if _installed is not None:
            _installed.users.discard(worker.id)
            if not _installed.users:
                _installed.undo()
                _installed = None
