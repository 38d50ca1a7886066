"""Functions of a script that change between two submissions, and that tasks change, on real workers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest

from headrace import Client
from headrace.deploy import LocalCluster

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")

SCRIPT = """
NUMBER, TABLE = 1, {"n": 1}
def helper(x): return x
class Rule:
    weight = 1
    def apply(self, x): return x + NUMBER
def make():
    kept = 1
    def inner(x): return x + kept
    def rebind(value):
        nonlocal kept
        kept = value
    return inner, rebind
by_cell, rebind = make()
def by_global(x): return x + NUMBER
def by_content(x): return x + TABLE["n"]
def by_helper(x): return helper(x)
def by_class(x): return x + Rule.weight
def by_method(x): return Rule().apply(x)
def by_default(x, y=1): return x + y
def by_attribute(x): return x + getattr(by_attribute, "n", 0)
"""


def _redefine(script: dict[str, Any], step: int) -> None:
    exec(f"def helper(x): return x + {step}", script)


CHANGES: dict[str, Callable[[dict[str, Any], int], Any]] = {
    "by_global": lambda script, step: script.update(NUMBER=step),
    "by_content": lambda script, step: script["TABLE"].update(n=step),
    "by_helper": _redefine,
    "by_class": lambda script, step: setattr(script["Rule"], "weight", step),
    "by_cell": lambda script, step: script["rebind"](step),
    "by_default": lambda script, step: setattr(script["by_default"], "__defaults__", (step,)),
    "by_attribute": lambda script, step: setattr(script["by_attribute"], "n", step),
}
_names = itertools.count()


def _delayed(client: Client, function: Any) -> int:
    with client.as_current():
        return dask.delayed(function)(1).compute()  # type: ignore[no-any-return]


def _graph(client: Client, function: Any) -> int:
    key = f"changing-{next(_names)}"
    return client.get({key: (function, 1)}, key)  # type: ignore[no-any-return]


def _inside_a_value(client: Client, function: Any) -> int:
    return client.submit(lambda functions: functions[0](1), [function]).result()  # type: ignore[no-any-return]


WAYS: dict[str, Callable[[Client, Any], int]] = {
    "submit": lambda client, function: client.submit(function, 1).result(),
    "submit, impure": lambda client, function: client.submit(function, 1, pure=False).result(),
    "map": lambda client, function: client.gather(client.map(function, [1]))[0],
    "map, impure": lambda client, function: client.gather(client.map(function, [1], pure=False))[0],
    "get": _graph,
    "delayed": _delayed,
    "executor": lambda client, function: client.get_executor().submit(function, 1).result(),
    "inside a value": _inside_a_value,
}


@pytest.fixture(scope="module", params=["processes", "threads"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=request.param == "processes", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.parametrize("way", WAYS)
def test_the_function_runs_that_is_there_at_the_submission(client: Client, way: str) -> None:
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, script)
    submit = WAYS[way]
    found, expected = {}, {}
    held = []  # a pure call must not find the old one's future
    for name, change in CHANGES.items():
        function = script[name]
        found[name], expected[name] = [submit(client, function)], [function(1)]
        held.append(client.submit(function, 1))
        for step in (10, 20):
            change(script, step)
            found[name].append(submit(client, function))
            expected[name].append(function(1))
            held.append(client.submit(function, 1))
    assert found == expected


def test_a_call_that_is_the_same_is_the_same(client: Client) -> None:
    """Also after it has run, perhaps in this very process, and after an instance of the class was pickled."""
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(SCRIPT, script)
    for name in [*CHANGES, "by_method"]:
        one, other = client.submit(script[name], 5), client.submit(script[name], 5)
        assert one.key == other.key, name
        one.result()
        client.submit(type, script["Rule"]()).result()
        assert client.submit(script[name], 5).key == one.key, name


STATEFUL = """
import time
class Model:
    def __init__(self): self.seen = []
    def fit(self, x):
        self.seen.append(x)
        time.sleep(0.001)
        return list(self.seen)
    __call__ = fit
def with_default(x, into=[]):
    into.append(x)
    return list(into)
def make():
    seen = []
    def collect(x):
        seen.append(x)
        return list(seen)
    return collect
collect = make()
seen = []
def by_global(x):
    global count
    count += x
    seen.append(count)
    return seen
count = 0
"""


@pytest.mark.parametrize("way", ["submit", "map", "get"])
def test_each_task_has_its_own_copy(client: Client, way: str) -> None:
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(STATEFUL, script)
    functions = [script["Model"]().fit, script["Model"](), script["with_default"], script["collect"]]
    for function in [*functions, script["by_global"]]:
        if way == "submit":
            got = client.gather([client.submit(function, x, pure=False) for x in range(8)])
        elif way == "map":
            got = client.gather(client.map(function, range(8), pure=False))
        else:
            names = [f"own-{next(_names)}" for _ in range(8)]
            got = client.get({name: (function, x) for x, name in enumerate(names)}, names)
        assert list(got) == [[x] for x in range(8)], function


def test_an_uploaded_module_is_the_new_one_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By all ways of calling it, as a pure call too, on workers that were there and on one that comes later."""
    path = tmp_path / "uploaded_twice.py"
    path.write_text("def version(x=0): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import uploaded_twice  # type: ignore[import-not-found]

    script: dict[str, Any] = {"__name__": "__main__"}
    exec("from uploaded_twice import version\ndef calls(x=0): return version()", script)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def versions() -> list[int]:
            function = uploaded_twice.version
            ways = [*WAYS.values(), lambda client, function: client.submit(script["calls"], 1).result()]
            return [way(client, function) for way in ways]

        client.upload_file(str(path))
        held = client.submit(uploaded_twice.version, 1)
        assert set(versions()) == {1}
        path.write_text("def version(x=0): return 'second'\n")
        client.upload_file(str(path))
        assert set(versions()) == {"second"}
        assert held.result() == 1
        scheduler = cluster.scheduler
        assert sum("uploaded_twice" in name for name in (*scheduler.plugins, *scheduler.worker_plugins)) == 2
        cluster.scale(2)
        client.wait_for_workers(2)
        everywhere = [
            client.submit(function, pure=False, workers=[worker]).result()
            for worker in client.scheduler_info()["workers"]
            for function in (uploaded_twice.version, script["calls"])
        ]
        assert everywhere == ["second"] * 4
