"""A task whose modules are being imported by several threads at once is loaded all the same."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from headrace.protocol import dumps, dumps_function
from headrace.worker.execution.loading import load_call

failures: list[Exception] = []


def _made() -> str:
    if failures:
        raise failures.pop()
    return "made"


class Fragile:
    """Fails to be unpickled as often as there are failures."""

    def __reduce__(self) -> Any:
        return _made, ()


@pytest.mark.parametrize(
    "error", [KeyError("dask.dataframe"), ImportError("partially initialized"), AttributeError("x")]
)
def test_what_failed_beside_another_import_is_tried_again(error: Exception) -> None:
    function, arguments = dumps_function(abs), dumps(((Fragile(),), {}))
    failures[:] = [error]
    assert load_call(function, arguments) == (abs, ("made",), {})
    failures[:] = [error] * 5
    with pytest.raises(type(error)):
        load_call(function, arguments)
    assert not failures
    failures[:] = [error] * 2
    with pytest.raises(type(error)):  # known by now
        load_call(function, arguments)
    assert len(failures) == 1


def test_a_module_that_is_not_there_is_not_looked_for_twice() -> None:
    failures[:] = [ModuleNotFoundError("nowhere"), ModuleNotFoundError("nowhere")]
    with pytest.raises(ModuleNotFoundError):
        load_call(dumps_function(abs), dumps(((Fragile(),), {})))
    assert len(failures) == 1
    failures.clear()


@pytest.mark.slow
def test_threads_that_import_one_package_at_once() -> None:
    program = """
import pickle, threading
from headrace.worker.execution.loading import load_call

names = ["dask.dataframe.dask_expr._shuffle\\nSimpleShuffle", "dask.dataframe.multi\\nmerge_chunk"]
start = threading.Barrier(2)
loaded = []

def load(name):
    start.wait()
    loaded.append(load_call(f"c{name}\\n.".encode(), pickle.dumps(((), {})))[0].__name__)

threads = [threading.Thread(target=load, args=(name,)) for name in names]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert sorted(loaded) == ["SimpleShuffle", "merge_chunk"], loaded
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
