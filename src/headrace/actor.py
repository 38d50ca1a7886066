"""Actors as others see them: a proxy that calls methods on the worker where the actor lives, directly.

Used by clients and inside tasks and other actors alike; which of these it is, is found out at each call. The actor
itself and the thread that it runs in are `headrace.worker.actors`' business.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future as ConcurrentFuture
from typing import TYPE_CHECKING, Any, TypeVar

from dask._task_spec import TaskRef

from headrace.common.callables import has_arg
from headrace.common.current_run import client_here, worker_here
from headrace.common.keys import Key, to_wire
from headrace.exceptions import LostActorError, UnknownMessage
from headrace.messages.actor_calls import ActorCall, ActorReply
from headrace.messages.base import Payload
from headrace.protocol import Held, dumps, loads, loads_exception, loads_traceback
from headrace.rpc import ConnectionPool, IOLoop, PooledRPCCall, Stream, send_recv

if TYPE_CHECKING:
    from headrace import Worker
    from headrace.client.client import Client
    from headrace.client.future import Future

T = TypeVar("T")

logger = logging.getLogger("distributed.actor")

#: Seconds to reach a worker that has an actor. One that was restarted has another address and no actors.
CONNECT_SECONDS = 5.0
_MISSING = object()
_PRIVATE = ("_cls", "_address", "_future", "_client", "_own")


class BaseActorFuture(ABC, Awaitable[T]):
    """Result of a call of an actor's method: wait for it with `result()`, or `await` it."""

    __slots__ = ()

    @abstractmethod
    def result(self, timeout: str | float | None = None) -> T:
        """The value that the method returned.

        Args:
            timeout: seconds, or text such as "10s".

        Raises:
            TimeoutError: the time is over; the call goes on.
            LostActorError: the worker is gone, and the actor with it.
            BaseException: what the method raised.
        """

    @abstractmethod
    def done(self) -> bool:
        """Whether the call has ended."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


class EagerActorFuture(BaseActorFuture[T]):
    """The result of a call that was done at once: of an actor by an actor on the same worker.

    Args:
        _result: what the method returned.
    """

    __slots__ = ("_result",)

    def __init__(self, _result: T) -> None:
        self._result = _result

    def __await__(self) -> Generator[Any, None, T]:
        return self._result
        yield  # makes this a generator

    def result(self, timeout: object = None) -> T:
        return self._result

    def done(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EagerActorFuture) and self._result == other._result

    __hash__ = None  # type: ignore[assignment]


async def _result_of(future: ConcurrentFuture[T]) -> T:
    """Not `asyncio.wrap_future`, whose future never ends if the outcome is `StopIteration`."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits on it
            loop.call_soon_threadsafe(done.set)

    future.add_done_callback(tell)
    await done.wait()
    return future.result()


class ActorFuture(BaseActorFuture[T]):
    """The result of a call that is under way.

    Args:
        io_loop: the event loop that brings it; `result` cannot be used there.
    """

    __slots__ = ("__weakref__", "_future", "_io_loop")

    def __init__(self, io_loop: IOLoop | asyncio.AbstractEventLoop) -> None:
        self._io_loop = getattr(io_loop, "asyncio_loop", io_loop)
        self._future: ConcurrentFuture[T] = ConcurrentFuture()
        self._future.set_running_or_notify_cancel()  # whoever stops waiting does not stop the call

    def __await__(self) -> Generator[Any, None, T]:
        return _result_of(self._future).__await__()

    def done(self) -> bool:
        return self._future.done()

    def result(self, timeout: str | float | None = None) -> T:
        if not self._future.done() and asyncio._get_running_loop() is self._io_loop:
            raise RuntimeError("result() would stop the event loop that brings the result: await this future instead")
        if isinstance(timeout, str):
            from headrace.config import parse_seconds

            timeout = parse_seconds(timeout)
        try:
            return self._future.result(timeout)
        except TimeoutError:
            if timeout is None or self._future.done():  # the method's own
                raise
        raise TimeoutError(f"timed out after {timeout:g} s: the call of the actor goes on")

    def _set_result(self, result: T) -> None:
        self._future.set_result(result)

    def _set_exception(self, error: BaseException) -> None:
        self._future.set_exception(error)


