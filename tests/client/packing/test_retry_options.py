"""Retry policies and limits as users write them, and what they say of one failure. Pure."""

from __future__ import annotations

import functools
import pickle
import time
from datetime import timedelta
from typing import Any

import dask
import pytest

import distributed
import headrace
from headrace import Retry
from headrace.client.packing.retry_options import takes_timeout
from headrace.client.packing.task_options import make_options
from headrace.common.retry_policy import (
    matches,
    policy_of,
    problem_of_policy,
    seconds_before,
)
from headrace.exceptions import TaskCancelled, TaskTimeout


def test_names_are_public() -> None:
    assert headrace.TaskTimeout is TaskTimeout is distributed.TaskTimeout
    assert headrace.TaskCancelled is TaskCancelled is distributed.TaskCancelled
    assert distributed.Retry is Retry
    assert issubclass(TaskTimeout, TimeoutError)
    assert not issubclass(TaskCancelled, Exception)


def test_a_timeout_names_task_limit_and_worker() -> None:
    error = TaskTimeout("x-1", 30.0, "tcp://127.0.0.1:1")
    text = str(error)
    assert "'x-1'" in text
    assert "30 s" in text
    assert "tcp://127.0.0.1:1" in text
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is TaskTimeout
    assert (copy.task, copy.timeout, copy.worker) == ("x-1", 30.0, "tcp://127.0.0.1:1")
    assert error.errno is None


@pytest.mark.parametrize("error", [TaskTimeout("x-1", 30.0, "here"), TaskCancelled("x-1")])
def test_what_is_raised_in_a_thread_says_the_same(error: BaseException) -> None:
    from headrace.worker.execution.interrupts import _raised_as

    with pytest.raises(type(error)) as caught:
        raise _raised_as(error)  # as the interpreter does it
    assert str(caught.value) == str(error)
    assert type(pickle.loads(pickle.dumps(caught.value))) is type(error)


def test_delays_grow_up_to_the_maximum() -> None:
    policy = Retry(9, delay="500ms", backoff=3, maximum_delay=10, jitter=0).to_dict()
    assert [seconds_before(policy, attempt, "x") for attempt in (1, 2, 3, 4, 5)] == [0.5, 1.5, 4.5, 10, 10]
    endless = Retry(9, backoff=1e300, maximum_delay=None).to_dict()
    assert seconds_before(endless, 9, "x") < 10**9


def test_jitter_is_bounded_differs_by_task_and_is_the_same_again() -> None:
    policy = Retry(3, delay=10, backoff=1, jitter=0.2).to_dict()
    drawn = [seconds_before(policy, 1, f"x-{number}") for number in range(100)]
    assert len(set(drawn)) == 100
    assert all(8 <= seconds <= 12 for seconds in drawn)
    assert drawn[3] == seconds_before(policy, 1, "x-3")
    assert drawn[3] != seconds_before(policy, 2, "x-3")


class MyError(OSError):
    pass


@pytest.mark.parametrize(
    ("on", "error", "retried"),
    [
        ((), KeyError("x"), True),
        (ConnectionError, ConnectionResetError("x"), True),
        (ConnectionError, KeyError("x"), False),
        ((KeyError, OSError), MyError("x"), True),
        (MyError, OSError("x"), False),
        ("OSError", MyError("x"), True),
        (["builtins.KeyError"], KeyError("x"), True),
        (TimeoutError, TaskTimeout("x", 1.0, "a"), True),
    ],
)
def test_which_exceptions_are_tried_again(on: Any, error: BaseException, retried: bool) -> None:
    assert matches(Retry(1, on=on).to_dict(), error) is retried


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": -1}, "count"),
        ({"count": 1.5}, "count"),
        ({"count": True}, "count"),
        ({"count": 1, "delay": "soon"}, "delay"),
        ({"count": 1, "delay": -1}, "delay"),
        ({"count": 1, "delay": None}, "delay"),
        ({"count": 1, "maximum_delay": "x"}, "maximum_delay"),
        ({"count": 1, "backoff": "2"}, "backoff"),
        ({"count": 1, "backoff": float("nan")}, "backoff"),
        ({"count": 1, "jitter": 2}, "jitter"),
        ({"count": 1, "on": 5}, "on must be exception classes"),
        ({"count": 1, "on": ValueError("x")}, r"on must be exception classes, .*not ValueError\('x'\)"),
        ({"count": 1, "on": None}, "on must be exception classes"),
        ({"count": 1, "on": int}, "exception classes"),
    ],
)
def test_bad_policies_are_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Retry(**arguments)


def test_policies_travel_as_plain_values_and_come_back() -> None:
    policy = Retry(5, delay=timedelta(seconds=2), on=(OSError, "mine.Error"))
    assert Retry.of(policy.to_dict()) == policy
    assert Retry.of(policy) is policy
    assert hash(policy) == hash(Retry.of(policy.to_dict()))
    assert "count=5" in repr(policy)
    assert problem_of_policy(policy.to_dict()) is None
    with pytest.raises(TypeError, match="no retry policy"):
        Retry.of({"count": 1, "tries": 2})


@pytest.mark.parametrize("name", ["count", "delay", "backoff", "jitter", "maximum_delay"])
def test_what_a_stranger_sends_for_a_policy_is_checked(name: str) -> None:
    assert name in str(problem_of_policy({**Retry(1).to_dict(), name: "x"}))


def test_options_carry_policy_and_limit() -> None:
    options = make_options({}, retries=Retry(4, delay=1), timeout="2s")
    assert options.retries == 4
    policy = policy_of(options.annotations)
    assert policy is not None
    assert policy["delay"] == 1.0
    assert options.annotations["timeout"] == 2.0
    same = make_options({"retries": {"count": 4, "delay": "1s"}, "timeout": timedelta(seconds=2)})
    assert same == options
    assert policy_of(make_options({}, retries=3).annotations) is None


@pytest.mark.parametrize("timeout", [0, -1, "later", "0s", True, []])
def test_a_bad_limit_is_refused(timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="a task's timeout"):
        make_options({"timeout": timeout})


def test_annotations_may_differ_by_key() -> None:
    from headrace.client.packing.task_options import OptionTable

    with dask.annotate(retries=lambda key: Retry(2 if key == "x" else 0)):
        table = OptionTable({}, dask.get_annotations(), {})
    assert table.options[table.position("x")].retries == 2
    assert table.options[table.position("y")].retries == 0


def plain(x: Any) -> None: ...
def named(x: Any, timeout: float = 1) -> None: ...
def with_keywords(x: Any, **kwargs: Any) -> None: ...
def positional(timeout: float, /) -> None: ...


class Called:
    def __init__(self, timeout: float) -> None: ...
    def __call__(self, x: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "takes"),
    [
        (plain, False),
        (named, True),
        (with_keywords, True),
        (positional, False),
        (Called, True),
        (Called(1), False),
        (functools.partial(named, 1), True),
        (functools.partial(plain, 1), False),
        (time.sleep, False),
        (len, False),
    ],
)
def test_functions_that_take_a_timeout_keep_theirs(function: Any, takes: bool) -> None:
    assert takes_timeout(function) is takes
