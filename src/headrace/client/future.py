"""`Future`: a user's handle on a key. It holds the shared record of the key, and lets go of it when it goes itself.

Everything that waits or talks is the client's; what is here only looks at the record.
"""

from __future__ import annotations

import asyncio
import builtins
import sys
import uuid
from collections.abc import Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dask._task_spec import TaskRef

from headrace.common.keys import Key, from_wire, to_wire
from headrace.containment import described
from headrace.exceptions import DeserializationError
from headrace.protocol import loads, loads_exception, loads_traceback
from headrace.protocol.load_errors import loading_error

from .current import client_for_future
from .errors import FutureCancelledError, FuturesCancelledError
from .state import FutureState

if TYPE_CHECKING:
    from .api.client_base import ClientBase
    from .client import Client

T = TypeVar("T")


def load_error(state: FutureState) -> BaseException:
    """The exception of an erred or cancelled record, with the traceback of where it happened."""
    if state.status == "cancelled" or state.error is None:
        return FutureCancelledError(from_wire(state.key), state.reason, state.message)
    exception = loads_exception(state.error.exception, state.error.exception_text)
    traceback = loads_traceback(state.error.traceback)
    try:
        if traceback is None and state.error.traceback_text and hasattr(exception, "add_note"):
            exception.add_note(state.error.traceback_text)
        return exception.with_traceback(traceback)
    finally:
        del exception, traceback  # see `loads_traceback`


def refuse_cancelled(states: Iterable[FutureState]) -> None:
    """Raise `FuturesCancelledError` if some of these records are cancelled."""
    cancelled = [state for state in states if state.status == "cancelled"]
    if cancelled:
        raise FuturesCancelledError.of(
            FutureCancelledError(from_wire(state.key), state.reason, state.message) for state in cancelled
        )


def load_result(state: FutureState, client: ClientBase) -> Any:
    """The result that a finished record carries, for a client that has the record.

    Raises:
        DeserializationError: it cannot be unpickled here; names the task and the cause.
    """
    try:
        value = loads(state.result)
    except Exception as error:
        raise cannot_load(state.key, error) from error
    return value if "headrace.actor" not in sys.modules else kept(value, client)


def kept(value: Any, client: ClientBase) -> Any:
    """A result; an actor with a future of its own, which keeps it alive."""
    actor = sys.modules["headrace.actor"].Actor
    if type(value) is not actor:
        return value
    whole = client._whole_client
    return value._of(whole, Future(value.key, whole))


def cannot_load(key: Key, error: BaseException) -> DeserializationError:
    """The error to raise when a result has come but cannot be unpickled; of the class of `error` as well."""
    hint = "; its module must be installed here as well" if isinstance(error, ModuleNotFoundError) else ""
    return loading_error(
        f"the result of the task {from_wire(key)!r} cannot be loaded here: {described(error)}{hint}", error
    )


