"""A kept pickle of a function is used only while nothing that it froze has changed; a loaded function is shared only
between calls that cannot change it."""

from __future__ import annotations

import dataclasses
import enum
import functools
import gc
import logging
import operator
import random
import threading
import types
import weakref
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.protocol import dumps, dumps_function, forget_loaded_functions, loads, loads_function
from headrace.protocol.functions.by_reference import is_by_reference
from headrace.protocol.functions.frozen import freeze

#: A script. `start` reaches everything else, in all ways that there are.
SCRIPT = """
import functools, math
from functools import partial

NUMBER = 1
PAIR = (1, (2, 3))
SETTINGS = {"n": 1}
LIST = [1]

def helper(x): return x + NUMBER
def other(x): return x * 10
def recursive(n): return NUMBER if n <= 0 else recursive(n - 1) + 1
def even(n): return True if n == 0 else odd(n - 1)
def odd(n): return False if n == 0 else even(n - 1)
def with_default(x, y=2, *, z=3): return x + y + z
def with_function(x, f=helper): return f(x)

class Base:
    weight = 1
    def value(self): return self.weight
    @property
    def double(self): return 2 * self.weight
    @classmethod
    def made(cls): return cls.weight
    @staticmethod
    def fixed(): return NUMBER

class Derived(Base):
    __slots__ = ("x",)
    def __init__(self, x): self.x = x
    def value(self): return super().value() + self.x

def make():
    kept = 1
    nested = lambda x: x + kept
    def inner(x): return nested(x) + kept
    def rebind(value):
        nonlocal kept
        kept = value
    return inner, rebind

closure, rebind = make()
bound = Derived.made
added = partial(with_default, y=5)

@functools.lru_cache
def cached(x): return x + NUMBER

@functools.singledispatch
def chosen(x): return "any"

def start(x):
    derived = Derived(x)
    return [
        NUMBER, PAIR, dict(SETTINGS), list(LIST), helper(x), recursive(3), even(4), with_default(x), with_function(x),
        derived.value(), derived.double, Derived.made(), Base.fixed(), closure(x), bound(), added(x), cached(x),
        chosen(x), math.floor(1.5), getattr(start, "note", None), start.__name__, start.__doc__,
    ]
"""

#: What a user may do between two submissions.
CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda script: script.update(NUMBER=script["NUMBER"] + 1),
    lambda script: script.update(PAIR=(7, script["PAIR"])),
    lambda script: script["SETTINGS"].update(n=script["SETTINGS"]["n"] + 1),
    lambda script: script["LIST"].append(0),
    lambda script: exec("def helper(x): return x - 100", script),
    lambda script: exec("def odd(n): return n == 3", script),
    lambda script: exec("class Base:\n    weight = 9\n    fixed = made = lambda *_: 1\n    double = 0", script),
    lambda script: script.update(helper=script["other"]),
    lambda script: script.update(closure=script["other"]),
    lambda script: script["rebind"](random.random()),
    lambda script: setattr(script["Base"], "weight", random.random()),
    lambda script: setattr(script["Derived"], "weight", 77),
    lambda script: setattr(script["Base"], "double", property(lambda self: 5)),
    lambda script: setattr(script["Base"], "fixed", staticmethod(lambda: 6)),
    lambda script: setattr(script["Derived"], "value", lambda self: -1),
    lambda script: setattr(script["Derived"], "__bases__", (type("B", (script["Base"],), {"weight": 8}),)),
    lambda script: setattr(script["with_default"], "__defaults__", (40,)),
    lambda script: setattr(script["with_default"], "__kwdefaults__", {"z": 50}),
    lambda script: script["with_default"].__kwdefaults__.update(z=60),
    lambda script: setattr(script["with_function"], "__defaults__", (script["other"],)),
    lambda script: setattr(script["helper"], "__code__", script["other"].__code__),
    lambda script: setattr(script["start"], "note", random.random()),
    lambda script: setattr(script["start"], "__doc__", "new"),
    lambda script: setattr(script["start"], "__name__", "renamed"),
    lambda script: script.update(bound=script["Base"].fixed),
    lambda script: script["added"].keywords.update(y=6),
    lambda script: script.update(added=functools.partial(script["other"])),
    lambda script: script["cached"].cache_clear(),
    lambda script: script.update(cached=script["other"]),
    lambda script: script["chosen"].register(int, lambda x: "int"),
    lambda script: script.update(math=types.SimpleNamespace(floor=lambda x: "mine")),
    lambda script: script.update(len=lambda x: "hidden"),
]


def run_script() -> dict[str, Any]:
    """The script's globals, as of a `__main__`."""
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SCRIPT, "script", "exec"), script)
    return script


def sent(function: Any) -> Any:
    """The function as a task has it."""
    return loads_function(bytes(bytearray(dumps_function(function))))


