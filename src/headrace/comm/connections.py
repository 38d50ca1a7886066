"""The interfaces `Comm` and `Listener`, which every transport implements, and the two doors: `connect` and `listen`.

Knows no transport: they are registered by scheme in `registry`.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import random
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, Self, TypeAlias

from headrace.config import CommOptions, parse_seconds
from headrace.containment import log_raised
from headrace.exceptions import CommClosedError, ConnectTimeoutError, FatalCommClosedError
from headrace.messages.spending import Spent

from .addressing import normalize_address, parse_address
from .registry import Connector, get_backend

__all__ = [
    "BaseListener",
    "Comm",
    "CommClosedError",
    "CommTasks",
    "Connector",
    "FatalCommClosedError",
    "HandleComm",
    "Listener",
    "OnBatch",
    "OnClose",
    "connect",
    "listen",
]

logger = logging.getLogger("distributed.comm")

#: Attempts after which a peer that drops each connection right after TLS is believed to refuse our certificate.
DROPS = 3


class DroppedError(CommClosedError):
    """A peer has closed a connection right after TLS without an alert, most likely because of our certificate."""


OnBatch: TypeAlias = Callable[[list[Any]], None]
OnClose: TypeAlias = "Callable[[Exception | None], None]"
HandleComm: TypeAlias = "Callable[[Comm], Awaitable[None]]"

#: Seconds between two attempts to connect, at first and at most.
FIRST_RETRY = 0.01
LONGEST_RETRY = 1.5


#: Unsent bytes of a stream over `read` and `write` from which its sender is told of them.
MANY_UNSENT = 4 << 20


class Comm(ABC):
    """A connection. It starts in request mode (`read`, `write`); `start_stream` switches it to a stream for good.

    A transport of one's own needs `read`, `write`, `close`, `abort`, `closed` and both addresses; `send` and
    `start_stream` are made of these, unless it has its own.

    Attributes:
        local_address, peer_address: with scheme.
        peer_info: the other side's handshake.
        deserialize: True to have `read` load the pickles in messages, False to get them as `Serialized`, None to get
            everything as it came.
        name: free text that shows in the repr.
        spent: while somebody wants to know, what sending takes is added to this: `serialize` and `compress` in seconds,
            and `sent` in bytes, as they travel; not every transport does that.
        when_closed: called on the loop once the connection has ended, whichever side ended it; for the handler of a
            request that waits and so does not read.
    """

    local_address: str
    peer_address: str
    peer_info: dict[str, Any] = {}  # noqa: RUF012 - only ever replaced
    deserialize: bool | None = True
    name: str | None = None
    spent: Spent | None = None
    when_closed: Callable[[], object] | None = None
    _written: WrittenStream | None = None

    def __init__(self, deserialize: bool | None = True) -> None:
        self.deserialize = deserialize

    @abstractmethod
    async def read(self, deserializers: Iterable[str] | None = None) -> Any:
        """The next RPC message.

        Args:
            deserializers: names of the families from which values in the message are accepted; all by default.

        Raises:
            CommClosedError: the connection is closed, by either side.
            DeserializationError: a value in the message cannot be loaded here; the connection stays usable.
        """

    @abstractmethod
    async def write(self, msg: object, serializers: Iterable[str] | None = None, on_error: str | None = None) -> None:
        """Send a message (a list of messages after `start_stream`), waiting while too much is unsent.

        Args:
            serializers: names of the families by which marked values in the message are serialized.
            on_error: accepted for compatibility: a value that cannot be serialized always raises.

        Raises:
            CommClosedError: the connection is closed.
            TypeError, SerializationError: the message cannot be encoded, and no part of it was sent.
        """

    def send(self, message: Any) -> None:
        """Send a message as `write` does, without waiting. Only on the thread of the comm's loop."""
        if self.closed():
            raise CommClosedError(f"{self!r}: the connection is closed")
        if self._written is None:
            self._written = WrittenStream(self)
        self._written.send(message)

    def start_stream(self, incoming: object, on_batch: OnBatch, on_close: OnClose) -> None:
        """Become a stream: from now on packets are lists of messages, which a callback on the loop gets, not `read`.

        Args:
            incoming: type of the messages that arrive, usually a union of `Message`s.
            on_batch: called with each packet's messages, in order. An exception in the callback closes the comm.
            on_close: called once when the comm ends: with `None` after an orderly end by either side, else the error.
        """
        if self._written is None:
            self._written = WrittenStream(self)
        self._written.start(incoming, on_batch, on_close)

    async def wait_until_written(self) -> None:
        """Wait until all that `send` has taken is on its way; `close` may be called then."""
        if self._written is not None:
            await self._written.wait()

    @abstractmethod
    async def close(self) -> None:
        """Close once all that was sent has left this process; returns then, or after a few seconds."""

    @abstractmethod
    def abort(self) -> None:
        """Close at once, and drop the bytes that have not left this process."""

    @property
    def unsent(self) -> int:
        """Bytes that were sent and have not left, if there are so many that `write` would wait; else 0."""
        waiting = 0 if self._written is None else self._written.waiting_bytes
        return waiting if waiting > MANY_UNSENT else 0

    @property
    def unread(self) -> int:
        """Number of messages that have arrived and were not read."""
        return 0

    @property
    def progress(self) -> Any:
        """A value that changes whenever bytes arrive; None where the transport does not tell."""
        return None

    @abstractmethod
    def closed(self) -> bool:
        """Whether either side has closed the connection."""

    @staticmethod
    def handshake_info() -> dict[str, Any]:
        """The entries of this end in a handshake, under their documented names."""
        return {"compression": None, "python": tuple(sys.version_info[:3]), "pickle-protocol": pickle.HIGHEST_PROTOCOL}

    @staticmethod
    def handshake_configuration(local: dict[str, Any], remote: dict[str, Any]) -> dict[str, Any]:
        """The settings that two ends agree on, from the handshakes of both.

        Raises:
            ValueError: a handshake does not name its pickle protocol.
        """
        try:
            protocol = min(local["pickle-protocol"], remote["pickle-protocol"])
        except KeyError as error:
            raise ValueError(f"a handshake has no {error}: {local!r}, {remote!r}") from error
        both = local.get("compression") == remote.get("compression")
        return {"pickle-protocol": protocol, "compression": local.get("compression") if both else None}

    @property
    def extra_info(self) -> dict[str, Any]:
        """Further facts from the transport, such as certificate and cipher of a TLS connection."""
        return {}

    @property
    def same_host(self) -> bool:
        """Whether both ends have the same host address."""
        backend = get_backend(parse_address(self.local_address)[0])
        local, peer = parse_address(self.local_address)[1], parse_address(self.peer_address)[1]
        return backend.get_address_host(local) == backend.get_address_host(peer)

    def __repr__(self) -> str:
        state = " (closed)" if self.closed() else ""
        name = f" {self.name}" if self.name else ""
        return f"<{type(self).__name__}{name}{state} local={self.local_address} remote={self.peer_address}>"


