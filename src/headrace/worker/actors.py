"""Actors that live on this worker: the objects, the thread that their methods run in, and calls from elsewhere.

What the rest of the worker sees as the value of an actor's task is a proxy (`headrace.actor.Actor`). Methods of all
actors here run one at a time in one thread, so that no actor needs locks; coroutine methods run on the event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from headrace.comm import Comm
from headrace.common.keys import Key, from_wire
from headrace.containment import contained, traceback_of
from headrace.exceptions import LostActorError
from headrace.messages.actor_calls import ActorCall, ActorReply
from headrace.protocol import Held, dumps, dumps_exception, loads
from headrace.rpc import Stream
from headrace.rpc.run_function import users_part

from .context import origin, running, thread_state
from .execution.threads import TaskPool

if TYPE_CHECKING:
    from headrace.actor import ActorFuture, BaseActorFuture

    from .server import WorkerServer

logger = logging.getLogger("distributed.worker")


class _Job:
    """One call that waits for the thread.

    Attributes:
        arguments: `(args, kwargs)`, pickled or not; None to read an attribute.
        settle: called in the thread, or on the loop, with (value, error).
    """

    __slots__ = ("arguments", "key", "name", "pickled", "settle")

    def __init__(
        self,
        key: Key,
        name: str,
        arguments: Any,
        pickled: bool,
        settle: Callable[[Any, BaseException | None], None],
    ) -> None:
        self.key = key
        self.name = name
        self.arguments = arguments
        self.pickled = pickled
        self.settle = settle


class ActorHost:
    """The actors of one worker.

    Attributes:
        instances: the objects by the wire form of their task's key.
    """

    def __init__(self, worker: WorkerServer) -> None:
        self._worker = worker
        self.instances: dict[Key, Any] = {}
        self._pool: TaskPool | None = None
        self._streams: set[Stream] = set()
        self._coroutines: set[asyncio.Task[None]] = set()
        #: key of the actor that was called last in the thread
        self._latest: dict[int, Key] = {}
        self._closed = False
        #: answers from the thread that wait for the loop
        self._answers: deque[tuple[Stream, ActorReply]] = deque()
        self._woken = False

    def install(self, key: Key, instance: object) -> Any:
        """Keep what an actor's task returned; returns the proxy that stands for it. In any thread."""
        from headrace.actor import Actor

        self.instances[key] = instance
        return Actor.standing_for(instance, self._worker.address, from_wire(key))

    def forget(self, keys: list[Key]) -> None:
        """Drop actors that nobody wants any more; other keys are no matter."""
        for key in keys:
            self.instances.pop(key, None)

    # Calls

    def call_here(self, actor: object, key: Key, name: str, arguments: tuple[Any, Any] | None) -> BaseActorFuture[Any]:
        """A call from a task or an actor on this worker; an actor's is done at once, in the thread they share."""
        from headrace.actor import ActorFuture, EagerActorFuture

        if self._in_thread():
            attribute = self._find(key, name)
            if arguments is None:
                return EagerActorFuture(attribute)
            if not inspect.iscoroutinefunction(attribute):
                return EagerActorFuture(attribute(*arguments[0], **arguments[1]))
        assert self._worker.loop is not None
        future: ActorFuture[Any] = ActorFuture(self._worker.loop)

        def settle(value: object, error: BaseException | None) -> None:
            if error is None:
                future._set_result(value)
            else:
                future._set_exception(error)

        if self._in_thread():  # a coroutine method: the thread's own queue would come after what runs now
            self._start_on_loop(_Job(key, name, arguments, False, settle))
        else:
            self._feed(_Job(key, name, arguments, False, settle))
        return future

    async def serve(self, comm: Comm) -> None:
        """A caller elsewhere opens its stream of calls."""
        await comm.write({"status": "OK"})

        def on_calls(calls: list[ActorCall]) -> None:
            for call in calls:
                self._feed(_Job(call.key, call.name, call.arguments, True, self._answer_on(stream, call.number)))

        def on_close(error: Exception | None) -> None:
            self._streams.discard(stream)

        stream = Stream(comm, ActorCall, on_calls, on_close)
        self._streams.add(stream)

    async def call(self, key: Key, name: str, arguments: object = None) -> dict[str, Any]:
        """One call as a request, for callers that can only reach the scheduler; returns an `ActorReply`'s fields."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[ActorReply] = loop.create_future()

        def finish(reply: ActorReply) -> None:
            if not done.done():
                done.set_result(reply)

        def settle(value: object, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(finish, self._reply(0, value, error))

        self._feed(_Job(key, name, arguments, True, settle))
        reply = await done
        return {name: getattr(reply, name) for name in reply.__struct_fields__ if name != "number"}

    def _answer_on(self, stream: Stream, number: int) -> Callable[[Any, BaseException | None], None]:
        def settle(value: object, error: BaseException | None) -> None:
            self._answers.append((stream, self._reply(number, value, error)))
            if not self._woken:
                self._woken = True
                try:
                    self._loop().call_soon_threadsafe(self._send_answers)
                except RuntimeError:  # the loop is closed: nobody waits for this
                    logger.debug("An actor's method ended after its worker")

        return settle

    def _send_answers(self) -> None:
        self._woken = False
        answers = self._answers
        while answers:
            stream, reply = answers.popleft()
            stream.send(reply)

    # The thread

    def _feed(self, job: _Job) -> None:
        if self._closed:
            job.settle(None, LostActorError(f"the worker at {self._worker.address_safe} is closing"))
            return
        self.pool.feed(job)

    @property
    def pool(self) -> TaskPool:
        """The thread in which actors run; made when it is first needed."""
        if self._pool is None:
            self._pool = TaskPool(
                1, self._run, name=f"Headrace-Actors-{self._worker.name}", initializer=self._start_thread
            )
        return self._pool

    def _start_thread(self) -> None:
        thread_state.execution_state = {"worker": self._worker}
        thread_state.asynchronous = False
        thread_state.actor = True
        thread_state.key = None
        origin.set((self._worker, self._latest, 0))

    def _in_thread(self) -> bool:
        return self._pool is not None and self._pool.is_member()

    def _run(self, job: _Job) -> None:
        """Do one call; in the thread."""
        if self._closed:
            job.settle(None, LostActorError(f"the worker at {self._worker.address_safe} is closing"))
            return
        thread_state.key = self._latest[0] = job.key
        try:
            attribute = self._find(job.key, job.name)
            if job.arguments is None:
                value = attribute
            elif inspect.iscoroutinefunction(attribute):
                self._start_on_loop(job)
                return
            else:
                args, kwargs = loads(job.arguments) if job.pickled else job.arguments
                value = attribute(*args, **kwargs)
                if inspect.iscoroutine(value):
                    self._loop().call_soon_threadsafe(self._start_coroutine, job, value)
                    return
        except BaseException as error:
            job.settle(None, error)
        else:
            job.settle(value, None)
        finally:
            thread_state.key = None

    def _find(self, key: Key, name: str) -> Any:
        try:
            instance = self.instances[key]
        except KeyError:
            raise LostActorError(
                f"Worker holding Actor was lost: the worker at {self._worker.address_safe} has no actor "
                f"{from_wire(key)!r} (any more)"
            ) from None
        return getattr(instance, name)

    # Coroutine methods

    def _start_on_loop(self, job: _Job) -> None:
        try:
            attribute = self._find(job.key, job.name)
            args, kwargs = loads(job.arguments) if job.pickled else job.arguments
            coroutine = attribute(*args, **kwargs)
        except BaseException as error:
            job.settle(None, error)
            return
        try:
            self._loop().call_soon_threadsafe(self._start_coroutine, job, coroutine)
        except RuntimeError:
            coroutine.close()

    def _start_coroutine(self, job: _Job, coroutine: Coroutine[Any, Any, object]) -> None:
        task = self._loop().create_task(self._await(job, coroutine), name=f"actor {job.key!r}.{job.name}")
        self._coroutines.add(task)
        task.add_done_callback(self._coroutines.discard)

    async def _await(self, job: _Job, coroutine: Coroutine[Any, Any, object]) -> None:
        running.set((self._worker, job.key))
        try:
            value = await coroutine
        except asyncio.CancelledError as error:
            job.settle(None, error)
            if self._closed:
                raise
        except BaseException as error:
            job.settle(None, error)
        else:
            job.settle(value, None)

    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._worker.loop is not None
        return self._worker.loop.asyncio_loop

    async def close(self) -> None:
        """Drop the actors; callers see their connections close."""
        self._closed = True
        for task in list(self._coroutines):
            task.cancel()
        if self._coroutines:
            await asyncio.wait(list(self._coroutines), timeout=1)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        for stream in list(self._streams):
            await stream.close()
        self._streams.clear()
        self.instances.clear()

    def _reply(self, number: int, value: object, error: BaseException | None) -> ActorReply:
        """The reply to a call, with everything pickled unless it stays in this process."""
        if error is None:
            try:
                in_process = self._worker.address.startswith("inproc://")
                return ActorReply(number, Held(value) if in_process else dumps(value))
            except BaseException as failure:
                return _failed(number, contained(failure))
        return _failed(number, error)


def _failed(number: int, error: BaseException) -> ActorReply:
    dumped = dumps_exception(error, users_part(traceback_of(error)))
    return ActorReply(number, None, True, dumped.exception, dumped.traceback, dumped.exception_text)
