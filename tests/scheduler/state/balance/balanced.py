"""A make-believe cluster whose workers also answer requests to give tasks back, and to fetch and drop copies."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

from headrace.messages.worker import (
    AcquireReplicas,
    AddKeys,
    ComputeTask,
    ReleasedData,
    RemoveReplicas,
    StealAnswer,
    StealRequest,
)
from headrace.scheduler.state.records.workers import WorkerState
from tests.scheduler.state.drive import Cluster

REQUESTS = (StealRequest, AcquireReplicas, RemoveReplicas)


class BalancedCluster(Cluster):
    """Requests wait in `requests` until `answer` or `answer_all` is called."""

    def __init__(self, workers: int = 2, nthreads: int = 1, **options: Any) -> None:
        self.requests: deque[tuple[str, Any]] = deque()
        super().__init__(workers, nthreads, **options)

    def worker(self, number: int) -> WorkerState:
        return self.state.workers[f"tcp://w{number}:1"]

    def drain(self) -> None:
        super().drain()
        for address, inbox in self.inbox.items():
            found = [message for message in inbox if isinstance(message, REQUESTS)]
            if found:
                self.requests.extend((address, message) for message in found)
                self.inbox[address] = deque(message for message in inbox if not isinstance(message, REQUESTS))

    def run_one(self, address: str, *, fail: bool = False, choose: random.Random | None = None) -> Any:
        """As before, once the worker has answered what came earlier: a stream keeps its order."""
        for request in [request for request in self.requests if request[0] == address]:
            self.requests.remove(request)
            self.requests.appendleft(request)
            self.answer(choose)
        return super().run_one(address, fail=fail, choose=choose)

    def answer(self, chance: random.Random | None = None) -> Any:
        """A worker answers the oldest request; returns the first answer."""
        address, message = self.requests.popleft()
        if address not in self.inbox:
            return None
        self.to_run(address)
        answers: list[Any] = []
        match message:
            case StealRequest():
                answers.append(self._give_back(address, message, chance))
            case AcquireReplicas():
                got = [
                    key
                    for key, holders in zip(message.keys, message.who_has, strict=True)
                    if any(key in self.held.get(holder, ()) for holder in holders)
                ]
                self.held[address].update(got)
                answers.append(AddKeys(got))
            case RemoveReplicas():
                kept = [key for key in message.keys if chance and chance.random() < 0.2 and key in self.held[address]]
                self.held[address].difference_update(set(message.keys) - set(kept))
                answers += [*map(ReleasedData, message.keys), AddKeys(kept)]
        self.state.handle_batch(self.state.workers[address], answers, self.now)
        self.drain()
        return answers[0]

    def _give_back(self, address: str, message: StealRequest, chance: random.Random | None) -> StealAnswer:
        for task in self.inbox[address]:
            if isinstance(task, ComputeTask) and (task.key, task.attempt) == (message.key, message.attempt):
                if chance and chance.random() < 0.3:
                    return StealAnswer(message.key, message.attempt, "executing")
                self.inbox[address].remove(task)
                return StealAnswer(message.key, message.attempt, "ready")
        return StealAnswer(message.key, message.attempt, "memory" if message.key in self.held[address] else "released")

    def answer_all(self, chance: random.Random | None = None) -> list[Any]:
        answers = []
        while self.requests:
            answers.append(self.answer(chance))
        return answers
