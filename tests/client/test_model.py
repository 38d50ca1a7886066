"""The client's API against plain Python: in whatever order its calls come, futures hold what the calls would return.

Hypothesis draws the order; the model keeps for every key the value or the error that plain Python gives. One cluster
of threads serves all examples. Each has a client of its own, and must leave no task behind when it has gone.
"""

from __future__ import annotations

import gc
import itertools
import operator
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import dask
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from headrace import Client, Future, LocalCluster, as_completed, wait
from headrace.testing.helpers.polling import poll_for

FUNCTIONS = st.sampled_from([operator.add, operator.sub, operator.mul, operator.floordiv])
NUMBERS = st.integers(-2, 2)
#: Which of the futures there are; taken modulo their number.
PICK = st.integers(0, 30)
#: Seconds that anything may take; only a hang takes that long.
PATIENCE = 30

Outcome = int | type[ZeroDivisionError]
_numbers = itertools.count()


def total(nested: Any) -> int:
    """Sum of all numbers inside lists, tuples and dictionaries."""
    if isinstance(nested, dict):
        return sum(total(value) for value in nested.values())
    if isinstance(nested, (list, tuple)):
        return sum(total(value) for value in nested)
    assert isinstance(nested, int)
    return nested


def outcome_of(function: Callable[..., int], *arguments: Outcome) -> Outcome:
    """What plain Python gives; an error among the arguments is the outcome of the whole."""
    for argument in arguments:
        if isinstance(argument, type):
            return argument
    try:
        return function(*arguments)
    except ZeroDivisionError:
        return ZeroDivisionError


