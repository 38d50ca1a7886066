"""The active memory manager: policies suggest copies to make and to drop, the manager decides which and where.

A policy is a generator of suggestions; to each it is sent the worker that was chosen, or `None`. The manager never
drops the last copy of a result, nor one that a task on that worker is about to use. It sends nothing itself: what it
decides ends up in the workers' outboxes.
"""

from __future__ import annotations

import heapq
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from headrace.common.status import Status

from . import replica_plans, replicas

if TYPE_CHECKING:
    from headrace.scheduler.state.core import SchedulerCore
    from headrace.scheduler.state.records.tasks import TaskState
    from headrace.scheduler.state.records.workers import WorkerState

logger = logging.getLogger("distributed.active_memory_manager")


#: A worker that has said nothing for so many seconds, though others have, may be stopped: its copies do not count when
#: others are to be dropped. Three heartbeats.
SILENT_SECONDS = 1.5


class Suggestion(NamedTuple):
    """Wish of a policy: a copy more ("replicate") or less ("drop") of a result.

    Attributes:
        candidates: workers to choose from; `None` for all.
    """

    op: Literal["replicate", "drop"]
    ts: TaskState
    candidates: set[WorkerState] | None = None


#: Policies may yield plain tuples as well, without candidates if they have none.
Suggestions: TypeAlias = Generator[Any, "WorkerState | None", None]


class ActiveMemoryManagerPolicy(ABC):
    """Base of policies.

    Attributes:
        manager: the manager that it was added to; `manager.scheduler` has the documented records.
    """

    manager: MemoryManager

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @abstractmethod
    def run(self) -> Suggestions:
        """Yield suggestions, `("replicate" or "drop", task, candidates or None)`.

        The value of each `yield` is the worker that was chosen, or `None` if the suggestion was not taken up.
        """


