"""Comms over TCP sockets: asyncio protocols that read large frames into their final memory and write without joining.

Also the base of `tls`, which only adds a context and refuses to go without one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from headrace.exceptions import (
    CommClosedError,
    FatalCommClosedError,
    FrameTooLargeError,
    MalformedDataError,
    MessageTooLargeError,
    ProtocolVersionError,
)
from headrace.protocol.codec import StreamCodec, decode, encode
from headrace.protocol.compression import Compressor, choose_compression, offered_compression
from headrace.protocol.frames import Frame
from headrace.protocol.marks import mark_by_families, open_by_families

from .addressing import parse_host_port, unparse_host_port
from .core import BaseListener, Comm, CommTasks, HandleComm, Listener, OnBatch, OnClose
from .handshake import HandshakeReader, check_versions, encode_handshake, handshake_info
from .interfaces import ensure_ip, get_ip, get_ipv6
from .packets import MAX_FRAME_BYTES, FrameLimitError, PacketError, PacketReader, buffers_to_write
from .registry import Backend, Connector, backends
from .sockets import where_to_listen

logger = logging.getLogger("distributed.comm.tcp")

#: Unsent bytes above which `write` waits, and below which it goes on.
HIGH_WATER = 4 << 20
LOW_WATER = 1 << 20
#: Requests that may wait to be read before the socket is no longer read.
MAX_UNREAD = 64
#: Seconds that `close` waits for unsent bytes to leave.
CLOSE_TIMEOUT = 10


class SocketComm(Comm, asyncio.BufferedProtocol):
    """A comm over a stream transport of asyncio."""

    def __init__(
        self,
        scheme: str,
        *,
        deserialize: bool = True,
        max_frame_bytes: int = MAX_FRAME_BYTES,
        compression: str | None = None,
        on_connected: Callable[[SocketComm], None] | None = None,
    ) -> None:
        super().__init__(deserialize)
        self.scheme = scheme
        self.local_address = self.peer_address = f"{scheme}://"
        self.peer_info: dict[str, Any] = {}
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._on_connected = on_connected
        self._own_info = handshake_info(offered_compression(compression))
        self._compressor: Compressor | None = None
        self._handshake: HandshakeReader | None = HandshakeReader()
        self._handshake_buffer: memoryview | None = None
        self._reader = PacketReader(self._on_packet, max_frame_bytes)
        self._packets: deque[list[Frame]] = deque()
        self._paused_reading = False
        self._waiting: asyncio.Future[None] | None = None
        self._drain: asyncio.Future[None] | None = None
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
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _set_socket_options(sock)
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
        try:
            if self._handshake is None:
                self._reader.buffer_updated(nbytes)
            else:
                self._feed_handshake(nbytes)
        except ProtocolVersionError as error:
            self._fail(error, abort=False)  # what the other side needs to say the same has to leave first
        except (PacketError, MemoryError, msgspec.MsgspecError, RecursionError) as error:
            logger.warning("Closing the connection from %s: malformed data: %s", self.peer_address, error)
            kind = FrameTooLargeError if isinstance(error, FrameLimitError) else MalformedDataError
            failure = kind(f"{self!r}: malformed data: {error}")
            failure.__cause__ = error
            self._fail(failure)
        except OSError as error:
            self._fail(error)
        except Exception as error:
            logger.exception("Closing %r: its messages could not be handled", self)
            self._fail(error)

    def eof_received(self) -> bool:
        """Called by the loop: the other side has closed."""
        if self._error is None and not self._closed:
            if self._handshake is not None:
                self._error = CommClosedError(f"{self.peer_address} closed the connection before its handshake")
            elif not self._reader.idle:
                self._error = CommClosedError(f"{self.peer_address} closed the connection in the middle of a message")
                logger.warning("%s", self._error)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop, once."""
        self._closed = True
        self._reader.stopped = True
        if self._error is None and error is not None:
            self._error = CommClosedError(f"{self.peer_address}: {type(error).__name__}: {error}")
            self._error.__cause__ = error
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
        self._wake()
        rest = handshake.rest
        while rest and not self._closed:
            buffer = self._reader.get_buffer()
            size = min(len(buffer), len(rest))
            buffer[:size] = rest[:size]
            self._reader.buffer_updated(size)
            rest = rest[size:]

    # -- receiving

    def _on_packet(self, frames: list[Frame], flags: list[int] | None) -> None:
        if flags is not None:
            if self._compressor is None:
                raise PacketError("a compressed frame, though no compression was agreed on")
            limit = self._reader.max_frame_bytes
            try:
                frames = [
                    self._compressor.decompress(frame, limit) if flag else frame
                    for frame, flag in zip(frames, flags, strict=True)
                ]
            except ValueError as error:
                raise PacketError(str(error)) from error
        on_batch = self._on_batch
        if on_batch is not None and not self._packets:
            assert self._codec is not None
            on_batch(self._codec.decode(frames))
            return
        frames[0] = bytes(frames[0])
        self._packets.append(frames)
        if len(self._packets) >= MAX_UNREAD and on_batch is None and not self._paused_reading:
            self._paused_reading = True
            assert self._transport is not None
            self._transport.pause_reading()
        self._wake()

    async def read(self, deserializers: Iterable[str] | None = None) -> Any:
        """The next RPC message."""
        while not self._packets:
            if self._closed:
                raise self._closed_error()
            await self._wait()
        frames = self._packets.popleft()
        if self._paused_reading and not self._closed:
            self._paused_reading = False
            assert self._transport is not None
            self._transport.resume_reading()
        try:
            if deserializers is not None and self.deserialize:
                return open_by_families(decode(frames, False), deserializers)
            return decode(frames, self.deserialize)
        except msgspec.MsgspecError as error:
            logger.warning("Closing the connection from %s: malformed message: %s", self.peer_address, error)
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
            logger.warning("Closing the connection from %s: malformed data: %s", self.peer_address, error)
            self._packets.clear()
            self._fail(MalformedDataError(f"{self!r}: malformed data: {error}"))
            return
        except Exception as error:
            logger.exception("Closing %r: its messages could not be handled", self)
            self._packets.clear()
            self._fail(error)
            return
        if self._paused_reading and not self._closed:
            self._paused_reading = False
            assert self._transport is not None
            self._transport.resume_reading()

    # -- sending

    def send(self, message: Any) -> None:
        """Send without waiting."""
        if self._closed:
            raise self._closed_error()
        codec = self._codec
        frames = encode(message) if codec is None else codec.encode(message)
        limit = self._reader.max_frame_bytes
        for frame in frames:
            if len(frame) > limit:  # the other side, most likely with the same settings, would close the connection
                raise MessageTooLargeError(
                    f"{len(frame)} bytes in one piece are more than the limit of {limit} (setting "
                    "distributed.comm.max-frame-bytes, on both sides): split the value into several"
                )
        flags = None
        if self._compressor is not None:
            frames, flags = self._compressor.compress_frames(frames)
        self._write_buffers(buffers_to_write(frames, flags))

    async def write(self, msg: Any, serializers: Iterable[str] | None = None, on_error: str | None = None) -> None:
        """Send, and wait while too much is unsent."""
        self.send(msg if serializers is None else mark_by_families(msg, serializers))
        drain = self._drain
        if drain is not None:
            await asyncio.shield(drain)
            if self._closed and self._error is not None:
                raise self._closed_error()

    @staticmethod
    def _choose_writer(transport: Any) -> Callable[[list[Frame]], None]:
        if type(transport).__module__.startswith("uvloop") or sys.version_info >= (3, 12):
            return transport.writelines  # type: ignore[no-any-return]

        def write_each(buffers: list[Frame]) -> None:  # asyncio's own writelines joins the buffers
            for buffer in buffers:
                transport.write(buffer)

        return write_each

    # -- the end

    async def close(self) -> None:
        """Close once what was sent has left."""
        if not self._closed:
            self._closed = True
            self._reader.stopped = True
            self._wake()
            assert self._transport is not None
            self._transport.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._lost.wait()
                return
        self.abort()

    def abort(self) -> None:
        """Close at once."""
        self._closed = True
        self._reader.stopped = True
        self._wake()
        if self._transport is not None and not self._lost.is_set():
            self._transport.abort()

    def closed(self) -> bool:
        """Whether either side has closed it."""
        return self._closed

    @property
    def progress(self) -> Any:
        """Differs from what it was when anything has come since, in the middle of a message, too."""
        return len(self._packets), *self._reader.position

    @property
    def extra_info(self) -> dict[str, Any]:
        """The peer's certificate and the cipher, over TLS."""
        if self._transport is None:
            return {}
        names = ("peercert", "cipher")
        return {name: info for name in names if (info := self._transport.get_extra_info(name)) is not None}

    def _fail(self, error: Exception, abort: bool = True) -> None:
        if self._error is None and not self._closed:
            self._error = error
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


