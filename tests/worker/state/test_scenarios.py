"""What a worker decides, event by event; the core alone, without loops, threads or sockets."""

from __future__ import annotations

from typing import Any

import pytest

from headrace.messages.worker import (
    AcquireReplicas,
    AddKeys,
    CloseWorker,
    ComputeTask,
    DefineFunction,
    ForgetFunction,
    FreeKeys,
    LongRunning,
    MissingData,
    RefreshWhoHas,
    ReleasedData,
    RemoveReplicas,
    RequestWhoHas,
    RescheduleTask,
    StealAnswer,
    StealRequest,
    TaskExtras,
    TaskFailed,
    TaskFinished,
)
from headrace.worker.state import InvalidTransition, Outbox, WorkerCore, events
from headrace.worker.state.mover import transition

ME, A, B, FAR = "tcp://127.0.0.1:9", "tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://10.0.0.1:1"


def new(**options: Any) -> WorkerCore:
    state = WorkerCore(**{"address": ME, "validate": True, **options})
    state.handle_batch([DefineFunction(1, b"f"), DefineFunction(2, b"g")])
    return state


def compute(key: str, *dependencies: str, **fields: Any) -> ComputeTask:
    holders = fields.pop("who_has", [A])
    sizes = fields.pop("nbytes", 10)
    fields = {"attempt": 1, "priority": (0, 0, 0), "function": 1, "duration": -1.0, "report": False, **fields}
    return ComputeTask(
        key,
        arguments=fields.pop("arguments", b"args"),
        dependencies=list(dependencies),
        who_has=[holders] * len(dependencies),
        nbytes=[sizes] * len(dependencies),
        **fields,
    )


def done(key: str, **fields: Any) -> events.ExecuteDone:
    return events.ExecuteDone(key, **{"nbytes": 8, "type": "int", "start": 1.0, "stop": 2.0, **fields})


def after(state: WorkerCore, *batch: Any) -> Outbox:
    state.handle_batch(batch)
    return state.drain()


def executed(outbox: Outbox) -> list[Any]:
    return [run.key for run in outbox.execute]


def test_a_task_runs_and_is_reported() -> None:
    state = new()
    outbox = after(state, compute("x", attempt=3, report=True))
    run = outbox.execute[0]
    assert (run.key, run.function, run.arguments, run.report, run.dependencies) == ("x", b"f", b"args", True, None)
    outbox = after(state, done("x", result=b"r", thread=5))
    assert outbox.messages == [TaskFinished("x", 3, 8, "int", 1.0, 2.0, b"r", 5)]
    assert state.tasks["x"].state == "memory"
    outbox = after(state, FreeKeys(["x"]))
    assert outbox.free == ["x"]
    assert state.tasks == {}


def test_priorities_decide_what_runs_next() -> None:
    state = new(nthreads=1)
    batch = [compute(key, priority=(0, 0, rank)) for key, rank in [("a", 5), ("b", 4), ("c", 1), ("d", 2)]]
    assert executed(after(state, *batch)) == ["a"]
    assert executed(after(state, done("a"))) == ["c"]
    assert executed(after(state, done("c"))) == ["d"]


def test_what_needs_the_latest_data_is_the_next_of_its_priority() -> None:
    state = new(nthreads=1)
    after(state, *[compute(f"x{i}") for i in range(3)])
    order = ["x0"]
    for _ in range(9):
        current = order[-1]
        stage, number = current[0], current[1]
        batch: list[Any] = [done(current)]
        if stage < "z":  # as the scheduler sends what can run now
            batch.append(compute(f"{chr(ord(stage) + 1)}{number}", current, who_has=[ME]))
        order += executed(after(state, *batch))
    assert order == ["x0", "x1", "y0", "y1", "z0", "z1", "x2", "y2", "z2"]


def test_what_needs_the_same_data_runs_in_the_order_in_which_it_came() -> None:
    state = new(nthreads=1)
    after(state, compute("data"))
    after(state, done("data"))
    order = executed(after(state, *[compute(f"x{i}", "data", who_has=[ME]) for i in range(4)]))
    for _ in range(3):
        order += executed(after(state, done(order[-1])))
    assert order == ["x0", "x1", "x2", "x3"]


@pytest.mark.slow
def test_short_tasks_are_handed_out_ahead() -> None:
    state = new(nthreads=2)
    outbox = after(state, *[compute(f"x{i}", duration=1 / 1024, priority=(0, 0, i)) for i in range(50)])
    assert len(outbox.execute) == 20  # 10 ms of work for each thread
    state = new(nthreads=2)
    assert len(after(state, *[compute(f"x{i}", duration=0.0) for i in range(500)]).execute) == 128
    for duration in (-1.0, 0.5):
        state = new(nthreads=2)
        assert len(after(state, *[compute(f"x{i}", duration=duration) for i in range(50)]).execute) == 2