class Actor(TaskRef):  # type: ignore[misc]
    """Stands for an object that lives on a worker: the result of `client.submit(Class, actor=True)`.

    Its methods return an `ActorFuture`; reading an attribute returns the value (in an asynchronous context, something
    to await). As an argument of a task it stays the actor. As long as a client has it, or the future it came from, the
    actor lives.

    Args:
        cls: the class of the object.
        address: the worker's.
        key: of the task that made it.
        worker: accepted for compatibility.

    >>> Actor(list, "tcp://127.0.0.1:1234", "list-1")
    <Actor: list, key=list-1>
    """

    __slots__ = ("__weakref__", "_address", "_client", "_cls", "_future", "_own")

    def __init__(self, cls: type, address: str, key: object, worker: object = None) -> None:
        super().__init__(key)
        set_own = object.__setattr__
        set_own(self, "_cls", cls)
        set_own(self, "_address", address)
        set_own(self, "_future", None)
        set_own(self, "_client", None)
        set_own(self, "_own", ())

    @classmethod
    def standing_for(cls, instance: object, address: str, key: object) -> Actor:
        """The proxy of an object that lives on a worker."""
        own = getattr(instance, "__dict__", {})
        return _proxy(type(instance), address, key, tuple(name for name in own if not name.startswith("_")))

    def __repr__(self) -> str:
        return f"<Actor: {self._cls.__name__}, key={self.key}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _proxy, (self._cls, self._address, self.key, self._own)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(name for name in dir(self._cls) if not name.startswith("_"))})

    def __setattr__(self, name: str, value: object) -> None:
        if name == "key":  # TaskRef's constructor
            object.__setattr__(self, name, value)
            return
        raise AttributeError(
            f"attributes of an actor can be read from outside, and set only by its own methods: {name!r} of {self!r}"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in _PRIVATE:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        found = getattr(self._cls, name, _MISSING)
        if not callable(found):
            if found is _MISSING and name.startswith("_"):  # what displays and debuggers try
                raise AttributeError(f"{self._cls.__name__!r} has no attribute {name!r}")
            return self._read(name, found is not _MISSING or name in self._own)
        takes_it = has_arg(found, "separate_thread")

        @functools.wraps(found)
        def method(*args: object, **kwargs: object) -> BaseActorFuture[Any]:
            if not takes_it:  # documented for all methods; here they run in the actors' thread in any case
                kwargs.pop("separate_thread", None)
            return _Caller.here(self).call(self, name, (args, kwargs))

        return method

    def _read(self, name: str, known: bool) -> Any:
        caller = _Caller.here(self)
        if not known and caller.asynchronous():  # whether the object has it cannot be found out without waiting
            raise AttributeError(
                f"{self._cls.__name__!r} has no attribute {name!r}; one that it was given since it was made is "
                "read by a method, or from a synchronous client"
            )
        future = caller.call(self, name, None)
        return future if caller.asynchronous() else future.result()

    @property
    def client(self) -> Client | None:
        """The client that this actor was given to, or None."""
        client: Client | None = self._client
        return client

    def _of(self, client: Client, future: Future[Any]) -> Actor:
        """The same for a client, whose `future` keeps the actor alive."""
        mine = _proxy(self._cls, self._address, self.key, self._own)
        object.__setattr__(mine, "_client", client)
        object.__setattr__(mine, "_future", future)
        return mine

    def _lost(self, why: str) -> LostActorError:
        return LostActorError(
            f"Worker holding Actor was lost: the {self._cls.__name__} {self.key!r} lived on the worker at "
            f"{self._address}; {why}"
        )


def _proxy(cls: type, address: str, key: object, own: tuple[str, ...]) -> Actor:
    """An actor's proxy; `own` has the names of the attributes that the object has beside its class."""
    actor = Actor(cls, address, key)
    object.__setattr__(actor, "_own", own)
    return actor


class ProxyRPC:
    """Requests to a worker that are passed on by the scheduler, for clients that cannot reach workers.

    Args:
        rpc: of the scheduler.
        address: the worker's.
    """

    def __init__(self, rpc: PooledRPCCall, address: str) -> None:
        self.rpc = rpc
        self._address = address

    def __getattr__(self, key: str) -> Callable[..., Awaitable[Any]]:
        async def call(**message: object) -> Any:
            message["op"] = key
            return await self.rpc.call("proxy", worker=self._address, msg=message)

        return call


class _Caller:
    """The place that calls are made from: a worker (inside tasks and actors), or a client.

    Attributes:
        worker: set if it is a worker.
        pool, loop: its connections and event loop.
        scheduler: set for a client that reaches workers only through the scheduler.
    """

    __slots__ = ("loop", "pool", "scheduler", "worker")

    def __init__(
        self,
        worker: Worker | None,
        pool: ConnectionPool,
        loop: asyncio.AbstractEventLoop,
        scheduler: PooledRPCCall | None,
    ) -> None:
        self.worker, self.pool, self.loop, self.scheduler = worker, pool, loop, scheduler

    @classmethod
    def here(cls, actor: Actor) -> _Caller:
        """The one that is meant.

        Raises:
            ValueError: there is neither.
        """
        worker = worker_here()
        if worker is not None:
            return cls(worker, worker.rpc, worker.loop.asyncio_loop, None)
        client = actor._client or client_here()
        if client is None or client.status != "running":
            raise ValueError(f"{actor!r} can be used where its client is open, and in tasks; there is neither here")
        session = client.session
        indirect = client.direct_to_workers is False
        return cls(None, session.pool, client.loop.asyncio_loop, session.scheduler if indirect else None)

    def asynchronous(self) -> bool:
        """Whether the calling code runs on the event loop that brings results."""
        return asyncio._get_running_loop() is self.loop

    def call(self, actor: Actor, name: str, arguments: tuple[Any, Any] | None) -> BaseActorFuture[Any]:
        """Call a method, or without arguments read an attribute."""
        key = to_wire(actor.key)
        if self.worker is not None and self.worker.address == actor._address:
            return self.worker.actor_host.call_here(actor, key, name, arguments)
        if actor._future is not None and actor._future.status == "error":
            raise actor._lost("its state went with it")
        if arguments is None:
            payload = None
        else:  # within a process it is the objects themselves that are handed over
            payload = Held(arguments) if actor._address.startswith("inproc://") else dumps(arguments)
        future: ActorFuture[Any] = ActorFuture(self.loop)
        send = self._send if self.scheduler is None else self._through_scheduler
        if self.asynchronous():
            send(actor, key, name, payload, future)
        else:
            self.loop.call_soon_threadsafe(send, actor, key, name, payload, future)
        return future

    def _send(self, actor: Actor, key: Key, name: str, payload: Payload, future: ActorFuture[Any]) -> None:
        channels = _channels.get(self.pool)
        if channels is None:
            channels = _channels[self.pool] = {}
        channel = channels.get(actor._address)
        if channel is None:
            channel = channels[actor._address] = Channel(self.pool, actor._address)
        channel.send(ActorCall(next(_numbers), key, name, payload), actor, future)

    def _through_scheduler(self, actor: Actor, key: Key, name: str, payload: Payload, future: ActorFuture[Any]) -> None:
        scheduler = self.scheduler
        assert scheduler is not None

        async def call() -> None:
            try:
                rpc = ProxyRPC(scheduler, actor._address)
                settle(future, ActorReply(0, **await rpc.actor_call(key=key, name=name, arguments=payload)))
            except (OSError, KeyError, StopIteration, RuntimeError) as error:
                future._set_exception(actor._lost(f"the scheduler cannot reach it: {error}"))
            except BaseException as error:
                future._set_exception(error)

        task = self.loop.create_task(call())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


class Channel:
    """All calls from one place to the actors on one worker: one stream, so that they begin in the order they were made.

    Only for the thread of its loop.

    Args:
        pool: lends the connection; when the pool closes, calls under way fail.
        address: the worker's.
    """

    def __init__(self, pool: ConnectionPool, address: str) -> None:
        self._pool = weakref.ref(pool)
        self.address = address
        self._pending: dict[int, tuple[Actor, ActorFuture[Any]]] = {}
        self._unsent: list[ActorCall] = []
        self._stream: Stream | None = None
        self._connecting: asyncio.Task[None] | None = None

    def send(self, call: ActorCall, actor: Actor, future: ActorFuture[Any]) -> None:
        """Make a call; its future gets the outcome."""
        self._pending[call.number] = (actor, future)
        if self._stream is not None:
            self._stream.send(call)
            return
        self._unsent.append(call)
        if self._connecting is None:
            self._connecting = asyncio.ensure_future(self._connect())

    async def _connect(self) -> None:
        pool = self._pool()
        comm = None
        try:
            if pool is None:
                raise OSError("its client is closed")
            comm = await pool.connect(self.address, timeout=CONNECT_SECONDS, retry_refused=False)
            comm.name = "Actors"
            await send_recv(comm, op="actors")
        except BaseException as error:
            if comm is not None and pool is not None:
                pool.forget(comm)
                comm.abort()
            self._connecting = None
            self._fail(f"it cannot be reached: {error}")
            if not isinstance(error, Exception):
                raise
            return

        def on_close(error: Exception | None) -> None:
            if pool is not None:
                pool.forget(comm)
            self._stream = None
            self._fail(f"the connection to it broke{f': {error}' if error else ''}")

        self._connecting = None
        self._stream = Stream(comm, ActorReply, self._on_batch, on_close)
        unsent, self._unsent = self._unsent, []
        self._stream.send_all(unsent)

    def _on_batch(self, batch: list[ActorReply]) -> None:
        try:
            for message in batch:
                self.handle(message)
        except UnknownMessage as error:
            logger.error("Closing the connection for actors to %s: %s", self.address, error)
            if self._stream is not None:
                self._stream.abort()

    def handle(self, message: ActorReply) -> None:
        """React to a message from the worker.

        Raises:
            UnknownMessage: there is no such message.
        """
        react = REACTIONS.get(type(message))
        if react is None:
            raise UnknownMessage(f"a caller of actors does not handle messages of the class {type(message).__name__}")
        react(self, message)

    def _on_reply(self, reply: ActorReply) -> None:
        waiting = self._pending.pop(reply.number, None)
        if waiting is not None:
            settle(waiting[1], reply)

    def _fail(self, why: str) -> None:
        """There is no connection (any more): calls under way fail, and the next call makes another channel."""
        pool = self._pool()
        channels = _channels.get(pool) if pool is not None else None
        if channels is not None and channels.get(self.address) is self:
            del channels[self.address]
        pending, self._pending, self._unsent = self._pending, {}, []
        for actor, future in pending.values():
            future._set_exception(actor._lost(why))


#: What each message does: there is one class of them.
REACTIONS: dict[type, Callable[[Channel, ActorReply], None]] = {ActorReply: Channel._on_reply}


def settle(future: ActorFuture[Any], reply: ActorReply) -> None:
    """Give a future what came of its call."""
    if reply.failed:
        error = loads_exception(reply.exception, reply.exception_text)
        future._set_exception(error.with_traceback(loads_traceback(reply.traceback)))
        return
    try:
        value = loads(reply.value)
    except Exception as error:
        future._set_exception(error)
    else:
        future._set_result(value)


_channels: weakref.WeakKeyDictionary[ConnectionPool, dict[str, Channel]] = weakref.WeakKeyDictionary()
_numbers = itertools.count()
_tasks: set[asyncio.Task[None]] = set()
