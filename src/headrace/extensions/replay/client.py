"""The user's half of running tasks again: gets the inputs, and makes the call here."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from headrace.client import Future, futures_of
from headrace.common.keys import Key, from_wire, to_wire
from headrace.protocol import loads
from headrace.worker.execution.run_spec import resolve

if TYPE_CHECKING:
    from headrace.client.api.client_base import ClientBase
    from headrace.client.client import Client

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class ReplayTaskClient:
    """Runs tasks of a cluster again, in this process.

    Args:
        client: the client that fetches the inputs.
    """

    def __init__(self, client: ClientBase) -> None:
        self.client = cast("Client", client)  # a group of its methods makes this

    @property
    def scheduler(self) -> Any:
        """Requests to the scheduler."""
        return self.client.scheduler

    def recreate_error_locally(self, future: Any) -> Any:
        """Make the call that failed, with the inputs that it had, so that it fails here.

        Args:
            future: of the task that failed or of one that depends on it; or a collection, or several.

        Raises:
            BaseException: the error of the call.
            ValueError: nothing has failed.
        """
        if self.client.asynchronous:
            return self.client.sync(self._run, self._failed_call, future)
        return self._call(self.client.sync(self._failed_call, future))

    def recreate_task_locally(self, future: Any) -> Any:
        """Make a task's call here, with the inputs that it had, and return the result.

        Args:
            future: of the task, or its key.

        Raises:
            KeyError: the scheduler does not know the task.
        """
        if self.client.asynchronous:
            return self.client.sync(self._run, self._call_of_task, future)
        return self._call(self.client.sync(self._call_of_task, future))

    async def _run(self, find: Callable[[Any], Any], future: Any) -> Any:
        return self._call(await find(future))

    @staticmethod
    def _call(call: Call) -> Any:
        function, args, kwargs = call
        return function(*args, **kwargs)

    async def _failed_call(self, future: Any) -> Call:
        futures = [future] if isinstance(future, Future) else futures_of(future)
        states = [each._bound() for each in futures]
        await self.client.held.wait_async(states)
        cause = await self.client._call("get_error_cause", keys=[state.key for state in states])
        if cause is None:
            raise ValueError("none of these tasks has failed: there is no error to make again")
        return await self._prepare(cause)

    async def _call_of_task(self, future: Any) -> Call:
        if isinstance(future, Future):
            await self.client.held.wait_async([future._bound()])
        return await self._prepare(to_wire(getattr(future, "key", future)))

    async def _prepare(self, key: Key) -> Call:
        """Fetch a call and the inputs that it needs, and put these in place."""
        spec = await self.client._call("get_runspec", key=key)
        keys = [from_wire(each) for each in spec["dependencies"]]
        futures = [Future(each, self.client) for each in keys]
        values = dict(zip(keys, await self.client._gather(futures), strict=True))
        function = loads(spec["function"])
        args, kwargs = loads(spec["arguments"])
        if keys:
            args, kwargs = resolve(args, values), resolve(kwargs, values)
        return function, args, kwargs