def test_a_long_task_in_front_is_not_overtaken() -> None:
    state = new(nthreads=1)
    after(state, compute("running"))
    outbox = after(
        state, compute("long", priority=(0, 0, 1), duration=1.0), compute("short", priority=(0, 0, 2), duration=0.0)
    )
    assert outbox.execute == []
    assert executed(after(state, done("running"))) == ["long"]


def test_durations_are_learned_where_the_scheduler_knows_none() -> None:
    state = new(nthreads=1)
    after(state, compute("x0"), *[compute(f"x{i}") for i in range(1, 9)])
    assert len(after(state, done("x0", stop=1.0001)).execute) == 8
    after(state, ForgetFunction(1))
    assert state.learned == {}


def test_what_has_not_started_is_taken_back() -> None:
    state = new(nthreads=1)
    after(state, *[compute(key, duration=0.0) for key in "xyz"])
    outbox = after(state, FreeKeys(["x", "y"]))
    assert [task.key for task in outbox.recall] == ["x", "y"]
    assert {state.tasks[key].state for key in "xy"} == {"cancelled"}
    after(state, events.ExecuteRecalled("x", False), events.ExecuteRecalled("y", True))
    assert state.tasks["x"].state == "cancelled"
    assert "y" not in state.tasks
    assert after(state, done("x")).free == ["x"]
    assert list(state.tasks) == ["z"]


def test_the_same_task_again_while_cancelled_takes_the_run_that_goes_on() -> None:
    state = new()
    after(state, compute("x"), FreeKeys(["x"]))
    outbox = after(state, compute("x", attempt=2))
    assert outbox.execute == []
    assert state.tasks["x"].state == "executing"
    assert after(state, done("x")).messages[0].attempt == 2


def test_another_call_under_the_same_key_runs_by_itself() -> None:
    state = new()
    after(state, compute("x"), FreeKeys(["x"]))
    assert after(state, compute("x", attempt=2, function=2)).execute == []
    assert state.tasks["x"].state == "resumed"
    outbox = after(state, done("x"))
    assert outbox.free == ["x"]
    assert outbox.messages == []
    assert outbox.execute[0].function == b"g"
    assert after(state, done("x")).messages[0].attempt == 2


def test_failures() -> None:
    state = new()
    after(state, compute("x"))
    outbox = after(state, events.ExecuteFailed("x", b"e", b"t", "e", "t", 1.0, 2.0))
    assert outbox.messages == [TaskFailed("x", 1, b"e", b"t", "e", "t", 1.0, 2.0)]
    assert state.tasks["x"].state == "error"
    assert executed(after(state, compute("x", attempt=2))) == ["x"]
    outbox = after(state, events.ExecuteRescheduled("x"))
    assert outbox.messages == [RescheduleTask("x", 2)]
    assert state.tasks == {}


def test_seceding_frees_the_slot_once() -> None:
    state = new(nthreads=1)
    after(state, compute("x"), compute("y"))
    outbox = after(state, events.ExecuteSeceded("x", 0.5))
    assert outbox.messages == [LongRunning("x", 1, 0.5)]
    assert executed(outbox) == ["y"]
    after(state, done("x"), done("y"))
    assert not state.executing
    assert not state.long_running


def test_resources() -> None:
    state = new(nthreads=9, resources={"GPU": 2, "MEM": 10})
    two, one = TaskExtras({"GPU": 2.0}), TaskExtras({"GPU": 1.0, "MEM": 1.0})
    assert executed(after(state, compute("a", extras=one), compute("b", extras=two), compute("c", extras=one))) == [
        "a",
        "c",
    ]
    assert executed(after(state, done("a"))) == []
    assert executed(after(state, done("c"))) == ["b"]
    assert state.available_resources == {"GPU": 0, "MEM": 10}
    outbox = after(state, compute("d", extras=one), events.SetResources({"GPU": 3}))
    assert executed(outbox) == ["d"]


def test_data_are_fetched_and_then_used() -> None:
    state = new()
    outbox = after(state, compute("y", "x", "w"))
    assert [(request.worker, sorted(request.keys)) for request in outbox.gather] == [(A, ["w", "x"])]
    assert state.tasks["y"].state == "waiting"
    outbox = after(state, events.GatherDone(A, {"x": 5, "w": 6}))
    assert sorted(outbox.messages[0].keys) == ["w", "x"]
    assert isinstance(outbox.messages[0], AddKeys)
    assert executed(outbox) == ["y"]
    assert sorted(outbox.execute[0].dependencies or []) == ["w", "x"]
    assert state.nbytes == 11


