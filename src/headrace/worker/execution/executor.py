"""Runs tasks: hands them to threads (or another executor, or the loop), and brings the outcomes back in batches.

Everything that can be done in the thread is done there: unpickling, resolving of references, the call, measuring and
pickling of the result. The loop is woken once for many outcomes. This module knows no states: it answers the core's
`TaskRun` effects with the core's events. Tasks that are to be stopped are the business of `interrupts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import copy_context
from threading import get_ident
from time import monotonic, thread_time
from types import CoroutineType, TracebackType
from typing import TYPE_CHECKING, Any

from headrace.common.keys import Key, from_wire, to_wire
from headrace.common.retry_policy import matches, policy_of
from headrace.containment import contained, described, traceback_of
from headrace.exceptions import DeserializationError, Reschedule, SerializationError, TaskCancelled
from headrace.protocol import Held, dumps, dumps_exception, loads_function
from headrace.rpc.run_function import users_part
from headrace.worker.context import origin, running, thread_state
from headrace.worker.memory import SpilledValues, UnreadableError
from headrace.worker.state.effects import COUNTED, SAMPLED, TIMED, TaskRun
from headrace.worker.state.events import (
    DataDropped,
    ExecuteDone,
    ExecuteFailed,
    ExecuteRecalled,
    ExecuteRescheduled,
    ExecuteSeceded,
    ShellEvent,
)

from ..activity_totals import GroupSums
from .failures import log_failure
from .interrupts import Interrupts
from .loading import load_call
from .result_sizes import nbytes_of, type_name_of
from .run_spec import by_user_key, resolve
from .threads import TaskPool, note_end
from .weak_results import refers_weakly

if TYPE_CHECKING:
    from headrace.messages.base import Payload
    from headrace.worker.server import WorkerServer

logger = logging.getLogger("distributed.worker")

#: Results whose pickle is longer do not ride on the answer to the scheduler, in bytes.
RESULT_RIDES = 8 * 1024
#: Executors that every worker has beside its pool: one thread for what may take long, and the thread of actors.
BESIDE = ("offload", "actor")
#: Results that are pickled also for a scheduler in this process: nobody can tell, and bytes are not the garbage
#: collector's business.
_PICKLED = frozenset({type(None), bool, int, float, str})


class _Nothing:
    """Stands for "no value" in the queue of outcomes."""


_NOTHING = _Nothing()


class TaskExecutor:
    """The executors of one worker.

    Args:
        worker: what tasks get from `get_worker`.
        nthreads: threads of the default pool.
        on_events: called on the loop with each batch of outcomes, after the values were put into `worker.data`.
        executors: more executors by name; "default" replaces the pool.
        grace: seconds that an interrupted task has to end.
    """

    def __init__(
        self,
        worker: WorkerServer,
        nthreads: int,
        on_events: Callable[[list[ShellEvent]], None],
        executors: Mapping[str, Executor],
        grace: float = 1.0,
    ) -> None:
        self._worker = worker
        #: when it was made, by the monotonic clock
        self.began = monotonic()
        self._on_events = on_events
        self._loop = asyncio.get_running_loop()
        self._wake = self._loop.call_soon_threadsafe
        #: what happens on the loop because tasks have ended is nothing that those tasks ask for
        self._context = copy_context()
        self._woken = False
        self._closed = False
        self._nthreads = nthreads
        self._done: deque[tuple[Any, Any, Any]] = deque()
        #: runs handed out that have not been reported
        self._runs: dict[Key, TaskRun] = {}
        #: runs that wait for `run_held`, and whom to tell when they are reported
        self._held: dict[Key, TaskRun] = {}
        self._waiting: dict[Key, asyncio.Future[None]] = {}
        self._gates: dict[Key, Coroutine[Any, Any, None]] = {}
        #: key of the latest task of each thread, for the profiler
        self.keys_by_thread: dict[int, Key] = {}
        #: called when tasks are handed out, while the profiler sleeps
        self.on_work: Callable[[], None] | None = None
        #: those that no thread has taken; whoever removes one (set.remove is atomic) owns it
        self._unstarted: set[TaskRun] = set()
        #: `async def` tasks that run
        self.coroutines: dict[TaskRun, asyncio.Task[None]] = {}
        self.interrupts = Interrupts(self, worker.address, grace, worker.restart_for)
        self._open = self.interrupts.open
        self._memory = worker.memory_manager
        self._buffer = worker.memory_manager.buffer
        self._activities = worker.activities
        #: the scheduler is too: results need not be pickled for it
        self._in_process = worker.scheduler_address.startswith("inproc://")
        self.executors = dict(executors)
        self.pool = TaskPool(nthreads, self._run, name=f"Headrace-Tasks-{worker.name}", initializer=self._start_thread)
        self.executors.setdefault("default", self.pool)
        self._default = self.executors["default"]

    def submit(self, runs: list[TaskRun]) -> None:
        """Run tasks. On the loop."""
        feed = self.pool.feed
        plain = self._default is self.pool
        runs[0].timed = max(SAMPLED, runs[0].timed)
        for run in runs:
            self._runs[run.key] = run
            if run.timed == TIMED:
                run.submitted = monotonic() if len(self._runs) <= self._nthreads else 0.0
            if run.dependencies is not None:
                try:
                    run.values = self._memory.values_of(run.dependencies)
                except BaseException as error:  # the user's mapping fails
                    self._fail(run, error, monotonic(), None)
                    continue
            self._unstarted.add(run)
            if plain and not run.annotations:
                feed(run)
            else:
                limit = run.annotations.get("timeout")
                if type(limit) is float:  # anything else is not ours
                    self.interrupts.limit(run, limit)
                self._submit_elsewhere(run)
        if self.on_work is not None:
            self.on_work()

    def _submit_elsewhere(self, run: TaskRun) -> None:
        name = run.annotations.get("executor", "default")
        executor = self.executors.get(name)
        if executor is None and name in BESIDE:
            executor = self.all_executors()[name]
        try:
            if executor is self.pool:
                self.pool.feed(run)
            elif executor is None:
                raise ValueError(
                    f"Invalid executor {name!r} for the task {from_wire(run.key)!r}; the worker at "
                    f"{self._worker.address} has {sorted({*self.executors, *BESIDE})}"
                )
            elif isinstance(executor, ProcessPoolExecutor) or "Process" in type(executor).__name__:
                if isinstance(run.values, SpilledValues):
                    self._loop.run_in_executor(None, self._load_and_submit, run, executor)
                else:
                    self._submit_pickled(run, executor)
            else:
                executor.submit(self._run, run)
        except BaseException as error:  # of an executor of the user's
            self._fail(run, error, monotonic(), None)

    def all_executors(self) -> dict[str, Executor]:
        """The executors by name, with those that every worker has but makes only when they are asked for."""
        executors = self.executors
        if "offload" not in executors:
            executors["offload"] = ThreadPoolExecutor(1, thread_name_prefix="Headrace-Offload")
        if "actor" not in executors:
            executors["actor"] = self._worker.actor_host.pool
        return executors

    def _load_and_submit(self, run: TaskRun, executor: Executor) -> None:
        """Read from disk what a task needs that runs in another process; in a thread."""
        try:
            assert isinstance(run.values, SpilledValues)
            run.values = _load(run, run.values)
            self._submit_pickled(run, executor)
        except BaseException as error:
            self._fail(run, error, monotonic(), traceback_of(error))

    def _submit_pickled(self, run: TaskRun, executor: Executor) -> None:
        if not self._claim(run):  # recalled
            return
        run.started = start = monotonic()
        run.timed = run.timed or COUNTED
        future = executor.submit(call_pickled, run.function, run.arguments, run.values)

        def report(future: Future[Any]) -> None:
            try:
                self._open.remove(run)
            except KeyError:  # given up
                return
            del self.interrupts.futures[run]
            try:
                self._succeed(run, future.result(), start, 0)
            except BaseException as error:
                self._fail(run, error, start, traceback_of(error))

        self.interrupts.futures[run] = future
        self._open.add(run)
        if self.interrupts.was_interrupted(run):
            del self.interrupts.futures[run]
            future.cancel()
            self._fail(run, run.watch.error, start, None)
        else:
            future.add_done_callback(report)

    def hold(self, runs: list[TaskRun]) -> None:
        """Keep runs until `run_held` asks for each. On the loop."""
        for run in runs:
            self._held[run.key] = run

    async def run_held(self, key: Key) -> None:
        """Run what is kept; returns when the outcome has been reported.

        Raises:
            KeyError: nothing is kept under the key.
        """
        run = self._held.pop(to_wire(key))
        reported = self._loop.create_future()
        self._waiting[run.key] = reported
        self.submit([run])
        await reported

    def hold_outcome(self, key: Key, gate: Coroutine[Any, Any, None]) -> None:
        """Report the end of a task only once `gate` has ended. On the loop; for tests."""
        self._gates[key] = gate

    def _report_after(self, gate: Coroutine[Any, Any, None], value: object, event: ShellEvent) -> None:
        async def wait() -> None:
            await gate
            self._put(value, event, None)

        self._worker.run_in_background(wait())

    def recall(self, key: Key) -> ExecuteRecalled:
        """Take a run back, if no thread has taken it. On the loop."""
        run = self._runs.get(key)
        unstarted = run is not None and self._claim(run)
        if unstarted:
            del self._runs[key]
            assert run is not None
            if run.watch is not None:
                self.interrupts.forget(run)
        return ExecuteRecalled(key, unstarted)

    def _claim(self, run: TaskRun) -> bool:
        try:
            self._unstarted.remove(run)
        except KeyError:
            return False
        return True

    def interrupt(self, key: Key, force: bool) -> None:
        """Stop a run whose result nobody wants, if it has not ended; with `force`, at any price. On the loop."""
        run = self._runs.get(key)
        if run is not None:
            self.interrupts.cancel(run, force)

    def is_out(self, run: TaskRun) -> bool:
        """Whether a run has not been reported."""
        return self._runs.get(run.key) is run

    def give_up(self, run: TaskRun) -> None:
        """Report a run as interrupted that goes on nevertheless; what it returns will be dropped. On the loop."""
        coroutine = self.coroutines.get(run)
        if coroutine is not None:
            _end(coroutine)
        elif run.thread and not self.pool.abandon(run.thread):
            logger.warning("The task %r still takes a thread of its executor", from_wire(run.key))
        self._fail(run, run.watch.error, run.started, None)

    def executing(self, now: float) -> dict[Key, float]:
        """Keys that run now, and for how many seconds."""
        return {run.key: now - run.started for run in list(self._runs.values()) if run.started}

    def has_work(self) -> bool:
        """Whether tasks were handed out that have not been reported."""
        return bool(self._runs)

    def active_threads(self) -> dict[int, Key]:
        """Key of the task that runs in each thread."""
        return {run.thread: run.key for run in list(self._runs.values()) if run.thread}

    # in the threads ---------------------------------------------------------------------------------------------------

    def _start_thread(self) -> None:
        thread_state.execution_state = {"worker": self._worker}
        thread_state.asynchronous = False
        thread_state.actor = False
        thread_state.key = None
        origin.set((self._worker, self.keys_by_thread, get_ident()))

    def _run(self, run: TaskRun) -> None:
        """Do one task; called in a thread."""
        buffer = self._buffer
        admitted = self._memory.wait_for_room(run.dependencies) if buffer is not None and buffer.crowded else 0
        try:
            self._unstarted.remove(run)
        except KeyError:  # recalled
            if admitted:
                self._memory.release(admitted)
            return
        local = thread_state
        if getattr(local, "execution_state", None) is None or local.execution_state["worker"] is not self._worker:
            self._start_thread()  # an executor of the user's
        try:
            self._perform(run, local)
        except BaseException as error:  # everything else is reported in there
            if run.watch is not None and issubclass(type(error), run.watch.kind):
                self._interrupted(run, error)  # it struck late
            else:
                self._fail(run, error, run.started, traceback_of(error))
        finally:
            local.key = None
            if admitted:
                self._memory.release(admitted)

    def _perform(self, run: TaskRun, local: Any) -> None:
        """Call the function, and report the outcome."""
        run.started = local.start_time = start = monotonic()
        run.thread = thread = get_ident()
        local.key = self.keys_by_thread[thread] = run.key
        timed = run.timed >= SAMPLED
        if timed:
            run.cpu = -thread_time()
        inside = False
        try:
            try:
                function, args, kwargs = load_call(run.function, run.arguments)
            except Exception as error:
                raise _cannot_load(run, self._worker.address, error) from error
            values = run.values
            call = function, args, kwargs
            if values is not None:
                if type(values) is SpilledValues:
                    values = _load(run, values)
                    local.start_time = start = monotonic()
                    if timed:
                        run.cpu = -thread_time()
                named = by_user_key(values)
                args = resolve(args, named)
                if kwargs:
                    kwargs = resolve(kwargs, named)
                run.values = None
                values, named = None, {}  # nothing but the call holds on to what it is given
            inside = True
            self._open.add(run)
            if run.watch is not None:
                self.interrupts.begin(run)
            value = function(*args, **kwargs)
            self._open.remove(run)  # from here on nothing interrupts; a KeyError says that something has
            inside = False
            if timed:
                run.cpu += thread_time()
            if type(value) is CoroutineType:
                run.call = call
                run.timed = run.timed or COUNTED
                self._put(value, run, start)
            else:
                if refers_weakly(value):
                    self._memory.keep_call(run.key, call)
                self._succeed(run, value, start, thread)
        except BaseException as error:
            if inside:
                try:
                    self._open.remove(run)
                except KeyError:
                    self._interrupted(run, error)
                    return
            self._fail(run, error, start, traceback_of(error))

    def _interrupted(self, run: TaskRun, error: BaseException) -> None:
        """The function of a run was interrupted: report that, unless the run was given up. In its thread."""
        while True:
            try:
                to_report = self.interrupts.come_back(run)
                break
            except run.watch.kind as late:  # it strikes once
                error = late
        if to_report:
            traceback = traceback_of(error) if issubclass(type(error), run.watch.kind) else None
            self._fail(run, run.watch.error, run.started, traceback)

    def _succeed(self, run: TaskRun, value: object, start: float, thread: int) -> None:
        """Report a result; `start` by the monotonic clock."""
        stop = time.time()
        began = stop - (monotonic() - start)
        if run.actor:
            kind = type_name_of(value)
            value = self._worker.actor_host.install(run.key, value)
        else:
            kind = ""
        nbytes = nbytes_of(value)
        result: Payload = None
        if not run.report or nbytes > RESULT_RIDES:
            pass
        elif self._in_process and type(value) not in _PICKLED:
            result = Held(value)
        else:
            try:
                result = dumps(value)
            except SerializationError:  # it can stay here and be used here; whoever fetches it gets the error
                result = None
            if type(result) is not bytes or len(result) > RESULT_RIDES:
                result = None
        done = ExecuteDone(run.key, nbytes, kind or type_name_of(value), began, stop, result, thread, run.loading)
        self._put(value, done, None)

    def _fail(self, run: TaskRun, error: BaseException, start: float, traceback: TracebackType | None) -> None:
        note_end(error)
        self._unstarted.discard(run)
        kind = type(error)  # not `isinstance`: an exception may fail when it is asked for its class
        if issubclass(kind, Reschedule):
            self._put(_NOTHING, ExecuteRescheduled(run.key), None)
            return
        value: object = _NOTHING
        if issubclass(kind, UnreadableError):  # the loop decides whether the task is told of it
            value, error = error, error.__cause__ or error
        failed = failure(run.key, error, traceback, *_span(start), get_ident())
        if run.annotations:
            policy = policy_of(run.annotations)
            failed.retry = policy is None or matches(policy, error)
        self._put(value, failed, None)

    def _put(self, value: object, event: ShellEvent | TaskRun, start: float | None) -> None:
        self._done.append((value, event, start))
        if not self._woken:
            self._woken = True
            try:
                self._wake(self._report, context=self._context.copy())
            except RuntimeError:  # the loop is closed: nobody waits for this
                logger.debug("A task ended after its worker")

    def secede(self, key: Key, seconds: float) -> bool:
        """The calling thread's task leaves the pool; returns whether it was in it."""
        if not self.pool.is_member():
            return False
        with self._not_to_be_interrupted():
            self.pool.secede()
            self._put(_NOTHING, ExecuteSeceded(key, seconds), None)
        return True

    def rejoin(self) -> None:
        """The calling thread's task comes back."""
        with self._not_to_be_interrupted():
            self.pool.rejoin()

    @contextlib.contextmanager
    def _not_to_be_interrupted(self) -> Iterator[None]:
        """The calling thread's task is in code that must not be left half way."""
        run = self._runs.get(thread_state.key)
        inside = run is not None and run.thread == get_ident() and self.interrupts.leave_function(run)
        try:
            yield
        finally:
            if inside:
                assert run is not None
                self.interrupts.enter_function(run)

    # on the loop ------------------------------------------------------------------------------------------------------

    def _report(self) -> None:
        self._woken = False
        if self._closed:
            self._done.clear()
            return
        events: list[ShellEvent] = []
        done, store, runs = self._done, self._memory.store, self._runs
        activities, now = self._activities, time.time()
        head: str | None = None
        sums: GroupSums | None = None
        while done:
            value, event, start = done.popleft()
            if start is not None:
                self._start_coroutine(event, value, start)
                continue
            if self._gates and event.key in self._gates:
                self._report_after(self._gates.pop(event.key), value, event)
                continue
            if type(event) is ExecuteDone:
                try:
                    store(event.key, value, event.nbytes)
                except BaseException as raised:  # the user's mapping fails
                    raised = contained(raised)
                    event = failure(event.key, raised, raised.__traceback__, event.start, event.stop, event.thread)
            elif type(value) is UnreadableError:
                dropped = self._memory.give_up(value)
                if dropped is not None:
                    events.append(DataDropped(dropped))
                    event = ExecuteRescheduled(event.key)
            elif type(event) is ExecuteFailed:
                log_failure(event, runs.get(event.key))
            if type(event) is not ExecuteSeceded:
                run = runs.pop(event.key, None)
                if run is not None:
                    if run.watch is not None:
                        self.interrupts.forget(run)
                    if type(event) is not ExecuteDone:
                        self._note_bad_end(run, event)
                    elif run.timed:
                        self._note_end(run, event, now)
                    else:
                        key = event.key
                        if sums is None or type(key) is not str or key[:-33] != head:
                            head, sums = activities.group_of(key)
                        sums.short += event.stop - event.start
            events.append(event)
        value = None
        if events:
            self._on_events(events)
            if self._waiting:
                self._tell_waiting(events)

    def _note_end(self, run: TaskRun, event: ExecuteDone, now: float) -> None:
        seconds = event.stop - event.start
        task = self._worker.core.tasks.get(event.key)
        if task is not None and task.state == "cancelled":
            self._activities.ended_badly(run, "cancelled", seconds)
        else:
            self._activities.ran(run, seconds, event.thread, now - event.stop)

    def _note_bad_end(self, run: TaskRun, event: ShellEvent) -> None:
        failed = type(event) is ExecuteFailed and not (run.watch and isinstance(run.watch.error, TaskCancelled))
        seconds = monotonic() - run.started if run.started else 0.0
        self._activities.ended_badly(run, "failed" if failed else "cancelled", seconds)

    def run_of(self, key: Key) -> TaskRun | None:
        """The run of a task that was handed out and has not been reported; from any thread."""
        return self._runs.get(key)

    def _tell_waiting(self, events: list[ShellEvent]) -> None:
        for event in events:
            reported = self._waiting.pop(event.key, None) if hasattr(event, "key") else None
            if reported is not None and not reported.done():
                reported.set_result(None)

    def _start_coroutine(self, run: TaskRun, coroutine: Coroutine[Any, Any, object], start: float) -> None:
        if run.watch is not None and run.watch.error is not None:
            coroutine.close()
            self._fail(run, run.watch.error, start, None)
            return
        task = self._loop.create_task(self._await(run, coroutine, start), name=f"task {run.key!r}")
        self.coroutines[run] = task
        task.add_done_callback(lambda _: self.coroutines.pop(run))

    async def _await(self, run: TaskRun, coroutine: Coroutine[Any, Any, object], start: float) -> None:
        """Run an `async def` task on the loop."""
        running.set((self._worker, run.key))
        try:
            value = await coroutine
        except BaseException as error:
            watch = run.watch
            if self._closed and issubclass(type(error), asyncio.CancelledError):
                raise
            if watch is None or watch.error is None:
                self._fail(run, error, start, traceback_of(error))
            elif not watch.abandoned:
                watch.ended = True
                self._fail(run, watch.error, start, traceback_of(error))
        else:
            watch = run.watch
            if watch is None or watch.error is None:
                try:
                    if refers_weakly(value):
                        self._memory.keep_call(run.key, run.call)
                    self._succeed(run, value, start, 0)
                except BaseException as error:  # the value's class fails
                    self._fail(run, error, start, traceback_of(error))
            elif not watch.abandoned:
                watch.ended = True
                self._fail(run, watch.error, start, None)

    async def close(self, wait: bool, timeout: float) -> None:
        """Stop; with `wait`, until what runs now has ended, for at most `timeout` seconds."""
        self._closed = True
        self.interrupts.close()
        for task in list(self.coroutines.values()):
            task.cancel()
        if self.coroutines:
            await asyncio.wait(list(self.coroutines.values()), timeout=timeout)
        self._unstarted.clear()
        self.pool.shutdown(wait=False, cancel_futures=True)
        for executor in self.executors.values():
            if executor is not self.pool:
                executor.shutdown(wait=False)
        if wait:
            try:
                joined = self._loop.run_in_executor(None, _join, self.pool, timeout)
            except RuntimeError:  # the interpreter ends: no thread can wait, and those of the pool are daemons
                return
            await joined


