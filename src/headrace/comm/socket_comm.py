"""Comms over sockets: asyncio protocols that read large frames into their final memory and write without joining.

How they come to be connected is `tcp` and `tls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from headrace.common.tracebacks import without_frames
from headrace.containment import contained
from headrace.exceptions import (
    CommClosedError,
    FrameTooLargeError,
    MalformedDataError,
    MessageTooLargeError,
    ProtocolVersionError,
)
from headrace.protocol.codec import StreamCodec, decode, encode
from headrace.protocol.compression import Compressor, choose_compression, offered_compression
from headrace.protocol.frames import Frame
from headrace.protocol.marks import mark_by_families, open_by_families

from .addressing import unparse_host_port
from .complaints import Complaints
from .connections import Comm, OnBatch, OnClose
from .forks import Kept, end_keeping, keep_from_children
from .handshake import HandshakeReader, check_versions, encode_handshake, handshake_info
from .lent_memory.memory_link import (
    LEND_BYTES,
    MemoryLink,
    link_memory,
    offer,
)
from .packets import (
    COMPRESSED,
    CONTROL,
    FREE_FRAMES,
    MAX_FRAME_BYTES,
    REFERENCE,
    FrameLimitError,
    PacketError,
    PacketReader,
    buffers_to_write,
    too_many,
)

logger = logging.getLogger("distributed.comm.tcp")

#: Unsent bytes above which `write` waits, and below which it goes on.
HIGH_WATER = 4 << 20
LOW_WATER = 1 << 20
#: Requests that may wait to be read before the socket is no longer read.
MAX_UNREAD = 64
#: Packets of a stream that are handled before others get their turn, and requests that are read.
STREAM_TURN, REQUEST_TURN = 128, 8
#: Seconds that `close` waits for unsent bytes to leave.
CLOSE_TIMEOUT = 10
#: Why the socket is not read: too much has not been read by the user, threads read what a packet refers to, or it is
#: the turn of others; or it has ended.
_UNREAD, _IN_THREADS, _TURN, _ENDED = 1, 2, 4, 8


class SocketComm(Comm, asyncio.BufferedProtocol):
    """A comm over a stream transport of asyncio."""

    def __init__(
        self,
        scheme: str,
        *,
        deserialize: bool = True,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        compression: str | None = None,
        share_memory: bool = False,
        on_connected: Callable[[SocketComm], None] | None = None,
        complaints: Complaints | None = None,
    ) -> None:
        super().__init__(deserialize)
        self.scheme = scheme
        self.local_address = self.peer_address = f"{scheme}://"
        self.peer_info: dict[str, Any] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._kept: Kept | None = None
        self._on_connected = on_connected
        self._complaints = complaints
        self._own_info = handshake_info(offered_compression(compression))
        if share_memory and (offered := offer()) is not None:
            self._own_info["memory"] = offered
        self._memory: MemoryLink | None = None
        #: from this length on, `send` has to look at a frame
        self._large = max_frame_bytes + 1
        self._compressor: Compressor | None = None
        self._handshake: HandshakeReader | None = HandshakeReader()
        self._handshake_buffer: memoryview | None = None
        self._reader = PacketReader(self._on_packet, max_frame_bytes)
        self._packets: deque[list[Frame]] = deque()
        self._paused = 0
        #: whether a stream leaves turns to others. Not over TLS: what has come for a paused protocol of asyncio, and
        #: was not read, is lost when the other side closes.
        self._takes_turns = True
        #: packets that were handled, or read without waiting, since others had their turn
        self._in_a_row = 0
        self._waiting: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
        #: packets behind one that waits to hear whether it can be read from memory
        self._waiting_packets: deque[list[Frame]] | None = None
        self._lost = asyncio.Event()
        self._closed = False
        self._error: Exception | None = None
        self._codec: StreamCodec | None = None
        self._on_batch: OnBatch | None = None
        self._on_close: OnClose | None = None

    # -- asyncio's side

    def connection_made(self, transport: Any) -> None:
        """Called by the loop."""
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        self._write_buffers = self._choose_writer(transport)
        self._takes_turns = transport.get_extra_info("sslcontext") is None
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _set_socket_options(sock)
            self._kept = keep_from_children(sock.fileno())
        self.local_address = _address(self.scheme, transport.get_extra_info("sockname"))
        self.peer_address = _address(self.scheme, transport.get_extra_info("peername"))
        transport.write(encode_handshake(self._own_info))
        if self._on_connected is not None:
            self._on_connected(self)

    def get_buffer(self, sizehint: int) -> Any:
        """Called by the loop: where to read to."""
        if self._handshake is not None:
            if self._handshake_buffer is None:
                self._handshake_buffer = memoryview(bytearray(4096))
            return self._handshake_buffer
        return self._reader.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop: so much was read."""
        self._in_a_row = 0
        self._guard(self._reader.buffer_updated if self._handshake is None else self._feed_handshake, nbytes)

    def _guard(self, handle: Callable[[Any], None], what: Any) -> None:
        """Handle something that came; whatever is wrong with it ends this connection, and nothing else."""
        try:
            handle(what)
        except ProtocolVersionError as error:
            self._fail(error, abort=False)  # what the other side needs to say the same has to leave first
        except (PacketError, MemoryError, msgspec.MsgspecError, RecursionError) as error:
            self._complain("malformed data", error)
            kind = FrameTooLargeError if isinstance(error, FrameLimitError) else MalformedDataError
            failure = kind(f"{self!r}: malformed data: {error}")
            failure.__cause__ = error
            self._fail(failure)
        except OSError as error:
            self._fail(error)
        except BaseException as raised:
            raised = contained(raised)
            self._say_unhandled(raised)
            self._fail(raised)

    def _complain(self, what: str, error: Exception) -> None:
        self._say(what, "Closing the connection from %s: %s: %s", self.peer_address, what, error)

    def _say(self, kind: str, text: str, *args: object, **how: Any) -> None:
        if self._complaints is None:  # this end has connected: nobody can make it do so over and over
            self._complaints = Complaints(logger)
        self._complaints.say(kind, self.peer_address, text, *args, **how)

    def _say_unhandled(self, error: Exception) -> None:
        self._say(
            f"messages that could not be handled: {type(error).__name__}",
            "Closing %r: its messages could not be handled",
            self,
            level=logging.ERROR,
            error=error,
        )

    def eof_received(self) -> bool:
        """Called by the loop: the other side has closed."""
        if self._error is None and not self._closed:
            if self._handshake is not None:
                self._error = CommClosedError(f"{self.peer_address} closed the connection before its handshake")
            elif not self._reader.idle:
                self._error = CommClosedError(f"{self.peer_address} closed the connection in the middle of a message")
                self._say("a broken message", "%s", self._error)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop, once."""
        if self._reader.held and not (self._closed or self._paused & _IN_THREADS or error):  # came before the end
            self._paused = _ENDED
            self._guard(self._take_held, None)
        self._closed = True
        end_keeping(self._kept)
        # Comm and reader refer to each other: what is held of half a message would wait for the cyclic collector.
        self._reader.close()
        self._on_connected = self._handshake_buffer = None
        self._write_buffers = _write_nowhere
        self._waiting_packets = None
        if self._memory is not None:
            self._memory.revoke()
            self._memory.stop_reading()
        if self._error is None and error is not None:
            self._error = CommClosedError(f"{self.peer_address}: {type(error).__name__}: {error}")
            self._error.__cause__ = without_frames(error)
        self._wake()
        if self._drain is not None and not self._drain.done():
            self._drain.set_result(None)
        self._lost.set()
        if self.when_closed is not None:
            self.when_closed()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            # A drain of packets that came before the stream may be scheduled; these come first.
            self._loop.call_soon(self._report_close, on_close)

    def pause_writing(self) -> None:
        """Called by the loop: too much is unsent."""
        if self._drain is None:
            self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        """Called by the loop: enough has left."""
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)

    # -- handshake

    @property
    def handshake_begun(self) -> bool:
        """Whether the other side has sent anything."""
        return self._handshake is None or self._handshake.started

    async def shake_hands(self) -> None:
        """Wait for the other side's handshake.

        Raises:
            CommClosedError, ProtocolVersionError: it did not come, or is not one of ours.
        """
        while self._handshake is not None and not self._closed:
            await self._wait()
        # Once both have introduced themselves, what was sent can be read even if the other side has closed since.
        if self._handshake is not None or isinstance(self._error, ProtocolVersionError):
            raise self._closed_error()

    def _feed_handshake(self, nbytes: int) -> None:
        handshake, buffer = self._handshake, self._handshake_buffer
        assert handshake is not None
        assert buffer is not None
        if not handshake.feed(buffer[:nbytes]):
            return
        assert handshake.info is not None
        self.peer_info = handshake.info
        self._handshake = self._handshake_buffer = None
        check_versions(self._own_info, self.peer_info, self.peer_address)
        name = choose_compression(self._own_info["compression"], self.peer_info.get("compression"))
        self._compressor = Compressor(name) if name else None
        assert self._transport is not None
        self._memory = link_memory(
            self._own_info.get("memory"),
            self.peer_info.pop("memory", None),
            self.local_address,
            self.peer_address,
            self._transport.write,
        )
        if self._memory is not None:
            self._large = min(self._large, LEND_BYTES)
        self._wake()
        rest = handshake.rest
        while rest and not self._closed:
            buffer = self._reader.get_buffer()
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            self._reader.buffer_updated(size)
            rest = rest[size:]

    # -- receiving

    def _on_packet(self, frames: list[Frame], lengths: list[int] | None) -> None:
        if lengths is None:
            self._deliver(frames)
        elif self._closed:  # what was lent is still to come back
            self._take_leave(frames, lengths)
        elif (found := self._resolve(frames, lengths)) is not None:
            self._deliver(found)

    def _resolve(self, frames: list[Frame], lengths: list[int]) -> list[Frame] | None:
        """Frames that have flags as they were sent; None if there is nothing to deliver, or not yet."""
        flags, memory = 0, self._memory
        for length in lengths:
            flags |= length
        if flags & (REFERENCE | CONTROL):
            if memory is None:
                raise PacketError("a reference to memory, though none was agreed on")
            if flags & CONTROL:
                self._on_control(memory, frames, lengths)
                return None
        if flags & COMPRESSED:
            if self._compressor is None:
                raise PacketError("a compressed frame, though no compression was agreed on")
            limit, decompress = self._reader.max_frame_bytes, self._compressor.decompress
            try:
                frames = [
                    decompress(frame, limit) if length & COMPRESSED else frame
                    for frame, length in zip(frames, lengths, strict=True)
                ]
            except ValueError as error:
                raise PacketError(str(error)) from error
        if flags & REFERENCE:
            assert memory is not None
            taken = memory.take(frames, lengths, self._on_taken)
            if taken is None:  # packets are delivered in their order
                self._pause(_IN_THREADS)
            return taken
        return frames

    def _deliver(self, frames: list[Frame]) -> None:
        if self._closed:
            return
        on_batch = self._on_batch
        if on_batch is not None and not self._packets:
            assert self._codec is not None
            on_batch(self._codec.decode(frames))
            self._in_a_row += 1
            if self._in_a_row >= STREAM_TURN and not self._closed and self._takes_turns:
                self._pause(_TURN)
                self._loop.call_soon(self._resume, _TURN)
            return
        frames[0] = bytes(frames[0])
        self._packets.append(frames)
        if len(self._packets) >= MAX_UNREAD and on_batch is None:
            self._pause(_UNREAD)
        self._wake()

    def _on_taken(self, frames: list[Frame]) -> None:
        """Threads have read what a packet refers to."""
        assert self._transport is not None
        if not self._lost.is_set() and not self._transport.is_closing():
            self._guard(self._go_on_with, frames)

    def _go_on_with(self, frames: list[Frame]) -> None:
        assert self._memory is not None
        assert self._transport is not None
        self._memory.confirm(wanted=not self._closed)
        self._deliver(frames)
        self._resume(_IN_THREADS)

    def _on_control(self, memory: MemoryLink, frames: list[Frame], lengths: list[int]) -> None:
        if len(frames) != 1 or lengths[0] & REFERENCE:
            raise PacketError("what ends say to each other among other frames")
        memory.on_control(frames[0])

    def _take_leave(self, frames: list[Frame], lengths: list[int]) -> None:
        """Closing, until what was lent has come back: nothing is delivered, and nothing taken."""
        assert self._memory is not None
        if lengths[0] & CONTROL:
            self._on_control(self._memory, frames, lengths)
        else:
            self._memory.refuse(lengths)

    def _pause(self, reason: int) -> None:
        assert self._transport is not None
        if not self._paused:
            self._transport.pause_reading()
            self._reader.hold()
        self._paused |= reason
        if self._memory is not None and reason == _UNREAD:
            # Nobody waits for what is not read now: an answer, or that what was lent comes back.
            if self._memory.when_answered is not None:
                self._memory.when_answered()
            self._memory.let_go_on()

    def _resume(self, reason: int) -> None:
        """A reason not to read is gone."""
        self._paused &= ~reason
        assert self._transport is not None
        if self._paused or self._transport.is_closing():
            return
        if reason == _TURN:
            self._in_a_row = 0
        if self._reader.held:
            self._guard(self._take_held, None)
        if not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _take_held(self, _: object) -> None:
        self._reader.resume()

    async def read(self, deserializers: Iterable[str] | None = None) -> Any:
        """The next RPC message."""
        while not self._packets or self._in_a_row >= REQUEST_TURN:
            self._in_a_row = 0
            if self._packets:
                await asyncio.sleep(0)
            elif self._closed:
                raise self._closed_error()
            else:
                await self._wait()
        self._in_a_row += 1
        frames = self._packets.popleft()
        if self._paused & _UNREAD and not self._packets and not self._closed:
            self._resume(_UNREAD)
        try:
            if deserializers is not None and self.deserialize:
                return open_by_families(decode(frames, False), deserializers)
            return decode(frames, self.deserialize)
        except msgspec.MsgspecError as error:
            self._complain("malformed message", error)
            failure = MalformedDataError(f"{self!r}: malformed message: {error}")
            self._fail(failure)
            raise failure from error

    def start_stream(self, incoming: Any, on_batch: OnBatch, on_close: OnClose) -> None:
        """Deliver packets by callback from here on."""
        if self._on_batch is not None:
            raise RuntimeError(f"{self!r} is a stream already")
        self._codec = StreamCodec(incoming)
        self._on_batch = on_batch
        if self._packets:
            self._loop.call_soon(self._deliver_waiting)
        if self._lost.is_set():
            self._loop.call_soon(self._report_close, on_close)
        else:
            self._on_close = on_close

    def _deliver_waiting(self) -> None:
        """Packets that came before `start_stream`; those that come meanwhile queue up behind them."""
        assert self._codec is not None
        assert self._on_batch is not None
        try:
            while self._packets:
                messages = self._codec.decode(self._packets[0])
                self._on_batch(messages)
                self._packets.popleft()
        except msgspec.MsgspecError as error:
            self._complain("malformed data", error)
            self._packets.clear()
            self._fail(MalformedDataError(f"{self!r}: malformed data: {error}"))
            return
        except BaseException as raised:
            raised = contained(raised)
            self._say_unhandled(raised)
            self._packets.clear()
            self._fail(raised)
            return
        if self._paused & _UNREAD and not self._closed:
            self._resume(_UNREAD)

    # -- sending

    def send(self, message: Any) -> None:
        """Send without waiting."""
        if self._closed:
            raise self._closed_error()
        codec = self._codec
        frames = encode(message) if codec is None else codec.encode(message)
        large = self._large
        if len(frames) > FREE_FRAMES:
            self._check_count(frames)
        lengths = None
        for frame in frames:
            if len(frame) >= large:
                self._check_limit(frames)
                break
        else:
            large = 0
        if self._compressor is not None:
            frames, lengths = self._compress(self._compressor, frames)
        if large and self._memory is not None and self._waiting_packets is None and len(frames) <= FREE_FRAMES:
            if not self._paused & _UNREAD and self._memory.should_wait(frames):
                self._wait_for_answer(self._memory, frames, lengths)
                return
            frames, lengths = self._memory.lend(frames, lengths)
        self._write_buffers(buffers_to_write(frames, lengths))

    def _wait_for_answer(self, memory: MemoryLink, frames: list[Frame], lengths: list[int] | None) -> None:
        """Send this packet, and what comes after it, when it is known whether the other side reads from memory."""
        waiting = self._waiting_packets = deque()
        write, self._write_buffers = self._write_buffers, waiting.append

        def send_waiting() -> None:
            memory.when_answered = None
            self._write_buffers, self._waiting_packets = write, None
            write(buffers_to_write(*memory.lend(frames, lengths)))
            for buffers in waiting:
                write(buffers)
            if memory.lent_little:
                memory.let_go_on()

        memory.when_answered = send_waiting

    @staticmethod
    def _compress(compressor: Compressor, frames: list[Frame]) -> tuple[list[Frame], list[int] | None]:
        """Frames as they should travel, and their lengths with flags, if any has one."""
        shorter, flags = compressor.compress_frames(frames)
        # The other side counts bytes as they come: of very many frames, too few may be left for it to take them.
        if flags is None or too_many(len(shorter), sum(map(len, shorter))):
            return frames, None
        return shorter, [len(frame) | flag for frame, flag in zip(shorter, flags, strict=True)]

    def _check_count(self, frames: list[Frame]) -> None:
        if too_many(len(frames), sum(map(len, frames))):
            raise MessageTooLargeError(
                f"{len(frames)} short pieces in one message are more than the other side accepts: "
                "split the value into several"
            )

    def _check_limit(self, frames: list[Frame]) -> None:
        limit = self._reader.max_frame_bytes
        for frame in frames:
            if len(frame) > limit:  # the other side, most likely with the same settings, would close the connection
                raise MessageTooLargeError(
                    f"{len(frame)} bytes in one piece are more than the limit of {limit} (setting "
                    "distributed.comm.max-frame-bytes, on both sides): split the value into several"
                )

    async def write(self, msg: Any, serializers: Iterable[str] | None = None, on_error: str | None = None) -> None:
        """Send, and wait while too much is unsent."""
        self.send(msg if serializers is None else mark_by_families(msg, serializers))
        returned = None if self._memory is None or self._paused & _UNREAD else self._memory.drain
        for drain in (self._drain, returned):
            if drain is not None:
                await asyncio.shield(drain)
                if self._closed and self._error is not None:
                    raise self._closed_error()

    @staticmethod
    def _choose_writer(transport: Any) -> Callable[[list[Frame]], None]:
        if type(transport).__module__.startswith("uvloop"):
            return transport.writelines  # type: ignore[no-any-return]

        if sys.version_info >= (3, 12):

            def write_all_but_one(buffers: list[Frame]) -> None:
                # `writelines` of early 3.12 and 3.13 never calls `pause_writing`; `write` does, for all that is unsent
                *before, last = buffers
                if before:
                    transport.writelines(before)
                transport.write(last)

            return write_all_but_one

        def write_each(buffers: list[Frame]) -> None:  # asyncio's own writelines joins the buffers
            for buffer in buffers:
                transport.write(buffer)

        return write_each

    # -- the end

    async def close(self) -> None:
        """Close once what was sent has left."""
        self._packets.clear()
        if not self._closed:
            self._closed = True
            self._wake()
            if self._memory is not None and not self._memory.settled:
                self._memory.when_settled = self._close_transport
                self._memory.stop_reading()
                self._resume(_UNREAD)
            else:
                self._close_transport()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._lost.wait()
                return
        self.abort()

    def _close_transport(self) -> None:
        self._reader.stopped = True
        if self._memory is not None:
            self._memory.stop_reading()
            self._memory.say_taken()
        assert self._transport is not None
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._closed = True
        self._reader.stopped = True
        self._packets.clear()
        self._wake()
        if self._transport is not None and not self._lost.is_set():
            self._transport.abort()

    def closed(self) -> bool:
        """Whether either side has closed it."""
        return self._closed

    @property
    def unsent(self) -> int:
        """Bytes that were sent and have not left, if these are so many that `write` would wait; else 0."""
        transport, memory = self._transport, self._memory
        lent = memory.lent_bytes if memory is not None and memory.drain is not None else 0
        if self._drain is None or transport is None or self._closed:
            return lent
        return lent + transport.get_write_buffer_size()

    @property
    def unread(self) -> int:
        """Messages that have come and were not read."""
        return len(self._packets)

    @property
    def progress(self) -> Any:
        """Differs from what it was when anything has come since, in the middle of a message, too."""
        read = 0 if self._memory is None else self._memory.progress
        return len(self._packets), read, *self._reader.position

    @property
    def extra_info(self) -> dict[str, Any]:
        """The peer's certificate and the cipher, over TLS."""
        if self._transport is None:
            return {}
        names = ("peercert", "cipher")
        return {name: info for name in names if (info := self._transport.get_extra_info(name)) is not None}

    def _fail(self, error: Exception, abort: bool = True) -> None:
        if self._error is None and not self._closed:
            self._error = without_frames(error)
        self._closed = True
        self._reader.stopped = True
        self._wake()
        if self._transport is not None:
            if abort:
                self._transport.abort()
            else:
                self._transport.close()

    def _report_close(self, on_close: OnClose) -> None:
        on_close(self._error)
        self._on_batch = None  # which holds whom it was for

    def _closed_error(self) -> Exception:
        error = self._error
        if error is None:
            return CommClosedError(f"{self!r}: the connection is closed")
        # A new object: one that is raised repeatedly would collect tracebacks.
        kind = type(error) if isinstance(error, CommClosedError) else CommClosedError
        fresh = kind(str(error))
        fresh.__cause__ = error.__cause__
        return fresh

    def _wake(self) -> None:
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def _wait(self) -> None:
        if self._waiting is not None:
            raise RuntimeError(f"{self!r} is being read already")
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None


def _write_nowhere(buffers: list[Frame]) -> None:
    """What is written after the end."""


def comm_options() -> Any:
    """`CommOptions` as configured now. Late import: dask takes a tenth of a second."""
    from headrace.config import CommOptions

    return CommOptions.from_config()


def _set_socket_options(sock: Any) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        timeout = max(3, int(comm_options().tcp_timeout))
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, timeout // 4))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, timeout // 10))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 7)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout * 1000)


def _address(scheme: str, name: Any) -> str:
    if not name:
        return f"{scheme}://"
    return f"{scheme}://{unparse_host_port(name[0], name[1])}"
