"""Dask graphs and collections to messages, without a client."""

from __future__ import annotations

import re
import threading
from operator import add
from typing import Any

import dask
import pytest
from dask._task_spec import Alias, DataNode, List, Task, TaskRef

from headrace.client.future import Future
from headrace.client.packing.dask_expressions import Persisting, computing, materialize
from headrace.client.packing.graph import (
    CHUNK,
    FIRST_CHUNK,
    GraphPacker,
    plan_graph,
)
from headrace.client.packing.graph_nodes import RUN_NODE, call_of
from headrace.client.packing.task_options import OptionTable
from headrace.client.state import FutureState
from headrace.common.keys import to_wire
from headrace.exceptions import SerializationError
from headrace.protocol import loads, loads_function
from headrace.worker.execution.run_spec import run_node


def inc(x: int) -> int:
    return x + 1


def future(key: Any) -> Future[Any]:
    return Future(key, None, FutureState(to_wire(key)))


def messages(dsk: Any, *keys: Any, known: Any = (), table: OptionTable | None = None) -> list[Any]:
    plan = plan_graph(dsk, keys, set(known).__contains__)
    table = table or OptionTable({}, {}, {})
    return list(GraphPacker(5, plan, {to_wire(key) for key in keys}, table).messages())


def tasks_of(batch: list[Any]) -> dict[Any, tuple[Any, Any, list[Any]]]:
    """`{key: (function, arguments, keys of dependencies)}`; checks that dependencies come first."""
    found: dict[Any, tuple[Any, Any, list[Any]]] = {}
    for message in batch:
        names = [*message.keys, *message.external]
        for position, key in enumerate(message.keys):
            number = message.calls[position] if message.calls else 0
            pickled = message.functions[number]
            needs = message.dependencies[position] if message.dependencies else []
            assert all(need < position or need >= len(message.keys) for need in needs)
            function = "run_node" if pickled == RUN_NODE else loads_function(pickled)
            found[key] = (function, loads(message.arguments[position]), [names[need] for need in needs])
    return found


def test_nodes_are_run_by_a_function_of_the_workers() -> None:
    assert loads(RUN_NODE) is run_node


def test_a_legacy_graph() -> None:
    batch = messages({"x": (inc, 1), "y": (add, "x", 10), "unused": (inc, 5)}, "y")
    (message,) = batch
    assert message.keys == ["x", "y"]
    assert message.wanted == [1]
    assert not message.more
    assert tasks_of(batch) == {
        "x": (inc, ((1,), {}), []),
        "y": (add, ((TaskRef("x"), 10), {}), ["x"]),
    }


def test_lists_of_references_become_plain_lists() -> None:
    batch = messages({"x": (inc, 1), "y": (inc, 2), "z": (sum, ["x", "y", 3])}, "z")
    assert tasks_of(batch)["z"][1] == (([TaskRef("x"), TaskRef("y"), 3],), {})


def test_all_wanted_needs_no_list() -> None:
    (message,) = messages({"x": (inc, 1), "y": (inc, 2)}, "x", "y")
    assert message.wanted is None
    assert message.dependencies == []
    assert message.calls == []


def test_nodes_that_are_not_calls_travel_whole() -> None:
    found = tasks_of(messages({"x": DataNode("x", [1]), "y": Alias("y", "x"), "z": Task("z", inc, TaskRef("y"))}, "z"))
    assert found["x"][0] == found["y"][0] == "run_node"
    assert found["y"][2] == ["x"]
    assert found["z"] == (inc, ((TaskRef("y"),), {}), ["y"])


def test_nested_tasks_without_references_travel_whole() -> None:
    found = tasks_of(messages({"x": (sum, [(inc, 1), 2])}, "x"))
    function, ((node,), _), _ = found["x"]
    assert function == "run_node"
    assert node() == 4


def test_a_graph_as_an_argument_is_not_looked_into() -> None:
    inner = {"i": Task("i", inc, TaskRef("outer"))}
    node = Task("x", len, inner, TaskRef("y"))
    assert call_of(node) is None
    free = Task("x", len, inner)
    assert call_of(free) == (len, (inner,), {})


