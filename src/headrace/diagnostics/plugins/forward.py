"""Plugins that bring the logs and the printed output of workers to clients."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TextIO

from .plugin_base import WorkerPlugin

if TYPE_CHECKING:
    from headrace import Worker


class ForwardLoggingPlugin(WorkerPlugin):
    """Publishes the records of a logger on each worker.

    Args:
        logger_name: of the logger; None for all.
        level: from which level on.
        topic: the topic to publish them under.
    """

    def __init__(self, logger_name: str | None, level: int | str, topic: str) -> None:
        self.logger_name = logger_name
        self.level = level
        self.topic = topic
        self.handler: logging.Handler | None = None

    def setup(self, worker: Worker) -> None:
        self.handler = _ForwardingHandler(worker, self.topic, self.level)
        logger = logging.getLogger(self.logger_name)
        logger.addHandler(self.handler)
        self._previous = logger.level
        wanted = self.handler.level
        if wanted and logger.getEffectiveLevel() > wanted:
            logger.setLevel(wanted)

    def teardown(self, worker: Worker) -> None:
        if self.handler is not None:
            logger = logging.getLogger(self.logger_name)
            logger.removeHandler(self.handler)
            logger.setLevel(self._previous)


class _ForwardingHandler(logging.Handler):
    """Publishes records as dictionaries of plain values."""

    def __init__(self, worker: Worker, topic: str, level: int | str) -> None:
        super().__init__(level)
        self._worker = worker
        self._topic = topic

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._worker.log_event(self._topic, _plain_record(record, self.format))
        except Exception:
            self.handleError(record)


def _plain_record(record: logging.LogRecord, text_of: Callable[[logging.LogRecord], str]) -> dict[str, Any]:
    """Fields of a record for `logging.makeLogRecord`; exceptions as text."""
    fields = {
        name: value
        for name, value in record.__dict__.items()
        if value is None or isinstance(value, (str, int, float, bool))
    }
    fields["msg"] = record.getMessage()
    fields["args"] = None
    if record.exc_info:
        text_of(record)  # fills exc_text
        fields["exc_text"] = record.exc_text
    return fields


class ForwardOutput(WorkerPlugin):
    """Prints the output of workers, from wherever in their processes, in the terminals of all clients."""

    def setup(self, worker: Worker) -> None:
        self._exit = contextlib.ExitStack()
        self._exit.enter_context(forward_stream("stdout", worker))
        self._exit.enter_context(forward_stream("stderr", worker))

    def teardown(self, worker: Worker) -> None:
        self._exit.close()


class forward_stream:
    """Within the context, text written to "stdout" or "stderr" of this process is also printed at clients.

    Args:
        stream: "stdout" or "stderr".
        worker: which publishes it.
    """

    def __init__(self, stream: str, worker: Worker) -> None:
        self._stream = stream
        self._worker = worker
        self._number = {"stdout": 1, "stderr": 2}[stream]

    def __enter__(self) -> None:
        self._original = getattr(sys, self._stream)
        self._forwarding = _Forwarding(self._original, self._write)
        setattr(sys, self._stream, self._forwarding)

    def _write(self, data: str) -> int:
        event = {"args": (data,), "sep": "", "end": "", "file": self._number, "flush": False}
        with contextlib.suppress(RuntimeError, AssertionError):  # the worker is closed
            self._worker.send_event(["print"], event)
        return int(self._original.write(data))

    def __exit__(self, *_: object) -> None:
        if getattr(sys, self._stream) is self._forwarding:
            setattr(sys, self._stream, self._original)


class _Forwarding:
    """A stream that is like another but for how it is written to."""

    def __init__(self, original: TextIO, write: Callable[[str], int]) -> None:
        self._original = original
        self.write = write

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)
