"""Makes a tornado `IOStream` an asyncio transport, so that our comm can speak over a connection that others have made.

tornado itself is not imported: only those who have such a stream get here.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

#: Bytes that are read at once.
READ_BYTES = 1 << 20


class StreamTransport(asyncio.Transport):
    """Reads and writes a tornado stream for a protocol, until either side closes.

    Args:
        stream: a connected `tornado.iostream.IOStream`.
        protocol: gets what comes; its `connection_made` is not called here.
    """

    def __init__(self, stream: Any, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._unsent = 0
        self._high, self._low = 1 << 16, 1 << 14
        self._writing_paused = False
        self._closing = False
        self._reading = asyncio.Event()
        self._reading.set()
        self._all_written = asyncio.Event()
        self._all_written.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to read."""
        self._run(self._read())

    def _run(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self) -> None:
        failure: Exception | None = None
        try:
            while True:
                data = memoryview(await self._stream.read_bytes(READ_BYTES, partial=True))
                while data:
                    await self._reading.wait()
                    buffer = memoryview(self._protocol.get_buffer(len(data)))
                    size = min(len(buffer), len(data))
                    buffer[:size] = data[:size]
                    self._protocol.buffer_updated(size)
                    data = data[size:]
                await self._reading.wait()
        except Exception as error:  # tornado's StreamClosedError, which has the reason if there is one
            failure = getattr(error, "real_error", error)
        if failure is None:
            self._protocol.eof_received()
        self._stream.close()
        self._protocol.connection_lost(failure)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Have data sent; a closed stream drops them."""
        if self._stream.closed():
            return
        size = memoryview(data).nbytes
        try:
            written = self._stream.write(bytes(data) if isinstance(data, bytearray) else data)
        except OSError:  # the reader finds the same end
            return
        self._unsent += size
        self._all_written.clear()
        written.add_done_callback(partial(self._on_written, size))
        if self._unsent > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _on_written(self, size: int, written: asyncio.Future[None]) -> None:
        if not written.cancelled():
            written.exception()  # the reader finds the same end
        self._unsent -= size
        if not self._unsent:
            self._all_written.set()
        if self._writing_paused and self._unsent <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        """Bytes that have not left."""
        return self._unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the numbers of unsent bytes from which the protocol waits, and goes on."""
        self._high = self._high if high is None else high
        self._low = self._high // 4 if low is None else low

    def pause_reading(self) -> None:
        """Give nothing to the protocol until `resume_reading`."""
        self._reading.clear()

    def resume_reading(self) -> None:
        """Give to the protocol what comes, again."""
        self._reading.set()

    def is_closing(self) -> bool:
        """Whether this end closes, or either has closed."""
        return self._closing or bool(self._stream.closed())

    def close(self) -> None:
        """Close once all is written."""
        if not self._closing:
            self._closing = True
            self._reading.set()
            self._run(self._close_written())

    async def _close_written(self) -> None:
        await self._all_written.wait()
        self._stream.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._reading.set()
        self._stream.close()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts about the socket, as asyncio's transports have them."""
        sock = self._stream.socket
        if sock is None:
            return default
        facts: dict[str, Callable[[], Any]] = {
            "socket": lambda: sock,
            "sockname": lambda: sock.getsockname(),
            "peername": lambda: sock.getpeername(),
        }
        if isinstance(sock, ssl.SSLSocket):
            facts |= {
                "sslcontext": lambda: sock.context,
                "peercert": lambda: sock.getpeercert(),
                "cipher": lambda: sock.cipher(),
            }
        try:
            return facts[name]() if name in facts else default
        except OSError:  # it is not connected any more
            return default
