"""Calls to keys, payloads and messages, without a client."""

from __future__ import annotations

import threading
from collections import namedtuple
from functools import partial
from operator import add
from typing import Any

import numpy as np
import pytest
from dask._task_spec import TaskRef

from headrace.client.future import Future
from headrace.client.packing import calls
from headrace.client.packing.arguments import MemolessPickler, pack, splice
from headrace.client.packing.calls import (
    MapPacker,
    describe,
    note_upload,
    pack_submit,
    submit_message,
)
from headrace.client.state import FutureState
from headrace.common.keys import to_wire
from headrace.exceptions import SerializationError
from headrace.protocol import Frames, dumps, loads, loads_function


def inc(x: int) -> int:
    return x + 1


def future(key: Any) -> Future[Any]:
    return Future(key, None, FutureState(to_wire(key)))


def key_of(function: Any, *args: Any, **kwargs: Any) -> Any:
    return pack_submit(function, args, kwargs, None, True)[0]


def test_equal_calls_have_equal_keys() -> None:
    text = "".join(["a", "bc"])
    assert key_of(inc, 1) == key_of(inc, 1)
    assert key_of(add, "abc", "abc") == key_of(add, "abc", text)
    assert key_of(add, [1, ("a",)], {"x": 1}) == key_of(add, [1, ("a",)], {"x": 1})
    assert key_of(add, x=1, y=2) == key_of(add, y=2, x=1)
    assert key_of(add, np.arange(3)) == key_of(add, np.arange(3))
    assert key_of(inc, 1).startswith("inc-")


@pytest.mark.parametrize(
    ("one", "other"),
    [((1,), (2,)), ((1,), (1.0,)), ((1,), (True,)), (("a",), (b"a",)), (([1],), ((1,),)), ((None,), ("None",))],
)
def test_different_arguments_have_different_keys(one: Any, other: Any) -> None:
    assert key_of(inc, *one) != key_of(inc, *other)


def test_functions_differ_and_partials_are_not_confused() -> None:
    assert key_of(inc, 1) != key_of(abs, 1)
    assert key_of(partial(add, 1), 1) != key_of(partial(add, 2), 1)


def test_impure_calls_and_explicit_keys() -> None:
    keys = {pack_submit(inc, (1,), {}, None, False)[0] for _ in range(10)}
    assert len(keys) == 10
    assert pack_submit(inc, (1,), {}, ("mine", 0), True)[0] == ("mine", 0)
    assert pack_submit(inc, (1,), {}, b"mine", True)[0] == to_wire(b"mine")
    with pytest.raises(TypeError, match="key must be"):
        pack_submit(inc, (1,), {}, object(), True)


def test_futures_become_references_in_containers() -> None:
    a, b = future("a"), future(("b", 1))
    packed = pack(add, (a, [b, (a, 1)]), {"k": {"x": {b, 2}}})
    assert list(packed.dependencies) == ["a", ("b", 1)]
    args, kwargs = loads(packed.payload)
    assert args == (TaskRef("a"), [TaskRef(("b", 1)), (TaskRef("a"), 1)])
    assert type(args[0]) is TaskRef
    assert kwargs == {"k": {"x": {TaskRef(("b", 1)), 2}}}


def test_a_future_in_a_named_tuple_is_found() -> None:
    Point = namedtuple("Point", "x y")
    packed = pack(add, (Point(1, future("a")),), {})
    assert list(packed.dependencies) == ["a"]


def test_arguments_without_futures_are_sent_as_they_are() -> None:
    value = {"a": [1, {2}], "b": np.arange(3)}
    args, kwargs = loads(pack(add, (value,), {}).payload)
    assert kwargs == {}
    assert args[0]["a"] == [1, {2}]
    assert (args[0]["b"] == np.arange(3)).all()


def test_a_list_that_holds_itself_is_sent() -> None:
    value: list[Any] = [1]
    value.append(value)
    (loaded,), _ = loads(pack(len, (value,), {}).payload)
    assert loaded[1] is loaded


def test_large_arrays_are_not_copied() -> None:
    array = np.zeros(1_000_000)
    payload = pack(len, (array,), {}).payload
    assert type(payload) is Frames
    assert np.shares_memory(np.frombuffer(payload.frames[1]), array)


@pytest.mark.parametrize("args", [(threading.Lock(),), (1, [threading.Lock()])])
def test_an_argument_that_cannot_be_pickled_is_named(args: Any) -> None:
    with pytest.raises(SerializationError, match=rf"argument {len(args) - 1} of the task .*inc.*lock"):
        pack_submit(inc, args, {}, None, True)


def test_a_function_that_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()
    with pytest.raises(SerializationError, match=r"the function .*lambda.*lock"):
        pack_submit(lambda: lock, (), {}, None, True)


def test_functions_are_described_once() -> None:
    assert describe(inc) is describe(inc)
    assert loads_function(describe(inc).pickled) is inc
    info = describe(lambda: 1)
    assert info.name == "lambda"


class NoToken:
    """What dask cannot tokenize, though it can be pickled."""

    def __dask_tokenize__(self) -> Any:
        raise RuntimeError("asked for a token")


