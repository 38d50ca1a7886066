"""Runs functions that a client sends to a server process, and answers with their results or exceptions."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from types import TracebackType
from typing import Any

from headrace.common.callables import has_arg
from headrace.containment import can_be_raised, described, let_pass, log_failure_of, traceback_of
from headrace.protocol import Frames, Serialize, dumps_exception, loads, unwrap
from headrace.protocol.marks import Serialized

from .server_life import Node

logger = logging.getLogger("distributed.core")

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_GRAPH_NODES = os.path.join("dask", "_task_spec.py")


async def run_function(node: Node, function: object, args: object, kwargs: object, wait: bool) -> dict[str, Any] | None:
    """Call a function, or run a coroutine function, on a node's loop; `dask_worker`, if it takes that, is the node.

    Args:
        node: the server.
        function, args, kwargs: the call; each may be pickled.
        wait: whether to answer with the result; else the answer is None and a coroutine goes on by itself.
    """
    called: Any = function
    try:
        called = opened(function)
        positional, keywords = opened(args), dict(opened(kwargs) or {})
        if has_arg(called, "dask_worker"):
            keywords["dask_worker"] = node
        result = called(*positional, **keywords)
        if inspect.isawaitable(result):
            if not wait:
                text = "A function that was run without waiting has failed"
                node.run_in_background(log_failure_of(logger, result, text))
                return None
            result = await result
    except BaseException as error:  # not even sys.exit() in the function ends this server
        if is_own_cancellation(error):
            raise
        _log_run(called, error)
        return error_reply(error)
    return {"status": "OK", "result": Serialize(result)} if wait else None


def _log_run(function: object, error: BaseException) -> None:
    shown = error if can_be_raised(error) else None
    try:
        logger.warning("Run failed: %r", function, exc_info=shown)
    except BaseException as raised:  # the function's or the exception's own `__repr__` fails
        let_pass(raised)
        logger.warning("Run failed: %s", described(error))


def is_own_cancellation(error: BaseException) -> bool:
    """Whether an exception out of a user's function means that the calling task is being cancelled."""
    task = asyncio.current_task()
    return issubclass(type(error), asyncio.CancelledError) and task is not None and task.cancelling() > 0


def opened(value: object) -> Any:
    """The value itself, whether it came as such, as a `Serialize`, or as a pickle."""
    if isinstance(value, (bytes, Frames)):
        return loads(value)
    return unwrap(value) if isinstance(value, (Serialize, Serialized)) else value


def error_reply(error: BaseException) -> dict[str, Any]:
    """The reply that stands for an exception in a user's function or file."""
    dumped = dumps_exception(error, users_part(traceback_of(error)))
    return {
        "status": "error",
        "exception": Serialized.of(dumped.exception),
        "traceback": Serialized.of(dumped.traceback),
        "exception_text": dumped.exception_text,
        "traceback_text": dumped.traceback_text,
        "text": dumped.exception_text,
    }


def users_part(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without headrace's and dask's frames above the user's; all of it if the user has none in it."""
    inner = traceback
    while inner is not None:
        filename = inner.tb_frame.f_code.co_filename
        if not (filename.startswith(_PACKAGE) or filename.endswith(_GRAPH_NODES)):
            return inner
        inner = inner.tb_next
    return traceback