def test_keyword_arguments_with_references() -> None:
    found = tasks_of(messages({"x": (inc, 1), "y": Task("y", dict, a=TaskRef("x"), b=List(TaskRef("x"), 2))}, "y"))
    assert found["y"][1] == ((), {"a": TaskRef("x"), "b": [TaskRef("x"), 2]})


def test_futures_in_graphs_are_external() -> None:
    (message,) = messages({"y": (inc, future("f")), "z": Task("z", add, future("f"), TaskRef("y"))}, "z", known=["f"])
    assert message.external == ["f"]
    assert "f" not in message.keys
    loaded = [loads(arguments) for arguments in message.arguments]
    assert all(type(value) is TaskRef for args, _ in loaded for value in args)


def test_a_future_under_its_own_key_is_external() -> None:
    (message,) = messages({"f": future("f"), "y": (inc, "f")}, "y", known=["f"])
    assert message.keys == ["y"]
    assert message.external == ["f"]


def test_keys_of_other_types() -> None:
    (message,) = messages({b"x": (inc, 1), ("y", 0): Task(("y", 0), inc, TaskRef(b"x")), 3: (inc, ("y", 0))}, 3)
    assert message.keys == [to_wire(b"x"), ("y", 0), 3]
    assert message.dependencies == [[], [0], [1]]
    with pytest.raises(TypeError, match="key must be"):
        messages({frozenset(): (inc, 1)}, frozenset())


def test_a_cycle_is_shown() -> None:
    with pytest.raises(ValueError, match=r"(?s)Cycle.*'x'.*'y'"):
        messages({"x": (inc, "y"), "y": (inc, "x")}, "x")
    with pytest.raises(ValueError, match=r"(?s)Cycle.*'x'"):
        messages({"x": Task("x", inc, TaskRef("x"))}, "x")


def test_what_needs_missing_keys_is_left_out_and_named() -> None:
    dsk = {
        "x": Task("x", inc, TaskRef("nope")),
        "y": Task("y", add, TaskRef("x"), TaskRef("a")),
        "a": Task("a", inc, 1),
        "b": Task("b", inc, TaskRef("held")),
        "only for x": Task("only for x", inc, 1),
    }
    plan = plan_graph(dsk, ["y", "b"], ["held"].__contains__)
    assert list(plan.nodes) == ["b"]
    assert plan.external == ["held"]
    assert plan.lost is not None
    assert plan.lost[1] == {"nope", "x", "y"}
    assert re.search(r"no task for 'nope'.*needed by 'x'", plan.lost[0])
    plan = plan_graph({"x": (inc, 1)}, ["z"], set().__contains__)
    assert (plan.nodes, plan.lost) == (
        {},
        ("The graph has no task for 'z', and no future of this client has such a key (any more).", {"z"}),
    )


def test_long_graphs_are_sent_in_parts() -> None:
    count = FIRST_CHUNK + CHUNK + 10
    dsk: dict[Any, Any] = {("x", i): (inc, i) for i in range(count)}
    dsk["total"] = (sum, [("x", i) for i in range(count)])
    batch = messages(dsk, "total")
    assert [len(message.keys) for message in batch] == [FIRST_CHUNK, CHUNK, 11]
    assert [message.more for message in batch] == [True, True, False]
    assert [message.wanted for message in batch] == [[], [], [10]]
    assert all(message.graph == 5 for message in batch)
    assert len(tasks_of(batch)["total"][2]) == count


def test_order_is_that_of_dask() -> None:
    dsk: dict[Any, Any] = {}
    for i in range(3):
        dsk[("a", i)] = (inc, i)
        dsk[("b", i)] = (inc, ("a", i))
    dsk["c"] = (sum, [("b", i) for i in range(3)])
    (message,) = messages(dsk, "c")
    ranks = dask.order.order(dsk)
    assert message.keys == sorted(dsk, key=ranks.__getitem__)