def test_arguments_are_tokenized_for_pure_calls_only() -> None:
    value = [NoToken(), {"a": NoToken()}]
    for key, pure in (("mine", True), (None, False), ("mine", False)):
        pack_submit(add, (1, value), {"y": value}, key, pure)
    for options in ({"pure": False}, {"pure": True, "keys": iter(["mine"])}):
        MapPacker(add, {"y": value}, **options).pack([(value,)])  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="asked for a token"):
        pack_submit(add, (1, value), {}, None, True)
    with pytest.raises(RuntimeError, match="asked for a token"):
        MapPacker(add, {}, pure=True).pack([(value,)])
    named = MapPacker(add, {"y": value}, pure=True, prefix="mine").pack([(value,), (value,)])
    assert len(set(named.keys)) == 2


def test_calls_after_an_upload_are_other_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_uploads", {})
    before = key_of(inc, 1)
    note_upload("module.py", b"x = 1")
    first = key_of(inc, 1)
    note_upload("module.py", b"x = 1")
    assert key_of(inc, 1) == first != before
    note_upload("module.py", b"x = 2")
    assert key_of(inc, 1) not in (first, before)


def test_a_function_that_is_handed_over_is_like_no_other() -> None:
    lock = threading.Lock()

    def function(x: int) -> Any:
        return lock, x

    keys = {pack_submit(function, (1,), {}, None, True, in_process=True)[0] for _ in range(2)}
    assert len(keys) == 2
    assert describe(inc, in_process=True) is describe(inc, in_process=True)


def test_the_message_of_a_call() -> None:
    key, info, packed = pack_submit(add, (future("a"), future("b")), {}, None, True)
    message = submit_message(7, key, info, packed, [], None)
    assert (message.graph, message.keys, message.external) == (7, [key], ["a", "b"])
    assert message.dependencies == [[1, 2]]
    assert not message.more


def test_splicing_two_pickles() -> None:
    shared = ["x"]
    kwargs = dumps({"a": shared, "b": shared})
    args, loaded = loads(splice(MemolessPickler()((1, "two", [3.0])), kwargs[11:-1]))
    assert args == (1, "two", [3.0])
    assert loaded["a"] is loaded["b"]
    assert loads(splice(MemolessPickler()(()), kwargs[11:-1]))[0] == ()


def rows(*values: Any) -> list[tuple[Any, ...]]:
    return [(value,) for value in values]


def test_map_makes_the_payloads_of_submit() -> None:
    chunk = MapPacker(inc, {}, True).pack(rows(1, "a", [1, 2], None))
    assert [loads(payload) for payload in chunk.payloads] == [((v,), {}) for v in (1, "a", [1, 2], None)]
    assert len(set(chunk.keys)) == 4
    assert chunk.dependencies is None


def test_map_and_submit_agree_on_keys() -> None:
    chunk = MapPacker(inc, {}, True).pack(rows(1, (2, "x")))
    assert chunk.keys == [key_of(inc, 1), key_of(inc, (2, "x"))]


def test_map_with_keyword_arguments_and_futures() -> None:
    packer = MapPacker(add, {"k": [future("shared")], "n": 1}, True)
    chunk = packer.pack(rows(1, future("own"), 2))
    assert chunk.dependencies == [["shared"], ["shared", "own"], ["shared"]]
    assert loads(chunk.payloads[0]) == ((1,), {"k": [TaskRef("shared")], "n": 1})
    assert loads(chunk.payloads[1]) == ((TaskRef("own"),), {"k": [TaskRef("shared")], "n": 1})
    message = chunk.message(3, packer.info, [], None, True)
    assert message.external == ["shared", "own"]
    assert message.dependencies == [[3], [3, 4], [3]]
    assert message.more


def test_keyword_arguments_are_part_of_a_maps_keys() -> None:
    assert MapPacker(add, {"k": 1}, True).pack(rows(1)).keys != MapPacker(add, {"k": 2}, True).pack(rows(1)).keys


def test_keyword_arguments_are_fresh_in_each_payload() -> None:
    chunk = MapPacker(add, {"k": []}, True).pack(rows(1, 2))
    first, second = [loads(payload)[1]["k"] for payload in chunk.payloads]
    assert first is not second


def test_maps_with_names_of_their_own() -> None:
    assert all(key.startswith("mine-") for key in MapPacker(inc, {}, True, "mine").pack(rows(1, 2)).keys)
    assert MapPacker(inc, {}, True, None, iter(["a", ("b", 1)])).pack(rows(1, 2)).keys == ["a", ("b", 1)]
    assert len(set(MapPacker(inc, {}, False).pack(rows(1, 1, 1)).keys)) == 3


def test_leaving_out_what_is_known() -> None:
    chunk = MapPacker(inc, {}, True).pack(rows(future("a"), 2, 3)).without({1})
    assert len(chunk.keys) == len(chunk.payloads) == 2
    assert chunk.dependencies == [["a"], []]


def test_a_map_names_the_argument_that_cannot_be_pickled() -> None:
    with pytest.raises(SerializationError, match=r"argument 0 .*inc.*lock"):
        MapPacker(inc, {}, True).pack(rows(1, threading.Lock()))
    with pytest.raises(SerializationError, match=r"argument 'k' .*inc.*lock"):
        MapPacker(inc, {"k": threading.Lock()}, True)
