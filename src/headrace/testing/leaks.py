"""Checks that a test leaves no thread, process or server behind."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import sys
import threading
import time
from collections.abc import Iterator

import psutil

from headrace.nanny.forkserver import server_pids

#: Seconds that threads and processes get to end after the test.
_GRACE = 10
#: Threads that belong to the process and not to a test, by the start of their name.
_LASTING = ("asyncio_", "ThreadPoolExecutor", "Dask-Callback-Thread", "pytest_timeout")


@contextlib.contextmanager
def check_thread_leak() -> Iterator[None]:
    """Fail if threads that started in the block are still there some seconds after it."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + _GRACE
    while leaked := [thread for thread in threading.enumerate() if thread not in before and not _lasting(thread)]:
        if time.monotonic() > deadline:
            raise AssertionError(f"threads were left behind: {leaked}")
        gc.collect()
        time.sleep(0.01)


def _lasting(thread: threading.Thread) -> bool:
    return thread.name.startswith(_LASTING) or not thread.is_alive()


@contextlib.contextmanager
def check_process_leak(check: bool = True, check_timeout: float = 40, term_timeout: float = 3) -> Iterator[None]:
    """Fail, and end them, if child processes that started in the block are still there some seconds after it.

    A server that forks workers' processes may stay, if there are nannies that were there before the block, and so may
    what `multiprocessing` has one of for the whole process.

    Args:
        check: whether to fail; they are ended in any case.
        check_timeout: seconds that they get to end by themselves.
        term_timeout: seconds from SIGTERM to SIGKILL.
    """
    before = {child.pid for child in psutil.Process().children()}
    yield
    kept = before | server_pids() | _helpers_of_multiprocessing()
    leaked = [child for child in psutil.Process().children() if child.pid not in kept]
    leaked = _wait_for(leaked, check_timeout if check else 0)
    described = [_describe(child) for child in leaked]
    for child in leaked:
        with contextlib.suppress(psutil.Error):
            child.terminate()
    leaked = _wait_for(leaked, term_timeout)
    for child in leaked:
        with contextlib.suppress(psutil.Error):
            child.kill()
    _wait_for(leaked, _GRACE)
    if check and described:
        raise AssertionError(f"processes were left behind: {described}")


def _wait_for(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait for the end of child processes, at most `timeout` seconds; returns those that still run.

    How one of `multiprocessing` ended is left for that to ask. It could never learn it otherwise, and would take the
    process for one that runs.
    """
    deadline = time.monotonic() + timeout
    while (running := [process for process in processes if _runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    multiprocessing.active_children()
    psutil.wait_procs([process for process in processes if process not in running], timeout=0)
    return running


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _helpers_of_multiprocessing() -> set[int]:
    """Its tracker of resources and its server that forks, if they run: they last as long as this process."""
    helpers = {
        getattr(sys.modules.get(f"multiprocessing.{module}"), helper, None): attribute
        for module, helper, attribute in [
            ("resource_tracker", "_resource_tracker", "_pid"),
            ("forkserver", "_forkserver", "_forkserver_pid"),
        ]
    }
    return {pid for helper, attribute in helpers.items() if (pid := getattr(helper, attribute, None)) is not None}


def _describe(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return repr(process)


@contextlib.contextmanager
def clean(threads: bool = True, instances: bool = True, processes: bool = True) -> Iterator[None]:
    """Fail if the block leaves threads or processes behind; the configuration is put back after it."""
    from .configuration import reset_config

    with contextlib.ExitStack() as stack:
        stack.enter_context(reset_config())
        if processes:
            stack.enter_context(check_process_leak())
        if threads:
            stack.enter_context(check_thread_leak())
        yield
        gc.collect()
