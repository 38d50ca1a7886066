"""A task whose modules are being imported by several threads at once is loaded all the same."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.protocol import dumps, dumps_function
from headrace.worker.loading import load_call

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
    failures[:] = [error, error]
    with pytest.raises(type(error)):
        load_call(function, arguments)
    assert not failures


def test_a_module_that_is_not_there_is_not_looked_for_twice() -> None:
    failures[:] = [ModuleNotFoundError("nowhere"), ModuleNotFoundError("nowhere")]
    with pytest.raises(ModuleNotFoundError):
        load_call(dumps_function(abs), dumps(((Fragile(),), {})))
    assert len(failures) == 1
    failures.clear()
