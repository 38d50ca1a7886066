"""The lookout of the whole suite: threads, child processes, listening sockets and files that test modules leave behind.

`conftest.py` asks it at the start of a module, after each test (which names the test after which something was first
seen) and at the module's end. It needs nothing but the standard library and Linux's /proc, so that the pure tests can
run under it too, and it takes well under a millisecond a test.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

#: Seconds that threads and processes get to end after the last test of a module.
GRACE = 20
#: Threads of the process, not of a test, by the start of their names: pools that dask and `offload` keep for their next
#: use (dask's has the standard library's name), and pytest-timeout's.
_LASTING_THREADS = ("Dask-Callback-Thread", "Headrace-Offload", "ThreadPoolExecutor-", "pytest_timeout")
#: Child processes of the interpreter's own libraries, which last as long as it does, by a part of their command lines.
_LASTING_CHILDREN = ("multiprocessing.resource_tracker", "loky.backend.resource_tracker", "popen_loky_posix")
#: Names in the working directory that tools write: pytest, hypothesis, coverage, mypy, ruff.
_TOOLS_FILES = (".coverage", ".hypothesis", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__")
#: A socket that listens, in the fourth column of /proc/net/tcp.
_LISTENING = "0A"

#: One thing that may be left behind: its kind and what tells it from others of the kind.
Thing = tuple[str, object]


class Lookout:
    """Everything of this process that is there now and was not there at the last `start`."""

    def __init__(self) -> None:
        self._before: set[Thing] = set()
        self._first_seen: dict[Thing, str] = {}

    def start(self) -> None:
        """Take what is there now as given."""
        self._before = set(_things())
        self._first_seen = {}

    def note(self, test: str) -> None:
        """Remember that `test` was the last one to end before the new things were seen."""
        for thing in _things():
            if thing not in self._before:
                self._first_seen.setdefault(thing, test)

    def remains(self, grace: float = GRACE) -> list[str]:
        """Return a line for each new thing that is still there after `grace` seconds, none as soon as there is none."""
        deadline = time.monotonic() + grace
        while left := [thing for thing in _things() if thing not in self._before and not _is_lasting(thing)]:
            if time.monotonic() > deadline:
                return [self._described(thing) for thing in left]
            gc.collect()
            time.sleep(0.01)
        return []

    def _described(self, thing: Thing) -> str:
        kind, which = thing
        shown = f"{which} ({_command_line(which)})" if kind == "process" else str(which)
        return f"{kind} {shown}, first seen after {self._first_seen.get(thing, 'the last test')}"


def _things() -> Iterator[Thing]:
    for thread in threading.enumerate():
        yield "thread", thread
    for pid in _children():
        yield "process", pid
    for inode in _open_sockets():
        yield "listening socket", inode
    directory = os.getcwd()
    for name in os.listdir(directory):
        yield "file", os.path.join(directory, name)


def _is_lasting(thing: Thing) -> bool:
    kind, which = thing
    if kind == "thread":
        assert isinstance(which, threading.Thread)
        return which.name.startswith(_LASTING_THREADS) or not which.is_alive()
    if kind == "process":
        # The server from which workers' processes are forked stays for the next cluster, until the program ends.
        forkserver = sys.modules.get("headrace.nanny.forkserver")
        return (forkserver is not None and which in forkserver.server_pids()) or any(
            part in _command_line(which) for part in _LASTING_CHILDREN
        )
    if kind == "listening socket":
        return which not in _listening()
    return os.path.basename(str(which)).startswith(_TOOLS_FILES)


def _children() -> Iterator[int]:
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            yield from map(int, Path(f"/proc/self/task/{thread}/children").read_text().split())


def _open_sockets() -> Iterator[str]:
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{descriptor}")
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]


def _listening() -> set[str]:
    found = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        with contextlib.suppress(OSError):
            rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
            found |= {row[9] for row in rows if row[3] == _LISTENING}
    return found


def _command_line(pid: object) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""