def _end(coroutine: asyncio.Task[None]) -> None:
    """End a coroutine that does not let itself be cancelled: it is not resumed any more."""
    with contextlib.suppress(BaseException):  # whatever it makes of that
        coroutine.get_coro().close()
    coroutine.cancel()
    coroutine.add_done_callback(lambda task: task.cancelled() or task.exception())


def _load(run: TaskRun, values: SpilledValues) -> dict[Key, Any]:
    """Read from disk what a task needs; in a thread.

    Raises:
        UnreadableError: that does not work.
    """
    start = monotonic()
    run.loaded, run.spent = values.weight(), values.spent
    loaded = values.load()
    run.loading = _span(start)
    return loaded


def _span(start: float) -> tuple[float, float]:
    """When something began, by the monotonic clock, and now, as times of day that are as far apart as it took."""
    stop = time.time()
    return (stop - (monotonic() - start) if start else stop), stop


def _join(pool: TaskPool, timeout: float) -> None:
    pool.shutdown(wait=True, timeout=timeout)


def call_pickled(function: Payload, arguments: Payload, values: dict[Key, Any] | None) -> Any:
    """Do one task in another process."""
    called, args, kwargs = load_call(function, arguments)
    if values is not None:
        named = by_user_key(values)
        args, kwargs = resolve(args, named), resolve(kwargs, named)
    return called(*args, **kwargs)


def failure(
    key: Key, error: BaseException, traceback: TracebackType | None, start: float, stop: float, thread: int
) -> ExecuteFailed:
    """The event for an exception, its traceback beginning in the user's code."""
    dumped = dumps_exception(error, users_part(traceback))
    return ExecuteFailed(
        key, dumped.exception, dumped.traceback, dumped.exception_text, dumped.traceback_text, start, stop, thread
    )


def _cannot_load(run: TaskRun, address: str, error: Exception) -> DeserializationError:
    """The error of a task whose function or arguments could not be unpickled."""
    try:
        loads_function(run.function)
        what = "arguments"
    except Exception:
        what = "function"
    hint = "; install or upload that module on the workers" if isinstance(error, ModuleNotFoundError) else ""
    return DeserializationError(
        f"the {what} of the task {from_wire(run.key)!r} cannot be loaded on the worker at {address}, their "
        f"deserialization failed: {described(error)}{hint}"
    )
