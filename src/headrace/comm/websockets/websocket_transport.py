"""The bytes of a comm in the messages of a WebSocket: a transport of asyncio on top of aiohttp's WebSockets.

What a comm writes (its handshake and its packets) is one stream of bytes, as over TCP; a message is any piece of it. So
limits, compression, turns and backpressure are those of `socket_comm`. Knows nothing of how a WebSocket is opened.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Protocol, TypeAlias

from aiohttp import ClientWebSocketResponse, WSMessage, WSMsgType
from aiohttp.web import WebSocketResponse

from headrace.exceptions import CommClosedError, MalformedDataError
from headrace.protocol.frames import Frame

from ..connections import CommTasks
from ..packets import PacketError
from ..socket_comm import SocketComm

WebSocket: TypeAlias = ClientWebSocketResponse | WebSocketResponse

#: Longest message that is accepted.
MAX_MESSAGE_BYTES = 64 << 20
#: Longest message that is sent, whatever the settings say, and to which small pieces are joined. aiohttp copies a
#: message a few times, and memory for longer ones comes fresh from the system each time (measured, 100 MB on
#: loopback: 93 ms in messages of 64 KiB, 350 to 700 ms of 1 or 8 MiB, with the loop held up for 100 to 400 ms).
SENT_BYTES = 64 * 1024
#: Seconds that a closing end waits for the other's agreement, and for the last bytes to leave afterwards.
CLOSE_SECONDS = 2.0
#: Seconds between two looks of the connecting end, which pings if nothing has moved since the last one: proxies drop
#: connections that are silent for a minute, or for half of one.
PING_SECONDS = 15.0
#: Close codes of an orderly end: it is over; the program goes away; none was given.
_ORDERLY = frozenset({0, 1000, 1001, 1005})


class Below(Protocol):
    """A protocol of aiohttp that says when its connection has ended."""

    lost: asyncio.Event
    failure: BaseException | None


class WebSocketComm(SocketComm):
    """A comm over a WebSocket."""

    can_encrypt = False  # TLS is below the WebSocket, by `wss` or by a proxy

    def refuse(self, reason: str) -> None:
        """End the connection: the other side does not keep to the rules of WebSockets, or to ours for them."""

        def fail(_: None) -> None:
            raise PacketError(reason) if self._opening is None else MalformedDataError(f"{self!r}: {reason}")

        self._guard(fail, None)


class WebSocketTransport(asyncio.Transport):
    """Reads and writes a WebSocket for a comm, until either side closes.

    Args:
        websocket: opened.
        below: the protocol that aiohttp has on the connection.
        connection: the connection's transport.
        comm: gets the bytes.
        message_bytes: longest message that is sent.
        pings: whether this end keeps a silent connection alive.
    """

    def __init__(
        self,
        websocket: WebSocket,
        below: Below,
        connection: asyncio.Transport,
        comm: WebSocketComm,
        *,
        message_bytes: int,
        pings: bool,
    ) -> None:
        super().__init__()
        self._websocket = websocket
        self._below = below
        self._connection = connection
        self._comm = comm
        self._message_bytes = max(1, min(message_bytes, SENT_BYTES))
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[Frame] = deque()
        #: bytes of `_unsent` and of the message that is on its way
        self._unsent_bytes = self._leaving_bytes = 0
        self._high, self._low = 1 << 16, 1 << 14
        self._writing_paused = False
        self._closing = False
        self._reading = asyncio.Event()
        self._reading.set()
        self._writing: asyncio.Task[None] | None = None
        self._tasks = CommTasks()
        self._pings = pings
        self._ping_due = self._moved = False
        self._ping_timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Have the comm send its handshake. `run` follows."""
        self._comm.connection_made(self)
        if self._pings:
            self._ping_timer = self._loop.call_later(PING_SECONDS, self._ping)

    async def run(self) -> None:
        """Deliver what comes to the comm until the connection has ended, whatever the other side sends."""
        failure: Exception | None = None
        try:
            failure = await self._read()
            if self._writing is not None and not self._writing.done():
                if not self._closing:
                    self._writing.cancel()  # the other side takes nothing any more
                await asyncio.wait([self._writing])
            await self._below_ends()
        finally:
            self._end(failure)

    async def _below_ends(self) -> None:
        self._connection.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._below.lost.wait()
        except TimeoutError:
            self._connection.abort()

    def _end(self, failure: Exception | None) -> None:
        """Report the end to the comm, once, and refer to nothing any more."""
        self._connection.abort()
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        if self._writing is not None:
            self._writing.cancel()
        self._unsent.clear()
        if failure is None and not self._closing:
            self._comm.eof_received()
        self._closing = True
        self._comm.connection_lost(failure)
        del self._comm, self._websocket

    # Receiving

    async def _read(self) -> Exception | None:
        """Deliver messages until there are no more; returns the error with which they ended, if it was one."""
        while True:
            if not self._reading.is_set():
                await self._reading.wait()
            message = await self._websocket.receive()
            if message.type is WSMsgType.BINARY:
                self._moved = True
                data = memoryview(message.data)
                del message  # for as long as the next one takes
                await self._deliver(data)
                del data
            elif message.type is WSMsgType.TEXT:
                self._comm.refuse("a text message came on the WebSocket, where all are binary")
            else:
                return self._failure(message)

    async def _deliver(self, data: memoryview) -> None:
        comm = self._comm
        while data and not self._closing:
            buffer = comm.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            comm.buffer_updated(size)
            data = data[size:]
            if not self._reading.is_set():
                await self._reading.wait()

    def _failure(self, message: WSMessage) -> Exception | None:
        if self._closing:
            return None
        if message.type is WSMsgType.ERROR and isinstance(message.data, Exception):
            self._comm.refuse(f"malformed WebSocket: {message.data}")
            return None
        if message.type is WSMsgType.CLOSE and message.data not in _ORDERLY:
            return CommClosedError(f"closed with code {message.data} ({message.extra or 'no reason given'})")
        failure = self._below.failure
        return failure if isinstance(failure, Exception) else None

    def pause_reading(self) -> None:
        """Give nothing to the comm until `resume_reading`."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """Give to the comm what comes, again."""
        self._reading.set()

    # Sending

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Have data sent; a closed connection drops them."""
        self.writelines((data,))

    def writelines(self, list_of_data: Any) -> None:
        """Have several pieces of data sent, without joining large ones."""
        if self._closing:
            return
        self._unsent.extend(list_of_data)
        self._unsent_bytes += sum(map(len, list_of_data))
        self._go_on_writing()
        if self._unsent_bytes > self._high and not self._writing_paused:
            self._writing_paused = True
            self._comm.pause_writing()

    def _go_on_writing(self) -> None:
        if self._writing is None or self._writing.done():
            self._writing = self._loop.create_task(self._write())

    async def _write(self) -> None:
        websocket = self._websocket
        try:
            while self._unsent or self._ping_due:
                if self._ping_due:
                    self._ping_due = False
                    await websocket.ping()
                if self._unsent:
                    message = self._next_message()
                    self._moved, self._leaving_bytes = True, len(message)
                    await websocket.send_bytes(message)  # waits while too much waits below
                    self._unsent_bytes -= len(message)
                    self._leaving_bytes = 0
                    del message
                if self._writing_paused and self._unsent_bytes <= self._low:
                    self._writing_paused = False
                    self._comm.resume_writing()
            if self._closing:
                await websocket.close()
        except OSError:  # the reader finds the same end
            self._unsent.clear()

    def _next_message(self) -> Any:
        """Take a message off the unsent data: as many pieces as fit, or as much of a long one."""
        limit = self._message_bytes
        small: list[Frame] = []
        total = 0
        while self._unsent and total + len(self._unsent[0]) <= limit:
            piece = self._unsent.popleft()
            total += len(piece)
            small.append(piece)
        if small:
            return small[0] if len(small) == 1 and not isinstance(small[0], bytearray) else b"".join(small)
        piece = memoryview(self._unsent.popleft())
        if len(piece) > self._message_bytes:
            self._unsent.appendleft(piece[self._message_bytes :])
        return piece[: self._message_bytes]

    def _ping(self) -> None:
        """Ping if nothing has moved since the last look."""
        self._ping_timer = self._loop.call_later(PING_SECONDS, self._ping)
        if not self._moved:
            self._ping_due = True
            self._go_on_writing()
        self._moved = False

    def get_write_buffer_size(self) -> int:
        """Bytes that have not left."""
        return self._unsent_bytes - self._leaving_bytes + self._connection.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the numbers of unsent bytes from which the comm waits, and goes on."""
        self._high = self._high if high is None else high
        self._low = self._high // 4 if low is None else low

    # The end

    def is_closing(self) -> bool:
        """Whether this end closes, or either has closed."""
        return self._closing or self._connection.is_closing()

    def close(self) -> None:
        """Close once all is written, with WebSocket's farewell."""
        if not self._closing:
            self._closing = True
            self._reading.set()
            self._go_on_writing()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._unsent.clear()
        self._reading.set()
        self._connection.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts about the connection."""
        return self._connection.get_extra_info(name, default)
