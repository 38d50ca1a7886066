"""A pytest plugin that runs dask's own test files with a client as their scheduler; `make ecosystem` uses it.

One local cluster serves the whole run. `UNDER` in the environment says whose: `headrace`, `distributed` (the peer, to
compare with) or `none` (dask's own schedulers). Many of dask's tests ask for the synchronous scheduler so that
debuggers work in them; with `UNDER_SYNC=1` these go to the client as well. What is known to fail is in
`known_failures.toml`, and does not fail the run.
"""

from __future__ import annotations

import gc
import os
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

UNDER = os.environ.get("UNDER", "headrace")
PROCESSES = os.environ.get("UNDER_PROCESSES", "1") == "1"
SYNC_TOO = os.environ.get("UNDER_SYNC", "0") == "1"
_failed = False
KNOWN = Path(__file__).with_name("known_failures.toml")


@cache
def known_failures() -> dict[str, str]:
    """Reasons by test, as `dask/…/test_x.py::test_y[parameters]`; without parameters it stands for all of a test."""
    groups = tomllib.loads(KNOWN.read_text())
    return {test: group["reason"] for group in groups.values() for test in group["tests"]}


def reason_for(nodeid: str, known: dict[str, str]) -> str | None:
    """Why a test is known to fail, if it is."""
    name = _from_dask(nodeid)
    return known.get(name) or known.get(name.partition("[")[0])


def _from_dask(nodeid: str) -> str:
    """A test's name from the package on, wherever that is installed."""
    path, colons, test = nodeid.partition("::")
    parts = path.split("/")
    if "dask" not in parts:
        return nodeid
    start = len(parts) - 1 - parts[::-1].index("dask")
    return "/".join(parts[start:]) + colons + test


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out files that are known not to be importable."""
    if UNDER != "headrace":
        return None
    return True if _from_dask(collection_path.as_posix()) in known_failures() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect what is known; it may pass, since some of it depends on the machine."""
    if UNDER != "headrace":
        return
    known = known_failures()
    for item in items:
        reason = reason_for(item.nodeid, known)
        if reason:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=False))


def _client() -> Any:
    if UNDER == "headrace":
        import headrace  # noqa: F401  # from now on `distributed` is headrace, whatever else is installed
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=2, threads_per_worker=2, processes=PROCESSES, host="127.0.0.1", dashboard_address=None
    )
    return cluster, Client(cluster)


@pytest.fixture(scope="session", autouse=True)
def everything_under_a_client() -> Iterator[None]:
    if UNDER == "none":
        yield
        return
    from dask.base import named_schedulers

    with ExitStack() as stack:
        cluster, client = _client()
        stack.enter_context(cluster)
        stack.enter_context(client)
        before = dict(named_schedulers)
        if SYNC_TOO:
            named_schedulers.update(dict.fromkeys(("sync", "synchronous", "single-threaded"), client.get))
        yield
        named_schedulers.update(before)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """After a test that failed, known or not, and before another one that uses the same keys."""
    global _failed
    if report.when == "call":
        _failed = report.failed or hasattr(report, "wasxfail")
    elif report.when == "setup" and _failed:
        # the traceback has the test's futures, and in a cycle keeps them, and with them their keys in the cluster
        gc.collect()


def pytest_report_header(config: pytest.Config) -> str:
    return f"under: {UNDER}, processes: {PROCESSES}, synchronous too: {SYNC_TOO}"
