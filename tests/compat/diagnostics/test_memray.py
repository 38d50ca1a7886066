"""Profiles of memory, by a profiler that writes what it was asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace import Client
from headrace.compat.diagnostics.memray import memray_scheduler, memray_workers


class _Tracker:
    """Stands for `memray.Tracker`."""

    def __init__(self, path: Path, **keywords: Any) -> None:
        self.path = path
        self.keywords = keywords

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        self.path.write_text(f"profile {self.keywords}")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as client:
        yield client


@pytest.fixture
def memray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The profiler in this process, and the command that makes reports, which is a process of its own."""
    made = ModuleType("memray")
    made.Tracker = _Tracker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "memray", made)
    (tmp_path / "memray.py").write_text(
        "import sys\n"
        "kind, *_, profile, _, report = sys.argv[1:]\n"
        "sys.exit('no such report') if kind == 'bad' else None\n"
        "open(report, 'w').write(kind + ' of ' + open(profile).read())\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def _written(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


@pytest.mark.slow
def test_reports_of_workers(client: Client, memray: None, tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    with memray_workers(reports, fetch_reports_parallel=False, native_traces=True):
        client.submit(abs, -1).result()
    text = "flamegraph of profile {'native_traces': True}"
    assert _written(reports) == {"0.html": text, "1.html": text}


def test_profiles_of_some_workers(client: Client, memray: None, tmp_path: Path) -> None:
    addresses = list(client.scheduler_info()["workers"])
    for number, chosen in enumerate((1, addresses[1:])):
        reports = tmp_path / str(number)
        with memray_workers(reports, workers=chosen, report_args=False):
            pass
        assert len(_written(reports)) == 1
        assert set(_written(reports).values()) == {"profile {}"}


def test_the_profile_of_the_scheduler(client: Client, memray: None, tmp_path: Path) -> None:
    with memray_scheduler(tmp_path / "a", report_args=False):
        pass
    with memray_scheduler(tmp_path / "b", report_args=("table",)):
        pass
    assert _written(tmp_path / "a") == {"scheduler.memray": "profile {}"}
    assert _written(tmp_path / "b") == {"scheduler.html": "table of profile {}"}


def test_a_report_that_cannot_be_made(client: Client, memray: None, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such report"), memray_scheduler(tmp_path / "a", report_args=("bad",)):
        pass


def test_without_memray(client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "memray", None)
    with pytest.raises(ImportError, match="install the package memray"), memray_workers(tmp_path / "reports"):
        pass
    with pytest.raises(ImportError, match="install the package memray"), memray_scheduler(tmp_path / "reports"):
        pass
