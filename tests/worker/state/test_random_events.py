"""Random but possible sequences of messages and events, with every invariant checked after each, and an end to all."""

from __future__ import annotations

import random
from typing import Any

import pytest

from headrace.messages.worker import (
    AcquireReplicas,
    ComputeTask,
    DefineFunction,
    FreeKeys,
    RefreshWhoHas,
    RemoveReplicas,
    RequestWhoHas,
    RescheduleTask,
    StealAnswer,
    StealRequest,
    TaskExtras,
    TaskFailed,
    TaskFinished,
)
from headrace.worker.state import WorkerCore, events

PEERS = ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "tcp://10.0.0.1:1"]


class Shell:
    """Does what a worker's shell does, in an order that the random source decides."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.state = WorkerCore(
            address="tcp://127.0.0.1:9",
            nthreads=self.random.choice([1, 2, 4]),
            resources={"GPU": 2.0},
            validate=True,
            outgoing_limit=self.random.choice([1, 2, 50]),
            message_bytes_limit=self.random.choice([10, 1000]),
            incoming_bytes_limit=self.random.choice([20, float("inf")]),
        )
        self.state.handle(DefineFunction(1, b"f"))
        self.state.handle(DefineFunction(2, b"g"))
        self.queued: list[Any] = []
        self.started: set[Any] = set()
        self.seceded: set[Any] = set()
        self.requests: dict[str, list[Any]] = {}
        self.busy: list[str] = []
        self.data: set[Any] = set()
        self.attempts: dict[Any, int] = {}
        self.pending: dict[Any, int] = {}
        self.asked: set[Any] = set()
        self.level = {f"k{i}": i for i in range(12)}

    def send(self, *batch: Any) -> None:
        self.state.handle_batch(batch)
        self.drain()

    def drain(self) -> None:
        while self.state.outbox:
            outbox = self.state.drain()
            answers = []
            for run in outbox.execute:
                assert run.key not in self.queued
                assert run.key not in self.started
                assert set(run.dependencies or ()) <= self.data
                self.queued.append(run.key)
            for task in outbox.recall:
                unstarted = task.key in self.queued
                if unstarted:
                    self.queued.remove(task.key)
                answers.append(events.ExecuteRecalled(task.key, unstarted))
            self.data -= set(outbox.free)
            for gather in outbox.gather:
                assert gather.worker not in self.requests
                self.requests[gather.worker] = gather.keys
            self.busy += outbox.retry_later
            for message in outbox.messages:
                self.on_message(message)
            if answers:
                self.state.handle_batch(answers)

    def on_message(self, message: Any) -> None:
        if isinstance(message, TaskFinished | TaskFailed):
            if self.pending.get(message.key) == message.attempt:
                del self.pending[message.key]
        elif isinstance(message, RequestWhoHas):
            self.asked |= set(message.keys)
        elif isinstance(message, RescheduleTask) or (
            isinstance(message, StealAnswer) and message.state in ("ready", "waiting", "constrained", "released")
        ):
            self.pending.pop(message.key, None)

    def holders(self, some: bool = False) -> list[str]:
        return self.random.sample(PEERS, self.random.randint(1 if some else 0, 2))

    def compute(self, some_holders: bool = False) -> ComputeTask:
        key = self.random.choice(list(self.level))
        lower = [name for name, level in self.level.items() if level < self.level[key]]
        dependencies = self.random.sample(lower, min(len(lower), self.random.choice([0, 0, 1, 2])))
        self.attempts[key] = self.attempts.get(key, 0) + 1
        self.pending[key] = self.attempts[key]
        return ComputeTask(
            key,
            self.attempts[key],
            (self.random.randint(0, 3), 0, self.random.randint(0, 99)),
            self.random.choice([1, 1, 1, 2]),
            b"arguments",
            self.random.choice([-1.0, 0.00001, 0.004, 3.0]),
            self.random.random() < 0.5,
            dependencies,
            [self.holders(some_holders) for _ in dependencies],
            [self.random.randint(0, 30) for _ in dependencies],
            self.random.choice([None, None, TaskExtras({"GPU": 1.0}), TaskExtras({"GPU": 2.0})]),
        )

    def some_keys(self) -> list[Any]:
        return self.random.sample(list(self.level), self.random.randint(1, 4))

    def step(self) -> None:
        choice = self.random.randrange(20)
        keys = self.some_keys()
        if choice < 6:
            self.send(*[self.compute() for _ in range(self.random.randint(1, 3))])
        elif choice < 8:
            for key in keys:
                self.pending.pop(key, None)
            extra = [self.compute()] if self.random.random() < 0.3 else []
            self.send(FreeKeys(keys), *extra)
        elif choice == 8:
            self.send(RefreshWhoHas(keys, [self.holders() for _ in keys], [5 for _ in keys]))
        elif choice == 9:
            self.send(AcquireReplicas(keys, [self.holders() for _ in keys], [5 for _ in keys]))
        elif choice == 10:
            self.send(RemoveReplicas(keys))
        elif choice == 11:
            self.send(StealRequest(keys[0], self.attempts.get(keys[0], 0)))
        elif choice == 12:
            self.send(self.random.choice([events.Pause(), events.Unpause(), events.FindMissing()]))
        elif choice == 13:
            self.data |= set(keys)
            self.send(events.DataStored(dict.fromkeys(keys, 7)))
        elif choice < 16 and self.queued:
            self.started.add(self.queued.pop(0))
        elif choice < 18 and self.started:
            self.finish(self.random.choice(sorted(self.started)))
        elif choice < 20 and self.requests:
            self.answer(self.random.choice(sorted(self.requests)))
        elif self.busy:
            self.send(events.BusyOver(self.busy.pop()))

    def finish(self, key: Any, happy: bool = False) -> None:
        how = 0 if happy else self.random.randrange(6)
        if how == 5 and key not in self.seceded:
            self.seceded.add(key)
            self.send(events.ExecuteSeceded(key, 0.1))
            return
        self.started.discard(key)
        self.seceded.discard(key)
        if how == 3:
            self.send(events.ExecuteFailed(key, b"", b"", "", ""))
        elif how == 4:
            self.send(events.ExecuteRescheduled(key))
        else:
            self.data.add(key)
            self.send(events.ExecuteDone(key, 8, "int", 1.0, 1.0 + self.random.random() / 100))

    def answer(self, worker: str, happy: bool = False) -> None:
        keys = self.requests.pop(worker)
        how = 0 if happy else self.random.randrange(5)
        if how == 3:
            self.send(events.GatherBusy(worker))
        elif how == 4:
            self.send(events.GatherFailed(worker))
        else:
            there = keys if how == 0 else [key for key in keys if self.random.random() < 0.5]
            broken = [key for key in keys if key not in there and self.random.random() < 0.3]
            self.data |= set(there)
            failure = {key: events.ExecuteFailed(key, b"", b"", "", "") for key in broken}
            self.send(events.GatherDone(worker, dict.fromkeys(there, 9), failure))

    def finish_everything(self) -> None:
        self.send(events.Unpause())
        for _ in range(1000):
            while self.busy:
                self.send(events.BusyOver(self.busy.pop()))
            for worker in sorted(self.requests):
                self.answer(worker, happy=True)
            self.started |= set(self.queued)
            self.queued.clear()
            for key in sorted(self.started):
                self.finish(key, happy=True)
            self.asked.clear()
            self.send(events.FindMissing())
            keys = sorted(self.asked)
            if keys:
                self.send(RefreshWhoHas(keys, [self.holders(some=True) for _ in keys], [5 for _ in keys]))
            if not (keys or self.busy or self.requests or self.started or self.queued):
                return
        raise AssertionError("the worker does not come to rest")


@pytest.mark.parametrize("seed", range(150))
def test_random_events_keep_the_invariants_and_leave_nothing_undone(seed: int) -> None:
    shell = Shell(seed)
    for _ in range(200):
        shell.step()
    shell.finish_everything()
    state = shell.state
    assert {task.state for task in state.tasks.values()} <= {"memory", "error"}
    assert shell.pending == {}, state.story(*shell.pending)
    assert shell.data == {key for key, task in state.tasks.items() if task.state == "memory"}
    shell.send(FreeKeys(list(state.tasks)))
    assert (state.tasks, shell.data, state.has_what, state.nbytes) == ({}, set(), {}, 0)
    assert state.available_resources == {"GPU": 2.0}
