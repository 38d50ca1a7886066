"""Answers requests: an operation's name picks a handler, whose value is the reply.

One request at a time per comm, many comms at once. Knows nothing of what the operations mean. A peer that keeps asking
for what cannot be answered is disconnected, see `Faults`.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import reprlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from headrace.comm import Comm, Listener, listen
from headrace.comm.addressing import normalize_address
from headrace.comm.complaints import Complaints
from headrace.containment import contained
from headrace.exceptions import (
    BadRequestError,
    CommClosedError,
    DeserializationError,
    MessageTooLargeError,
    SerializationError,
    UnknownOperationError,
)
from headrace.protocol.marks import open_marked

from .handler_times import HandlerTimes
from .requests import error_message

logger = logging.getLogger("distributed.core")


#: Requests that cannot be answered which a connection may make at once, and a second.
FAULTS_AT_ONCE = 100
FAULTS_A_SECOND = 10.0


class Faults:
    """Measures how much patience is left with one connection.

    An honest peer waits for its answer, and asks for what there is.

    Args:
        now: monotonic seconds.
    """

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left = float(FAULTS_AT_ONCE)
        self._at = now

    def add(self, now: float) -> bool:
        """Count one; whether that was too many."""
        self._left = min(FAULTS_AT_ONCE, self._left + (now - self._at) * FAULTS_A_SECOND) - 1
        self._at = now
        return self._left < 0


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation as its owner registers it.

    Attributes:
        function: called with the request's keywords.
        repeatable: whether it may be asked twice, when the connection broke before the answer came: it changes nothing,
            or nothing more the second time.
        takes_comm: whether the function is given the comm, as `comm`.
        takes_serializers: whether it is given the `serializers` that the caller named.
        takes_over: whether the function owns the comm from then on: it is called as `function(comm, **keywords)`,
            answers itself and closes the comm.
    """

    function: Callable[..., object]
    repeatable: bool = False
    takes_comm: bool = False
    takes_serializers: bool = False
    takes_over: bool = False


class NoReply:
    """Returned by a handler that does not want its value sent (see `NO_REPLY`)."""


#: What a handler returns to send nothing.
NO_REPLY = NoReply()


