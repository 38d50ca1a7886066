"""Values and functions to payloads and back."""

from __future__ import annotations

import functools
import gc
import pickle
import subprocess
import sys
import threading
from typing import Any

import cloudpickle
import pytest

from headrace.protocol import (
    OUT_OF_BAND_BYTES,
    Frames,
    SerializationError,
    dumps,
    dumps_function,
    forget_loaded_functions,
    loads,
    loads_function,
)
from headrace.protocol import pickling as headrace_pickle
from headrace.protocol.functions import shareable as kept_functions

LARGE = 2 * OUT_OF_BAND_BYTES


def received(payload: bytes | Frames) -> bytes | Frames:
    """The payload as it arrives: in other memory, writable."""
    if isinstance(payload, bytes):
        return payload
    first, *rest = payload.frames
    return Frames([bytes(first), *[memoryview(bytearray(frame)) for frame in rest]])


def test_small_values_are_bytes() -> None:
    for value in (1, "a", (3,), ((1, 2), {"a": [1]}), None, b"x" * 100, len):
        payload = dumps(value)
        assert type(payload) is bytes
        assert loads(payload) == value


def test_large_values_are_frames() -> None:
    for value in ("a" * LARGE, list(range(LARGE)), b"x" * LARGE, bytearray(LARGE)):
        payload = dumps(value)
        assert isinstance(payload, Frames)
        assert payload.nbytes > LARGE * 0.9
        back = loads(received(payload))
        assert back == value
        assert type(back) is type(value)


def test_large_bytes_are_not_copied() -> None:
    value = bytes(LARGE)
    payload = dumps(value)
    assert isinstance(payload, Frames)
    assert payload.frames[1].obj is value  # type: ignore[union-attr]


def test_arrays_travel_without_copies_and_arrive_writable() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(LARGE)
    payload = dumps({"a": [array, array[:10]]})
    assert isinstance(payload, Frames)
    assert len(payload.frames) == 2  # the small one is inside the pickle
    assert numpy.shares_memory(numpy.frombuffer(payload.frames[1]), array.view(float))
    arrived = received(payload)
    assert isinstance(arrived, Frames)
    back = loads(arrived)["a"]
    assert (back[0] == array).all()
    assert numpy.shares_memory(numpy.frombuffer(arrived.frames[1]), back[0].view(float))
    back[0][0] = 5
    back[1][0] = 5


def test_arrays_of_any_layout() -> None:
    numpy = pytest.importorskip("numpy")
    base = numpy.random.default_rng(0).random((300, 400))
    read_only = base.copy()
    read_only.flags.writeable = False
    objects = numpy.array([1, "a", None] * 30_000, dtype=object)
    for array in (base, base.T, base[::2, ::3], numpy.asfortranarray(base), read_only, base[:0], objects):
        back = loads(received(dumps(array)))
        assert (back == array).all()
        assert back.flags.writeable or not array.flags.writeable


def test_frames_and_tables() -> None:
    pandas = pytest.importorskip("pandas")
    pyarrow = pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": range(LARGE), "b": [1.5] * LARGE, "c": ["text"] * LARGE})
    payload = dumps(frame)
    assert isinstance(payload, Frames)
    assert len(payload.frames) > 2
    back = loads(received(payload))
    pandas.testing.assert_frame_equal(back, frame)
    back.loc[0, "a"] = 7
    table = pyarrow.table({"a": list(range(LARGE))})
    payload = dumps(table)
    assert isinstance(payload, Frames)
    assert len(payload.frames[0]) < OUT_OF_BAND_BYTES
    assert loads(received(payload)).equals(table)


class Unpicklable:
    def __reduce__(self) -> Any:
        raise ValueError("no way")


@pytest.mark.parametrize("value", [threading.Lock(), [1, (threading.Lock(),)], Unpicklable()])
def test_what_cannot_be_pickled_is_named(value: Any) -> None:
    with pytest.raises(SerializationError, match=r"Could not serialize object of type [\w.]+: \w+: .+") as caught:
        dumps(value)
    assert type(value).__qualname__ in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert caught.value.__cause__ is not None


def test_lambdas_and_closures() -> None:
    offset = 5
    back = loads(dumps([lambda x: x + offset, functools.partial(lambda a, b: a * b, 3)]))
    assert back[0](1) == 6
    assert back[1](4) == 12


def in_other_process(code: str, payload: bytes) -> str:
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=payload,
        capture_output=True,
        timeout=60,
        check=True,
        env=clean_environment(),
    )
    return run.stdout.decode()


def clean_environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


MAIN = """
import sys
from headrace.protocol import dumps, dumps_function, loads, Frames
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return self.x == other.x
def is_even(n): return n == 0 or is_odd(n - 1)
def is_odd(n): return n != 0 and is_even(n - 1)
def double(point): return Point(point.x * 2)
sys.stdout.buffer.write(dumps([double, Point(4), is_even, double]))
"""


