"""A client's connection to the scheduler: made, kept alive, made again when it breaks, and left.

Everything here belongs to the thread of the client's loop; other threads only read the status and the addresses. They
post to the outbox, and wait at `HeldKeys`.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable
from typing import Any

from headrace.comm import Comm, connect
from headrace.exceptions import CommClosedError, UnknownMessage, UnknownOperationError
from headrace.messages import FromClient, ToClient
from headrace.messages.base import HandlerMessage
from headrace.messages.client import ClientEvent, ClientHeartbeat, CloseClient
from headrace.rpc import ConnectionPool, IOLoop, PatientCalls, PeriodicCallback, PooledRPCCall, Stream, remote_exception

from .delivery import Delivery
from .held_keys import HeldKeys
from .outbox import CLOSED, ClientOutbox

logger = logging.getLogger("distributed.client")

#: Seconds to wait for the scheduler to close its end.
CLOSE_TIMEOUT = 2
#: Seconds between two attempts to connect again, at first and at most.
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 2.0
#: Seconds for which a client without a timeout tries to connect again.
RECONNECT_SECONDS = 30.0


class ClientSession:
    """One client's connection.

    Args:
        id: the client's name for the scheduler; the same after a reconnection.
        outbox: has the messages to send.
        held: is told what the scheduler says.
        on_event: called with events that come.

    Attributes:
        status: "connecting", "running", "closing" or "closed".
        address: where the scheduler is reached.
        told_address: where others reach it, who may be in other processes.
        in_process: whether the scheduler is in this process, so that objects can be handed over.
        scheduler_id: the scheduler's own id, to tell it from others; None before the connection.
        identity: what the scheduler said last of itself.
        repeatable: operations that the scheduler may be asked for twice, since the second time they do nothing.
        scheduler: proxy for requests to the scheduler; None before the connection.
        pool: connections to scheduler and workers; `calls` for requests to those that may have stopped.
    """

    def __init__(
        self, id: str, outbox: ClientOutbox, held: HeldKeys, on_event: Callable[[ClientEvent | HandlerMessage], object]
    ) -> None:
        self.id = id
        self.status = "connecting"
        self.address = self.told_address = ""
        self.in_process = False
        self.scheduler_id: str | None = None
        self.identity: dict[str, Any] = {}
        self.repeatable: frozenset[str] = frozenset()
        self.pool = ConnectionPool()
        self.calls = PatientCalls(self.pool)
        self.scheduler: PooledRPCCall | None = None
        self.stream: Stream | None = None
        self.connection_args: dict[str, Any] = {}
        self._outbox = outbox
        self._held = held
        self._on_event = on_event
        self._delivery = Delivery()
        self._lost_since: float | None = None
        self._versions: dict[str, str | None] = {}
        self._timeout: float | None = None
        self._heartbeat: PeriodicCallback | None = None
        self._stream_ended: asyncio.Event | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The client's event loop; None before it has one."""
        return self._outbox.loop

    def attach(self, loop: IOLoop) -> None:
        """Tell which loop this session lives on; from then on messages may be posted."""
        self._outbox.attach(loop.asyncio_loop, self._flush)

    def check_open(self) -> None:
        """Raise `ClosedClientError` when the scheduler cannot be asked any more."""
        self._outbox.check_open()

    def same_scheduler(self, other: ClientSession) -> bool:
        """Whether another session is with the same scheduler, which may have several addresses."""
        if self.scheduler_id is not None and other.scheduler_id is not None:
            return self.scheduler_id == other.scheduler_id
        return self.address == other.address

    # ------------------------------------------------------------------ connecting

    async def start(
        self,
        address: str,
        timeout: float | None,
        connection_args: dict[str, Any],
        versions: dict[str, str | None],
        heartbeat: float,
        connection_limit: int = 512,
    ) -> None:
        """Connect and register.

        Raises:
            OSError: no connection within `timeout` seconds; names the address.
        """
        self._outbox.attach(asyncio.get_running_loop(), self._flush)
        self.connection_args, self._versions, self._timeout = connection_args, versions, timeout
        self.pool = ConnectionPool(limit=connection_limit, connection_args=connection_args)
        self.calls = PatientCalls(self.pool)
        self.address = address
        self.in_process = address.startswith("inproc://")
        await self._open()
        self._heartbeat = PeriodicCallback(self._send_heartbeat, heartbeat * 1000)
        self._heartbeat.start()

    async def _open(self, returning: bool = False) -> None:
        loop = asyncio.get_running_loop()
        deadline = None if self._timeout is None else loop.time() + self._timeout
        comm = await connect(self.address, timeout=self._timeout, **self.connection_args)
        try:
            async with asyncio.timeout_at(deadline):
                received = await self._register_client(comm, returning)
        except BaseException:
            comm.abort()
            raise
        self.scheduler = self.pool.rpc(self.address)
        self.told_address = self.told_address or self.address
        self.scheduler.address = self.scheduler.addr = self.told_address
        self._stream_ended = ended = asyncio.Event()

        def on_close(error: Exception | None) -> None:
            ended.set()
            if self.stream is stream:
                self._on_close(error)

        self.stream = stream = Stream(comm, ToClient, self._on_batch, on_close, self._on_unsendable)
        self.status = "running"
        again = self._delivery.resume(received)
        if returning:
            self._held.cancellations_sent([*again, *self._outbox.waiting()])
            stream.send_all(again)
        self._flush()

    async def _register_client(self, comm: Comm, returning: bool) -> int | None:
        """Register, and return how many of our messages have come if the scheduler knows us."""
        comm.name = "Client->Scheduler"
        request = {"op": "register-client", "reply": True, "client": self.id, "versions": self._versions}
        await comm.write({**request, "returning": returning})
        reply = await comm.read()
        if isinstance(reply, dict) and reply.get("status") == "uncaught-error":
            problem = remote_exception(reply)
            if isinstance(problem, UnknownOperationError):
                raise CommClosedError(f"{self.address} is no scheduler's address: {problem}")
            raise problem
        if not isinstance(reply, dict) or reply.get("status") != "OK":
            said = reply.get("message") if isinstance(reply, dict) else reply
            raise CommClosedError(f"the scheduler at {self.address} did not accept this client: {said}")
        self.scheduler_id = reply.get("id")
        self.identity = reply.get("identity") or {}
        self.repeatable = frozenset(reply.get("repeatable") or ())
        if reply.get("warning"):
            from headrace.common.package_versions import VersionMismatchWarning

            warnings.warn(VersionMismatchWarning(reply["warning"]), stacklevel=2)
        return reply.get("received")

    # ------------------------------------------------------------------ messages

    def _flush(self) -> None:
        """Send what waits in the outbox; without a connection it goes on waiting, and the next one begins with it."""
        self._held.drain()
        stream = self.stream
        if stream is None:
            return
        messages = self._outbox.take()
        if messages:
            self._delivery.sent(messages)
            stream.send_now(messages)

    def _send_heartbeat(self) -> None:
        if self.stream is not None and not self._outbox:
            self._outbox.put([ClientHeartbeat()])
            self._flush()

    def _on_batch(self, batch: list[ToClient]) -> None:
        try:
            events = self._held.handle(batch)
        except UnknownMessage as error:
            self._held.notify()
            logger.error("Closing the connection to the scheduler at %s: %s", self.address, error)
            if self.stream is not None:
                self.stream.abort()
            return
        self._lost_since = None
        core = self._held.core
        if core.received:
            self._delivery.confirm(core.received)
            core.received = 0
        for event in events:
            self._on_event(event)
        if core.closing is not None and self.status == "running":
            self._end(core.closing)

    def _on_unsendable(self, message: FromClient, error: Exception) -> bool:
        """A message cannot be encoded: whoever waits for what it asks for must not wait for ever."""
        self._delivery.not_sent(message)
        self._held.cancel_unsent(getattr(message, "keys", ()), f"it could not be sent to the scheduler: {error}")
        return True

    # ------------------------------------------------------------------ connecting again

    def _on_close(self, error: Exception | None) -> None:
        self.stream = None
        if self.status == "running":
            self.status = "connecting"
            self._reconnecting = asyncio.get_running_loop().create_task(self._reconnect(error))

    async def _reconnect(self, error: Exception | None) -> None:
        """Connect again until the time for it is over; then nothing that is pending will ever be done."""
        loop = asyncio.get_running_loop()
        seconds = RECONNECT_SECONDS if self._timeout is None else self._timeout
        if self._lost_since is None:
            self._lost_since = loop.time()
        else:  # nothing came over the last connection: what we send may be what breaks it
            await asyncio.sleep(FIRST_PAUSE)
        logger.info(
            "The connection to the scheduler at %s is lost (%s); connecting again",
            self.address,
            error or "its end is closed",
        )
        pause = FIRST_PAUSE
        problem: Exception | None = error
        try:
            async with asyncio.timeout_at(self._lost_since + seconds):
                while self.status == "connecting":
                    try:
                        await self._open(returning=True)
                    except OSError as failure:
                        problem = failure
                        await asyncio.sleep(pause)
                        pause = min(2 * pause, LONGEST_PAUSE)
        except Exception as failure:
            if self.status == "connecting":
                cause = (problem or "nothing answers there") if isinstance(failure, TimeoutError) else failure
                text = f"it could not be reached again within {seconds:g} s ({cause})"
                logger.warning("The scheduler at %s is gone: %s", self.address, text)
                self._outbox.close(f"Client is closed: the connection to {self.address} broke, and {text}.")
                self._end("scheduler-connection-lost", f"The connection to {self.address} broke, and {text}.")
            return
        if self.status == "running":
            logger.info("Connected to the scheduler at %s again", self.address)
            self._held.ask_again()

    async def reconnected(self) -> bool:
        """Wait until the connection, if it broke, is there again, or given up; returns whether it is there."""
        await asyncio.sleep(0)  # the stream may have broken with the same network, and not be seen yet
        if self._reconnecting is not None:
            await asyncio.wait([self._reconnecting])
        return self.status == "running"

    # ------------------------------------------------------------------ leaving

    def _end(self, reason: str, message: str | None = None) -> None:
        """The scheduler is gone for good."""
        self.status = "closed"
        self._outbox.close()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self.stream is not None:
            self.stream.abort()
            self.stream = None
        self._held.cancel_pending(reason, message)

    def give_up(self, text: str) -> None:
        """There was no connection, and will be none."""
        if self.status not in ("closing", "closed"):
            self._outbox.close(text)
            self._end("client-not-connected", text)

    def abort(self) -> None:
        """Leave without waiting."""
        if self.status in ("closing", "closed"):
            return
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.send(CloseClient())  # or the scheduler would expect us back
            self._leaving = asyncio.get_running_loop().create_task(stream.close())
        self._end("client-closed")
        if self._reconnecting is not None:
            self._reconnecting.cancel()

    def disown(self) -> None:
        """Forget all, in a process forked from the client's, without touching what both share."""
        self.status = "closed"
        self._outbox.close("this client is that of the process from which this one was forked: make a new Client here")
        self._held.disown("it belongs to a client of the process from which this one was forked")

    def loop_has_ended(self) -> None:
        """The loop runs no more, so that nobody can be told: only note that this session is over. From any thread."""
        self.status = "closed"
        self._outbox.close()

    async def close(self) -> None:
        """Leave: everything is released, requests under way fail."""
        running = self.status == "running"
        self.status = "closing"
        self._outbox.close(CLOSED)
        if self._heartbeat is not None:
            self._heartbeat.stop()
        if self._reconnecting is not None and not self._reconnecting.done():
            self._reconnecting.cancel()
        stream = self.stream
        if running and stream is not None:
            self._flush()
            stream.send(CloseClient())
            stream.flush()
            assert self._stream_ended is not None
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._stream_ended.wait()
            except TimeoutError:
                logger.debug("The scheduler at %s did not close the stream", self.address)
            await stream.close()
        self.stream = None
        self.status = "closed"
        self._held.cancel_all("client-closed")
        await self.pool.close()