class MemoryManager:
    """Runs policies over the state's records.

    Args:
        state: where the records are, and the outboxes.
        policies: what to run.
        measure: which memory of a worker counts when workers are compared ("managed", "optimistic", …).
        scheduler: what policies see as `manager.scheduler`; the state itself by default.

    Attributes:
        workers_memory: bytes by worker during a run, counting what the run has decided already.
        pending: for each result that a run has decided on, the workers that get a copy and those that lose theirs.
    """

    def __init__(
        self,
        state: SchedulerCore,
        policies: Iterable[ActiveMemoryManagerPolicy] = (),
        measure: str = "optimistic",
        scheduler: object = None,
    ) -> None:
        self.state = state
        self.scheduler: Any = state if scheduler is None else scheduler
        self.measure = measure
        self.policies: set[ActiveMemoryManagerPolicy] = set()
        self.workers_memory: dict[WorkerState, int] = {}
        self.pending: dict[TaskState, tuple[set[WorkerState], set[WorkerState]]] = {}
        self._emptiest: list[tuple[int, int, WorkerState]] = []
        self._pushed = 0
        self._silent: set[WorkerState] = set()
        for policy in policies:
            self.add_policy(policy)

    def add_policy(self, policy: ActiveMemoryManagerPolicy) -> None:
        """Run this policy as well from now on.

        Raises:
            TypeError: it is not a policy.
        """
        if not isinstance(policy, ActiveMemoryManagerPolicy):
            raise TypeError(f"expected an ActiveMemoryManagerPolicy, got {policy!r}; derive its class from that one")
        policy.manager = self
        self.policies.add(policy)

    def replicated_tasks(self) -> set[TaskState]:
        """Results that more than one worker holds."""
        return replicas.replicated(self.state)

    def run_policies(self, policies: Iterable[ActiveMemoryManagerPolicy] | None = None) -> None:
        """Run policies (all by default) once and put what they lead to into the workers' outboxes.

        A policy that raises is logged and does not stop the others.
        """
        state = self.state
        self.workers_memory = {
            worker: replica_plans.measured(worker, self.measure) for worker in state.workers.values()
        }
        newest = max([worker.heard_at for worker in state.workers.values()], default=0.0)
        self._silent = {worker for worker in state.workers.values() if worker.heard_at < newest - SILENT_SECONDS}
        for worker in state.running:
            self._set_memory(worker, self.workers_memory[worker])
        try:
            for policy in sorted(self.policies if policies is None else policies, key=repr):  # the same in every run
                try:
                    self._run(policy)
                except BaseException as raised:
                    self.policy_failed(policy, raised)
            self._enact()
        finally:
            self.workers_memory = {}
            self.pending = {}
            self._emptiest.clear()

    def policy_failed(self, policy: ActiveMemoryManagerPolicy, raised: BaseException) -> None:
        """A policy raised. The shell knows what else than an `Exception` is the policy's doing."""
        if not isinstance(raised, Exception):
            raise raised
        logger.error("The memory manager's policy %r failed", policy, exc_info=raised)

    def _run(self, policy: ActiveMemoryManagerPolicy) -> None:
        suggestions = policy.run()
        if suggestions is None:
            return  # not a generator: a policy that had nothing to say
        answer: WorkerState | None = None
        try:
            suggestion = next(suggestions)
            while True:
                answer = self._consider(*suggestion)
                suggestion = suggestions.send(answer)
        except StopIteration:
            pass

    def _consider(
        self, op: str, task: TaskState, candidates: Iterable[WorkerState] | None = None
    ) -> WorkerState | None:
        if op not in ("replicate", "drop"):
            raise ValueError(f"a policy suggested {op!r} for {task.key!r}; suggestions are 'replicate' and 'drop'")
        if task.state != "memory" or task.options.actor:
            return None
        coming, going = self.pending.get(task) or (set(), set())
        worker: WorkerState | None
        if op == "replicate":
            worker = self._recipient(task, candidates, coming)
            if worker is not None:
                coming.add(worker)
                self._set_memory(worker, self.workers_memory[worker] + task.get_nbytes())
        else:
            worker = self._dropper(task, candidates, going)
            if worker is not None:
                going.add(worker)
                self._set_memory(worker, max(0, self.workers_memory[worker] - task.get_nbytes()))
        if worker is not None:
            self.pending[task] = (coming, going)
            logger.debug("(%s, %s, %s): chosen %s", op, task, candidates, worker)
        return worker

    def _set_memory(self, worker: WorkerState, nbytes: int) -> None:
        self.workers_memory[worker] = nbytes
        self._pushed += 1
        heapq.heappush(self._emptiest, (nbytes, self._pushed, worker))

    def _recipient(
        self, task: TaskState, candidates: Iterable[WorkerState] | None, coming: set[WorkerState]
    ) -> WorkerState | None:
        """The running worker with the least memory in use that neither has a copy nor is about to."""
        memory = self.workers_memory
        running = self.state.running
        if candidates is not None:
            fit = [w for w in candidates if w in running and w not in task.who_has and w not in coming]
            return min(fit, key=memory.__getitem__, default=None)
        heap = self._emptiest
        passed = []
        found = None
        while heap:
            entry = heap[0]
            worker = entry[2]
            if entry[0] != memory[worker] or worker not in running:
                heapq.heappop(heap)  # there is an entry with its present memory
                continue
            if worker not in task.who_has and worker not in coming:
                found = worker
                break
            passed.append(heapq.heappop(heap))
        for entry in passed:
            heapq.heappush(heap, entry)
        return found

    def _dropper(
        self, task: TaskState, candidates: Iterable[WorkerState] | None, going: set[WorkerState]
    ) -> WorkerState | None:
        """The holder with the most memory in use that can do without.

        One that takes no more work before all others, then one that is silent.
        """
        if len(task.who_has) - len(going) < 2:
            return None
        needed = {waiter.processing_on for waiter in task._waiters or ()}
        if any(worker is not None and worker not in task.who_has for worker in needed):
            return None  # it is being fetched, and the holder that was asked may be the one that does not answer
        pool = task.who_has if candidates is None else task.who_has & set(candidates)
        fit = [worker for worker in pool if worker not in going and worker not in needed]
        running = self.state.running
        silent = self._silent
        chosen = max(
            fit, key=lambda worker: (worker not in running, worker in silent, self.workers_memory[worker]), default=None
        )
        if chosen is not None and all(w in silent for w in task.who_has if w is not chosen and w not in going):
            return None  # nobody knows whether those left are there still
        if chosen in running and not any(w in running for w in task.who_has if w is not chosen and w not in going):
            return None  # those left would be on their way out
        return chosen

    def _enact(self) -> None:
        fetching: dict[WorkerState, list[TaskState]] = {}
        dropping: dict[WorkerState, list[TaskState]] = {}
        for task, (coming, going) in self.pending.items():
            for worker in coming:
                fetching.setdefault(worker, []).append(task)
            for worker in going:
                dropping.setdefault(worker, []).append(task)
        for worker, tasks in fetching.items():
            replicas.acquire(self.state, worker, tasks)
        for worker, tasks in dropping.items():
            replicas.remove(self.state, worker, tasks)


