"""Small help around tests: what they need, what they must not leave behind, and what they expect to be raised."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType, ModuleType
from typing import Any, ParamSpec, TypeVar

import dask.config
import pytest

from headrace.testing.configuration import reset_config

P = ParamSpec("P")
T = TypeVar("T")

#: The variable that makes asyncio check itself, which takes time.
_DEBUG = "PYTHONASYNCIODEBUG"
#: Ports that schedulers and dashboards use unless told otherwise.
_DEFAULT_PORTS = (8786, 8787)
#: Seconds that another test gets to give the default ports up.
_PORT_PATIENCE = 10


def has_pytestmark(test_func: Callable[..., object], name: str) -> bool:
    """Whether a test function is marked by `@pytest.mark.<name>`."""
    marks = getattr(test_func, "pytestmark", [])
    return any(mark.name == name for mark in (marks if isinstance(marks, list) else [marks]))


@contextlib.contextmanager
def raises_with_cause(
    expected_exception: type[BaseException],
    match: str | None,
    expected_cause: type[BaseException],
    match_cause: str | None,
    *more_causes: Any,
) -> Iterator[None]:
    """Expect an exception with a cause.

    Args:
        expected_exception, match: as of `pytest.raises`.
        expected_cause, match_cause: likewise, for its `__cause__`.
        more_causes: pairs for the cause of the cause, and so on.
    """
    import re

    with pytest.raises(expected_exception, match=match) as raised:
        yield
    error: BaseException | None = raised.value
    pairs: list[Any] = [expected_cause, match_cause, *more_causes]
    for kind, pattern in zip(pairs[::2], pairs[1::2], strict=True):
        assert error is not None
        error = error.__cause__
        assert isinstance(error, kind), f"the cause is {error!r}, not {kind}"
        assert pattern is None or re.search(pattern, str(error)), f"{pattern!r} is not in {str(error)!r}"


def relative_frame_linenumber(frame: FrameType) -> int:
    """The number of lines between the start of its function and a frame."""
    return frame.f_lineno - frame.f_code.co_firstlineno


@contextlib.contextmanager
def save_sys_modules() -> Iterator[None]:
    """Put `sys.modules` and `sys.path` back after the block."""
    modules, path = sys.modules.copy(), sys.path[:]
    try:
        yield
    finally:
        sys.path[:] = path
        for name in [name for name in sys.modules if name not in modules]:
            del sys.modules[name]


@contextlib.contextmanager
def config_for_cluster_tests(**extra_config: object) -> Iterator[None]:
    """Configuration that suits tests with clusters: records are checked, and short times apply."""
    with (
        reset_config(),
        dask.config.set(
            {
                "distributed.scheduler.validate": True,
                "distributed.worker.validate": True,
                "distributed.worker.profile.enabled": False,
                "distributed.comm.timeouts.connect": "5s",
                **extra_config,
            }
        ),
    ):
        yield


def bump_rlimit(limit: int, desired: int) -> None:
    """Raise a limit of this process (`resource.RLIMIT_…`) to at least `desired`; skip the test if that is not allowed.

    On systems without such limits nothing happens.
    """
    if importlib.util.find_spec("resource") is None:
        return
    import resource

    soft, hard = resource.getrlimit(limit)
    if soft >= desired or soft == resource.RLIM_INFINITY:
        return
    try:
        resource.setrlimit(limit, (desired, max(hard, desired) if hard != resource.RLIM_INFINITY else hard))
    except (OSError, ValueError) as error:
        pytest.skip(f"the limit {limit} of {soft} cannot be raised to {desired}: {error}")


# What is left behind


@contextlib.contextmanager
def check_instances() -> Iterator[None]:
    """Fail if servers or clients that were started in the block are still open after it."""
    before = _open_ones()
    yield
    left = [one for key, one in _open_ones().items() if key not in before]
    assert not left, f"still open: {left}"


@contextlib.contextmanager
def ensure_no_new_clients() -> Iterator[None]:
    """Fail if a client was made in the block and is still there."""
    from headrace.client import Client

    before = {id(one) for one in _instances(Client)}
    yield
    gc.collect()
    new = [one for one in _instances(Client) if id(one) not in before]
    assert not new, f"new clients: {new}"


def _instances(*kinds: type) -> list[Any]:
    return [one for one in gc.get_objects() if isinstance(one, kinds)]


def _open_ones() -> dict[int, Any]:
    from headrace.client import Client
    from headrace.rpc.server_life import Node

    gc.collect()
    found = [one for one in _instances(Node) if one.is_running]
    found += [one for one in _instances(Client) if one.status == "running"]
    return {id(one): one for one in found}


async def cleanup_global_workers() -> None:
    """Close the workers of this process that are still open."""
    from headrace.worker.context import workers

    for worker in list(workers):
        await worker.close(executor_wait=False, nanny=False, reason="cleanup")


def wait_active_children(timeout: float) -> list[multiprocessing.process.BaseProcess]:
    """Wait until the processes that `multiprocessing` started have ended; returns those that have not in time."""
    deadline = time.monotonic() + timeout
    while (children := multiprocessing.active_children()) and time.monotonic() < deadline:
        children[0].join(max(0.0, min(0.1, deadline - time.monotonic())))
    return children


def term_or_kill_active_children(timeout: float) -> None:
    """End the processes that `multiprocessing` started: SIGTERM, and after `timeout` seconds SIGKILL."""
    for child in multiprocessing.active_children():
        child.terminate()
    for child in wait_active_children(timeout):
        child.kill()
    left = wait_active_children(timeout=30)
    assert not left, f"these processes cannot be ended: {left}"


# Surroundings


def nodebug(func: Callable[P, T]) -> Callable[P, T]:
    """Switch the event loops' self-checks off while a function runs."""

    @functools.wraps(func)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        before = os.environ.pop(_DEBUG, None)
        try:
            return func(*args, **kwargs)
        finally:
            if before is not None:
                os.environ[_DEBUG] = before

    return wrapped


def nodebug_setup_module(module: ModuleType) -> None:
    """Switch the self-checks off for a module: called by `setup_module`; `nodebug_teardown_module` ends it."""
    vars(module)["_debug_before"] = os.environ.pop(_DEBUG, None)


def nodebug_teardown_module(module: ModuleType) -> None:
    """Switch the self-checks on again that `nodebug_setup_module` switched off."""
    before: str | None = vars(module)["_debug_before"]
    if before is not None:
        os.environ[_DEBUG] = before


def wait_for_default_ports() -> None:
    """Wait until the default ports are free.

    Raises:
        TimeoutError: somebody keeps them.
    """
    deadline = time.monotonic() + _PORT_PATIENCE
    for port in _DEFAULT_PORTS:
        while not _is_free(port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the test needs port {port}, which somebody else has")
            time.sleep(0.05)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
