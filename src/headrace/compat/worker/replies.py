"""Documented shapes of answers, decorators and texts of a worker, for those who write their own."""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Collection
from typing import Any, Literal, TypedDict, TypeVar

from headrace.common.keys import Key
from headrace.protocol import dumps_function as _dumps_function
from headrace.protocol import unwrap
from headrace.rpc.run_function import run_function

logger = logging.getLogger("distributed.worker")

T = TypeVar("T")


class GetDataBusy(TypedDict):
    """The answer of a worker that sends to too many others at the moment."""

    status: Literal["busy"]


class GetDataSuccess(TypedDict):
    """Values by key; those that the worker does not have are left out."""

    status: Literal["OK"]
    data: dict[Any, Any]


class RunTaskSuccess(TypedDict):
    """A task has run."""

    op: Literal["task-finished"]
    status: Literal["OK"]
    result: object
    nbytes: int
    type: type
    start: float
    stop: float
    thread: int


class RunTaskFailure(TypedDict):
    """A task raised."""

    op: Literal["task-erred"]
    status: Literal["error"]
    exception: object
    traceback: object
    exception_text: str
    traceback_text: str
    actual_exception: BaseException
    actual_thread: int
    start: float
    stop: float
    thread: int


async def get_data_from_worker(
    rpc: Any,
    keys: Collection[Key],
    worker: str,
    *,
    who: str | None = None,
    serializers: Any = None,
    deserializers: Any = None,
) -> GetDataBusy | GetDataSuccess:
    """Ask a worker for values.

    Args:
        rpc: calls servers: a `ConnectionPool`.
        worker: its address.
        who: address of the worker that asks, which may be told to come later.
        serializers, deserializers: accepted for compatibility.

    Raises:
        OSError: it cannot be reached.
    """
    reply = await rpc(worker).get_data(keys=list(keys), who=who)
    if reply["status"] == "busy":
        return {"status": "busy"}
    return {"status": "OK", "data": {key: unwrap(value) for key, value in reply["data"].items()}}


async def run(server: Any, comm: Any, function: Any, args: Any = (), kwargs: Any = None, wait: bool = True) -> Any:
    """Call a (pickled) function on a server's loop; it gets `dask_worker` if it takes that.

    Args:
        comm: accepted for compatibility.
        wait: whether to answer with the result; else the answer is None and a coroutine goes on by itself.
    """
    return await run_function(server, function, args, kwargs, wait)


def dumps_function(func: Callable[..., Any]) -> bytes:
    """A function's pickle, remembered for the next time."""
    data: bytes = _dumps_function(func)
    return data


def fail_hard(method: Callable[..., T]) -> Callable[..., T]:
    """Make a method of a worker close the worker when it raises."""
    reason = f"worker-{method.__name__}-fail-hard"

    def on_failure(worker: Any, error: BaseException) -> None:
        worker.log_event("worker-fail-hard", {"worker": worker.address, "error": repr(error), "method": reason})
        logger.exception("Worker %s failed in %s and closes", worker.address, method.__name__)
        worker.die_of(f"it failed in {method.__name__}: {error!r}")
        worker.run_detached(worker.close(nanny=False, executor_wait=False, reason=reason))

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return await method(self, *args, **kwargs)
            except Exception as error:
                if self.is_running:
                    on_failure(self, error)
                raise

    else:

        @functools.wraps(method)
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except Exception as error:
                if self.is_running:
                    on_failure(self, error)
                raise

    return wrapper  # type: ignore[return-value]


# Texts for logs


def convert_args_to_str(args: Any, max_len: int | None = None) -> str:
    """Arguments as a text of at most `max_len` characters; what cannot be shown is named and not shown."""
    return _joined("({})", [_shown(each) for each in args], max_len)


def convert_kwargs_to_str(kwargs: dict[str, Any], max_len: int | None = None) -> str:
    """Keyword arguments as a text of at most `max_len` characters."""
    return _joined("{{{}}}", [f"{name!r}: {_shown(value)}" for name, value in kwargs.items()], max_len)


def _joined(frame: str, parts: list[str], max_len: int | None) -> str:
    text = frame.format(", ".join(parts))
    return text if max_len is None else text[:max_len]


def _shown(value: Any) -> str:
    try:
        return repr(value)
    except Exception:
        return f"<a {type(value).__name__} whose repr fails>"


class _SafeArguments:
    """Arguments of a message that are shown by `convert_args_to_str`."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __repr__(self) -> str:
        if isinstance(self._value, dict):
            return convert_kwargs_to_str(self._value)
        if isinstance(self._value, (list, tuple)):
            return convert_args_to_str(self._value)
        return _shown(self._value)


def get_msg_safe_str(msg: dict[str, Any]) -> str:
    """A message as text, whatever its `args` and `kwargs` do when they are shown."""
    return repr({name: _SafeArguments(value) if name in ("args", "kwargs") else value for name, value in msg.items()})
