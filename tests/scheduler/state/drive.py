"""A scheduler state with make-believe workers and clients: what tests of the pure core drive."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from headrace.messages.base import TaskOptions
from headrace.messages.client import (
    CancelKeys,
    CancelledKeys,
    GraphRefused,
    KeyInMemory,
    LostData,
    ReleaseKeys,
    SubmitGraph,
    TaskErred,
    TaskRetried,
)
from headrace.messages.worker import ComputeTask, FreeKeys, TaskFailed, TaskFinished
from headrace.scheduler.state.core import SchedulerCore
from headrace.scheduler.state.records.clients import ClientState
from headrace.scheduler.state.records.workers import WorkerState
from headrace.scheduler.state.state_options import StateOptions


class Cluster:
    """A validated state, workers that answer when told to, and clients that remember what they hear."""

    def __init__(self, workers: int = 2, nthreads: int = 1, **options: Any) -> None:
        self.state = SchedulerCore(StateOptions(validate=True, **options))
        self.now = 0.0
        self.inbox: dict[str, deque[Any]] = {}
        self.held: dict[str, set[Any]] = {}
        self.heard: dict[str, dict[Any, str]] = {}
        self.messages: dict[str, list[Any]] = {}
        self.graphs = 0
        for number in range(workers):
            self.add_worker(f"tcp://w{number}:1", nthreads=nthreads)

    def add_worker(self, address: str, held: dict[Any, int] | None = None, **keywords: Any) -> WorkerState:
        worker = WorkerState(address, saturation=self.state.options.saturation, now=self.now, **keywords)
        self.inbox[address] = deque()
        self.held[address] = set(held or ())
        self.state.add_worker(worker, held or {}, self.now)
        self.drain()
        return worker

    def remove_worker(self, address: str, **keywords: Any) -> None:
        self.state.remove_worker(address, "killed", self.now, **keywords)
        del self.inbox[address], self.held[address]
        self.drain()

    def add_client(self, name: str = "alice") -> ClientState:
        self.heard[name] = {}
        self.messages[name] = []
        return self.state.add_client(name, {}, self.now)

    def submit(
        self,
        client: ClientState,
        graph: dict[Any, list[Any]],
        wanted: list[Any] | None = None,
        options: TaskOptions | None = None,
        **keywords: Any,
    ) -> None:
        """Submit tasks given as {key: dependencies}, dependencies first."""
        keys = list(graph)
        positions = {key: position for position, key in enumerate(keys)}
        external: list[Any] = []
        dependencies = []
        for needed in graph.values():
            row = []
            for key in needed:
                if key not in positions:
                    positions[key] = len(keys) + len(external)
                    external.append(key)
                row.append(positions[key])
            dependencies.append(row)
        self.graphs += 1
        message = SubmitGraph(
            keywords.pop("number", self.graphs),
            [b"f"],
            keys,
            [b"()"] * len(keys),
            dependencies=dependencies if any(dependencies) else [],
            external=external,
            options=[options] if options else [],
            wanted=None if wanted is None else [positions[key] for key in wanted],
            **keywords,
        )
        self.state.handle(client, message, self.now)
        self.drain()

    def release(self, client: ClientState, keys: list[Any]) -> None:
        for key in keys:
            self.heard[client.client_key].pop(key, None)
        self.state.handle(client, ReleaseKeys(keys), self.now)
        self.drain()

    def cancel(self, client: ClientState, keys: list[Any], force: bool = False) -> None:
        self.state.handle(client, CancelKeys(keys, force), self.now)
        self.drain()

    def drain(self) -> None:
        """Deliver what the state wants sent."""
        for receiver in self.state.dirty:
            for message in receiver.outbox:
                if isinstance(receiver, WorkerState):
                    self.inbox[receiver.address].append(message)
                elif receiver is not self.state.holder:
                    self._hear(receiver.client_key, message)
            receiver.outbox.clear()
        self.state.dirty.clear()

    def _hear(self, name: str, message: Any) -> None:
        self.messages[name].append(message)
        heard = self.heard[name]
        match message:
            case KeyInMemory():
                heard[message.key] = "finished"
            case TaskErred():
                heard[message.key] = "error"
            case LostData() | TaskRetried():
                heard[message.key] = "pending"
            case CancelledKeys() | GraphRefused():
                heard.update(dict.fromkeys(message.keys, "cancelled"))

    def to_run(self, address: str) -> list[ComputeTask]:
        """Tasks that a worker has been sent, less those it was told to drop since."""
        tasks: dict[Any, ComputeTask] = {}
        for message in self.inbox[address]:
            if isinstance(message, ComputeTask):
                tasks[message.key] = message
            elif isinstance(message, FreeKeys):
                for key in message.keys:
                    tasks.pop(key, None)
                    self.held[address].discard(key)
        self.inbox[address] = deque(tasks.values())
        return sorted(tasks.values(), key=lambda task: task.priority)

    def run_one(self, address: str, *, fail: bool = False, choose: random.Random | None = None) -> Any:
        """A worker runs the next task that has what it needs, and reports."""
        every = self.to_run(address)
        sent = {task.key for task in every}
        tasks = []
        for task in every:
            absent = [
                key
                for key, who_has in zip(task.dependencies, task.who_has, strict=True)
                if not who_has and key not in self.held[address]
            ]
            assert sent.issuperset(absent), f"{task.key} was sent without a place to get {absent} from"
            if not absent:
                tasks.append(task)
        if not tasks:
            return None
        task = choose.choice(tasks) if choose else tasks[0]
        self.inbox[address].remove(task)
        self.now += 0.01
        answer: Any
        if fail:
            answer = TaskFailed(task.key, task.attempt, b"e", b"t", "boom", "line 1", self.now - 0.01, self.now)
        else:
            self.held[address].add(task.key)
            answer = TaskFinished(task.key, task.attempt, 8, "int", self.now - 0.01, self.now)
        worker = self.state.workers[address]
        self.state.handle_batch(worker, [answer], self.now)
        self.drain()
        return task.key

    def run_all(self, limit: int = 10_000) -> list[Any]:
        """Workers run everything, in turn; returns the keys in order."""
        ran = []
        for _ in range(limit):
            keys = [key for address in list(self.inbox) if (key := self.run_one(address)) is not None]
            if not keys:
                return ran
            ran += keys
        raise AssertionError(f"not done after {limit} rounds")