def result_of(function: Any, *args: Any) -> Any:
    for value in list(getattr(function, "__globals__", {}).values()):
        if hasattr(value, "cache_clear"):  # plain Python would give what it had before a change
            value.cache_clear()
    try:
        return function(*args)
    except Exception as error:
        return type(error), str(error)


@given(st.data())
@pytest.mark.parametrize("mutable", [True, False], ids=["", "only what can be kept"])
def test_what_is_sent_is_what_is_there(mutable: bool, data: st.DataObject) -> None:
    """A random change between two submissions gives what plain Python gives."""
    script = run_script()
    if not mutable:  # otherwise nothing is ever kept
        for name in ("SETTINGS", "LIST"):
            script[name] = ()
        for name in ("chosen", "added"):
            script[name] = script["other"]
    for _ in range(data.draw(st.integers(1, 4))):
        assert result_of(sent(script["start"]), 3) == result_of(script["start"], 3)
        change = data.draw(st.sampled_from(range(len(CHANGES))))
        try:
            CHANGES[change](script)
        except (AttributeError, TypeError, ValueError):  # what it would change has been replaced
            continue
        assert result_of(sent(script["start"]), 3) == result_of(script["start"], 3)


def test_what_does_not_change_is_kept() -> None:
    script = run_script()
    for name in ("helper", "recursive", "even", "with_default", "with_function", "Derived", "closure", "cached"):
        function = script[name]
        assert dumps_function(function) is dumps_function(function), name
    for name in ("start", "chosen"):
        assert freeze(script[name]) is None


@pytest.mark.parametrize("change", range(len(CHANGES)))
def test_what_counts_as_unchanged_pickles_as_before(change: int) -> None:
    script = run_script()
    functions = {name: value for name, value in script.items() if callable(value)}
    frozen = {name: freeze(value) for name, value in functions.items()}
    before = {name: dumps_function(value) for name, value in functions.items()}
    CHANGES[change](script)
    for name, kept in frozen.items():
        if kept is not None and kept.unchanged():
            was, now = loads_function(before[name]), functions[name]
            assert result_of(was, 3) == result_of(now, 3) or isinstance(now, type), name


MAIN: dict[str, Any] = {"__name__": "__main__", "functools": functools}
exec(
    """
def counts():
    global counter
    counter += 1
    return counter
counter = 0
def closing():
    n = 0
    def count():
        nonlocal n
        n += 1
        return n
    return count
count = closing()
def collects(x, into=[]):
    into.append(x)
    return list(into)
def noted():
    noted.n = getattr(noted, "n", 0) + 1
    return noted.n
def by_setattr():
    setattr(by_setattr, "n", getattr(by_setattr, "n", 0) + 1)
    return by_setattr.n
def by_globals():
    globals()["total"] = total + 1
    return total
total = 0
class Counted:
    made = 0
    def __init__(self): Counted.made += 1
def makes():
    return Counted() and Counted.made
class Typed:
    made = 0
    def __init__(self): type(self).made += 1
def makes_typed():
    return Typed() and Typed.made
part = functools.partial(int, base=0)
def notes_partial():
    part.n = getattr(part, "n", 0) + 1
    return part.n
def notes_keyword():
    part.keywords["base"] += 1
    return part.keywords["base"]
def annotated(): pass
def notes_annotation():
    annotated.__annotations__["n"] = annotated.__annotations__.get("n", 0) + 1
    return annotated.__annotations__["n"]
def by_alias(change=setattr):
    change(annotated, "n", getattr(annotated, "n", 0) + 1)
    return annotated.n
@functools.lru_cache
def listed(): return []
def by_cache():
    listed().append(1)
    return len(listed())
def current(): return counter
""",
    MAIN,
)


class Model:
    def __init__(self) -> None:
        self.seen: list[int] = []

    def fit(self, x: int) -> list[int]:
        self.seen.append(x)
        return list(self.seen)

    __call__ = fit


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        *[(MAIN[name], (), 1) for name in ("counts", "count", "noted", "by_setattr", "by_globals")],
        (MAIN["collects"], (5,), [5]),
        (Model().fit, (5,), [5]),
        (Model(), (5,), [5]),
        (functools.partial(MAIN["collects"], 5), (), [5]),
        *[
            (MAIN[name], (), 1)
            for name in ("notes_partial", "notes_keyword", "notes_annotation", "by_alias", "by_cache")
        ],
        (functools.partial(MAIN["noted"]), (), 1),
        ([].append, (5,), None),
    ],
)
def test_each_task_has_a_copy_of_what_calls_change(function: Any, args: Any, expected: Any) -> None:
    data = dumps_function(function)
    copies = [loads_function(data) for _ in range(4)]
    assert [copy(*args) for copy in copies[:2]] == [expected] * 2
    assert len({id(copy) for copy in copies}) == 4
    assert [loads_function(data)(*args) for _ in range(2)] == [expected] * 2