class RequestServer:
    """Listens at any number of addresses and answers requests.

    Args:
        handlers: per operation, a function (sync or async) that is called with the request's keywords. One that has a
            parameter `comm` is given the comm.
        takeovers: per operation, an async function that is called as `f(comm, **keywords)` and owns the comm from then
            on: it answers itself and closes it.
        deserialize: whether pickles in requests are loaded, or come as `Serialized`.
        connection_args: what `Security.get_listen_args` gives.
        timeout: seconds that `close_comms` waits for requests under way.

    Attributes:
        times: of the requests that were answered, by operation: how many, and seconds from the request to its answer.
    """

    def __init__(
        self,
        handlers: Mapping[str, Callable[..., Any]],
        takeovers: Mapping[str, Callable[..., Any]] | None = None,
        *,
        deserialize: bool = True,
        connection_args: dict[str, Any] | None = None,
        timeout: float | None = None,
        name: str = "server",
    ) -> None:
        self.handlers: dict[str, Callable[..., Any]] = dict(handlers)
        self.takeovers: dict[str, Callable[..., Any]] = dict(takeovers or {})
        self.deserialize = deserialize
        self.connection_args = connection_args or {}
        self.timeout = timeout
        self.name = name
        self.listeners: list[Listener] = []
        #: contact and listen address of the first listener, which need not know them once it has stopped
        self._addresses = ("", "")
        #: comms that this server answers on, and the operation under way on each
        self.comms: dict[Comm, str | None] = {}
        self.complaints = Complaints(logger)
        self.times = HandlerTimes()
        #: why operations are refused, by operation
        self._refused: dict[str, str] = {}
        #: whether what is pickled in requests may be loaded at all
        self.opens_pickles = True
        #: what owners have registered with `add_operations`, and the owners' names, by operation
        self.operations: dict[str, Operation] = {}
        self._owners: dict[str, str] = {}
        #: per handler that came without that, which of `comm` and `serializers` it takes
        self._takes: dict[Callable[..., Any], tuple[bool, bool]] = {}

    def add_operations(self, owner: str, operations: Mapping[str, Operation | Callable[..., object]]) -> None:
        """Answer these operations from now on.

        Args:
            owner: who answers them, for the error when another wants to answer the same.
            operations: by name; a plain function stands for an `Operation` with all defaults.

        Raises:
            ValueError: one of them is registered already; none of them is added then.
        """
        for name in operations:
            if name in self._owners or name in self.handlers or name in self.takeovers:
                holder = self._owners.get(name, f"the {self.name}'s handlers")
                raise ValueError(f"{owner} cannot register the operation {name!r}: it belongs to {holder}")
        for name, given in operations.items():
            operation = given if isinstance(given, Operation) else Operation(given)
            self._owners[name] = owner
            self.operations[name] = operation
            (self.takeovers if operation.takes_over else self.handlers)[name] = operation.function

    @property
    def repeatable(self) -> list[str]:
        """Operations that may be asked twice, in alphabetical order."""
        return sorted(name for name, operation in self.operations.items() if operation.repeatable)

    @property
    def address(self) -> str:
        """The address at which others reach this server (the first listener's).

        Raises:
            ValueError: it does not listen yet.
        """
        if not self.listeners:
            raise ValueError(f"the {self.name} does not listen anywhere yet")
        return self._addresses[0]

    @property
    def listen_address(self) -> str:
        """The address that the first listener is bound to."""
        if not self.listeners:
            raise ValueError(f"the {self.name} does not listen anywhere yet")
        return self._addresses[1]

    @property
    def port(self) -> int:
        """Port of the first listener."""
        from headrace.comm import get_address_host_port

        return get_address_host_port(self.address)[1]

    async def listen(self, address: str | int | None = None, **kwargs: Any) -> Listener:
        """Listen at an address (a port number means all interfaces) and return the listener.

        Raises:
            OSError: the address cannot be had.
        """
        if address is None or isinstance(address, int):
            address = f"tcp://:{address or 0}"
        listener = await listen(
            normalize_address(address),
            self.handle_comm,
            deserialize=self.deserialize,
            **(self.connection_args | kwargs),
        )
        if not self.listeners:
            self._addresses = (listener.contact_address, listener.listen_address)
        self.listeners.append(listener)
        return listener

    def block(self, operations: Iterable[str]) -> None:
        """Refuse these operations from now on, whoever asks."""
        for operation in operations:
            self.refuse(
                operation,
                f"The {operation!r} handler has been explicitly disallowed in {self.name.capitalize()}, "
                "possibly due to security concerns.",
            )

    def refuse(self, operation: str, reason: str) -> None:
        """Answer with an error from now on, whoever asks; nothing that comes with such a request is unpickled."""
        self.takeovers.pop(operation, None)
        self.handlers[operation] = partial(_refuse, reason)  # for who asks without a connection
        self._refused[operation] = reason

    def allow_no_pickles(self) -> None:
        """Load nothing from now on that is pickled in a request: handlers are given `Serialized` and `Pickled`."""
        self.opens_pickles = False

    async def handle_comm(self, comm: Comm) -> None:
        """Answer requests on a comm until it closes or is taken over."""
        comms = self.comms
        comms[comm] = None
        faults = Faults(time.monotonic())
        if self._refused or not self.opens_pickles:  # what came is opened once it is known that it may be
            comm.deserialize = None
        try:
            while True:
                try:
                    request = await comm.read()
                except OSError:
                    return
                except DeserializationError as error:
                    if comm.unread:  # else it waits for the answer, and cannot know what is not installed here
                        self._count(faults, comm)
                    await self._answer(comm, error_message(self._unreadable(comm, error)), "?")
                    continue
                taken = await self._handle_request(comm, request, faults)
                del request  # what the last request brought must not stay while the connection is idle
                if taken is not None:
                    comms.pop(comm, None)
                    comm.deserialize = self.deserialize if self.opens_pickles else None
                    await self._take_over(comm, *taken)
                    return
                if comm.closed():
                    return
                comms[comm] = None
        finally:
            if comms.pop(comm, False) is not False:
                comm.abort()

    def _count(self, faults: Faults, comm: Comm) -> None:
        """A request cannot be answered: if there are too many of these, close the connection."""
        if faults.add(time.monotonic()) and not comm.closed():
            self.complaints.say(
                "too many",
                comm.peer_address,
                "Closing the connection from %s: it goes on asking for what cannot be answered",
                comm.peer_address,
            )
            comm.abort()

    def _unreadable(self, comm: Comm, error: DeserializationError) -> DeserializationError:
        named = DeserializationError(f"the {self.name} at {comm.local_address} cannot read a request: {error}")
        named.__cause__ = error.__cause__
        return named

    async def _handle_request(self, comm: Comm, request: Any, faults: Faults) -> tuple[str, dict[str, Any]] | None:
        """Answer one request, or return the takeover that it asks for, with its keywords."""
        if type(request) is not dict or type(request.get("op")) is not str:
            error = TypeError(f"a request must be a dictionary with an 'op', not {reprlib.repr(request)}")
            self._count(faults, comm)
            await self._answer(comm, error_message(error), "?")
            return None
        op, reply = request.pop("op"), request.pop("reply", True)
        self.comms[comm] = op
        refusal = self._refused.get(op)
        if refusal is not None:
            text = "Refused: %s (asked for by %s)"
            self.complaints.say(f"refused {op}", comm.peer_address, text, refusal, comm.peer_address)
            self._count(faults, comm)
            if reply:
                await self._answer(comm, error_message(BadRequestError(refusal)), op)
            return None
        if self._refused and self.opens_pickles:
            try:
                request = open_marked(request, self.deserialize)
            except DeserializationError as error:
                if comm.unread:  # as in `handle_comm`
                    self._count(faults, comm)
                await self._answer(comm, error_message(self._unreadable(comm, error)), op)
                return None
        handler = self.handlers.get(op)
        if handler is None:
            if op in self.takeovers:
                return op, request
            unknown = UnknownOperationError(f"the {self.name} at {comm.local_address} has no operation {op[:100]!r}")
            text = "%s (asked for by %s)"
            self.complaints.say("unknown operation", comm.peer_address, text, unknown, comm.peer_address)
            self._count(faults, comm)
            if reply:
                await self._answer(comm, error_message(unknown), op)
            return None
        # a caller that names families of serializers is answered by them, whether the handler cares or not
        serializers = request.get("serializers")
        asked = time.perf_counter()
        try:
            takes_comm, takes_serializers = self._what_it_takes(op, handler)
            if takes_comm:
                request["comm"] = comm
            if serializers is not None and not takes_serializers:
                del request["serializers"]
            result = handler(**request)
            if inspect.isawaitable(result):
                result = await result
        except asyncio.CancelledError:
            raise
        except BaseException as raised:  # a handler may run what users sent
            raised = contained(raised, awaited=True)
            misused = isinstance(raised, TypeError) and not _takes(handler, request)
            if not (isinstance(raised, CommClosedError) and comm.closed()):
                self._log_failure(raised, op, comm, misused)
            if misused or comm.unread:  # or somebody who does not wait to hear that it failed
                self._count(faults, comm)
            result = error_message(raised)
        self.times.note(op, time.perf_counter() - asked)
        if reply and result is not NO_REPLY:
            await self._answer(comm, result, op, serializers)
        return None

    async def _take_over(self, comm: Comm, op: str, keywords: dict[str, Any]) -> None:
        try:
            result = self.takeovers[op](comm, **keywords)
            if inspect.isawaitable(result):
                await result
        except CommClosedError:
            comm.abort()
        except BaseException as raised:
            try:
                raised = contained(raised, awaited=True)
            except BaseException:
                comm.abort()
                raise
            misused = isinstance(raised, TypeError) and not _takes(self.takeovers[op], keywords, comm)
            self._log_failure(raised, op, comm, misused)
            await self._answer(comm, error_message(raised), op)
            await comm.close()

    async def _answer(self, comm: Comm, result: Any, op: str, serializers: Iterable[str] | None = None) -> None:
        try:
            await comm.write(result, serializers)
        except OSError:  # the caller went away
            logger.debug("Lost the connection to %s before the reply to %s", comm.peer_address, op)
        except Exception as error:  # the reply cannot be sent: nothing of it was
            self.complaints.say(
                f"the reply to op {op}",
                comm.peer_address,
                "The reply to op %s from %s cannot be sent",
                op,
                comm.peer_address,
                level=logging.ERROR,
                error=error,
            )
            try:
                await comm.write(error_message(error))
            except OSError:
                logger.debug("Lost the connection to %s before the reply to %s", comm.peer_address, op)

    def _log_failure(self, error: BaseException, op: str, comm: Comm, misused: bool) -> None:
        """Say that a request failed; with the traceback unless the caller is told all there is to know."""
        known = misused or isinstance(
            error, SerializationError | DeserializationError | MessageTooLargeError | BadRequestError
        )
        self.complaints.say(
            f"op {op}: {type(error).__name__}",
            comm.peer_address,
            "Exception while handling op %s from %s%s",
            op,
            comm.peer_address,
            f": {error}" if known else "",
            level=logging.WARNING if known else logging.ERROR,
            error=None if known else error,
        )

    def _what_it_takes(self, op: str, handler: Callable[..., Any]) -> tuple[bool, bool]:
        operation = self.operations.get(op)
        if operation is not None and operation.function == handler:
            return operation.takes_comm, operation.takes_serializers
        # A handler that users have put into `handlers` says by the names of its parameters what it wants: documented.
        key = getattr(handler, "__func__", handler)
        known = self._takes.get(key)
        if known is None:
            known = self._takes[key] = takes_by_name(handler)
        return known

    def stop_listening(self) -> None:
        """Accept no more connections."""
        for listener in self.listeners:
            listener.stop()

    async def close_comms(self) -> None:
        """Stop listening and close the comms, once the replies under way have left or `timeout` is over."""
        self.stop_listening()
        if self.timeout:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + self.timeout
            while any(self.comms.values()) and loop.time() < deadline:
                await asyncio.sleep(0.01)
        comms = list(self.comms)
        await asyncio.gather(*[comm.close() for comm in comms], return_exceptions=True)


def takes_by_name(handler: Callable[..., Any]) -> tuple[bool, bool]:
    """Whether a handler has parameters called `comm` and `serializers`."""
    try:
        parameters = inspect.signature(handler).parameters
    except (TypeError, ValueError):  # it does not say what it takes
        return False, False
    return "comm" in parameters, "serializers" in parameters


def _refuse(reason: str, **_: Any) -> None:
    raise BadRequestError(reason)


def _takes(handler: Callable[..., Any], keywords: dict[str, Any], *arguments: Any) -> bool:
    """Whether a handler takes such keywords."""
    try:
        inspect.signature(handler).bind(*arguments, **keywords)
    except TypeError:
        return False
    except ValueError:  # it does not say what it takes
        pass
    return True
