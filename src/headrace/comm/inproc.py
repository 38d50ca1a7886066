"""Comms within a process, between loops of any of its threads: messages are handed over as objects, never encoded.

The lists that a stream sends are handed over themselves, and the sender must not change them afterwards. The containers
of an RPC message are copied, its values are shared, and a `Serialize` arrives as its value.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from typing import Any

from headrace.common.tracebacks import without_frames
from headrace.containment import log_raised
from headrace.exceptions import CommClosedError, FatalCommClosedError
from headrace.protocol.marks import Pickled, Serialize, SerializeBy, Serialized, ToPickle

from .connections import (
    Arrivals,
    Comm,
    CommTasks,
    HandleComm,
    Listener,
    OnBatch,
    OnClose,
)
from .interfaces import get_ip
from .opening.handshake import handshake_info
from .registry import Backend, Connector, backends

logger = logging.getLogger("distributed.comm.inproc")

_numbers = itertools.count(1)
_listeners: dict[str, InProcListener] = {}
_lock = threading.Lock()

#: Requests that are read in a row before the loop's other callbacks get their turn.
REQUEST_TURN = 8

_CLOSE = object()
#: Marks that an end that deserializes sees as values.
_MARKS = frozenset({Serialize, SerializeBy, Serialized})


_running_loop = asyncio._get_running_loop  # the only way to ask without an exception when there is none


def new_address() -> str:
    """A new, unique location."""
    return f"{get_ip()}/{os.getpid()}/{next(_numbers)}"


class InProc(Comm):
    """An end of a connection within the process; `_peer` is the other end."""

    def __init__(
        self, local_address: str, peer_address: str, loop: asyncio.AbstractEventLoop, deserialize: bool = True
    ) -> None:
        super().__init__(deserialize)
        self.local_address = local_address
        self.peer_address = peer_address
        self.peer_info = handshake_info()
        self._loop = loop
        self._peer: InProc
        self._arrived: deque[Any] = deque()
        #: requests that were read without waiting since the loop's other callbacks had their turn
        self._in_a_row = 0
        self._arrivals = Arrivals(loop)
        self._wake = self._arrivals.announce
        self._closed = False
        self._ended = False
        self._error: Exception | None = None
        self._on_batch: OnBatch | None = None
        self._on_close: OnClose | None = None

    # -- what the peer calls, on any thread

    def _post(self, message: object) -> None:
        """Have a message (or `_CLOSE`) delivered on this end's loop.

        Raises:
            CommClosedError: this end's loop is closed.
        """
        loop = self._loop
        try:
            if loop is _running_loop():
                loop.call_soon(self._deliver, message)
            else:
                loop.call_soon_threadsafe(self._deliver, message)
        except RuntimeError:  # its loop is closed
            self._closed = True
            raise CommClosedError(f"the event loop of {self.local_address} is closed") from None

    # -- on this end's loop

    def _deliver(self, message: Any) -> None:
        if self._ended:
            return
        if message is _CLOSE:
            self._end()
            return
        if self._closed:
            return
        if self._on_batch is None or self._arrived:
            self._arrived.append(message)
            self._wake()
        else:
            self._hand_over(message)

    def _hand_over(self, messages: Any) -> None:
        assert self._on_batch is not None
        try:
            self._on_batch(messages)
        except BaseException as raised:
            raised = log_raised(logger, raised, "Closing %r: its messages could not be handled", self)
            self._error = self._error or without_frames(raised)
            self.abort()

    def _end(self) -> None:
        self._closed = self._ended = True
        self._wake()
        if self.when_closed is not None:
            self.when_closed()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(self._error)
        self._let_go()

    def _let_go(self) -> None:
        """Drop the references to the other end and to the stream's owner.

        They refer back, and messages that nobody has read would wait for the cyclic collector.
        """
        if hasattr(self, "_peer"):
            del self._peer
        if not (self._on_batch and self._arrived):  # else `_deliver_waiting` still has to deliver these messages
            self._on_batch = None

    async def read(self, deserializers: Iterable[str] | None = None) -> Any:
        """The next RPC message."""
        while not self._arrived or self._in_a_row >= REQUEST_TURN:
            self._in_a_row = 0
            if self._arrived:
                await asyncio.sleep(0)
                continue
            if self._closed:
                raise CommClosedError(f"{self!r}: the connection is closed")
            await self._arrivals.wait(self)
        self._in_a_row += 1
        return _received(self._arrived.popleft(), self.deserialize)

    def start_stream(self, incoming: object, on_batch: OnBatch, on_close: OnClose) -> None:
        """Become a stream: deliver messages by callback from now on."""
        if self._on_batch is not None:
            raise RuntimeError(f"{self!r} is a stream already")
        self._on_batch = on_batch
        if self._arrived:
            self._loop.call_soon(self._deliver_waiting)
        if self._ended:
            self._loop.call_soon(on_close, self._error)
        else:
            self._on_close = on_close

    def _deliver_waiting(self) -> None:
        while self._arrived:
            messages = self._arrived[0]
            self._hand_over(messages)
            self._arrived.popleft()
        if self._ended:
            self._let_go()

    def send(self, message: object) -> None:
        """Hand a message over."""
        if self._closed:
            raise CommClosedError(f"{self!r}: the connection is closed")
        self._peer._post(message if self._on_batch is not None else _copied(message))

    async def write(self, msg: object, serializers: Iterable[str] | None = None, on_error: str | None = None) -> None:
        """Hand a message over."""
        self.send(msg)

    async def close(self) -> None:
        """Close; the other end still gets the messages that were sent before."""
        self.abort()
        await asyncio.sleep(0)

    def abort(self) -> None:
        """Close at once."""
        if self._closed:
            return
        self._closed = True
        self._arrived.clear()
        self._wake()
        for end in (self._peer, self):
            try:
                end._post(_CLOSE)
            except CommClosedError:
                end._ended = True
                end._let_go()

    @property
    def unread(self) -> int:
        """Number of messages that have arrived and were not read."""
        return len(self._arrived)

    def closed(self) -> bool:
        """Whether either side has closed the connection."""
        return self._closed


def _copied(message: Any) -> Any:
    """A message that the other end may keep: containers are copied, values are shared."""
    kind = type(message)
    if kind is dict:
        return {key: _copied(value) for key, value in message.items()}
    if kind is list:
        return [_copied(value) for value in message]
    if kind is tuple:
        return tuple([_copied(value) for value in message])
    if kind is set:
        return set(message)
    return message


def _received(message: Any, deserialize: bool | None) -> Any:
    """A message as this end wants it (`Comm.deserialize`). With False, `Serialize` is left in for `Serialized`."""
    if deserialize is None:
        return message
    kind = type(message)
    if kind is dict:
        return {key: _received(value, deserialize) for key, value in message.items()}
    if kind is list:
        return [_received(value, deserialize) for value in message]
    if kind is tuple:
        return tuple([_received(value, deserialize) for value in message])
    if kind is ToPickle or kind is Pickled or (deserialize and kind in _MARKS):
        return message.load()
    return message


class InProcConnector(Connector):
    """Connects to listeners of this process."""

    async def connect(self, address: str, deserialize: bool = True, **connection_args: object) -> Comm:
        """Connect to the listener at an address, if there is one."""
        with _lock:
            listener = _listeners.get(address)
        if listener is None:
            if address.split("/")[1:2] not in ([], [str(os.getpid())]):
                raise FatalCommClosedError(f"inproc://{address} belongs to another process; use its tcp:// address")
            raise ConnectionRefusedError(f"nothing listens at inproc://{address}")
        return listener.accept(deserialize)


class InProcListener(Listener):
    """Accepts connections from the same process."""

    def __init__(self, location: str, handle_comm: HandleComm, deserialize: bool = True, **_: object) -> None:
        self._location = location or new_address()
        self._handle_comm = handle_comm
        self._deserialize = deserialize
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks = CommTasks()
        self.listen_address = self.contact_address = f"inproc://{self._location}"

    async def start(self) -> None:
        """Begin to listen, unless the listener does already."""
        self._loop = asyncio.get_running_loop()
        with _lock:
            if _listeners.get(self._location, self) is not self:
                raise OSError(f"cannot listen at {self.listen_address}: in use")
            _listeners[self._location] = self

    def stop(self) -> None:
        """Accept no more connections."""
        with _lock:
            if _listeners.get(self._location) is self:
                del _listeners[self._location]

    def accept(self, deserialize: bool) -> InProc:
        """Make a pair of ends and return the connecting one. Called on the connecting side's loop."""
        loop = self._loop
        assert loop is not None
        far_address = f"inproc://{new_address()}"
        near = InProc(far_address, self.listen_address, asyncio.get_running_loop(), deserialize)
        far = InProc(self.listen_address, far_address, loop, self._deserialize)
        near._peer, far._peer = far, near
        try:
            loop.call_soon_threadsafe(self._welcome, far)
        except RuntimeError:
            self.stop()
            raise OSError(f"nothing listens at {self.listen_address}: its event loop is closed") from None
        return near

    def _welcome(self, comm: InProc) -> None:
        self._tasks.start(self.serve(comm, self._handle_comm), f"connection from {comm.peer_address}")


class InProcBackend(Backend):
    """`inproc://host/pid/number`."""

    def get_connector(self) -> InProcConnector:
        """A connector."""
        return InProcConnector()

    def get_listener(self, loc: str, handle_comm: HandleComm, deserialize: bool, **args: object) -> Listener:
        """A listener that has not started."""
        return InProcListener(loc, handle_comm, deserialize, **args)

    def get_address_host(self, loc: str) -> str:
        """The host in a location."""
        return loc.split("/")[0]

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Raise NotImplementedError: such a location has no port."""
        raise NotImplementedError

    def resolve_address(self, loc: str) -> str:
        """The location itself."""
        return loc

    def get_local_address_for(self, loc: str) -> str:
        """A new location."""
        return new_address()


backends["inproc"] = InProcBackend()