class SocketConnector(Connector):
    """Connects to `host:port`."""

    scheme = "tcp"

    def ssl_context(self, location: str, connection_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to connect with; FatalCommClosedError if one is required and missing."""
        if connection_args.get("require_encryption"):
            raise FatalCommClosedError(
                f"encryption is required by the configuration or Security object: refusing to connect to "
                f"{self.scheme}://{location}; use a tls:// address"
            )
        return None

    async def connect(self, address: str, deserialize: bool = True, **connection_args: Any) -> Comm:
        """One attempt."""
        host, port = parse_host_port(address)
        context = self.ssl_context(address, connection_args)
        if host in ("", "0.0.0.0"):
            host = "127.0.0.1"
        options = comm_options()
        arguments = dict(connection_args.get("extra_conn_args") or {})
        if context is not None:
            arguments.setdefault("server_hostname", host)
        comm: SocketComm | None = None
        try:
            _, comm = await asyncio.get_running_loop().create_connection(
                lambda: SocketComm(
                    self.scheme,
                    deserialize=deserialize,
                    max_frame_bytes=options.max_frame_bytes,
                    compression=options.compression,
                ),
                host,
                port,
                ssl=context,
                **arguments,
            )
            await comm.shake_hands()
        except ssl.SSLError as error:
            raise FatalCommClosedError(f"TLS with {self.scheme}://{address} failed: {error}") from error
        except BaseException:
            if comm is not None:
                comm.abort()
            raise
        return comm


class SocketListener(BaseListener):
    """Accepts connections at `host:port`."""

    scheme = "tcp"

    def __init__(self, location: str, handle_comm: HandleComm, deserialize: bool = True, **listen_args: Any) -> None:
        super().__init__()
        self._host, self._port = parse_host_port(location, 0)
        self._handle_comm = handle_comm
        self._deserialize = deserialize
        self._listen_args = listen_args
        self._options = comm_options()
        self._server: asyncio.Server | None = None
        self._context = self.ssl_context(location, listen_args)
        self._tasks = CommTasks()
        self.listen_address = self.contact_address = f"{self.scheme}://{location}"

    def ssl_context(self, location: str, listen_args: dict[str, Any]) -> ssl.SSLContext | None:
        """The context to listen with; RuntimeError if one is required and missing."""
        if listen_args.get("require_encryption"):
            raise RuntimeError(
                f"encryption is required by the configuration or Security object: refusing to listen at "
                f"{self.scheme}://{location}; use a tls:// address"
            )
        return None

    async def start(self) -> None:
        """Begin to listen; nothing if it does."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        host = None if self._host in ("", "*") else self._host
        try:
            # One socket: several (all families, port 0) would each get a port of their own.
            self._server = await loop.create_server(
                self._make_comm,
                **where_to_listen(host if host is not None else "0.0.0.0", self._port),
                ssl=self._context,
                backlog=self._options.socket_backlog,
            )
        except OSError as error:
            text = f"cannot listen at {self.scheme}://{unparse_host_port(self._host, self._port)}: {error}"
            raise OSError(error.errno, text) from error
        bound_host, bound_port = self._server.sockets[0].getsockname()[:2]
        self.listen_address = f"{self.scheme}://{unparse_host_port(bound_host, bound_port)}"
        contact = get_ip() if bound_host == "0.0.0.0" else get_ipv6() if bound_host == "::" else bound_host
        self.contact_address = f"{self.scheme}://{unparse_host_port(contact, bound_port)}"

    def stop(self) -> None:
        """Accept no more; connections that have not shaken hands are dropped."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.abort_handshaking_comms()

    def _make_comm(self) -> SocketComm:
        return SocketComm(
            self.scheme,
            deserialize=self._deserialize,
            max_frame_bytes=self._options.max_frame_bytes,
            compression=self._options.compression,
            on_connected=self._on_connected,
        )

    def _on_connected(self, comm: SocketComm) -> None:
        self._tasks.start(self._welcome(comm), f"connection from {comm.peer_address}")

    async def _welcome(self, comm: SocketComm) -> None:
        self.beginning.add(comm)
        try:
            async with asyncio.timeout(self._options.connect_timeout):
                await comm.shake_hands()
        except TimeoutError:
            logger.warning("Closing the connection from %s: no handshake came", comm.peer_address)
            comm.abort()
            return
        except OSError as error:
            if self._server is not None and comm.handshake_begun:
                logger.warning("Refused the connection from %s: %s", comm.peer_address, error)
            return
        finally:
            self.beginning.discard(comm)
        try:
            await self.on_connection(comm)
            await self._handle_comm(comm)
        except BaseException:
            comm.abort()
            raise


class TCPBackend(Backend):
    """`tcp://host:port`."""

    connector: type[SocketConnector] = SocketConnector
    listener: type[SocketListener] = SocketListener

    def get_connector(self) -> SocketConnector:
        """What makes connections."""
        return self.connector()

    def get_listener(self, loc: str, handle_comm: HandleComm, deserialize: bool, **args: Any) -> Listener:
        """A listener that has not started."""
        return self.listener(loc, handle_comm, deserialize, **args)

    def get_address_host(self, loc: str) -> str:
        """The host in a location."""
        return parse_host_port(loc, 0)[0]

    def get_address_host_port(self, loc: str) -> tuple[str, int]:
        """Host and port."""
        return parse_host_port(loc)

    def resolve_address(self, loc: str) -> str:
        """The location with its host name looked up."""
        host, port = parse_host_port(loc, -1)
        return unparse_host_port(ensure_ip(host), None if port == -1 else port)

    def get_local_address_for(self, loc: str) -> str:
        """A host of ours that the location can be reached from."""
        host = ensure_ip(parse_host_port(loc, 0)[0])
        return unparse_host_port(get_ipv6(host) if ":" in host else get_ip(host))


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


backends["tcp"] = TCPBackend()