class WrittenStream:
    """The stream of a comm whose transport has only `read` and `write`: each packet is a message, a list of frames.

    Attributes:
        waiting_bytes: length of the packets that `write` has not taken, or not finished.
    """

    def __init__(self, comm: Comm) -> None:
        self._comm = comm
        self._codec: Any = None
        self._waiting: deque[tuple[Any, int]] = deque()
        self.waiting_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def send(self, message: Any) -> None:
        """Have a message written after those before it; before `start`, a message of request mode."""
        size = 0
        if self._codec is not None:
            message = [bytes(frame) for frame in self._codec.encode(message)]
            size = sum(map(len, message))
        self._waiting.append((message, size))
        self.waiting_bytes += size
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                message, size = self._waiting[0]
                await self._comm.write(message)
                self._waiting.popleft()
                self.waiting_bytes -= size
        except OSError:  # the reader, if there is one, finds the same end
            self._waiting.clear()
            self.waiting_bytes = 0
            self._comm.abort()
        except Exception as error:
            log_raised(logger, error, "Closing %r: a message cannot be written", self._comm)
            self._comm.abort()

    async def wait(self) -> None:
        """Wait until all is written, or the connection has ended."""
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def start(self, incoming: object, on_batch: OnBatch, on_close: OnClose) -> None:
        """Deliver what comes as `Comm.start_stream` says.

        Raises:
            RuntimeError: the comm is a stream already.
        """
        from headrace.protocol.codec import StreamCodec

        if self._reading is not None:
            raise RuntimeError(f"{self._comm!r} is a stream already")
        self._codec = StreamCodec(incoming)
        self._reading = asyncio.get_running_loop().create_task(self._read(on_batch, on_close))

    async def _read(self, on_batch: OnBatch, on_close: OnClose) -> None:
        failure: Exception | None = None
        try:
            while True:
                frames = await self._comm.read()
                on_batch(self._codec.decode(list(frames)))
        except (CommClosedError, asyncio.CancelledError):
            pass
        except BaseException as raised:
            failure = log_raised(logger, raised, "Closing %r: its messages could not be handled", self._comm)
        self._comm.abort()
        on_close(failure)


class Arrivals:
    """Lets the one reader of a comm wait until something has arrived or the connection has ended.

    Does not refer to the comm, which would then wait for the cyclic collector.
    """

    __slots__ = ("_loop", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self, comm: Comm) -> None:
        """Wait for the next `announce`.

        Raises:
            RuntimeError: another reader of the comm waits already.
        """
        if self._waiting is not None:
            raise RuntimeError(f"{comm!r} is being read already")
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def announce(self) -> None:
        """Wake the reader, if one waits. On the comm's loop."""
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            waiting.set_result(None)


