"""`distributed.worker_state_machine`: documented events in, documented instructions out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from distributed.utils_test import ws, ws_with_running_task  # noqa: F401
from distributed.worker import Worker
from distributed.worker_state_machine import (
    AcquireReplicasEvent,
    AddKeysMsg,
    BaseWorker,
    CancelComputeEvent,
    ComputeTaskEvent,
    Execute,
    ExecuteFailureEvent,
    ExecuteSuccessEvent,
    FindMissingEvent,
    FreeKeysEvent,
    GatherDep,
    GatherDepBusyEvent,
    GatherDepFailureEvent,
    GatherDepNetworkFailureEvent,
    GatherDepSuccessEvent,
    InvalidTaskState,
    InvalidTransition,
    LongRunningMsg,
    PauseEvent,
    RecommendationsConflict,
    RefreshWhoHasEvent,
    ReleaseWorkerDataMsg,
    RemoveReplicasEvent,
    RemoveWorkerEvent,
    RequestRefreshWhoHasMsg,
    RescheduleEvent,
    RescheduleMsg,
    RetryBusyWorkerEvent,
    RetryBusyWorkerLater,
    SecedeEvent,
    StateMachineEvent,
    StealRequestEvent,
    StealResponseMsg,
    TaskCounter,
    TaskErredMsg,
    TaskFinishedMsg,
    TaskState,
    TransitionCounterMaxExceeded,
    UnpauseEvent,
    UpdateDataEvent,
    WorkerState,
    merge_recs_instructions,
)

PEER = "127.0.0.1:2"


def test_a_task_with_a_dependency(ws: WorkerState) -> None:  # noqa: F811
    compute = ComputeTaskEvent.dummy("x", who_has={"y": [PEER]}, nbytes={"y": 5}, stimulus_id="s1")
    assert ws.handle_stimulus(compute) == [GatherDep("s1", PEER, {"y"}, 5)]
    assert {key: task.state for key, task in ws.tasks.items()} == {"x": "waiting", "y": "flight"}
    assert (ws.in_flight_tasks_count, ws.fetch_count) == (1, 0)
    found = ws.handle_stimulus(GatherDepSuccessEvent("s2", PEER, 5, {"y": 1}))
    assert found == [AddKeysMsg.match(keys=["y"]), Execute("s2", "x")]
    found = ws.handle_stimulus(ExecuteSuccessEvent.dummy("x", 2, stimulus_id="s3"))
    assert found == [TaskFinishedMsg.match(key="x", typename="int", nbytes=1, stimulus_id="s3")]
    assert found[0].to_dict()["op"] == "task-finished"  # type: ignore[attr-defined]
    assert ws.data == {"x": 2, "y": 1}
    ws.validate_task(ws.tasks["x"])
    assert ws.task_counter.current_count(by_prefix=False)["memory"] == 2
    assert [event.stimulus_id for event in ws.stimulus_story("x")] == ["s1", "s3"]
    ws.handle_stimulus(FreeKeysEvent("s4", ["x", "y"]))
    assert ws.data == {}
    assert ws.tasks == {}


def test_how_requests_to_peers_end(ws: WorkerState) -> None:  # noqa: F811
    ws.handle_stimulus(ComputeTaskEvent.dummy("x", who_has={"y": [PEER]}, stimulus_id="s1"))
    assert RetryBusyWorkerLater("s2", PEER) in ws.handle_stimulus(GatherDepBusyEvent("s2", PEER, 1))
    assert ws.handle_stimulus(RetryBusyWorkerEvent("s3", PEER)) == [GatherDep.match(worker=PEER)]
    found = ws.handle_stimulus(GatherDepNetworkFailureEvent("s4", PEER, 1))
    assert ws.tasks["y"].state == "missing"
    assert all(type(each) is RequestRefreshWhoHasMsg for each in found)
    assert ws.handle_stimulus(FindMissingEvent("s5")) == [RequestRefreshWhoHasMsg("s5", ["y"])]
    assert ws.handle_stimulus(RefreshWhoHasEvent("s6", {"y": [PEER]})) == [GatherDep.match(worker=PEER)]
    failure = GatherDepFailureEvent.from_exception(ValueError("broken"), worker=PEER, total_nbytes=1, stimulus_id="s7")
    assert ws.handle_stimulus(failure)[0] == TaskErredMsg.match(key="x", exception_text="ValueError('broken')")


def test_a_peer_that_is_gone_is_asked_for_nothing() -> None:
    ws = WorkerState(address="127.0.0.1:1", transfer_incoming_count_limit=0)  # noqa: F811
    ws.handle_stimulus(ComputeTaskEvent.dummy("x", who_has={"y": [PEER, "127.0.0.1:3"]}, stimulus_id="s1"))
    ws.handle_stimulus(RemoveWorkerEvent("s2", PEER))
    assert ws.tasks["y"].who_has == {"127.0.0.1:3"}
    ws.handle_stimulus(RemoveWorkerEvent("s3", "127.0.0.1:9"))


def test_how_tasks_end(ws_with_running_task: WorkerState) -> None:  # noqa: F811
    ws = ws_with_running_task  # noqa: F811
    seceded = ws.tasks["x"].state == "long-running"
    found = ws.handle_stimulus(SecedeEvent("s1", "x", 1.0))
    assert found == ([] if seceded else [LongRunningMsg.match(key="x", compute_duration=1.0)])
    assert ws.handle_stimulus(StealRequestEvent("s2", "x")) == [StealResponseMsg("s2", "x", "long-running")]
    assert ws.handle_stimulus(StealRequestEvent("s2", "z")) == [StealResponseMsg.match(key="z")]
    failed = ExecuteFailureEvent.from_exception(KeyError("k"), key="x", run_id=1, stimulus_id="s3")
    found = ws.handle_stimulus(failed)
    assert found == [TaskErredMsg.match(key="x", run_id=1)]
    assert TaskErredMsg.from_task(ws.tasks["x"], 1, "s").exception_text == "KeyError('k')"
    ws.handle_stimulus(FreeKeysEvent("s4", ["x"]))
    ws.handle_stimulus(ComputeTaskEvent.dummy("z", stimulus_id="s5"))
    assert ws.handle_stimulus(RescheduleEvent.dummy("z", stimulus_id="s6"))[0] == RescheduleMsg.match(key="z")


def test_pausing_cancelling_and_copies(ws: WorkerState) -> None:  # noqa: F811
    ws.handle_stimulus(PauseEvent("s1"))
    assert ws.handle_stimulus(ComputeTaskEvent.dummy("x", stimulus_id="s2")) == []
    ws.handle_stimulus(CancelComputeEvent("s3", "x"))
    assert "x" not in ws.tasks
    ws.handle_stimulus(CancelComputeEvent("s3", "x"))
    assert ws.handle_stimulus(UnpauseEvent("s4"), ComputeTaskEvent.dummy("x", stimulus_id="s5")) == [Execute("s5", "x")]
    ws.handle_stimulus(UpdateDataEvent("s6", {"d": 5}))
    assert ws.data == {"d": 5}
    assert ws.handle_stimulus(AcquireReplicasEvent("s7", {"e": [PEER]}, {"e": 1})) == [GatherDep.match(to_gather={"e"})]
    ws.handle_stimulus(GatherDepSuccessEvent("s8", PEER, 1, {"e": 6}))
    found = ws.handle_stimulus(RemoveReplicasEvent("s9", ["e"]))
    assert found == [ReleaseWorkerDataMsg("s9", "e")]
    assert ws.data == {"d": 5}
    assert ws.actors == {}
    assert ws.generation > 0
    with pytest.raises(TypeError, match="knows no event"):
        ws.handle_stimulus(StateMachineEvent("s"))


def test_events_are_kept_without_what_is_large() -> None:
    event = ExecuteSuccessEvent.dummy("x", "large", stimulus_id="s")
    kept = event.to_loggable(handled=5.0)
    assert (kept.handled, kept.value, event.value) == (5.0, None, "large")  # type: ignore[attr-defined]
    assert UpdateDataEvent("s", {"d": 1}).to_loggable(handled=1.0).data == {"d": None}  # type: ignore[attr-defined]
    again = StateMachineEvent.from_dict({"cls": "SecedeEvent", "stimulus_id": "s", "key": "x", "compute_duration": 2.0})
    assert again == SecedeEvent("s", "x", 2.0)
    message = {"exception": b"e", "traceback": None, "exception_text": "E", "traceback_text": ""}
    failure = ExecuteFailureEvent.from_exception(message, key="x", run_id=1, stimulus_id="s")
    assert (failure.exception, failure.exception_text) == (b"e", "E")
    assert ExecuteFailureEvent.dummy("x", stimulus_id="s").run_id == 1
    assert AddKeysMsg("s", ["x"]).to_dict() == {"op": "add-keys", "stimulus_id": "s", "keys": ["x"]}
    assert repr(Execute.match(key="x")) == "Execute(key='x', …)"


def test_merging_and_errors() -> None:
    x, y = TaskState("x"), TaskState("y")
    merged = merge_recs_instructions(({x: "fetch"}, [Execute("s", "x")]), ({y: "memory"}, []), ({x: "fetch"}, []))
    assert merged == ({x: "fetch", y: "memory"}, [Execute("s", "x")])
    with pytest.raises(RecommendationsConflict):
        merge_recs_instructions(({x: "fetch"}, []), ({x: "memory"}, []))
    error = InvalidTaskState("x", "memory", [("x", "s", 1.0)])
    assert error.to_event()[0] == "invalid-worker-task-state"
    assert "contradicts" in str(error)
    error_ = InvalidTransition("x", "a", "b", [])
    assert error_.to_event()[1]["finish"] == "b"
    ws = WorkerState(transition_counter_max=1)  # noqa: F811
    with pytest.raises(TransitionCounterMaxExceeded, match="more transitions"):
        ws.handle_stimulus(ComputeTaskEvent.dummy("x", stimulus_id="s"))


def test_counts_of_tasks() -> None:
    counter, task = TaskCounter(), TaskState("x-1")
    counter.new_task(task)
    task.state = "memory"
    counter.transitions({task: "released"})
    assert counter.current_count() == {("x", "memory"): 1}
    assert counter.cumulative_elapsed(by_prefix=False)["memory"] > 0
    task.state = "forgotten"
    counter.transitions({task: "memory"})
    assert not counter.current_count()


class Echo(BaseWorker):
    """Runs nothing and fetches everything."""

    def __init__(self, state: WorkerState) -> None:
        super().__init__(state)
        self.sent: list[dict[str, Any]] = []
        self.done = asyncio.Event()

    def batched_send(self, msg: dict[str, Any]) -> None:
        self.sent.append(msg)
        if msg["op"] == "task-finished":
            self.done.set()

    async def gather_dep(
        self, worker: str, to_gather: Collection[Any], total_nbytes: int, *, stimulus_id: str
    ) -> StateMachineEvent:
        if not self.sent:
            self.sent.append({"op": "busy"})
            return GatherDepBusyEvent(stimulus_id, worker, total_nbytes)
        return GatherDepSuccessEvent(stimulus_id, worker, total_nbytes, dict.fromkeys(to_gather))

    async def execute(self, key: Any, *, stimulus_id: str) -> StateMachineEvent:
        return ExecuteSuccessEvent.dummy(key, stimulus_id=stimulus_id)

    async def retry_busy_worker_later(self, worker: str) -> StateMachineEvent:
        return RetryBusyWorkerEvent("again", worker)

    def digest_metric(self, name: Any, value: float) -> None:
        pass


async def test_a_shell_of_ones_own() -> None:
    worker = Echo(WorkerState(address="127.0.0.1:1"))
    worker.handle_stimulus(ComputeTaskEvent.dummy("x", who_has={"y": [PEER]}, stimulus_id="s"))
    await asyncio.wait_for(worker.done.wait(), 10)
    assert worker.state.tasks["x"].state == "memory"
    await worker.close()
    assert issubclass(Worker, BaseWorker)
