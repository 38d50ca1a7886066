"""Unpickling in several threads, of large pickles, and of what names modules."""

from __future__ import annotations

import gc
import importlib
import pickle
import sys
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path
from threading import Event, get_ident
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

from headrace.common.importing import import_from_outside, imported
from headrace.exceptions import UserCodeError
from headrace.protocol.families import deserialize
from headrace.protocol.unpickling import AT_ONCE_BYTES, unpickle
from headrace.testing.helpers.polling import poll_for

#: seconds after which a test that hangs fails
PATIENCE = 30


def name_global(module: str, name: str) -> bytes:
    """A pickle of what has that name, made without importing the module."""
    return b"\x80\x05" + b"".join(b"\x8c%c%s" % (len(text), text.encode()) for text in (module, name)) + b"\x93."


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package that, while it is being imported, says so and waits before it imports its module, which needs it."""
    gate = ModuleType("slow_package_gate")
    gate.begun, gate.go = Event(), Event()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, gate.__name__, gate)
    folder = tmp_path / "slow_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        f"import slow_package_gate as gate\ngate.begun.set()\nassert gate.go.wait({PATIENCE})\n"
        "half = 5\nfrom .inner import whole\n"
    )
    (folder / "inner.py").write_text("from slow_package import half\nwhole = 2 * half\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield gate
    gate.go.set()  # type: ignore[attr-defined]
    for name in [name for name in sys.modules if name.startswith("slow_package")]:
        del sys.modules[name]
        imported.discard(name)


class ByName:
    """Pickles as cloudpickle pickles a module."""

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.cloudpickle.subimport, ("slow_package.inner",)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (name_global("slow_package.inner", "whole"), lambda loaded: loaded),
        (pickle.dumps(ByName()), attrgetter("whole")),
    ],
    ids=["global", "module"],
)
def test_a_package_that_another_thread_imports(package: Any, data: bytes, value: Callable[[Any], int]) -> None:
    waiting: list[int] = []

    def load() -> Any:
        waiting.append(get_ident())
        return value(unpickle(data))

    with ThreadPoolExecutor(2) as threads:
        importing = threads.submit(importlib.import_module, "slow_package")
        assert package.begun.wait(PATIENCE)
        loading = threads.submit(load)
        blocked: dict[int, Any] = importlib._bootstrap._blocking_on  # type: ignore[attr-defined]
        poll_for(lambda: bool(waiting and blocked.get(waiting[0])), PATIENCE)
        package.go.set()
        assert importing.result(PATIENCE).whole == 10
        assert loading.result(PATIENCE) == 10


def test_modules_that_there_are_not() -> None:
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'"):
        unpickle(name_global("no_such_package.inner", "value"))
    with pytest.raises(AttributeError, match="no_such_name"):
        unpickle(name_global("headrace.common.importing", "no_such_name"))
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'headrace\.common\.nowhere'"):
        import_from_outside("headrace.common.nowhere")


def test_names_that_modules_had_in_python_2() -> None:
    assert unpickle(memoryview(b"ccopy_reg\n_reconstructor\n.")) is importlib.import_module("copyreg")._reconstructor


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_large_pickles_and_buffers(kind: type[Any]) -> None:
    buffers: list[pickle.PickleBuffer] = []
    value = ([float(number) for number in range(AT_ONCE_BYTES // 4)], pickle.PickleBuffer(bytearray(b"beside")))
    data = pickle.dumps(value, 5, buffer_callback=buffers.append)
    assert len(data) > AT_ONCE_BYTES
    loaded = unpickle(kind(data), buffers)
    assert loaded[0] == value[0]
    assert bytes(loaded[1]) == b"beside"


class Collapse(BaseException):
    """No Exception: it may not reach those who unpickle."""


def collapse() -> None:
    raise Collapse("at once")


class Collapsing:
    """Raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return collapse, ()


@pytest.mark.parametrize("load", [unpickle, lambda data: deserialize({"serializer": "pickle"}, [data])])
def test_what_is_raised_in_place_of_no_exception_stands_alone(load: Callable[[bytes], Any]) -> None:
    data = pickle.dumps(Collapsing())
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(UserCodeError, match="Collapse: at once") as raised:
            load(data)
        assert raised.value.__context__ is None
        gone = weakref.ref(raised.value)
        del raised
        assert gone() is None  # no frame of its traceback leads back to it
    finally:
        gc.enable()