class Future(TaskRef, Generic[T]):  # type: ignore[misc]
    """A result that is being computed, or is held, on the cluster.

    Made by a client's methods. Passed as an argument, it stands for its result.

    Args:
        key: str, bytes, int, float or tuple of these.
        client: whose it is; the current client by default.

    Attributes:
        key: what the scheduler knows it by.
    """

    # `__dict__`, made when it is used: libraries note things of their own on futures
    __slots__ = ("__dict__", "__weakref__", "_client", "_state")

    __dask_future__ = True

    def __init__(self, key: object, client: Client | None = None, state: FutureState | None = None, _id: object = None):
        self.key = key.key if isinstance(key, TaskRef) else key
        self._client: Client | None = None
        self._state: FutureState | None = None
        if state is not None:
            self._client, self._state = client, state
            return
        client = client or client_for_future()
        if client is not None:
            self.bind_client(client)

    @classmethod
    def _of(cls, client: Client, state: FutureState) -> Future[Any]:
        """The future of a record that already counts it."""
        self = _new(cls)
        key = state.key
        self.key = key if type(key) is str and key[:1] != "\x00" else from_wire(key)
        self._client = client
        self._state = state
        return self

    def bind_client(self, client: Client) -> None:
        """Make this future the client's, unless it has one: the scheduler will tell the client about it."""
        if self._state is None:
            self._state = client.held.want(to_wire(self.key))
            self._client = client

    @property
    def client(self) -> Client:
        """The client that this future belongs to.

        Raises:
            RuntimeError: it was unpickled where no client is.
        """
        self._bound()
        if self._client is None:
            raise FutureCancelledError(self.key, "released")
        return self._client

    def _bound(self) -> FutureState:
        state = self._state
        if state is None:
            client = client_for_future()
            if client is None:
                raise RuntimeError(f"{type(self).__name__} {self.key!r} has no client: start one, or use bind_client")
            self.bind_client(client)
            state = self._state
            assert state is not None
        return state

    @property
    def executor(self) -> Client:
        """The same as `client` (for those who know `concurrent.futures`)."""
        return self.client

    @property
    def status(self) -> str:
        """pending, finished, error, cancelled or lost."""
        return self._bound().status

    def done(self) -> bool:
        """Whether it is finished, erred or cancelled."""
        return self._bound().done()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._bound().status == "cancelled"

    @property
    def type(self) -> Any:
        """The type of the result, or its name where the type is not loaded here; `None` before it is known."""
        return _resolve_type(self._bound().type)

    def result(self, timeout: float | str | None = None) -> T:
        """Wait for the result and return it.

        Args:
            timeout: seconds, or text such as "10s".

        Raises:
            TimeoutError: the time is over.
            FutureCancelledError: it was cancelled.
            BaseException: what the task raised.
        """
        state = self._state or self._bound()
        client = self._client or self.client
        if client.asynchronous:
            return client._result_async(self, timeout)  # type: ignore[return-value]
        if state.status == "finished" and state.result is not None:
            return load_result(state, client)  # type: ignore[no-any-return]
        return client._result_sync(self, timeout)  # type: ignore[no-any-return]

    def exception(self, timeout: float | str | None = None, **kwargs: object) -> BaseException | None:
        """Wait, and return what the task raised, or `None`.

        Raises:
            TimeoutError: `timeout` (seconds, or text) is over.
        """
        client = self.client
        if client.asynchronous:
            return client._error_async(self, timeout, _exception_of)  # type: ignore[return-value]
        client._wait_for(self, timeout)
        return _exception_of(self._bound())

    def traceback(self, timeout: float | str | None = None, **kwargs: object) -> TracebackType | None:
        """Wait, and return the traceback of what the task raised, or `None`.

        Raises:
            TimeoutError: `timeout` (seconds, or text) is over.
        """
        client = self.client
        if client.asynchronous:
            return client._error_async(self, timeout, _traceback_of)  # type: ignore[return-value]
        client._wait_for(self, timeout)
        return _traceback_of(self._bound())

    async def _result(self, raiseit: bool = True) -> Any:
        """Wait for the result on any loop; libraries call this where they cannot tell what kind the client is.

        Returns:
            The result; of a failure, without `raiseit`, a tuple (type, exception, traceback) and of a cancelled future
            the `FutureCancelledError`.
        """
        try:
            return await self.client._result_async(self, None)
        except BaseException as error:
            state = self._bound()
            if raiseit or state.status not in ("error", "cancelled"):
                raise
            return error if state.status == "cancelled" else (type(error), error, error.__traceback__)

    async def _exception(self) -> BaseException | None:
        """Wait, on any loop, for what the task raised; see `exception`."""
        return await self.client._error_async(self, None, _exception_of)  # type: ignore[no-any-return]

    async def _traceback(self) -> TracebackType | None:
        """Wait, on any loop, for the traceback of what the task raised; see `traceback`."""
        return await self.client._error_async(self, None, _traceback_of)  # type: ignore[no-any-return]

    def cancel(self, reason: str | None = None, msg: str | None = None, **kwargs: Any) -> Any:
        """Stop the task, unless others want it; see `Client.cancel`.

        Args:
            kwargs: `running=True` to interrupt it if it runs, `force=True` to do so whatever it takes, even if others
                want it.
        """
        return self.client.cancel([self], reason=reason, msg=msg, **kwargs)

    def retry(self, **kwargs: Any) -> Any:
        """Run the task again if it failed; see `Client.retry`."""
        return self.client.retry([self], **kwargs)

    def logs(self) -> Any:
        """Lines that the task printed and logged, oldest first: a list of `LogLine`; see `Client.get_task_logs`."""
        client = self.client
        return client.sync(client._logs_of, self.key)

    def add_done_callback(self, fn: Callable[[Future[T]], Any]) -> None:
        """Call `fn(future)` in another thread once this is done, however it ends."""
        client = self.client
        state = self._bound()

        def call(_: FutureState) -> None:
            client._run_callback(fn, self)

        if not client.held.add_waiter(state, call):
            call(state)

    def release(self) -> None:
        """Let go of the result; this future keeps the status that it has."""
        state, client = self._state, self._client
        if state is not None and client is not None:
            self._client = None  # also tells __del__
            client.held.release_now([state])

    def __await__(self) -> Generator[Any, None, T]:
        client = self.client
        work: Coroutine[Any, Any, T] = client._result_async(self, None)
        return work.__await__()

    def __del__(self) -> None:
        # Runs anywhere, even inside our own locked sections, and at exit, when modules are half gone.
        try:
            state, client = self._state, self._client
        except AttributeError:
            return
        if state is not None and client is not None:
            client.held.release_later(state)

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.key,)

    def __dask_tokenize__(self) -> tuple[str, Any, str]:
        # This object's own: a key may have another value by the time at which there is another future of it.
        own = self.__dict__.setdefault("_token", uuid.uuid4().hex)
        return (type(self).__name__, self.key, own)

    def __copy__(self) -> Future[T]:
        return self

    def __deepcopy__(self, memo: object) -> Future[T]:
        return self

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        if self._state is None:
            return f"<Future: no client, key: {self.key}>"
        kind = self.type
        shown = f", type: {getattr(kind, '__qualname__', kind)}" if kind is not None else ""
        return f"<Future: {self.status}{shown}, key: {self.key}>"

    def _repr_html_(self) -> str:
        from .presentation.client_card import future_html

        return future_html(self)


def _restore(key: object) -> Future[Any]:
    """Unpickle a future: one of the client here, if there is one."""
    return Future(key)


def _exception_of(state: FutureState) -> BaseException | None:
    return load_error(state) if state.status == "error" else None


def _traceback_of(state: FutureState) -> TracebackType | None:
    if state.status != "error" or state.error is None:
        return None
    return loads_traceback(state.error.traceback)


def _resolve_type(name: object) -> Any:
    """The class of a qualified name if its module is loaded; nothing is imported for a display."""
    if not isinstance(name, str):
        return name
    found = getattr(builtins, name, None)
    if isinstance(found, type):
        return found
    module, _, qualname = name.rpartition(".")
    found = getattr(sys.modules.get(module), qualname, None) if module else None
    return found if isinstance(found, type) else name


async def done_callback(future: Future[Any], callback: Callable[[Future[Any]], Any]) -> None:
    """Call a function with a future once that is done."""
    await future.client.held.wait_async([future._bound()])
    result = callback(future)
    if asyncio.iscoroutine(result):
        await result


_new = object.__new__
