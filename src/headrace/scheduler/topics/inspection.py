"""Looking in: stories, logs, events, metadata, and functions that run in the scheduler's process."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from headrace import clock
from headrace.comm import Comm
from headrace.protocol import Serialize, dumps_exception
from headrace.rpc.run_function import is_own_cancellation
from headrace.scheduler.shell import Operations
from headrace.scheduler.state.checks.story import Transition

from .state_dump import DumpHandlers


class InspectHandlers(DumpHandlers):
    """Questions about the past and present, and `run_function`."""

    def inspect_operations(self) -> Operations:
        return {
            **self.profile_operations(),
            **self.dump_operations(),
            "run_function": self.run_function,
            "get_story": self.get_story,
            "get_logs": self.get_logs,
            "logs": self.get_logs,
            "worker_logs": self.get_worker_logs,
            "events": self.get_events,
            "log_event": self.log_event,
            "subscribe_topic": self.subscribe_topic,
            "unsubscribe_topic": self.unsubscribe_topic,
            "get_metadata": self.get_metadata,
            "set_metadata": self.set_metadata,
            "get_task_status": self.get_task_status,
            "get_task_prefix_states": self.get_task_prefix_states,
            "get_error_cause": self.get_error_cause,
            "count_running": self.count_running,
            "call_stack": self.get_call_stack,
            "retry": self.stimulus_retry,
            "versions": self.versions,
        }

    def run_function(
        self, comm: Comm | None, function: Any, args: Any = (), kwargs: Any = None, wait: bool = True
    ) -> Awaitable[dict[str, Any]]:
        """Run a pickled function in this process; it is given the scheduler as `dask_scheduler` if it takes that.

        Args:
            comm: accepted for compatibility.

        Returns:
            `{"status": "OK", "result": …}`, or with status "error" the pickled `exception` and `traceback`.
        """
        return self._run_function(function, args, kwargs)

    async def _run_function(self, function: Any, args: Any, kwargs: Any) -> dict[str, Any]:
        call, arguments = self.open_sent(function), tuple(self.open_sent(args))
        keywords = {name: self.open_sent(value) for name, value in (self.open_sent(kwargs) or {}).items()}
        try:
            if "dask_scheduler" in inspect.signature(call).parameters:
                keywords["dask_scheduler"] = self
        except (TypeError, ValueError):
            pass  # built-in functions have no signature, and do not want the scheduler
        try:
            result = call(*arguments, **keywords)
            if inspect.isawaitable(result):
                result = await result
        except BaseException as error:  # not even sys.exit() in there ends this server
            if is_own_cancellation(error):
                raise
            dumped = dumps_exception(error)
            return {
                "status": "error",
                "exception": dumped.exception,
                "traceback": dumped.traceback,
                "exception_text": dumped.exception_text,
                "traceback_text": dumped.traceback_text,
            }
        return {"status": "OK", "result": Serialize(result)}

    story: Callable[..., list[Transition]]

    def transition_story(self, *keys_or_tasks_or_stimuli: Any) -> list[Transition]:
        """As `story`."""
        return self.story(*keys_or_tasks_or_stimuli)

    async def get_story(self, keys_or_stimuli: Iterable[Any]) -> list[tuple[Any, ...]]:
        """As `story`, in plain tuples."""
        return [tuple(line) for line in self.story(*keys_or_stimuli)]

    async def get_worker_logs(
        self, n: int | None = None, workers: Iterable[str] | None = None, nanny: bool = False
    ) -> dict[str, Any]:
        """The latest lines of the logs of workers (with `nanny`, of their nannies), by the worker's address."""
        request = {"op": "get_logs", "n": n}
        return dict(await self.broadcast(request, workers=workers, nanny=nanny, on_error="ignore"))

    def get_events(self, topic: str | None = None) -> Any:
        """Events of a topic, or of all by topic, oldest first: (time, event)."""
        if topic is not None:
            return list(self.events.get(topic, ()))
        return {name: list(log) for name, log in self.events.items()}

    def subscribe_topic(self, topic: str, client: str) -> None:
        """Send a topic's events to a client from now on, until it leaves."""
        if client in self.clients:
            self.event_subscribers.setdefault(topic, set()).add(client)

    def unsubscribe_topic(self, topic: str, client: str) -> None:
        """Send a topic's events to a client no more."""
        subscribers = self.event_subscribers.get(topic)
        if subscribers is not None:
            subscribers.discard(client)
            if not subscribers:
                del self.event_subscribers[topic]

    def set_metadata(self, keys: Any, value: Any = None) -> None:
        """Set a value in the nested dictionary that clients share."""
        path = list(keys) if isinstance(keys, (list, tuple)) else [keys]
        node = self.task_metadata
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = value

    def get_metadata(self, keys: Any, default: Any = "__no_default__") -> Any:
        """A value of the nested dictionary that clients share.

        Raises:
            KeyError: it is not there, and no default was given.
        """
        node: Any = self.task_metadata
        for key in list(keys) if isinstance(keys, (list, tuple)) else [keys]:
            try:
                node = node[key]
            except (KeyError, TypeError):
                if default == "__no_default__":
                    raise KeyError(f"no metadata at {keys!r}") from None
                return default
        return node

    def get_task_status(self, keys: Iterable[Any]) -> dict[Any, str | None]:
        """{key: state}, `None` where the key is unknown."""
        return {key: task.state if (task := self.tasks.get(key)) is not None else None for key in keys}

    def get_task_prefix_states(self) -> dict[str, dict[str, int]]:
        """{prefix: {state: tasks now}} for the states below, of the prefixes with tasks in any of these."""
        found = {}
        for name, prefix in self.task_prefixes.items():
            states = prefix.states
            counts = {state: states[state] for state in ("memory", "erred", "released", "processing", "waiting")}
            if any(counts.values()):
                found[name] = counts
        return found

    def count_running(self) -> int:
        """How many tasks run now, as far as the scheduler can tell: workers may hold more than they have threads."""
        return sum(
            min(worker.nthreads, len(worker.processing) - len(worker.long_running)) + len(worker.long_running)
            for worker in self.workers.values()
        )

    def get_error_cause(self, keys: Iterable[Any]) -> Any:
        """The key whose failure the first erred one of these shares."""
        for key in keys:
            task = self.tasks.get(key)
            if task is not None and task.exception_blame is not None:
                return task.exception_blame.key
        return None

    async def get_call_stack(self, keys: Iterable[Any] | None = None) -> dict[str, Any]:
        """What running tasks (all, or these) are doing, by worker."""
        if keys is None:
            workers = [address for address, worker in self.workers.items() if worker.processing]
            stacks = await self.broadcast({"op": "call_stack", "keys": None}, workers=workers, on_error="ignore")
            return {address: stack for address, stack in stacks.items() if stack}
        by_worker: dict[str, list[Any]] = {}
        for key in keys:
            task = self.tasks.get(key)
            if task is not None and task.processing_on is not None:
                by_worker.setdefault(task.processing_on.address, []).append(key)
        found = {}
        for address, wanted in by_worker.items():
            stacks = await self.broadcast({"op": "call_stack", "keys": wanted}, workers=[address], on_error="ignore")
            found.update({address: stack for address, stack in stacks.items() if stack})
        return found

    def stimulus_retry(self, keys: Iterable[Any], client: str | None = None) -> list[Any]:
        """Run erred tasks again; returns the keys that were erred."""
        retried = self.state.retry(keys, clock.now())
        self.flush()
        return retried