@pytest.mark.parametrize("name", ["makes", "makes_typed"])
def test_each_task_finds_classes_as_they_were_sent(name: str) -> None:
    """A class is one in all of a process, so that instances stay what they are; loading a function sets it back."""
    data = dumps_function(MAIN[name])
    assert [loads_function(data)() for _ in range(3)] == [1, 1, 1]


class Colour(enum.Enum):
    RED = 1


log = logging.getLogger("headrace.test")
NESTED = (1, ("a", b"b"), Colour.RED, dict[str, int])
reads_constants = types.FunctionType(
    (lambda: (log.name, NESTED)).__code__, {"log": log, "NESTED": NESTED, "__name__": "__main__"}, "reads_constants"
)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MAIN["closing"],
        lambda: lambda x: x + 1,
        lambda: functools.partial(operator.add, 1),
        lambda: operator.itemgetter(1),
        lambda: Model,
        lambda: len,
        lambda: reads_constants,
    ],
)  # fmt: skip
def test_what_no_call_changes_is_loaded_once(make: Callable[[], Any]) -> None:
    data = dumps_function(make())
    assert loads_function(data) is loads_function(bytes(bytearray(data)))


def test_arrays_of_a_large_function_are_each_tasks_own() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(100_000)

    def change() -> float:
        array[0] += 1
        return float(array[0])

    payload = dumps(change)
    assert [loads_function(payload)() for _ in range(3)] == [1, 1, 1]
    assert array[0] == 0


def test_functions_that_share_what_they_change_still_do_in_one_value() -> None:
    def make() -> tuple[Callable[[int], None], Callable[[], list[int]]]:
        kept: list[int] = []
        return lambda x: kept.append(x), lambda: list(kept)

    push, pull = loads(dumps([*make()]))
    push(3)
    assert pull() == [3]
    count, again = loads(dumps([MAIN["count"], MAIN["count"]]))
    assert (count(), again()) == (1, 2)
    count, current, array = loads(dumps([MAIN["counts"], MAIN["current"], bytearray(100_000)]))
    assert (count(), current(), len(array)) == (1, 1, 100_000)


def test_a_module_that_was_replaced_is_seen(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "replaced_module.py"
    path.write_text("def version(): return 1\n")
    module = importlib.import_module("replaced_module")
    data = dumps_function(module.version)
    assert loads_function(data)() == 1
    path.write_text("def version(): return 'two'\n")
    importlib.invalidate_caches()
    old = module.version
    importlib.reload(module)
    assert loads_function(data)() == 1
    forget_loaded_functions()
    assert loads_function(data)() == "two"
    assert sent(old)() == 1  # a function that has lost its name goes by value
    del sys.modules["replaced_module"]


def test_kept_pickles_keep_nothing_alive() -> None:
    def make() -> tuple[Any, weakref.ref[Any]]:
        class Local:
            def run(self) -> Any:
                return outer

        def helper() -> Any:
            return Local

        def outer(x: Any, y: Any = (helper,)) -> Any:
            return outer, helper, Local, x, y

        dumps_function(outer)
        assert dumps_function(outer) is dumps_function(outer)
        return weakref.ref(outer), weakref.ref(Local)

    references = make()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_what_a_user_wrote_may_fail() -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __call__(self) -> int:
            return 1

    assert freeze(Odd()) is None
    assert sent(Odd())() == 1


def test_references() -> None:
    assert is_by_reference(functools.partial)
    assert is_by_reference(Model)
    assert not is_by_reference(MAIN["counts"])
    assert not is_by_reference(namedtuple("Renamed", "x"))
    assert not is_by_reference(lambda: 1)


@pytest.fixture
def threads() -> Callable[[list[Callable[[], Any]]], list[Any]]:
    def run(calls: list[Callable[[], Any]]) -> list[Any]:
        results: list[Any] = [None] * len(calls)
        barrier = threading.Barrier(len(calls))

        def call(position: int) -> None:
            barrier.wait()
            results[position] = calls[position]()

        started = [threading.Thread(target=call, args=(position,)) for position in range(len(calls))]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
        return results

    return run


def test_threads_do_not_share_what_calls_change(threads: Any) -> None:
    data = dumps_function(MAIN["counts"])
    assert threads([lambda: loads_function(data)()] * 8) == [1] * 8


@dataclasses.dataclass
class Point:
    x: int = 1


def test_dataclasses_of_the_script() -> None:
    script: dict[str, Any] = {"__name__": "__main__", "dataclasses": dataclasses}
    exec("@dataclasses.dataclass\nclass P:\n    x: int = 1\ndef f(): return P().x", script)
    assert sent(script["f"])() == 1
    script["P"].x = 5
    script["P"].__init__.__defaults__ = (6,)
    assert sent(script["f"])() == 6
    assert sent(Point)().x == 1
