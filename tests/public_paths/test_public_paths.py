"""Public module paths and names of the interface that headrace follows, as facts in `api-2026.8.json`.

What does not exist yet stands in `missing.txt`. The test fails when a name goes missing, and when a listed one starts
to exist: `PYTHONPATH=src python tests/public_paths/test_public_paths.py` then writes the list anew.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.alias import ELSEWHERE

HERE = Path(__file__).parent
API: dict[str, dict[str, Any]] = json.loads((HERE / "api-2026.8.json").read_text())
MISSING = HERE / "missing.txt"


def listed() -> set[str]:
    return set(MISSING.read_text().split())


def absent(path: str) -> list[str]:
    """What a public module lacks: its own path, or dotted names."""
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise
        return [path]
    return [f"{path}.{name}" for name in API[path] if not hasattr(module, name)]


@pytest.mark.parametrize("path", sorted(API))
def test_names_exist_unless_listed(path: str) -> None:
    expected = {name for name in listed() if name == path or (name.rpartition(".")[0] == path and name not in API)}
    found = set(absent(path))
    assert not found - expected, f"gone: {sorted(found - expected)}"
    assert not expected - found, f"now there, take them off missing.txt: {sorted(expected - found)}"


def test_nothing_is_listed_that_the_interface_does_not_have() -> None:
    known = set(API) | {f"{path}.{name}" for path, names in API.items() for name in names}
    assert not listed() - known


@pytest.mark.parametrize("path", sorted(set(API) - {"distributed"}))
def test_a_public_path_is_headraces_own_module(path: str) -> None:
    if path in listed():
        pytest.skip("not there yet")
    module = importlib.import_module(path)
    assert module.__name__.startswith("headrace.")
    assert sys.modules[module.__name__] is module
    assert importlib.import_module(module.__name__) is module
    assert importlib.import_module(f"dask.{path}") is module


@pytest.mark.parametrize("name", sorted(API["distributed"]))
def test_a_name_is_the_same_object_everywhere(name: str) -> None:
    if f"distributed.{name}" in listed():
        pytest.skip("not there yet")
    import distributed
    import headrace

    value = getattr(distributed, name)
    if name not in ELSEWHERE:
        assert getattr(headrace, name) is value
    home = API["distributed"][name]["defined_in"]
    if home in API and home not in listed() and hasattr(importlib.import_module(home), name):
        assert getattr(importlib.import_module(home), name) is value


def run_python(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    source = HERE.parents[1] / "src"
    path = os.pathsep.join(str(one) for one in (*paths, source))
    kept = {name: value for name, value in os.environ.items() if name != "HEADRACE_ALIAS_WARNED"}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**kept, "PYTHONPATH": path, **environment},
    )


@pytest.fixture
def peer(tmp_path: Path) -> Path:
    """A folder in which a package looks like the peer."""
    package = tmp_path / "distributed"
    package.mkdir()
    (package / "__init__.py").write_text("Client = 'of the peer'\n")
    (package / "scheduler.py").write_text("")
    (package / "only_the_peer_has_it.py").write_text("")
    return tmp_path


def test_star_import_of_dask_distributed_works() -> None:
    done = run_python("from dask.distributed import *; print(Client.__module__.split('.')[0])")
    assert done.stdout.strip() == "headrace", done.stderr
    assert not done.stderr


def test_headrace_imported_first_takes_the_name_with_one_warning(peer: Path) -> None:
    code = """
import headrace, distributed, dask.distributed
assert distributed.Client is headrace.Client is dask.distributed.Client
import distributed.scheduler, headrace.compat.scheduler
assert distributed.scheduler is headrace.compat.scheduler
assert distributed.scheduler.Scheduler is headrace.Scheduler
try:
    import distributed.only_the_peer_has_it
except ModuleNotFoundError:
    print("closed")
"""
    done = run_python(code, peer)
    assert done.stdout.strip() == "closed", done.stderr
    assert done.stderr.count("UserWarning") == 1
    assert str(peer / "distributed") in done.stderr
    again = run_python(code, peer, HEADRACE_ALIAS_WARNED="1")  # as in a worker process
    assert not again.stderr


def test_a_peer_imported_before_stays(peer: Path) -> None:
    done = run_python("import distributed, headrace; print(distributed.Client)", peer)
    assert done.stdout.strip() == "of the peer", done.stderr
    assert "was imported before" in done.stderr


def test_importing_headrace_is_cheap() -> None:
    done = run_python("import sys, headrace; print([m for m in ('asyncio', 'dask', 'msgspec') if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_a_module_keeps_its_own_spec() -> None:
    code = """
import importlib, distributed.comm.core, headrace.comm.connections as module
assert module.__spec__.name == "headrace.comm.connections"
assert importlib.reload(module) is module
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_functions_that_are_sent_by_value_may_use_the_package() -> None:
    code = """
import cloudpickle, distributed, headrace, headrace.protocol
def function():
    return headrace.print, distributed.print, headrace.protocol.dumps, distributed
again = cloudpickle.loads(cloudpickle.dumps(function))
assert again() == function()
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_a_module_runs_under_its_public_path() -> None:
    code = "sys.argv[1:] = ['--help']; runpy.run_module('distributed.cli.dask_worker', run_name='__main__')"
    done = run_python(f"import runpy, sys; {code}")
    assert "Usage:" in done.stdout, done.stderr


def write_missing() -> None:
    MISSING.write_text("".join(f"{name}\n" for path in sorted(API) for name in sorted(absent(path))))


if __name__ == "__main__":
    write_missing()
    print(f"{len(listed())} missing")