def test_functions_are_sent_once() -> None:
    (message,) = messages({"a": (inc, 1), "b": (inc, 2), "c": (add, "a", "b")}, "c")
    assert len(message.functions) == 2
    assert sorted(message.calls) == [0, 0, 1]


def test_what_cannot_be_pickled_is_named() -> None:
    with pytest.raises(SerializationError, match=r"argument 1 of the task .*add.*lock"):
        messages({"x": Task("x", add, 1, threading.Lock())}, "x")
    with pytest.raises(SerializationError, match="lock"):
        messages({"x": DataNode("x", threading.Lock())}, "x")


def test_options_by_key() -> None:
    table = OptionTable({"retries": 1}, {"priority": 2}, {"workers": {"y": ["alice"]}, "retries": {"y": 5}})
    (message,) = messages({"x": (inc, 1), "y": (inc, "x")}, "y", table=table)
    x, y = [message.options[position] for position in message.option_of]
    assert (x.retries, x.priority, x.workers) == (1, 2, [])
    assert (y.retries, y.priority, y.workers) == (5, 2, ["alice"])


def test_annotations_of_layers_reach_the_tasks() -> None:
    da = pytest.importorskip("dask.array")
    with dask.annotate(retries=3):
        x = da.ones(4, chunks=2)
    expression, keys = computing([x + 1], False)
    graph, annotations = materialize(expression)
    assert set(annotations) == {"retries"}
    batch = messages(graph, *keys, table=OptionTable({}, {}, annotations))
    retries = [message.options[position].retries for message in batch for position in message.option_of]
    assert sorted(set(retries)) == [0, 3]


def evaluate(batch: list[Any]) -> dict[Any, Any]:
    """What the worker would make of the messages."""
    from headrace.worker.execution.run_spec import resolve

    data: dict[Any, Any] = {}
    for key, (function, (args, kwargs), needs) in tasks_of(batch).items():
        if needs:
            args, kwargs = resolve((args, kwargs), data)
        if function == "run_node":
            (value,) = args
            data[key] = value if needs else value()
        else:
            data[key] = function(*args, **kwargs)
    return data


@pytest.mark.parametrize("optimize", [True, False])
def test_collections_compute_to_what_they_should(optimize: bool) -> None:
    pytest.importorskip("headrace.worker.execution.run_spec")
    da, db = pytest.importorskip("dask.array"), pytest.importorskip("dask.bag")
    x = da.arange(16, chunks=4).reshape(4, 4)
    collections = [
        (x + x.T).sum(),
        db.range(6, npartitions=2).map(inc).sum(),
        dask.delayed(inc)([dask.delayed(1), 2][1]),
    ]
    expression, keys = computing(collections, optimize)
    data = evaluate(messages(materialize(expression)[0], *keys))
    assert [data[key] for key in keys] == [240, 21, 3]


def test_dataframes_compute_to_what_they_should() -> None:
    pytest.importorskip("headrace.worker.execution.run_spec")
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    frame = pd.DataFrame({"a": [1, 2, 1, 2], "b": [1.0, 2, 3, 4]})
    expression, keys = computing([dd.from_pandas(frame, npartitions=2).groupby("a").b.sum()], True)
    data = evaluate(messages(materialize(expression)[0], *keys))
    assert data[keys[0]].to_dict() == {1: 4.0, 2: 6.0}


def test_persisting_rebuilds_collections_of_the_same_kind() -> None:
    da = pytest.importorskip("dask.array")
    x, y = da.ones(4, chunks=2) + 1, dask.delayed(inc)(1)
    persisting = Persisting([x, y], True)
    rebuilt = persisting.rebuild({key: future(key) for key in persisting.keys})
    assert type(rebuilt[0]) is type(x)
    assert rebuilt[0].chunks == x.chunks
    assert all(isinstance(value, Future) for value in rebuilt[0].dask.values())
    assert rebuilt[1].key == y.key


def test_a_graph_must_be_one() -> None:
    with pytest.raises(TypeError, match="a dask graph is"):
        materialize(5)
