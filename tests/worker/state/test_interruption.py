"""The pure worker: which runs are interrupted, and what their end means."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.messages.worker import ComputeTask, DefineFunction, FreeKeys, InterruptTasks, TaskFailed, TaskFinished
from headrace.worker.state import WorkerCore, events


def compute(key: str, attempt: int, arguments: bytes = b"()") -> ComputeTask:
    return ComputeTask(key, attempt, (0, 0, attempt), 1, arguments, -1.0, False)


def failed(key: str) -> events.ExecuteFailed:
    return events.ExecuteFailed(key, b"e", b"t", "interrupted", "line 1")


@pytest.fixture
def state() -> WorkerCore:
    state = WorkerCore(address="tcp://127.0.0.1:1", nthreads=1, validate=True)
    state.handle_batch([DefineFunction(1, b"f"), compute("x", 1)])
    state.drain()
    return state


def messages(state: WorkerCore) -> list[Any]:
    return state.drain().messages


def test_what_was_called_off_is_interrupted(state: WorkerCore) -> None:
    state.handle_batch([FreeKeys(["x"]), InterruptTasks(["x"])])
    outbox = state.drain()
    assert outbox.interrupt == [("x", False)]
    assert [task.key for task in outbox.recall] == ["x"]
    state.handle(failed("x"))
    assert not state.tasks
    assert not state.interrupted
    assert messages(state) == []


def test_what_runs_for_somebody_is_not(state: WorkerCore) -> None:
    state.handle(InterruptTasks(["x", "unknown"], True))
    assert not state.drain().interrupt
    assert state.tasks["x"].state == "executing"


def test_an_interrupted_run_is_not_taken_for_that_of_a_new_request(state: WorkerCore) -> None:
    state.handle_batch([FreeKeys(["x"]), InterruptTasks(["x"]), compute("x", 2)])
    assert state.tasks["x"].state == "resumed"
    assert not state.drain().execute
    state.handle(failed("x"))
    assert [run.key for run in state.drain().execute] == ["x"]
    state.handle(events.ExecuteDone("x", 8, "int", 0.0, 1.0))
    (message,) = messages(state)
    assert isinstance(message, TaskFinished)
    assert message.attempt == 2


def test_without_interruption_it_is(state: WorkerCore) -> None:
    state.handle_batch([FreeKeys(["x"]), compute("x", 2)])
    assert state.tasks["x"].state == "executing"
    state.handle(failed("x"))
    (message,) = messages(state)
    assert isinstance(message, TaskFailed)
    assert message.attempt == 2


def test_one_that_ends_before_the_interruption_strikes(state: WorkerCore) -> None:
    state.handle_batch([FreeKeys(["x"]), InterruptTasks(["x"])])
    state.drain()
    state.handle(events.ExecuteDone("x", 8, "int", 0.0, 1.0))
    assert state.drain().free == ["x"]
    assert not state.tasks
    assert not state.interrupted


def test_one_that_had_not_started(state: WorkerCore) -> None:
    state.handle_batch([FreeKeys(["x"]), InterruptTasks(["x"]), events.ExecuteRecalled("x", True)])
    assert not state.tasks
    assert not state.interrupted


def test_one_that_has_seceded(state: WorkerCore) -> None:
    state.handle_batch([events.ExecuteSeceded("x", 1.0), FreeKeys(["x"]), InterruptTasks(["x"], True)])
    assert state.drain().interrupt == [("x", True)]
    state.handle(failed("x"))
    assert not state.tasks


def test_whether_a_failure_is_retried_is_passed_on(state: WorkerCore) -> None:
    failure = failed("x")
    failure.retry = False
    state.handle(failure)
    (message,) = messages(state)
    assert message.retry is False
