"""Changes of what a function reaches, one by one: a pickle that is kept is what pickling it anew gives."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace.protocol import dumps, dumps_function, loads_function
from headrace.protocol.functions.frozen import freeze

PACKAGE = """
class Kind:
    def method(self): pass
def function(): return 1
import functools
@functools.lru_cache
def cached(): return 1
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A package that can be imported, with a module in it that nobody has imported yet."""
    (tmp_path / "reached_package").mkdir()
    (tmp_path / "reached_package/__init__.py").write_text(PACKAGE)
    (tmp_path / "reached_package/within.py").write_text("number = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield importlib.import_module("reached_package")
    for name in ("reached_package", "reached_package.within"):
        sys.modules.pop(name, None)


def script(source: str) -> dict[str, Any]:
    """The globals of a `__main__` with this source."""
    found: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "script", "exec", dont_inherit=True), found)
    return found


def _register(found: dict[str, Any]) -> None:
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules["reached_package"])


def _change_weight(found: dict[str, Any]) -> None:
    found["Base"].weight = 2


#: A script, and what may change in it
BASE = "import typing, collections.abc\nclass Base(list):\n    weight = 1\n"
CHANGES: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("class C:\n    @classmethod\n    def m(cls): pass\nm = C.m\ndef f(): return m", lambda g: g.update(m=None)),
    ("A = list[int]\ndef f(): return A", lambda g: g.update(A=None)),
    ("import reached_package\ndef f(): return reached_package.within.number",
     lambda g: importlib.import_module("reached_package.within")),
    ("import reached_package\ndef f(): return reached_package.function()", _register),
    ("from reached_package import function\ndef f(): return function()", _register),
    ("from reached_package import function\ndef f(): return function()",
     lambda g: setattr(sys.modules["reached_package"], "function", len)),
    ("from reached_package import Kind\ndef f(): return Kind",
     lambda g: delattr(sys.modules["reached_package"], "Kind")),
    ("from reached_package import cached\ndef f(): return cached",
     lambda g: setattr(sys.modules["reached_package"], "cached", functools.lru_cache(len))),
    ("from reached_package import cached as f", lambda g: setattr(sys.modules["reached_package"], "cached", len)),
    ("import typing\nlist_ = [1]\ndef f(x: typing.Annotated[int, list_]): pass", lambda g: g["list_"].append(2)),
    (BASE + "A = Base[int]\ndef f(): return A", _change_weight),
    (BASE + "A = typing.TypeVar('A', bound=Base)\ndef f(): return A", _change_weight),
    (BASE + "A = typing.TypeVar('A', Base, int)\ndef f(): return A", _change_weight),
    (BASE + "A = typing.NewType('A', Base)\ndef f(x: A): return x", _change_weight),
    (BASE + "A = collections.abc.Callable[[Base], int]\ndef f(): return A", _change_weight),
    (BASE + "import operator\nget = operator.itemgetter(Base)\ndef f(): return get", _change_weight),
    ("import datetime\nclass Base(datetime.tzinfo):\n    weight = 1\n"
     "day = datetime.datetime(2020, 1, 1, tzinfo=Base())\ndef f(): return day", _change_weight),
    ("import functools\ndef g(*a): pass\np = functools.partial(g, 1)\ndef f(): return p",
     lambda g: g["p"].__setstate__((g["g"], (2,), {}, None))),
    ("import functools\nn = 1\nclass C:\n    @functools.cached_property\n    def p(self): return n\ndef f(): return C",
     lambda g: g.update(n=2)),
    ("n = 1\ndef f():\n    class C:\n        m = n\n    return C.m", lambda g: g.update(n=2)),
]  # fmt: skip
if sys.version_info >= (3, 12):
    CHANGES += [
        (BASE + "type A = Base\ndef f(x: A): return x", _change_weight),
        (BASE + "def f[T: Base](x: T) -> T: return x", _change_weight),
    ]


@pytest.mark.parametrize(("source", "change"), CHANGES, ids=lambda value: value if type(value) is str else "")
@pytest.mark.usefixtures("package")
def test_a_change_is_seen(source: str, change: Callable[[dict[str, Any]], Any]) -> None:
    found = script(source)
    function = found["f"]
    before = dumps_function(function)
    assert dumps_function(function) == before
    try:
        change(found)
        assert dumps_function(function) != before
    finally:
        if change is _register:
            import cloudpickle

            cloudpickle.unregister_pickle_by_value(sys.modules["reached_package"])


@pytest.mark.parametrize(
    "source",
    [
        "import functools\nclass C:\n    @functools.cached_property\n    def p(self): return 1\ndef f(): return C().p",
        "import typing\nA = typing.NewType('A', int)\ndef f(x: A = 1): return A(x)",
        "n = 1\ndef f():\n    class C:\n        n = n\n    return C.n",
        "import datetime\nday = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)\ndef f(): return day.day",
    ],
)
def test_what_is_rarer_is_kept_and_runs(source: str) -> None:
    function = script(source)["f"]
    assert dumps_function(function) is dumps_function(function)
    assert loads_function(bytes(bytearray(dumps_function(function))))() == 1


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a statement of Python 3.12")
def test_type_statements_of_a_script() -> None:
    found = script("type A[T] = list[T]\ndef f(x: A[int]): return A.__value__")
    assert str(loads_function(bytes(bytearray(dumps_function(found["f"]))))(1)) == "list[T]"


def test_a_class_is_the_same_after_an_instance_was_pickled() -> None:
    """pickle notes the names of a class's slots in the class."""
    found = script("class C:\n    def __init__(self): self.x = 1\ndef f(): return C().x")
    before = dumps_function(found["f"])
    dumps(found["C"]())
    assert "__slotnames__" in vars(found["C"])
    assert dumps_function(found["f"]) is before
    found["C"].more = 1
    assert dumps_function(found["f"]) != before


def test_what_was_frozen_at_a_shallow_stack_is_compared_at_a_deep_one() -> None:
    nested: Any = (lambda: 1,)
    for _ in range(200):
        nested = (nested,)
    found: dict[str, Any] = {"__name__": "__main__", "nested": nested}
    exec("def f(): return nested", found)
    frozen = freeze(found["f"])
    assert frozen is not None
    assert frozen.unchanged()

    def deep(level: int) -> bool:
        return frozen.unchanged() if level == 0 else deep(level - 1)

    room = sys.getrecursionlimit() - len(_frames())
    assert not deep(room - 100)


def _frames() -> list[Any]:
    frames, frame = [], sys._getframe()
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back  # type: ignore[assignment]
    return frames