class Listener(ABC):
    """Accepts connections at an address, and handles each with `handle_comm` in a task of its own."""

    listen_address: str
    contact_address: str

    @abstractmethod
    async def start(self) -> None:
        """Begin to listen, unless the listener does already.

        Raises:
            OSError: the address cannot be had.
        """

    @abstractmethod
    def stop(self) -> None:
        """Accept no more connections; open ones live on."""

    async def on_connection(  # noqa: B027 - a hook, which need not be overridden
        self, comm: Comm, handshake_overrides: dict[str, Any] | None = None
    ) -> None:
        """Look at a connection after its handshake, before it is handled; a hook for subclasses.

        Args:
            handshake_overrides: accepted for compatibility.
        """

    async def serve(self, comm: Comm, handle_comm: HandleComm) -> None:
        """Hand a connection over to its handler; abort it if the handler, or `on_connection`, fails."""
        try:
            await self.on_connection(comm)
            await handle_comm(comm)
        except BaseException:
            comm.abort()
            raise

    def __await__(self) -> Generator[Any, None, Self]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()


class BaseListener(Listener):
    """A listener that knows its connections that are not handled yet; subclasses keep them in `beginning`, in order."""

    def __init__(self) -> None:
        self.beginning: dict[Comm, None] = {}

    def abort_handshaking_comms(self) -> None:
        """Close the connections that are not handled yet."""
        for comm in list(self.beginning):
            comm.abort()


async def connect(
    addr: str,
    timeout: float | str | None = None,
    deserialize: bool = True,
    handshake_overrides: dict[str, Any] | None = None,
    retry_refused: bool = True,
    **connection_args: object,
) -> Comm:
    """Connect, trying again until it works or the time is over, since the other side may still be starting.

    Args:
        addr: `tcp://host:port`, `tls://host:port`, `ws://host:port/path`, `wss://host:port/path` or `inproc://…`.
        timeout: seconds or text such as "5s"; `None` means `distributed.comm.timeouts.connect`.
        handshake_overrides: accepted for compatibility.
        retry_refused: whether to try again where nothing listens; false for a peer that has been there before.
        connection_args: what `Security.get_connection_args` gives.

    Raises:
        ConnectionRefusedError: nothing listens there, without `retry_refused`.
        ConnectTimeoutError: no connection in time; an OSError and a TimeoutError that names address, time and cause.
        FatalCommClosedError: another attempt would fail as well (`ProtocolVersionError`, a bad certificate).
        ValueError: the address is malformed.
    """
    seconds = _connect_seconds(timeout)
    address = normalize_address(addr)
    scheme, location = parse_address(address)
    connector = get_backend(scheme).get_connector()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause = FIRST_RETRY
    cause: Exception | None = None
    drops = 0
    while True:
        left = deadline - loop.time()
        if left <= 0:
            break
        try:
            async with asyncio.timeout(left):
                return await connector.connect(location, deserialize=deserialize, **connection_args)
        except FatalCommClosedError:
            raise
        except OSError as error:  # includes the timeout itself
            if isinstance(error, ConnectionRefusedError) and not retry_refused:
                raise ConnectionRefusedError(
                    error.errno, f"nothing listens at {address} (any more): {error}"
                ) from error
            drops += isinstance(error, DroppedError)
            if drops >= DROPS:
                raise FatalCommClosedError(str(error)) from error
            if cause is None or not isinstance(error, TimeoutError):
                cause = error
        left = deadline - loop.time()
        if left <= 0:
            break
        await asyncio.sleep(min(pause * random.uniform(0.5, 1), left))
        pause = min(pause * 2, LONGEST_RETRY)
    reason = f"{type(cause).__name__}: {cause}" if cause is not None and str(cause) else "no answer"
    raise ConnectTimeoutError(
        f"Timed out trying to connect to {address} after {seconds:g} s ({reason}). "
        "Check that it is the right address and that a scheduler or worker runs there."
    ) from cause


def listen(addr: str, handle_comm: HandleComm, deserialize: bool = True, **kwargs: object) -> Listener:
    """A listener at an address, which starts when it is awaited or used with `async with`.

    Args:
        addr: `tcp://host:port` (port 0 or none: any free one; host empty: all interfaces), `tls://…`, `ws://…`,
            `wss://…`, `inproc://`.
        handle_comm: awaited in a task for each connection, after the handshake.
        kwargs: what `Security.get_listen_args` gives.
    """
    scheme, location = parse_address(normalize_address(addr))
    return get_backend(scheme).get_listener(location, handle_comm, deserialize, **kwargs)


def _connect_seconds(timeout: float | str | None) -> float:
    if isinstance(timeout, (int, float)):
        return timeout
    return CommOptions.from_config().connect_timeout if timeout is None else parse_seconds(timeout)


class CommTasks:
    """The tasks in which a listener handles its comms. Keeps them alive, and logs their failures."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], what: str) -> None:
        """Run a coroutine in a task; `what` names it in the log."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def cancel(self) -> None:
        """Cancel the tasks that still run."""
        for task in list(self._tasks):
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, CommClosedError):
            logger.error("%s failed", task.get_name(), exc_info=error)