def test_batches_stay_within_the_limits() -> None:
    state = new(message_bytes_limit=25, outgoing_limit=1)
    outbox = after(state, compute("y", "a", "b", "c"), compute("z", "d", who_has=[B]))
    assert [len(request.keys) for request in outbox.gather] == [2]
    first = outbox.gather[0]
    outbox = after(state, events.GatherDone(A, dict.fromkeys(first.keys, 10)))
    assert len(outbox.gather) == 1
    state = new(incoming_bytes_limit=15)
    assert len(after(state, compute("y", "a"), compute("z", "d", who_has=[B])).gather) == 1


def test_near_holders_are_preferred_and_equal_ones_shared() -> None:
    assert after(new(), compute("y", "x", who_has=[FAR, A])).gather[0].worker == A
    chosen = {after(new(seed=seed), compute("y", "x", who_has=[A, B])).gather[0].worker for seed in range(4)}
    assert chosen == {A, B}


def test_a_busy_peer_is_passed_over_for_a_while() -> None:
    state = new()
    after(state, compute("y", "x", who_has=[A]))
    outbox = after(state, events.GatherBusy(A))
    assert outbox.retry_later == [A]
    assert outbox.gather == []
    outbox = after(state, RefreshWhoHas(["x"], [[A, FAR]], [10]))
    assert outbox.gather[0].worker == FAR
    outbox = after(state, events.GatherBusy(FAR), events.BusyOver(A))
    assert outbox.gather[0].worker == A


def test_data_that_are_not_there_are_asked_for() -> None:
    state = new()
    after(state, compute("y", "x", who_has=[A, FAR]))
    outbox = after(state, events.GatherDone(A, {}))
    assert outbox.messages == [MissingData("x", A)]
    assert outbox.gather[0].worker == FAR
    outbox = after(state, events.GatherFailed(FAR))
    assert state.tasks["x"].state == "missing"
    assert outbox.messages == []  # a second failure: not at once
    assert after(state, events.FindMissing()).messages == [RequestWhoHas(["x"])]
    assert after(state, RefreshWhoHas(["x"], [[]], [10])).gather == []
    assert after(state, RefreshWhoHas(["x"], [[B]], [10])).gather[0].worker == B


def test_data_that_nobody_needs_any_more_are_dropped_as_they_come() -> None:
    state = new()
    after(state, compute("y", "x"))
    after(state, FreeKeys(["y"]))
    assert state.tasks["x"].state == "cancelled"
    outbox = after(state, events.GatherDone(A, {"x": 5}))
    assert outbox.free == ["x"]
    assert outbox.messages == []
    assert state.tasks == {}


def test_needed_again_while_still_on_its_way() -> None:
    state = new()
    after(state, compute("y", "x"), FreeKeys(["y"]))
    outbox = after(state, compute("z", "x"))
    assert outbox.gather == []
    assert executed(after(state, events.GatherDone(A, {"x": 5}))) == ["z"]


def test_asked_to_compute_what_is_on_its_way() -> None:
    for event, runs in [(events.GatherDone(A, {"x": 5}), ["y"]), (events.GatherFailed(A), ["x"])]:
        state = new()
        after(state, compute("y", "x"))
        after(state, compute("x", attempt=4))
        assert state.tasks["x"].state == "resumed"
        outbox = after(state, event)
        assert executed(outbox) == runs
        if runs == ["y"]:
            assert [type(message) for message in outbox.messages] == [TaskFinished]
            assert outbox.messages[0].attempt == 4


def test_a_cancelled_run_whose_result_is_needed_as_data() -> None:
    state = new(nthreads=2)
    after(state, compute("x"), FreeKeys(["x"]))
    after(state, events.ExecuteRecalled("x", False))
    after(state, compute("y", "x", who_has=[A]))
    assert state.tasks["x"].state == "resumed"
    outbox = after(state, done("x"))
    assert outbox.messages == [AddKeys(["x"])]
    assert executed(outbox) == ["y"]
    state = new(nthreads=2)
    after(state, compute("x"), FreeKeys(["x"]), compute("y", "x", who_has=[A]))
    assert after(state, events.ExecuteFailed("x", b"", b"", "", "")).gather[0].keys == ["x"]


def test_values_that_cannot_be_opened_fail_what_waits_for_them() -> None:
    state = new()
    after(state, compute("y", "x", attempt=2))
    failure = events.ExecuteFailed("x", b"e", b"t", "e", "t")
    outbox = after(state, events.GatherDone(A, {}, {"x": failure}))
    assert outbox.messages == [TaskFailed("y", 2, b"e", b"t", "e", "t", 0.0, 0.0)]
    assert list(state.tasks) == ["y"]


