"""Comms over sockets: asyncio protocols that read large frames into their final memory and write without joining.

Knows nothing of how sockets are connected: see `tcp`, `tls` and `websockets`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar, cast

import msgspec

from headrace.auth.access_rules import AccessRules
from headrace.clock import measured
from headrace.common.tracebacks import without_frames
from headrace.containment import contained
from headrace.exceptions import (
    CommClosedError,
    FrameTooLargeError,
    MalformedDataError,
    NotAdmittedError,
    ProtocolVersionError,
)
from headrace.messages.spending import add_to
from headrace.protocol.codec import StreamCodec, decode, encode
from headrace.protocol.compression import Compressor, choose_compression, offered_compression
from headrace.protocol.frames import Frame
from headrace.protocol.marks import mark_by_families, open_by_families
from headrace.protocol.serialization_context import is_wanted, serialization_context

from .complaints import Complaints
from .connections import Arrivals, Comm, OnBatch, OnClose
from .forks import Kept, end_keeping, keep_from_children
from .lent_memory.memory_link import (
    LEND_BYTES,
    MemoryLink,
    link_memory,
    offer,
)
from .opening.handshake import handshake_info
from .opening.socket_opening import EndedTransport, OpeningProtocol, SocketOpening
from .outgoing import check_count, check_lengths, compressed, write_nowhere, writer_of
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
)
from .sockets import address_text, set_options

logger = logging.getLogger("distributed.comm.tcp")

T = TypeVar("T")

#: Unsent bytes above which `write` waits, and below which it goes on.
HIGH_WATER = 4 << 20
LOW_WATER = 1 << 20
#: Requests that may wait for `read` before the comm stops reading its socket.
MAX_UNREAD = 64
#: Packets of a stream, and requests, that are handled in a row before the loop's other callbacks get their turn.
STREAM_TURN, REQUEST_TURN = 128, 8
#: Seconds that `close` waits for unsent bytes to leave.
CLOSE_TIMEOUT = 10
#: Reasons why the comm does not read its socket: too many requests wait for `read`; threads read a packet from the
#: sender's memory; the loop's other callbacks have their turn; the connection has ended.
_UNREAD, _IN_THREADS, _TURN, _ENDED = 1, 2, 4, 8


class SocketComm(Comm, OpeningProtocol):
    """A comm over a stream transport of asyncio."""

    #: whether TLS can begin on the connection once it is there
    can_encrypt = True

    def __init__(
        self,
        scheme: str,
        *,
        rules: AccessRules,
        deserialize: bool = True,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        compression: str | None = None,
        share_memory: bool = False,
        opening_seconds: float = 30.0,
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
        self._opening: SocketOpening | None = SocketOpening(
            listens=on_connected is not None,
            rules=rules,
            info=self._own_info,
            seconds=opening_seconds,
            can_encrypt=self.can_encrypt,
        )
        self._memory: MemoryLink | None = None
        #: frames from this length on may be lent, or are too long: `send` has to look at them
        self._large = max_frame_bytes + 1
        self._compressor: Compressor | None = None
        self._too_early: list[list[Frame]] = []
        self._reader = PacketReader(self._on_packet, max_frame_bytes)
        self._packets: deque[list[Frame]] = deque()
        self._paused = 0
        #: whether a stream pauses to leave turns to others. Not over TLS: bytes that asyncio has received for a paused
        #: protocol are lost when the other side closes.
        self._takes_turns = True
        #: packets that were handled, or read without waiting, since the loop's other callbacks had their turn
        self._in_a_row = 0
        self._arrivals = Arrivals(self._loop)
        self._wake = self._arrivals.announce
        self._drain: asyncio.Future[None] | None = None
        #: packets behind one that waits for the answer whether its frames may be lent
        self._waiting_packets: deque[list[Frame]] | None = None
        self._lost = asyncio.Event()
        self._closed = False
        self._error: Exception | None = None
        self._codec: StreamCodec | None = None
        self._on_batch: OnBatch | None = None
        self._on_close: OnClose | None = None

    # -- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open with a handshake; called by the loop."""
        transport = cast(asyncio.Transport, transport)
        self._use(transport)
        sock = transport.get_extra_info("socket")
        if sock is not None:
            set_options(sock)
            self._kept = keep_from_children(sock.fileno())
        self.local_address = address_text(self.scheme, transport.get_extra_info("sockname"))
        self.peer_address = address_text(self.scheme, transport.get_extra_info("peername"))
        assert self._opening is not None
        self._opening.begin(self, transport, self.peer_address)
        if self._on_connected is not None:
            self._on_connected(self)

    def _use(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER, low=LOW_WATER)
        #: packets that are sent before each side has admitted the other; they leave afterwards
        self._write_buffers = self._too_early.append
        self._takes_turns = transport.get_extra_info("sslcontext") is None

    def get_buffer(self, sizehint: int) -> Any:
        """Memory to read the next bytes into; called by the loop."""
        return self._reader.get_buffer() if self._opening is None else self._opening.get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        """Take `nbytes` that were read; called by the loop."""
        self._in_a_row = 0
        self._guard(self._reader.buffer_updated if self._opening is None else self._opening.buffer_updated, nbytes)

    def _guard(self, handle: Callable[[T], None], what: T) -> None:
        """Handle what came; any error in it ends this connection, and nothing else."""
        try:
            handle(what)
        except (ProtocolVersionError, NotAdmittedError) as error:
            self._take_leave_of_stranger(error)
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

    def _say(
        self, kind: str, text: str, *args: object, level: int = logging.WARNING, error: Exception | None = None
    ) -> None:
        if self._complaints is None:  # this end has connected, and the peer cannot make it do so over and over
            self._complaints = Complaints(logger)
        self._complaints.say(kind, self.peer_address, text, *args, level=level, error=error)

    def _say_unhandled(self, error: Exception) -> None:
        self._say(
            f"messages that could not be handled: {type(error).__name__}",
            "Closing %r: its messages could not be handled",
            self,
            level=logging.ERROR,
            error=error,
        )

    def eof_received(self) -> bool:
        """Note that the other side has closed; called by the loop."""
        if self._error is None and not self._closed:
            if self._opening is not None:
                self._error = CommClosedError(f"{self.peer_address} closed the connection before its handshake")
            elif not self._reader.idle:
                self._error = CommClosedError(f"{self.peer_address} closed the connection in the middle of a message")
                self._say("a broken message", "%s", self._error)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Let go of everything, and report the end; called once by the loop."""
        if self._lost.is_set():
            return
        if self._reader.held and not (self._closed or self._paused & _IN_THREADS or error):  # packets before the end
            self._paused = _ENDED
            self._guard(self._take_held, None)
        self._closed = True
        end_keeping(self._kept)
        # Comm and reader refer to each other: half a message would wait for the cyclic collector.
        self._reader.close()
        self._on_connected = None
        if self._opening is not None:
            self._opening.end()
        self._write_buffers = write_nowhere
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
        if self._transport is not None:
            self._transport = EndedTransport()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            # `_deliver_waiting` may be scheduled: packets come before the end.
            self._loop.call_soon(self._report_close, on_close)

    def pause_writing(self) -> None:
        """Have writers wait: too many bytes are unsent; called by the loop."""
        if self._drain is None:
            self._drain = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let writers go on: enough bytes have left; called by the loop."""
        drain, self._drain = self._drain, None
        if drain is not None and not drain.done():
            drain.set_result(None)

    # -- handshake

    @property
    def opened(self) -> bool:
        """Whether there has been a connection."""
        return self._transport is not None

    @property
    def handshake_begun(self) -> bool:
        """Whether the other side has sent anything."""
        return self._opening is None or self._opening.started

    @property
    def stranger(self) -> object:
        """The host that the other side is at, for `Strangers`; None if it is known, or the opening is over."""
        return None if self._opening is None else self._opening.stranger

    async def shake_hands(self) -> None:
        """Wait until each side has admitted the other.

        Raises:
            CommClosedError: the connection ended before, or the other side does not speak headrace's protocol.
            ProtocolVersionError: the other side speaks another version.
            NotAdmittedError: one side does not admit the other.
        """
        while self._opening is not None and not self._closed:
            await self._arrivals.wait(self)
        # After the opening, messages can still be read, even if the other side has closed since.
        if self._opening is not None:
            raise self._closed_error()

    def on_encrypted(self, transport: asyncio.Transport) -> None:
        """The connection is encrypted from here on, by another transport."""
        self._use(transport)

    def on_opened(self, info: dict[str, Any], rest: memoryview) -> None:
        """Exchange packets from here on; `rest` is the first of what came."""
        self.peer_info = info
        self._opening = None
        name = choose_compression(self._own_info["compression"], info.get("compression"))
        self._compressor = Compressor(name) if name else None
        assert self._transport is not None
        self._memory = link_memory(
            self._own_info.get("memory"),
            info.pop("memory", None),
            self.local_address,
            self.peer_address,
            self._transport.write,
        )
        if self._memory is not None:
            self._large = min(self._large, LEND_BYTES)
        self._write_buffers = writer_of(self._transport)
        early, self._too_early = self._too_early, []
        for buffers in early:
            self._write_buffers(buffers)
        self._wake()
        while rest and not self._closed:
            buffer = self._reader.get_buffer()
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            self._reader.buffer_updated(size)
            rest = rest[size:]

    def on_opening_failed(self, error: Exception) -> None:
        """End the connection, whose opening could not go on."""

        def fail(_: None) -> None:
            raise error

        self._guard(fail, None)
        if self._transport is not None:
            self.connection_lost(None)  # the loop does not call it where TLS has not come about

    def _take_leave_of_stranger(self, error: Exception) -> None:
        """End a connection after what the other side has to know has left."""
        if self._transport is not None and self._opening is not None and self._opening.last_words:
            self._transport.write(self._opening.last_words)
        self._fail(error, abort=False)

    # -- receiving

    def _on_packet(self, frames: list[Frame], lengths: list[int] | None) -> None:
        if lengths is None:
            self._deliver(frames)
        elif self._closed:  # this end only waits for the return of its lent frames
            self._take_leave(frames, lengths)
        elif (found := self._resolve(frames, lengths)) is not None:
            self._deliver(found)

    def _resolve(self, frames: list[Frame], lengths: list[int]) -> list[Frame] | None:
        """The frames of a packet with flags, decompressed and read from memory.

        None for a control packet, and for one whose frames threads still read.
        """
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
        """Deliver a packet that threads have read from the sender's memory."""
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
            raise PacketError("a control frame among other frames")
        memory.on_control(frames[0])

    def _take_leave(self, frames: list[Frame], lengths: list[int]) -> None:
        """Act on a packet while this end closes and waits for its lent frames: take control packets, refuse others."""
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
            # While the socket is not read, no answer and no return of lent frames arrives: let waiting senders go on.
            if self._memory.when_answered is not None:
                self._memory.when_answered()
            self._memory.let_go_on()

    def _resume(self, reason: int) -> None:
        """Take back a reason not to read the socket, and read on if there is no other."""
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
                await self._arrivals.wait(self)
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

    def start_stream(self, incoming: object, on_batch: OnBatch, on_close: OnClose) -> None:
        """Become a stream: deliver packets by callback from now on."""
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
        """Deliver the packets that came before `start_stream`; packets that come meanwhile queue up behind them."""
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
        """Send a message without waiting."""
        if self._closed:
            raise self._closed_error()
        codec = self._codec
        if self.spent is None:
            frames = encode(message) if codec is None else codec.encode(message)
        else:
            frames = measured(self.spent, "serialize", partial(encode if codec is None else codec.encode, message))
        large = self._large
        if len(frames) > FREE_FRAMES:
            check_count(frames)
        lengths = None
        for frame in frames:
            if len(frame) >= large:
                check_lengths(frames, self._reader.max_frame_bytes)
                break
        else:
            large = 0
        if self._compressor is not None:
            compress = partial(compressed, self._compressor, frames)
            frames, lengths = compress() if self.spent is None else measured(self.spent, "compress", compress)
        if self.spent is not None:
            add_to(self.spent, "sent", "bytes", sum(map(len, frames)))
        if large and self._memory is not None and self._waiting_packets is None and len(frames) <= FREE_FRAMES:
            if not self._paused & _UNREAD and self._memory.should_wait(frames):
                self._wait_for_answer(self._memory, frames, lengths)
                return
            frames, lengths = self._memory.lend(frames, lengths)
        self._write_buffers(buffers_to_write(frames, lengths))

    def _wait_for_answer(self, memory: MemoryLink, frames: list[Frame], lengths: list[int] | None) -> None:
        """Send a packet, and those behind it, once the other side has answered whether it reads from memory."""
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

    async def write(self, msg: object, serializers: Iterable[str] | None = None, on_error: str | None = None) -> None:
        """Send a message, and wait while too many bytes are unsent."""
        if serializers is not None:
            msg = mark_by_families(msg, serializers)
        if is_wanted():
            with serialization_context(self.local_address, self.peer_address):
                self.send(msg)
        else:
            self.send(msg)
        returned = None if self._memory is None or self._paused & _UNREAD else self._memory.drain
        for drain in (self._drain, returned):
            if drain is not None:
                await asyncio.shield(drain)
                if self._closed and self._error is not None:
                    raise self._closed_error()

    # -- the end

    async def close(self) -> None:
        """Close once all that was sent has left."""
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
        """Whether either side has closed the connection."""
        return self._closed

    @property
    def unsent(self) -> int:
        """Bytes that were sent and have not left, if there are so many that `write` would wait; else 0."""
        transport, memory = self._transport, self._memory
        lent = memory.lent_bytes if memory is not None and memory.drain is not None else 0
        if self._drain is None or transport is None or self._closed:
            return lent
        return lent + transport.get_write_buffer_size()

    @property
    def unread(self) -> int:
        """Number of messages that have arrived and were not read."""
        return len(self._packets)

    @property
    def progress(self) -> Any:
        """A value that changes whenever bytes arrive, in the middle of a message, too."""
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
        self._on_batch = None  # the callback refers to the stream's owner

    def _closed_error(self) -> Exception:
        error = self._error
        if error is None:
            return CommClosedError(f"{self!r}: the connection is closed")
        # A new object: one that is raised repeatedly would collect tracebacks.
        kind = type(error) if isinstance(error, CommClosedError) else CommClosedError
        fresh = kind(str(error))
        fresh.__cause__ = error.__cause__
        return fresh
