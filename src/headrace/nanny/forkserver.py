"""Workers' processes that are forked from one that has imported what they need: no new interpreter for each.

Where many workers start on a machine, their imports are most of what that costs. `start` gives a process that can be
used like a `subprocess.Popen`, or None where a new interpreter is to be started as ever: for a single worker, where a
server would not pay, without nannies that keep one (`keep`), on other systems than Linux, and if the configuration
says so.

What acts only as an interpreter starts (thresholds of the allocator, the seed of `hash`, Python's own variables) must
be the same for a server and what it forks: there is a server for each such environment.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import IO, Any

from headrace import config
from headrace.comm.forks import end_keeping, keep_from_children

#: Nannies of a process whose workers are started without a server, however often.
ALONE = 1
#: Beginnings of the names of variables that act as a process starts, or as what a server has imported is imported.
AT_START = (
    *("PYTHON", "MALLOC_", "GLIBC_", "LD_", "LC_", "LANG", "TZ", "HOME", "DASK_CONFIG", "DASK_ROOT_CONFIG"),
    *("JEMALLOC", "TCMALLOC", "MIMALLOC", "ASAN_", "UBSAN_", "OPENSSL_", "SSL_"),
)
#: Exit code of a process whose end nobody saw, because its server had ended before.
UNSEEN = 255
#: Kinds of limits on resources that Linux has.
LIMITS = 16
#: Seconds that a server has to end.
PATIENCE = 5.0

_lock = threading.Lock()
_keepers = 0
#: The process that this is all about: a forked copy of it has no right to its servers.
_owner = 0
_servers: dict[Any, _ForkServerProcess] = {}


class ForkedProcess:
    """A process that a server has forked, or is about to fork: what `subprocess.Popen` is for others.

    Args:
        orders: descriptor of a pipe's end, to write to the process's standard input.
        news: descriptor of a pipe's end, where the server tells of its life; not to be waited for.

    Attributes:
        returncode: None until it has ended, then as of `Popen`; UNSEEN if the server had ended before.
        stdin: unbuffered.
        news: can be read when `poll` may have something new to say. Whoever watches it closes it.
        is_lost: whether the server has ended, so that nothing tells of the process's end: `poll` has to look for it.
    """

    def __init__(self, orders: int, news: int) -> None:
        self.returncode: int | None = None
        self.stdin: IO[bytes] | None = open(orders, "wb", buffering=0)  # noqa: SIM115 - whoever uses it closes it
        self.news = news
        self.is_lost = False
        self._pid: int | None = None
        self._buffer = b""
        self._signals: list[int] = []

    @property
    def was_not_forked(self) -> bool:
        """Whether the server has failed before there was this process, which nobody wanted to end."""
        return self.poll() is not None and self._pid is None and not self._signals

    @property
    def was_not_seen(self) -> bool:
        """Whether it has ended in a way that nobody knows."""
        return self.is_lost and self.poll() == UNSEEN

    @property
    def pid(self) -> int | None:
        """None until the server has forked it."""
        if self._pid is None:
            self.poll()
        return self._pid

    def poll(self) -> int | None:
        """The exit code; None while it runs, or is to run."""
        while self.returncode is None and not self.is_lost:
            try:
                data = os.read(self.news, 1 << 12)
            except BlockingIOError:
                break
            self.is_lost = not data
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                word, number = line.split()
                self._on_news(word, int(number))
        if self.returncode is None and self.is_lost:
            self.returncode = self._end_without_server()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; to one that is still to be forked as soon as it is. Nothing if it has ended."""
        if self.poll() is not None:  # a number is not given away again before the server has told of the end
            return
        if self._pid is None:
            self._signals.append(number)
        else:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def _on_news(self, word: bytes, number: int) -> None:
        if word == b"exit":
            self.returncode = number
            return
        self._pid = number
        for waiting in self._signals:
            self.send_signal(waiting)

    def _end_without_server(self) -> int | None:
        if self._pid is None:
            return UNSEEN
        with contextlib.suppress(ChildProcessError):  # the first process of a container inherits those without parent
            ended, status = os.waitpid(self._pid, os.WNOHANG)
            return os.waitstatus_to_exitcode(status) if ended else None
        return None if _runs(self._pid) else UNSEEN