def test_stealing() -> None:
    state = new(nthreads=1, validate=True)
    after(state, compute("running"), compute("ready"), compute("waiting", "data"))
    outbox = after(state, *[StealRequest(key, 1) for key in ("running", "ready", "waiting", "absent")])
    assert [(answer.key, answer.state) for answer in outbox.messages] == [
        ("ready", "ready"),
        ("waiting", "waiting"),
        ("absent", "released"),
    ]
    outbox = after(state, events.ExecuteRecalled("running", False))
    assert outbox.messages == [StealAnswer("running", 1, "executing")]
    assert set(state.tasks) == {"running", "data"}
    assert state.tasks["data"].state == "cancelled"
    after(state, StealRequest("running", 1))
    assert after(state, events.ExecuteRecalled("running", True)).messages == [StealAnswer("running", 1, "ready")]


def test_replicas() -> None:
    state = new()
    outbox = after(state, AcquireReplicas(["x", "nowhere"], [[A], []], [5, 5]))
    assert outbox.gather[0].keys == ["x"]
    assert "nowhere" not in state.tasks
    assert after(state, events.GatherDone(A, {"x": 5})).messages == [AddKeys(["x"])]
    assert after(state, AcquireReplicas(["x"], [[A]], [5])).messages == [AddKeys(["x"])]
    after(state, compute("y", "x"))
    assert after(state, RemoveReplicas(["x"])).messages == [ReleasedData("x"), AddKeys(["x"])]
    after(state, done("y"))
    outbox = after(state, RemoveReplicas(["x"]))
    assert (outbox.free, outbox.messages) == (["x"], [ReleasedData("x")])


def test_data_lost_under_a_task_that_is_about_to_run() -> None:
    state = new(nthreads=1)
    after(state, events.DataStored({"x": 5}), compute("running"), compute("y", "x", who_has=[A]))
    assert state.tasks["y"].state == "ready"
    outbox = after(state, FreeKeys(["x"]))
    assert state.tasks["y"].state == "waiting"
    assert outbox.free == ["x"]
    assert outbox.messages == [ReleasedData("x"), RequestWhoHas(["x"])]


def test_pausing() -> None:
    state = new(nthreads=1)
    after(state, events.Pause())
    assert after(state, compute("x")).execute == []
    assert executed(after(state, events.Unpause())) == ["x"]
    after(state, CloseWorker("enough"), compute("y"))
    assert state.close_requested == "enough"


def test_messages_that_cannot_be_meant() -> None:
    state = new()
    with pytest.raises(ValueError, match="function 7, which was not defined"):
        state.handle(compute("x", function=7))
    bad = compute("x", "y")
    bad.nbytes = []
    with pytest.raises(ValueError, match="unequal length"):
        state.handle(bad)


def test_an_impossible_transition_tells_the_story() -> None:
    state = new()
    after(state, compute("x"))
    with pytest.raises(InvalidTransition, match=r"'x' cannot go from executing to fetch[\s\S]*released"):
        transition(state, state.tasks["x"], "fetch")


def test_many_cancelled_tasks_do_not_pile_up_in_the_queue() -> None:
    state = new(nthreads=1, validate=False)
    after(state, compute("running"))
    for turn in range(10):
        keys = [f"x-{turn}-{i}" for i in range(300)]
        after(state, *[compute(key) for key in keys])
        after(state, FreeKeys(keys))
    assert len(state.ready) < 1000
    assert list(state.tasks) == ["running"]


# A connection to the scheduler that breaks


def test_without_a_scheduler_what_runs_goes_on_and_the_rest_is_forgotten() -> None:
    state = new(nthreads=1)
    after(state, compute("x"), compute("y"), compute("z", "d"), done("x"))
    assert {key: task.state for key, task in state.tasks.items()} == {
        "x": "memory", "y": "executing", "z": "waiting", "d": "flight"
    }  # fmt: skip
    outbox = after(state, events.SchedulerLost())
    assert [task.key for task in outbox.recall] == ["y"]
    assert {key: task.state for key, task in state.tasks.items()} == {"x": "memory", "y": "executing", "d": "cancelled"}
    after(state, events.ExecuteRecalled("y", False), events.GatherDone(A, {"d": 5}))
    outbox = after(state, done("y"))
    assert {key: task.state for key, task in state.tasks.items()} == {"x": "memory", "y": "memory"}


def test_without_a_scheduler_what_no_thread_has_taken_is_taken_back() -> None:
    state = new(nthreads=1)
    after(state, compute("x", duration=0.0001), compute("y", duration=0.0001))
    assert {task.state for task in state.tasks.values()} == {"executing"}
    outbox = after(state, events.SchedulerLost())
    assert [task.key for task in outbox.recall] == ["x", "y"]
    after(state, events.ExecuteRecalled("x", False), events.ExecuteRecalled("y", True))
    assert list(state.tasks) == ["x"]
    # the number of a function means what the new connection says
    outbox = after(state, DefineFunction(1, b"h"), compute("y", attempt=7))
    assert [run.function for run in after(state, done("x")).execute or outbox.execute] == [b"h"]
