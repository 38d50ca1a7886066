"""Functions that clients send to run in the scheduler's process: once, or again and again as a feed."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

from headrace.comm import Comm
from headrace.config import parse_seconds
from headrace.exceptions import CommClosedError
from headrace.protocol import Serialize, dumps_exception
from headrace.rpc.run_function import is_own_cancellation
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell


class SentFunctions:
    """Runs what clients send."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {
            "run_function": Operation(self.run_function, takes_comm=True),
            "feed": Operation(self.feed, takes_over=True),
        }

    def run_function(
        self, comm: Comm | None, function: object, args: object = (), kwargs: object = None, wait: bool = True
    ) -> Awaitable[dict[str, Any]]:
        """Run a pickled function in this process; it is given the scheduler as `dask_scheduler` if it takes that.

        Args:
            comm: accepted for compatibility.

        Returns:
            `{"status": "OK", "result": …}`, or with status "error" the pickled `exception` and `traceback`.
        """
        return self._run_function(function, args, kwargs)

    async def _run_function(self, function: object, args: object, kwargs: object) -> dict[str, Any]:
        call, arguments = self.shell.open_sent(function), tuple(self.shell.open_sent(args))
        keywords = {name: self.shell.open_sent(value) for name, value in (self.shell.open_sent(kwargs) or {}).items()}
        try:
            if "dask_scheduler" in inspect.signature(call).parameters:
                keywords["dask_scheduler"] = self.shell.facade
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

    async def feed(
        self,
        /,
        comm: Comm,
        function: object = None,
        setup: object = None,
        teardown: object = None,
        interval: float | str = "1s",
        **kwargs: object,
    ) -> None:
        """Send what a function says of this scheduler, again and again, until the other side closes.

        Args:
            function: called as `function(scheduler, state)`.
            setup, teardown: called as `setup(scheduler)`, which makes the `state`, and `teardown(scheduler, state)`.
            interval: seconds, or text, between two calls.
        """
        tell, begin, end = map(self.shell.open_sent, (function, setup, teardown))
        scheduler = self.shell.facade
        state = begin(scheduler) if begin else None
        pause = parse_seconds(interval)
        try:
            while self.shell.is_running and not comm.closed():
                await comm.write(tell(scheduler, state) if state is not None else tell(scheduler))
                await asyncio.sleep(pause)
        except (CommClosedError, OSError):
            pass
        finally:
            if end:
                end(scheduler, state)