def test_what_lives_in_main_goes_by_value() -> None:
    made = subprocess.run(
        [sys.executable, "-c", MAIN], capture_output=True, timeout=60, check=True, env=clean_environment()
    )
    code = "import sys; from headrace.protocol import loads; d, p, e, d2 = loads(sys.stdin.buffer.read());" + (
        "print(d(p).x, e(10), e(7), d2(p).x, type(d(p)) is type(p))"
    )
    assert in_other_process(code, made.stdout).split() == ["8", "True", "False", "8", "True"]


def test_modules_registered_by_value(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here_module.py").write_text("def add(x): return x + 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here_module  # type: ignore[import-not-found]

    by_reference = dumps(only_here_module.add)
    assert len(dumps_function(only_here_module.add)) < 100
    cloudpickle.register_pickle_by_value(only_here_module)
    try:
        by_value, function = dumps([only_here_module.add]), dumps_function(only_here_module.add)
    finally:
        cloudpickle.unregister_pickle_by_value(only_here_module)
    assert isinstance(by_value, bytes)
    assert isinstance(by_reference, bytes)
    assert len(by_reference) < 100 < len(by_value)
    code = "import sys; from headrace.protocol import loads; print(loads(sys.stdin.buffer.read())"
    assert in_other_process(code + "[0](1))", by_value).strip() == "2"
    assert in_other_process(code + "(1))", function).strip() == "2"


def test_functions_are_pickled_once_and_forgotten_with_them() -> None:
    offset = 5

    def function(x: int) -> int:
        return x + offset

    data = dumps_function(function)
    assert dumps_function(function) is data
    assert loads_function(data)(1) == 6
    assert loads_function(bytes(bytearray(data))) is loads_function(data)
    number = id(function)
    assert number in dumps_function._kept
    del function
    gc.collect()
    assert number not in dumps_function._kept


def test_mutable_callables_are_pickled_anew() -> None:
    class Adder:
        def __init__(self) -> None:
            self.offset = 1

        def __call__(self, x: int) -> int:
            return x + self.offset

        def method(self, x: int) -> int:
            return x - self.offset

    adder = Adder()
    assert loads_function(dumps_function(adder))(1) == 2
    assert loads_function(dumps_function(adder.method))(1) == 0
    adder.offset = 10
    assert loads_function(dumps_function(adder))(1) == 11
    assert loads_function(dumps_function(adder.method))(1) == -9


def test_functions_that_hold_much_data_are_not_kept() -> None:
    data = bytes(kept_functions.CACHED_FUNCTION_BYTES + 1)

    def function() -> int:
        return len(data)

    assert loads_function(dumps_function(function))() == len(data)
    assert id(function) not in dumps_function._kept


def test_nested_functions_are_pickled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("def f(x): return x + 1", namespace)
    function = namespace["f"]
    first = dumps([(function, 1)])
    calls = []
    for module in (headrace_pickle, kept_functions):
        original = module.cloudpickle_or_explain

        def counted(value: Any, *args: Any, original: Any = original) -> bytes:
            calls.append(value)
            return original(value, *args)

        monkeypatch.setattr(module, "cloudpickle_or_explain", counted)
    for number in range(5):
        function_back, argument = loads(dumps([(function, number)]))[0]
        assert function_back(argument) == number + 1
    assert function not in calls
    assert isinstance(first, bytes)


def test_the_cache_of_loaded_functions_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_functions, "LOADED_FUNCTIONS", 3)
    forget_loaded_functions()
    for number in range(10):
        loads_function(pickle.dumps(functools.partial(int, number)))
    assert len(kept_functions._loaded) == 3
    monkeypatch.setattr(kept_functions, "LOADED_BYTES", 200_000)
    for number in range(5):
        loads_function(pickle.dumps(functools.partial(int, str(number) * 150_000)))
    assert len(kept_functions._loaded) == 1
    loads_function(pickle.dumps(functools.partial(int, "1" * 250_000)))
    assert not kept_functions._loaded
    assert not kept_functions._loaded_bytes


def test_a_function_that_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()

    def function() -> Any:
        return lock

    with pytest.raises(SerializationError, match=r"type function: .*lock"):
        dumps_function(function)


def test_frames_survive_a_pickle() -> None:
    frames = Frames([b"a", memoryview(bytearray(b"bc"))])
    assert pickle.loads(pickle.dumps(frames)) == frames
    assert frames.nbytes == 3
    assert "2 frames" in repr(frames)


def test_modules_with_a_class_of_their_own_go_by_name() -> None:
    import distributed
    import headrace
    from headrace import protocol

    modules = (distributed, headrace, protocol)
    scope = {"modules": modules}
    exec("def told(): return modules", scope)  # by value, with what it refers to
    assert all(found is module for found, module in zip(loads(dumps(scope["told"]))(), modules, strict=True))


def test_what_arrow_knows_of_a_file(tmp_path: Any) -> None:
    fs = pytest.importorskip("pyarrow.fs")
    (tmp_path / "file").write_text("text")
    found = fs.LocalFileSystem().get_file_info([str(tmp_path / name) for name in ("file", "missing", "")])
    again = loads(dumps({"files": found}))["files"]
    assert [(each.path, each.type, each.size, each.mtime_ns) for each in again] == [
        (each.path, each.type, each.size, each.mtime_ns) for each in found
    ]