class _ForkServerProcess:
    """A fork server, seen from the process that starts it.

    Args:
        arguments: the interpreter's options.
        environment: variables that it starts with.
        path: where it finds modules.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, arguments: list[str], environment: Mapping[str, str], path: list[str]) -> None:
        self._connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = f"import sys; sys.path[:] = {path!r}; from headrace.nanny.forking import main; main({theirs.fileno()})"
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *arguments, "-c", code],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment,
                process_group=0,  # signals to its workers, or to those that have started it, are not for it
            )
        self._connection.setblocking(False)
        # With a copy of it, a child that the user's program forks would keep the server for as long as it lives.
        self._kept = keep_from_children(self._connection.fileno())

    def fork(self, replies: int) -> ForkedProcess:
        """Ask for a process.

        Args:
            replies: descriptor for the process to write to; stays open here.

        Raises:
            ConnectionError: it has ended.
            OSError: there are more requests than it has come to, or no descriptors are left.
        """
        orders, for_orders = os.pipe()
        try:
            news, for_news = os.pipe()
        except OSError:
            os.close(orders)
            os.close(for_orders)
            raise
        try:
            with open(os.devnull, "wb") as nothing:
                output, errors = [number if _is_open(number) else nothing.fileno() for number in (1, 2)]
                socket.send_fds(self._connection, [b"1"], [orders, replies, for_news, output, errors])
        except OSError:
            os.close(for_orders)
            os.close(news)
            raise
        finally:
            os.close(orders)
            os.close(for_news)
        os.set_blocking(news, False)
        return ForkedProcess(for_orders, news)

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return self._process.pid

    def close(self) -> subprocess.Popen[bytes]:
        """Have it end; workers that it has forked live on."""
        end_keeping(self._kept)
        self._connection.close()
        return self._process


def server_pids() -> set[int]:
    """Process ids of the servers that there are: they stay as long as any nanny of this process."""
    with _lock:
        return {server.pid for server in _servers.values()}


def _runs(pid: int) -> bool:
    """Whether a process runs: one that has ended is there as long as whoever has inherited it does not look."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def start(
    arguments: list[str], environment: Mapping[str, str], path: list[str], replies: int
) -> tuple[ForkedProcess, bytes] | None:
    """A forked process that is to become a worker, and what it must read first; None if it is to be started otherwise.

    Args:
        arguments, environment, path: options, variables and module path of the interpreter that it is to be like.
        replies: descriptor that the worker writes to.
    """
    if not is_possible():
        return None
    at_start = {name: value for name, value in environment.items() if name.startswith(AT_START)}
    kind = (sys.executable, tuple(arguments), frozenset(at_start.items()), _inherited())
    with _lock:
        if not _keepers or _owner != os.getpid():
            return None
        if kind not in _servers:
            if _keepers <= ALONE:
                return None
            if not _servers:
                atexit.register(_close_all)
            _servers[kind] = _ForkServerProcess(arguments, environment, path)
        try:
            process = _servers[kind].fork(replies)
        except ConnectionError:  # it was killed: another one the next time
            _servers.pop(kind).close().wait(PATIENCE)
            return None
        except OSError:  # it does not keep up with the requests, or no descriptors are left
            return None
    given = {"environment": dict(environment), "path": path, "directory": os.getcwd()}
    encoded = json.dumps(given).encode()
    return process, len(encoded).to_bytes(8, "little") + encoded


def is_possible() -> bool:
    """Whether this system has what it takes, and the configuration wants it."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open") and config.truth("distributed.nanny.fork-server")


def _inherited() -> tuple[Any, ...]:
    """The further things that a process has from its parent, which may have changed since a server was started."""
    import resource

    limits = tuple(resource.getrlimit(number) for number in range(LIMITS))
    with open("/proc/self/status", "rb") as file:  # the name that stands in it may end within a character
        umask = [line for line in file if line.startswith(b"Umask")]
    return (*os.sched_getaffinity(0), os.nice(0), os.getuid(), os.geteuid(), os.getegid(), limits, *umask)


def keep() -> None:
    """A nanny begins: from now on servers may be started, and stay until the last `let_go`."""
    global _keepers, _owner
    with _lock:
        if _owner != os.getpid():
            _keepers, _owner = 0, os.getpid()
            _servers.clear()
        _keepers += 1


def _close_all() -> None:
    """The interpreter ends, and nobody has closed its nannies."""
    if _owner == os.getpid():
        ending = [server.close() for server in _servers.values()]
        _servers.clear()
        for process in ending:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:  # it is stopped, perhaps
                process.kill()
                process.wait()


async def let_go() -> None:
    """A nanny has ended: with the last one, its servers end. Returns when they have."""
    global _keepers
    with _lock:
        if _owner != os.getpid():
            return
        _keepers -= 1
        if _keepers:
            return
        ending = [server.close() for server in _servers.values()]
        _servers.clear()
        atexit.unregister(_close_all)
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while any(process.poll() is None for process in ending):
        if asyncio.get_running_loop().time() > deadline:
            for process in ending:
                process.kill()
                process.wait()
            return
        await asyncio.sleep(0.002)


def _after_fork() -> None:
    """A thread that this copy of the process does not have may have held it."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
