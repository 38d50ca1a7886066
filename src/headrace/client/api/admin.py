"""Running functions on workers and scheduler, plugins, and the life of workers."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from typing import Any

from headrace.config import parse_seconds
from headrace.messages.base import Payload
from headrace.protocol import dumps, hand_over, loads_exception, loads_traceback, unwrap
from headrace.security import Security

from ..packing.task_options import Workers, chosen_workers, normalize_workers
from .client_base import ClientBase, no_default


class AdminMethods(ClientBase):
    """Managing the cluster."""

    def run(
        self,
        function: Callable[..., Any],
        *args: object,
        workers: Workers = None,
        wait: bool = True,
        nanny: bool = False,
        on_error: str = "raise",
        **kwargs: object,
    ) -> Any:
        """Call a function on workers, at once and outside of the task system.

        A parameter named `dask_worker` is given the Worker. Coroutine functions run on the worker's loop.

        Args:
            workers: addresses, names or hosts; all by default.
            wait: wait for the results; without, `None` comes back, and coroutines go on by themselves.
            nanny: run in the workers' nannies; the results come by the workers' addresses all the same.
            on_error: what to do where the function fails, or a worker cannot be reached or dies of it: "raise",
                "return" (the exception in place of the result) or "ignore" (leave it out).

        Returns:
            `{address: result}`.

        Raises:
            ValueError: `on_error` is none of these.
            BaseException: what the function raised, with `on_error="raise"`.
            OSError: a worker could not be reached, or died, likewise.
        """
        if on_error not in ("raise", "return", "ignore"):
            raise ValueError(f"on_error must be 'raise', 'return', or 'ignore'; got {on_error!r}")
        return self.sync(self._run, function, args, kwargs, chosen_workers(workers), wait, nanny, on_error)

    async def _run(
        self,
        function: Callable[..., Any],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        workers: list[str] | None,
        wait: bool,
        nanny: bool,
        on_error: str,
    ) -> dict[str, Any] | None:
        message: dict[str, Any] = {
            "op": "run",
            **self._packed(function=function, args=args, kwargs=kwargs),
            "wait": wait,
        }
        if self._families is not None:
            message["serializers"] = self._families.serializers
        replies = await self._call("broadcast", msg=message, workers=workers, nanny=nanny, on_error="return")
        results: dict[str, Any] = {}
        for address, reply in replies.items():
            failure = _failure(unwrap(reply))
            if failure is None:
                results[address] = unwrap(reply.get("result")) if wait and isinstance(reply, dict) else None
            elif on_error == "raise":
                raise failure
            elif on_error == "return":
                results[address] = failure
        return results if wait else None

    def _packed(self, **values: object) -> dict[str, Any]:
        """Payloads of a function that is to be called elsewhere, and of its arguments."""
        dump = hand_over if self.session.in_process else dumps
        return {name: dump(value) for name, value in values.items()}

    def run_on_scheduler(self, function: Callable[..., Any], *args: object, **kwargs: object) -> Any:
        """Call a function in the scheduler's process and return its result.

        A parameter named `dask_scheduler` is given the Scheduler. Coroutine functions run on its loop.
        """
        return self.sync(self._run_on_scheduler, function, args, kwargs)

    async def _run_on_scheduler(
        self, function: Callable[..., Any], args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Any:
        reply = await self._call("run_function", **self._packed(function=function, args=args, kwargs=kwargs), wait=True)
        failure = _failure(reply)
        if failure is not None:
            raise failure
        return unwrap(reply.get("result"))

    def register_plugin(self, plugin: object, name: str | None = None) -> Any:
        """Install a scheduler, worker or nanny plugin.

        Args:
            plugin: an instance.
            name: what to know it by; its own `name`, or one made up, by default.

        Returns:
            What each worker (or nanny) answered.
        """
        return self._register_plugin_as(plugin, name, None)

    def register_worker_plugin(self, plugin: object = None, name: str | None = None, nanny: bool | None = None) -> Any:
        """Install a plugin that is known to be a worker's (or, with `nanny`, a nanny's); see `register_plugin`."""
        return self._register_plugin_as(plugin, name, "nanny" if nanny else "worker")

    def register_scheduler_plugin(self, plugin: Any, name: str | None = None, idempotent: bool | None = None) -> Any:
        """Install a plugin that is known to be a scheduler's; see `register_plugin`."""
        if idempotent is not None:
            plugin.idempotent = idempotent
        return self._register_plugin_as(plugin, name, "scheduler")

    def _register_plugin_as(self, plugin: object, name: str | None, kind: str | None) -> Any:
        if isinstance(plugin, type):
            raise TypeError("Please provide an instance of a plugin, not a type.")
        kind = kind or _kind_of_plugin(plugin)
        name = name or getattr(plugin, "name", None) or f"{type(plugin).__name__}-{uuid.uuid4()}"
        payload = dumps(plugin)
        idempotent = bool(getattr(plugin, "idempotent", False))
        if kind == "scheduler":
            return self._ask("register_scheduler_plugin", plugin=payload, name=name, idempotent=idempotent)
        return self.sync(self._register_remote_plugin, f"register_{kind}_plugin", payload, name, idempotent)

    async def _register_remote_plugin(self, op: str, payload: Payload, name: str, idempotent: bool) -> dict[str, Any]:
        replies = await self._call(op, plugin=payload, name=name, idempotent=idempotent)
        for reply in (replies or {}).values():
            failure = _failure(reply)
            if failure is not None:
                raise failure
        return dict(replies or {})

    def unregister_worker_plugin(self, name: str, nanny: bool | None = None) -> Any:
        """Remove a worker's (or nanny's) plugin from all workers.

        Raises:
            ValueError: there is none of this name.
        """
        return self.sync(
            self._unregister_plugin, "unregister_nanny_plugin" if nanny else "unregister_worker_plugin", name
        )

    async def _unregister_plugin(self, op: str, name: str) -> Any:
        replies = await self._call(op, name=name)
        for reply in (replies or {}).values():
            failure = _failure(reply)
            if failure is not None:
                raise failure
        return replies

    def unregister_scheduler_plugin(self, name: str) -> Any:
        """Remove a plugin from the scheduler.

        Raises:
            ValueError: there is none of this name.
        """
        return self._ask("unregister_scheduler_plugin", name=name)

    def register_worker_callbacks(self, setup: Callable[..., Any] | None = None) -> Any:
        """Call a function on each worker now, and on each that comes later."""
        return self.register_worker_plugin(_SetupPlugin(setup))

    def restart(self, timeout: float | str | None = no_default, wait_for_workers: bool = True) -> Any:
        """Restart all workers and forget all work; every future is cancelled.

        Workers without a nanny are only shut down.

        Args:
            timeout: seconds (or text) to wait for the workers.
            wait_for_workers: whether to wait until they are back.

        Raises:
            TimeoutError: they did not come back in time.
        """
        seconds = self._timeout * 4 if timeout is no_default or timeout is None else parse_seconds(timeout)
        return self.sync(self._restart, seconds, wait_for_workers)

    async def _restart(self, timeout: float, wait_for_workers: bool) -> None:
        await self._call("restart", client=self.id, timeout=timeout, wait_for_workers=wait_for_workers)

    def restart_workers(
        self,
        workers: str | int | Iterable[str | int],
        timeout: float | str | None = no_default,
        raise_for_error: bool = True,
    ) -> Any:
        """Restart some workers. Work goes on; what ran on them is done again.

        Args:
            workers: addresses or names.
            timeout: seconds (or text) to wait for them.
            raise_for_error: raise, instead of returning what went wrong.

        Returns:
            `{worker: "OK" | "timed out" | what went wrong}`, with the workers as they were given.

        Raises:
            ValueError: there is no such worker, or one has no nanny that could start it again.
            TimeoutError: it took longer.
        """
        seconds = self._timeout * 4 if timeout is no_default else None if timeout is None else parse_seconds(timeout)
        given = [workers] if isinstance(workers, (str, int)) else list(workers)
        return self.sync(self._restart_workers, given, seconds, raise_for_error)

    async def _restart_workers(self, given: list[Any], timeout: float | None, raise_for_error: bool) -> dict[Any, str]:
        names = {name: worker for worker in given for name in normalize_workers(worker)}
        reply = await self._call(
            "restart_workers",
            workers=list(names),
            timeout=timeout,
            on_error="raise" if raise_for_error else "return",
            need_nannies=True,
        )
        return {names.get(name, name): answer for name, answer in reply.items()}

    def retire_workers(self, workers: Workers = None, close_workers: bool = True, **kwargs: object) -> Any:
        """Close workers once their results are on others.

        Args:
            workers: addresses, names or hosts; the scheduler chooses by default.
            close_workers: whether to close them, or only to take their results away.
            kwargs: see `Scheduler.retire_workers`.
        """
        return self._ask("retire_workers", workers=chosen_workers(workers), close_workers=close_workers, **kwargs)

    def write_scheduler_file(self, scheduler_file: str) -> None:
        """Write what other clients need to connect to this scheduler, as JSON.

        Raises:
            ValueError: this client was itself made from a scheduler file.
        """
        from headrace.rpc.scheduler_file import write_scheduler_file

        if getattr(self, "scheduler_file", None):
            raise ValueError("Scheduler file already set")
        token = (self._whole_client.security or Security()).access_rules("client").current_token()
        write_scheduler_file(scheduler_file, self._whole_client.scheduler_info(), token)
        self.scheduler_file = scheduler_file