class ReduceReplicas(ActiveMemoryManagerPolicy):
    """Drop copies beyond those that tasks yet to run can use, at least one in all.

    A copy is of use to each worker that has been sent such tasks, and to each task that has not been sent.
    """

    def run(self) -> Suggestions:
        """Suggest drops."""
        for task in self.manager.replicated_tasks():
            for _ in range(len(task.who_has) - self._useful(task)):
                if (yield "drop", task, None) is None:
                    break

    @staticmethod
    def _useful(task: TaskState) -> int:
        """How many copies of a result are of use; counted no further than there are."""
        workers: set[WorkerState] = set()
        unsent = 0
        for waiter in task._waiters or ():
            if waiter.processing_on is None:
                unsent += 1
            else:
                workers.add(waiter.processing_on)
            if unsent + len(workers) >= len(task.who_has):
                break
        return max(1, unsent + len(workers))


class RetireWorker(ActiveMemoryManagerPolicy):
    """Copy to others what only one worker, or only workers that leave, hold.

    Args:
        address: of the worker that is to leave. Its status must be "closing_gracefully" already.
        avoid: names workers that are to receive nothing as long as others can: they are about to leave as well.

    Attributes:
        no_recipients: whether nobody could take something, so that the worker must stay; `reason` says what.
    """

    def __init__(self, address: str, avoid: Callable[[], set[WorkerState]] = set) -> None:
        self.address = address
        self._avoid = avoid
        self.no_recipients = False
        self.reason = ""

    def __repr__(self) -> str:
        return f"RetireWorker({self.address!r})"

    def run(self) -> Suggestions:
        """Suggest copies of what is in danger."""
        manager = self.manager
        worker = manager.state.workers.get(self.address)
        if worker is None:
            manager.policies.discard(self)
            return
        if worker.actors:
            self._give_up(f"it holds actors, which cannot be moved: {[task.key for task in worker.actors]}")
            return
        stuck = 0
        avoided = self._avoid()
        preferred = {other for other in manager.state.running if other not in avoided} if avoided else None
        for task in self.endangered(worker):
            if manager.pending.get(task, ((), ()))[0]:
                continue  # another worker that leaves has asked for it in this run
            if preferred and (yield "replicate", task, preferred) is not None:
                continue
            if (yield "replicate", task, None) is None:
                stuck += 1
        if stuck:
            self._give_up(f"no other running worker can take {stuck} results that only it holds")

    def _give_up(self, reason: str) -> None:
        self.no_recipients = True
        self.reason = reason
        self.manager.policies.discard(self)

    @staticmethod
    def endangered(worker: WorkerState) -> Iterable[TaskState]:
        """Results of which no copy is on another worker that stays."""
        for task in worker.has_what:
            if not any(holder is not worker and holder.status in STAYING for holder in task.who_has):
                yield task

    def done(self) -> bool:
        """Whether the worker can go without a result being lost."""
        worker = self.manager.state.workers.get(self.address)
        return worker is None or (not worker.actors and next(iter(self.endangered(worker)), None) is None)


#: A worker that is paused keeps its data.
STAYING = (Status.running, Status.paused)
