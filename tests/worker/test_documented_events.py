"""`Worker.handle_stimulus`: every documented event is taken by a live worker, or refused with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import MISSING, fields
from typing import Any, NamedTuple

import pytest
from dask._task_spec import Task, TaskRef

from distributed.worker_state_machine import (
    AcquireReplicasEvent,
    CancelComputeEvent,
    ComputeTaskEvent,
    ExecuteDoneEvent,
    ExecuteFailureEvent,
    ExecuteSuccessEvent,
    FindMissingEvent,
    FreeKeysEvent,
    GatherDepBusyEvent,
    GatherDepDoneEvent,
    GatherDepFailureEvent,
    GatherDepNetworkFailureEvent,
    GatherDepSuccessEvent,
    PauseEvent,
    RefreshWhoHasEvent,
    RemoveReplicasEvent,
    RemoveWorkerEvent,
    RescheduleEvent,
    RetryBusyWorkerEvent,
    SecedeEvent,
    StateMachineEvent,
    StealRequestEvent,
    UnpauseEvent,
    UpdateDataEvent,
)
from headrace import Client, Event, Scheduler, Worker, wait
from headrace.common.status import Status
from headrace.testing.helpers.polling import async_poll_for

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


class Served(NamedTuple):
    scheduler: Scheduler
    worker: Worker
    other: Worker
    client: Client


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """A worker that lives, and in the end still serves."""
    async with (
        asyncio.timeout(20),
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1, validate=True) as worker,
        Worker(scheduler.address, nthreads=1, validate=True) as other,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        yield Served(scheduler, worker, other, client)
        assert worker.status is Status.running
        assert await client.submit(sum, [1, 2], workers=[worker.address], pure=False) == 3
        assert set(scheduler.workers) == {worker.address, other.address}


PEER = "tcp://127.0.0.1:1"
NEEDS_NOTHING = ComputeTaskEvent.dummy("unknown", stimulus_id="s")
TAKEN: list[StateMachineEvent] = [
    RetryBusyWorkerEvent("s", PEER),
    RemoveWorkerEvent("s", PEER),
    NEEDS_NOTHING,
    ComputeTaskEvent.dummy(("unknown", 1), who_has={"elsewhere": [PEER]}, stimulus_id="s"),
    CancelComputeEvent("s", "unknown"),
    FindMissingEvent("s"),
    RefreshWhoHasEvent("s", {"unknown": [PEER]}),
    AcquireReplicasEvent("s", {"unknown": [PEER], ("unknown", 2): [PEER]}, {"unknown": 1}),
    RemoveReplicasEvent("s", ["unknown"]),
    FreeKeysEvent("s", ["unknown", ("unknown", 1)]),
    StealRequestEvent("s", "unknown"),
    UpdateDataEvent("s", {"new": 1, ("new", 1): bytes(10_000)}),
]
REFUSED: list[StateMachineEvent] = [
    ExecuteSuccessEvent.dummy("unknown", stimulus_id="s"),
    ExecuteFailureEvent.dummy("unknown", stimulus_id="s"),
    RescheduleEvent.dummy("unknown", stimulus_id="s"),
    ExecuteDoneEvent("s", "unknown"),
    SecedeEvent("s", "unknown", 1.0),
    GatherDepDoneEvent("s", PEER, 1),
    GatherDepSuccessEvent("s", PEER, 1, {"unknown": 1}),
    GatherDepBusyEvent("s", PEER, 1),
    GatherDepNetworkFailureEvent("s", PEER, 1),
    GatherDepFailureEvent.from_exception(ValueError("x"), worker=PEER, total_nbytes=1, stimulus_id="s"),
]
PAUSES: list[StateMachineEvent] = [PauseEvent("s"), UnpauseEvent("s")]


def name(event: Any) -> str:
    return type(event).__name__


def test_every_documented_event_is_tried_below() -> None:
    tried = {name(event) for event in [*TAKEN, *REFUSED, *PAUSES]}
    assert tried | {"StateMachineEvent"} == set(StateMachineEvent.kinds)


@pytest.mark.parametrize("event", TAKEN, ids=name)
async def test_is_taken(served: Served, event: StateMachineEvent) -> None:
    served.worker.handle_stimulus(event)
    served.worker.handle_stimulus(event, event)


@pytest.mark.parametrize("event", REFUSED, ids=name)
async def test_is_refused(served: Served, event: StateMachineEvent) -> None:
    with pytest.raises(ValueError, match=rf"{name(event)}.*report that"):
        served.worker.handle_stimulus(event)


async def test_pauses(served: Served) -> None:
    served.worker.handle_stimulus(PauseEvent("s"))
    await async_poll_for(lambda: served.scheduler.workers[served.worker.address].status is Status.paused)
    served.worker.handle_stimulus(UnpauseEvent("s"))
    await async_poll_for(lambda: served.scheduler.workers[served.worker.address].status is Status.running)


@pytest.mark.parametrize("event", [StateMachineEvent("s"), "no event", None, 1, ValueError])
async def test_what_is_no_event(served: Served, event: Any) -> None:
    with pytest.raises(TypeError, match="cannot take"):
        served.worker.handle_stimulus(event)


@pytest.mark.parametrize("event", [each for each in TAKEN if each != NEEDS_NOTHING], ids=name)
async def test_malformed_events(served: Served, event: Any) -> None:
    for field in fields(event):
        if field.init and field.name != "stimulus_id" and field.default is MISSING:
            broken = type(event)(**{each.name: getattr(event, each.name) for each in fields(event) if each.init})
            setattr(broken, field.name, object())
            if field.name in ("span_id", "worker"):  # of a peer that nobody knows
                continue
            with pytest.raises(TypeError, match="cannot take"):
                served.worker.handle_stimulus(broken)


noted: list[Any] = []


def note(value: Any) -> None:
    noted.append(value)


async def test_a_task_that_is_computed_for_nobody(served: Served) -> None:
    event = ComputeTaskEvent.dummy("one", stimulus_id="s")
    event.run_spec = Task("one", note, [1, 2])
    served.worker.handle_stimulus(event)
    await async_poll_for(lambda: [1, 2] in noted)
    await async_poll_for(lambda: "one" not in served.worker.data)  # the scheduler wants nothing of it


async def test_a_task_with_what_it_needs(served: Served) -> None:
    [data] = await served.client.scatter([[3, 4]], workers=[served.other.address])
    event = ComputeTaskEvent.dummy("two", who_has={data.key: [served.other.address]}, stimulus_id="s")
    event.run_spec = Task("two", note, TaskRef(data.key))
    served.worker.handle_stimulus(event)
    await async_poll_for(lambda: [3, 4] in noted)


async def test_copies_and_data(served: Served) -> None:
    served.worker.handle_stimulus(UpdateDataEvent("s", {"scattered": 7}))
    assert served.worker.data["scattered"] == 7
    [data] = await served.client.scatter([[1, 2]], workers=[served.other.address])
    served.worker.handle_stimulus(AcquireReplicasEvent("s", {data.key: [served.other.address]}, {data.key: 10}))
    await async_poll_for(lambda: data.key in served.worker.data)
    served.worker.handle_stimulus(RemoveReplicasEvent("s", [data.key]))
    await async_poll_for(lambda: data.key not in served.worker.data)
    assert await data == [1, 2]


def hold(name: str) -> str:
    Event(name).wait()
    return name


async def test_a_task_that_has_not_started_is_stolen_or_cancelled(served: Served) -> None:
    here = {"workers": [served.worker.address], "pure": False}
    running = served.client.submit(hold, "gate", **here)
    await async_poll_for(lambda: running.key in served.scheduler.tasks and bool(served.worker.active_threads))
    queued = served.client.submit(sum, [1, 2], **here)
    await async_poll_for(lambda: queued.key in served.worker.state.tasks)
    served.worker.handle_stimulus(StealRequestEvent("s", queued.key))
    await Event("gate", client=served.client).set()
    await wait([running])
    assert await queued == 3


async def test_no_event_has_the_state_look_again(served: Served) -> None:
    [data] = await served.client.scatter([[1, 2]], workers=[served.other.address])
    served.worker.state.transfer_incoming_count_limit = 0
    used = served.client.submit(sum, data, workers=[served.worker.address])
    await async_poll_for(lambda: bool(served.worker.state.fetch_queue or served.worker.state.data_needed))
    served.worker.state.transfer_incoming_count_limit = 10
    served.worker.handle_stimulus()
    assert await used == 3
