"""A worker in a process of its own, seen from the process that starts it.

The child is a new interpreter that never sees the user's script: it gets its options through a pipe, answers through
another, and ends when the first one closes, that is, when its parent ends in whatever way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any

from headrace.comm.forks import Kept, end_keeping, keep_from_children
from headrace.common.status import Status
from headrace.containment import described
from headrace.directories import remove_leftover
from headrace.protocol import Frames, dumps, loads_exception

from . import forkserver
from .environment import interpreter_arguments, module_path, process_environment

logger = logging.getLogger("distributed.nanny")

#: Seconds between two looks whether the process lives, where the system cannot tell by itself.
POLL_SECONDS = 0.1
#: Seconds from an order to close, and from SIGTERM, until the next harder means.
PATIENCE = 5
#: Seconds between a worker's death and the next start, at first and at most: doubled while workers die young. Short,
#: because tasks that kill their workers must not take the workers from all other tasks for long.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
#: Seconds after which a worker counts as having lived.
LIVED = 10.0


class WorkerProcess:
    """Starts a Worker in a new process when awaited; `close` ends it.

    Args:
        worker_kwargs: for the Worker, with the scheduler's address as `scheduler_ip`.
        silence_logs: level under which the worker does not log.
        on_exit: called on the loop with the exit code (negative: the signal) when the process has ended.
        worker: class of the worker; Worker by default.
        env: environment variables for the process; None removes one.
        pre_spawn_env: likewise; `env` wins. All are set before the process starts.
        config: configuration for the process; laid over this one's.
        start_timeout: seconds that the start may take.

    Attributes:
        address: the worker's; None before it has started.
        worker_dir: its local directory.
        closed_itself: why the worker closed in good order; None if it did not.
        restart_reason: why the worker closed in good order for another to follow it; None if it did not.
        exit_cause: what it died of, in words for people, if more than its exit code is known: why the nanny ended it,
            or why it closed itself though nobody who may ask for that had. None for all other ends.
        killed_for_memory: whether the nanny has killed it because it took too much.
        has_closed: whether the worker closed before its process ended, so that the scheduler has heard of it.

    Raises:
        RuntimeError: when started, if the worker did not start; says why.
        TimeoutError: when started, if the worker did not find its scheduler in time.
    """

    def __init__(
        self,
        worker_kwargs: Mapping[str, Any],
        silence_logs: int | None = None,
        on_exit: Callable[[int], None] | None = None,
        worker: object = None,
        env: Mapping[str, Any] | None = None,
        pre_spawn_env: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        start_timeout: float = 60.0,
    ) -> None:
        worker_kwargs = dict(worker_kwargs)
        if silence_logs is not None:
            worker_kwargs["silence_logs"] = silence_logs
        self.name = worker_kwargs.get("name")
        self.status = Status.created
        self.address: str | None = None
        self.worker_dir: str | None = None
        self.closed_itself: str | None = None
        self.restart_reason: str | None = None
        self.exit_cause: str | None = None
        self.killed_for_memory = False
        self.has_closed = False
        self.start_timeout = start_timeout
        self.process: subprocess.Popen[bytes] | forkserver.ForkedProcess | None = None
        self._worker_class = worker
        self._worker_kwargs = worker_kwargs
        self._env = {**(pre_spawn_env or {}), **(env or {})}
        self._config = config
        self._on_exit = on_exit
        self._replies = -1
        self._kept: Kept | None = None
        self._buffer = b""
        self._pidfd = -1
        self._poll: asyncio.TimerHandle | None = None
        self._started: asyncio.Future[None] | None = None
        self._exited: asyncio.Future[int] | None = None

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.address or self.name}, status: {self.status.name}, pid: {self.pid}>"

    def __await__(self) -> Generator[Any, None, WorkerProcess]:
        return self.start().__await__()

    async def __aenter__(self) -> WorkerProcess:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """Of the process, once it was started."""
        return self.process.pid if self.process is not None else None

    @property
    def worker_address(self) -> str | None:
        """The worker's address."""
        return self.address

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self.process.returncode if self.process is not None else None

    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._exited is not None and not self._exited.done()

    async def start(self) -> WorkerProcess:
        """Start the process, and return when its worker is registered."""
        if self.status is not Status.created:
            return self
        self.status = Status.starting
        loop = asyncio.get_running_loop()
        self._started = loop.create_future()
        self._exited = loop.create_future()
        try:
            self._spawn(loop)
        except BaseException:
            self._exited = None  # there is nothing to end
            self.status = Status.closed
            raise
        try:
            async with asyncio.timeout(self.start_timeout):
                await self._started
        except TimeoutError:
            await self._terminate()
            raise RuntimeError(f"the worker process did not start its worker in {self.start_timeout:g} s") from None
        except BaseException:
            await self._terminate()
            raise
        self.status = Status.running
        return self

    def _spawn(self, loop: asyncio.AbstractEventLoop, may_fork: bool = True) -> None:
        options = self._encoded_options()
        options = len(options).to_bytes(8, "little") + options
        environment = process_environment(self._env, self._config)
        arguments, path = interpreter_arguments(), module_path()
        replies, for_child = os.pipe()
        try:
            forked = forkserver.start(arguments, environment, path, for_child) if may_fork else None
            if forked is not None:
                self.process, first = forked
                options = first + options
            else:
                start = f"from headrace.nanny.worker_child import main; main({for_child})"
                code = f"import sys; sys.path[:] = {path!r}; {start}"
                self.process = subprocess.Popen(
                    [sys.executable, *arguments, "-c", code],
                    stdin=subprocess.PIPE,
                    pass_fds=[for_child],
                    env=environment,
                    bufsize=0,
                    process_group=0,  # a task that signals its process group means what it has started, not all of us
                )
        except BaseException:
            os.close(replies)
            raise
        finally:
            os.close(for_child)
        self._replies = replies
        os.set_blocking(replies, False)
        loop.add_reader(replies, self._read)
        self._watch(loop)
        assert self.process.stdin is not None
        self._kept = keep_from_children(self.process.stdin.fileno())
        with contextlib.suppress(BrokenPipeError):  # it died at once: the watch tells
            write_all(self.process.stdin.fileno(), options)

    def _encoded_options(self) -> bytes:
        options = self._worker_kwargs
        payload = dumps((self._worker_class, options))
        if isinstance(payload, Frames):  # large, or with buffers: one piece is good enough here
            import cloudpickle

            payload = cloudpickle.dumps((self._worker_class, options))
        return payload

    # What the child says, and its end

    def _read(self) -> None:
        try:
            data = os.read(self._replies, 1 << 20)
        except BlockingIOError:
            return
        if not data:
            self._stop_reading()
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            reply = json.loads(line)
            take = REPLIES.get(reply["op"])
            if take is None:  # its end is seen without the pipe
                logger.error("The worker process %s is not understood: it says %r", self.pid, reply["op"])
                self._stop_reading()
                return
            take(self, reply)

    def _on_started(self, reply: dict[str, Any]) -> None:
        self.address = reply["address"]
        self.name = reply["name"]
        self.worker_dir = reply["local_directory"]
        if self._started is not None and not self._started.done():
            self._started.set_result(None)

    def _on_failed(self, reply: dict[str, Any]) -> None:
        if self._started is None or self._started.done():
            return
        cause = loads_exception(bytes.fromhex(reply["exception"]), reply["text"])
        error: BaseException = cause
        if type(cause) is not RuntimeError:  # one says by itself what did not start
            kind = TimeoutError if isinstance(cause, TimeoutError) else RuntimeError
            error = kind(f"the worker did not start: {described(cause)}")
            error.__cause__ = cause
        self._started.set_exception(error)

    def _on_closed(self, reply: dict[str, Any]) -> None:
        self.has_closed = True
        if reply.get("cause"):
            self.exit_cause = reply["cause"]
        elif reply.get("restart"):
            self.restart_reason = reply["reason"]
        else:
            self.closed_itself = reply["reason"]

    def _stop_reading(self) -> None:
        if self._replies >= 0:
            asyncio.get_running_loop().remove_reader(self._replies)
            os.close(self._replies)
            self._replies = -1

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self.process is not None
        if isinstance(self.process, forkserver.ForkedProcess):
            self._pidfd = self.process.news
            loop.add_reader(self._pidfd, self.mark_stopped)
            return
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                self._pidfd = os.pidfd_open(self.process.pid)
                loop.add_reader(self._pidfd, self.mark_stopped)
                return
        self._poll = loop.call_later(POLL_SECONDS, self.mark_stopped)

    def mark_stopped(self) -> None:
        """Notice that the process has ended, if it has; called by itself when it does."""
        assert self.process is not None
        assert self._exited is not None
        assert self._started is not None
        loop = asyncio.get_running_loop()
        code = self.process.poll()
        if code is None:
            if isinstance(self.process, forkserver.ForkedProcess) and self.process.is_lost:
                self._stop_watching(loop)
            if self._pidfd < 0:
                self._poll = loop.call_later(POLL_SECONDS, self.mark_stopped)
            return
        self._stop_watching(loop)
        if self._replies >= 0:
            self._read()  # its last words
            self._stop_reading()
        if self.process.stdin is not None:
            end_keeping(self._kept)
            self.process.stdin.close()
        if isinstance(self.process, forkserver.ForkedProcess):
            if self.process.was_not_forked and self.status is Status.starting:
                self._spawn_after_all(loop)
                return
            if self.process.was_not_seen and self.exit_cause is None:
                self.exit_cause = "its process ended, and nobody could see how"
        if not self._started.done():
            end = exit_in_words(code)
            self._started.set_exception(RuntimeError(f"the worker process ended with {end} as it started"))
            self._started.exception()  # may have been given up on
        if not self._exited.done():
            self._exited.set_result(code)
        if self.status is Status.running:
            self.status = Status.closed
        if self.worker_dir is not None and os.path.isdir(self.worker_dir):
            _remove_in_thread(self.worker_dir)  # one that was killed could not do this itself
        if self._on_exit is not None:
            self._on_exit(code)

    def _spawn_after_all(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start an interpreter: the server that was to fork a process has failed."""
        assert self._started is not None
        assert self._exited is not None
        logger.warning("The fork server has failed; a worker is started without it")
        try:
            self._spawn(loop, may_fork=False)
        except Exception as error:
            self._exited.set_result(forkserver.UNSEEN)
            if not self._started.done():
                self._started.set_exception(error)

    def _stop_watching(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._pidfd >= 0:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    # The end

    async def finished(self) -> None:
        """Wait until the process has ended."""
        if self._exited is not None:
            await asyncio.shield(self._exited)

    async def close(self, timeout: float = PATIENCE, reason: str = "closed by its parent", **_: object) -> None:
        """Have the worker close and the process end; after `timeout` seconds terminate it, then kill it."""
        self.status = Status.closing if self.is_alive() else Status.closed
        if self.is_alive():
            self._order({"op": "close", "reason": reason, "timeout": timeout})
            if not await self._ended(timeout):
                await self._terminate()
        self.status = Status.closed

    async def kill(
        self, timeout: float = PATIENCE, executor_wait: bool = True, reason: str = "workerprocess-kill"
    ) -> None:
        """Close; the name that a Nanny has for it.

        Args:
            executor_wait: whether the worker waits for tasks that run.
        """
        await self.close(timeout if executor_wait else 0, reason)

    def _order(self, order: dict[str, Any]) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _ended(self, timeout: float) -> bool:
        assert self._exited is not None
        await asyncio.wait([self._exited], timeout=timeout)
        return self._exited.done()

    async def _terminate(self, timeout: float = 1.0) -> None:
        """End the process: SIGTERM, and after `timeout` seconds SIGKILL. Returns when it is gone."""
        if self.process is not None and self.is_alive():
            self._signal(signal.SIGTERM)
            if not await self._ended(timeout):
                self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))
                await self._ended(PATIENCE)
        if self.status is not Status.closing:
            self.status = Status.closed

    def kill_now(self) -> None:
        """End the process at once, without waiting; `on_exit` tells when it is gone."""
        if self.is_alive():
            self._signal(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _signal(self, number: int) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


def _remove_in_thread(directory: str) -> None:
    """Remove a worker's directory, which may hold much, without stopping the loop for it."""
    if not os.path.basename(directory).startswith("worker-"):
        return
    remove = partial(remove_leftover, directory)
    with contextlib.suppress(RuntimeError):  # the interpreter shuts down
        threading.Thread(target=remove, name="remove a worker's directory", daemon=True).start()


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything to a blocking pipe."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def exit_in_words(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"


#: The function for each word of the child; see `worker_child.WorkerChild`.
REPLIES: dict[str, Callable[[WorkerProcess, dict[str, Any]], None]] = {
    "started": WorkerProcess._on_started,
    "failed": WorkerProcess._on_failed,
    "closed": WorkerProcess._on_closed,
}


def cause_of_death(code: int) -> str:
    """The cause of a process's death, in words."""
    return f"it was killed by {exit_in_words(code)}" if code < 0 else f"its process ended with {exit_in_words(code)}"


def kind_of_end(process: WorkerProcess, code: int, asked: bool) -> str:
    """The kind of a process's end, in a word or two, for counts.

    Args:
        asked: whether the nanny had it ended.

    Returns:
        "memory" if it took too much; "asked"; "not-started"; "closed" or "restart" for one that closed in good order,
        for good or for another to follow; "failed" for one that closed because of a fault; the signal that killed it,
        such as "SIGKILL"; or "exit" for any other end.
    """
    if process.killed_for_memory:
        return "memory"
    if asked:
        return "asked"
    if process.address is None:
        return "not-started"
    if process.closed_itself is not None:
        return "closed"
    if process.restart_reason is not None:
        return "restart"
    if process.exit_cause is not None:
        return "failed"
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return "exit"