class _SetupPlugin:
    """Calls a function when a worker starts."""

    def __init__(self, function: Callable[..., Any] | None) -> None:
        self._function = function

    def setup(self, worker: object) -> Any:
        """Called by the worker."""
        import inspect

        function = self._function
        if function is None:
            return None
        takes = "dask_worker" in inspect.signature(function).parameters
        return function(dask_worker=worker) if takes else function()


def _kind_of_plugin(plugin: object) -> str:
    """The kind of process that a plugin is for, by its documented base class's name; nothing is imported for it."""
    names = {base.__name__ for base in type(plugin).__mro__}
    for base, kind in (("NannyPlugin", "nanny"), ("SchedulerPlugin", "scheduler"), ("WorkerPlugin", "worker")):
        if base in names:
            return kind
    raise TypeError(
        "Registering duck-typed plugins is not allowed. Please inherit from NannyPlugin, WorkerPlugin, or "
        f"SchedulerPlugin to create a plugin (got {type(plugin).__qualname__})."
    )


def _failure(reply: object) -> BaseException | None:
    """The exception in a reply, with its traceback, or `None`."""
    if isinstance(reply, BaseException):
        return reply
    if not isinstance(reply, dict) or "exception" not in reply:
        return None
    exception, traceback = unwrap(reply["exception"]), unwrap(reply.get("traceback"))
    if not isinstance(exception, BaseException):
        exception = loads_exception(exception, str(reply.get("exception_text") or reply.get("text") or ""))
    if traceback is not None and not hasattr(traceback, "tb_frame"):
        traceback = loads_traceback(traceback)
    return exception.with_traceback(traceback)