class ClientModel(RuleBasedStateMachine):
    """Calls in any order. `futures` are those that the user holds; `expected` says what each is to give."""

    cluster: ClassVar[LocalCluster]

    def __init__(self) -> None:
        super().__init__()
        self.client = Client(self.cluster, set_as_default=False)
        self.futures: list[Future] = []
        self.expected: dict[str, Outcome] = {}
        self.dependents: dict[str, set[str]] = defaultdict(set)
        #: Futures of these objects were cancelled; a later future of the same key is another.
        self.cancelled: list[Future] = []

    # Helpers

    def pick(self, index: int) -> Future:
        return self.futures[index % len(self.futures)]

    def hold(self, future: Future, expected: Outcome, dependencies: list[Future]) -> None:
        assert self.expected.setdefault(future.key, expected) == expected, "one key, two meanings"
        for dependency in dependencies:
            self.dependents[dependency.key].add(future.key)
        self.futures.append(future)

    def meaning(self, argument: Future | int) -> Outcome:
        return self.expected[argument.key] if isinstance(argument, Future) else argument

    def check(self, future: Future) -> None:
        expected = self.expected[future.key]
        if isinstance(expected, type):
            assert isinstance(future.exception(timeout=PATIENCE), expected)
            assert future.traceback(timeout=PATIENCE) is not None
            with pytest.raises(expected):
                future.result(timeout=PATIENCE)
            assert future.status == "error"
        else:
            assert future.result(timeout=PATIENCE) == expected
            assert future.exception(timeout=PATIENCE) is None
            assert future.status == "finished"

    # Work in

    @rule(function=FUNCTIONS, left=NUMBERS, right=NUMBERS, pure=st.booleans())
    def submit_of_numbers(self, function: Any, left: int, right: int, pure: bool) -> None:
        self.hold(self.client.submit(function, left, right, pure=pure), outcome_of(function, left, right), [])

    @precondition(lambda self: self.futures)
    @rule(function=FUNCTIONS, left=PICK, right=NUMBERS | PICK.map(lambda index: (index,)), pure=st.booleans())
    def submit_of_futures(self, function: Any, left: int, right: Any, pure: bool) -> None:
        first = self.pick(left)
        second = self.pick(right[0]) if isinstance(right, tuple) else right
        future = self.client.submit(function, first, second, pure=pure)
        used = [argument for argument in (first, second) if isinstance(argument, Future)]
        self.hold(future, outcome_of(function, self.meaning(first), self.meaning(second)), used)

    @precondition(lambda self: self.futures)
    @rule(picks=st.lists(PICK, min_size=1, max_size=3), number=NUMBERS)
    def submit_of_nested_futures(self, picks: list[int], number: int) -> None:
        used = [self.pick(index) for index in picks]
        future = self.client.submit(total, {"list": used, "tuple": (used[0], number)})
        expected = outcome_of(lambda *numbers: sum(numbers), *map(self.meaning, [*used, used[0], number]))
        self.hold(future, expected, used)

    @rule(function=FUNCTIONS, numbers=st.lists(NUMBERS, max_size=4), other=NUMBERS)
    def map_of_numbers(self, function: Any, numbers: list[int], other: int) -> None:
        for number, future in zip(numbers, self.client.map(function, numbers, [other] * len(numbers)), strict=True):
            self.hold(future, outcome_of(function, number, other), [])

    @precondition(lambda self: self.futures)
    @rule(function=FUNCTIONS, picks=st.lists(PICK, min_size=1, max_size=4), other=NUMBERS)
    def map_of_futures(self, function: Any, picks: list[int], other: int) -> None:
        used = [self.pick(index) for index in picks]
        for argument, future in zip(used, self.client.map(function, used, [other] * len(used)), strict=True):
            self.hold(future, outcome_of(function, self.meaning(argument), other), [argument])

    @rule(number=NUMBERS, hashed=st.booleans())
    def scatter(self, number: int, hashed: bool) -> None:
        self.hold(self.client.scatter(number, hash=hashed), number, [])

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=3))
    def scatter_by_name(self, numbers: list[int]) -> None:
        named = {f"named-{next(_numbers)}": number for number in numbers}
        for name, future in self.client.scatter(named).items():
            assert future.key == name
            self.hold(future, named[name], [])

    @precondition(lambda self: self.futures)
    @rule(picks=st.lists(PICK, min_size=1, max_size=3), function=FUNCTIONS, number=NUMBERS)
    def persist(self, picks: list[int], function: Any, number: int) -> None:
        used = [self.pick(index) for index in picks]
        lazy = dask.delayed(function, pure=False)(dask.delayed(total)(used), number)
        future = self.client.compute(lazy)
        inner = outcome_of(lambda *numbers: sum(numbers), *map(self.meaning, used))
        self.hold(future, outcome_of(function, inner, number), used)

    # Looking

    @precondition(lambda self: self.futures)
    @rule(index=PICK)
    def result(self, index: int) -> None:
        self.check(self.pick(index))

    @precondition(lambda self: self.futures)
    @rule(picks=st.lists(PICK, min_size=1, max_size=4))
    def gather(self, picks: list[int]) -> None:
        asked = [self.pick(index) for index in picks]
        meanings = [self.expected[future.key] for future in asked]
        if any(isinstance(meaning, type) for meaning in meanings):
            with pytest.raises(ZeroDivisionError):
                self.client.gather(asked)
        else:
            assert self.client.gather(asked) == meanings
            assert self.client.gather({"a": asked, "b": (asked[0], 7)}) == {"a": meanings, "b": (meanings[0], 7)}
        values = [meaning for meaning in meanings if not isinstance(meaning, type)]
        assert self.client.gather(asked, errors="skip") == values

    @precondition(lambda self: self.futures)
    @rule(picks=st.lists(PICK, min_size=1, max_size=4))
    def wait_for(self, picks: list[int]) -> None:
        asked = [self.pick(index) for index in picks]
        done, not_done = wait(asked, timeout=PATIENCE)
        assert done == set(asked)
        assert not not_done
        assert {future.key for future in as_completed(asked)} == {future.key for future in asked}
        holders = self.client.who_has(asked)
        for future in asked:
            expected = self.expected[future.key]
            assert future.status == ("error" if isinstance(expected, type) else "finished")
            assert bool(holders[future.key]) == (not isinstance(expected, type))

    @precondition(lambda self: self.futures)
    @rule(index=PICK)
    def travel(self, index: int) -> None:
        """A future that is pickled and opened again, or made from the key, is one of the same key."""
        future = self.pick(index)
        with self.client.as_current():
            copy = pickle.loads(pickle.dumps(future))
        self.hold(copy, self.expected[future.key], [])
        self.hold(Future(future.key, self.client), self.expected[future.key], [])

    # Changing one's mind

    @precondition(lambda self: self.futures)
    @rule(index=PICK)
    def retry(self, index: int) -> None:
        """What fails always fails again; what has not failed is left alone."""
        self.pick(index).retry()

    @precondition(lambda self: self.futures)
    @rule(index=PICK)
    def cancel(self, index: int) -> None:
        """A cancelled key and all that depends on it can be had no more; the rest is as before."""
        gone = {self.pick(index).key}
        todo = list(gone)
        while todo:
            new = self.dependents.pop(todo.pop(), set()) - gone
            gone |= new
            todo += new
        asked = self.pick(index)
        self.client.cancel([asked])
        assert asked.cancelled()
        affected = [future for future in self.futures if future.key in gone]
        self.futures = [future for future in self.futures if future.key not in gone]
        self.cancelled += affected

    @precondition(lambda self: self.futures)
    @rule(index=PICK)
    def let_go(self, index: int) -> None:
        del self.futures[index % len(self.futures)]

    @invariant()
    def cancelled_futures_say_so(self) -> None:
        for future in self.cancelled:
            poll_for(future.cancelled, timeout=PATIENCE)

    def teardown(self) -> None:
        while self.futures:
            self.check(self.futures.pop())
        keys = set(self.expected)
        self.cancelled.clear()
        # the frames of errors that were caught hold futures, in cycles
        gc.collect()
        poll_for(lambda: not keys & set(self.cluster.scheduler.tasks), timeout=PATIENCE)
        self.client.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    checked = {f"distributed.{part}.validate": True for part in ("scheduler", "worker")}
    with (
        dask.config.set(checked),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None, silence_logs=50
        ) as cluster,
    ):
        yield cluster


@pytest.mark.slow
def test_client_gives_what_plain_python_gives(cluster: LocalCluster) -> None:
    ClientModel.cluster = cluster
    run_state_machine_as_test(
        ClientModel,
        settings=settings(
            max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
