"""The coming and going of clients, their messages, and what happens when a connection to one breaks.

A client whose connection breaks is expected back for a while: it keeps its keys until then. Its messages count, so that
both sides agree on which have come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from headrace import clock, config
from headrace.comm import Comm
from headrace.containment import contained
from headrace.exceptions import BadRequestError, MalformedDataError
from headrace.messages import FromClient
from headrace.messages.client import (
    ClientEvent,
    ClientHeartbeat,
    CloseClient,
    GraphRefused,
    KeysReceived,
    MessagesReceived,
    SubmitGraph,
)
from headrace.rpc import Stream
from headrace.rpc.server import Faults
from headrace.scheduler.shell import SLICE_SECONDS, SchedulerBase, logger
from headrace.scheduler.state.records.clients import ClientState

from .registration import checked_text

#: What tasks print and warn of appears in the terminals of all clients.
TERMINAL_TOPICS = ("print", "warn")
#: Messages of a client after which it is told how many have come; it keeps those that it has not been told of.
UNCONFIRMED = 16
#: In how many steps the time passes in which a client may return.
PATIENCE_STEPS = 10
#: Tasks in one message from which on it is confirmed at once: it is not small.
MANY_TASKS = 100


#: Bytes that wait to be read by a client from which on it gets no results unasked.
FETCH_BYTES = 8 << 20
#: Bytes that may wait for `STALL_SECONDS` without getting less; more than `MOST_UNSENT` may not wait at all. Else its
#: connection is broken.
UNSENT_BYTES = 64 << 20
STALL_SECONDS = 5.0
MOST_UNSENT = 4 * UNSENT_BYTES


class Unsent:
    """How much waits to be read by a client, and whether that is too much.

    Args:
        now: monotonic seconds.
        returned: whether it is back after its connection broke. Then it is told at once what it has missed, however
            much that is: dropped for that, it would only come back again.
    """

    __slots__ = ("_before", "_grows_since", "_limit", "_returned_at")

    def __init__(self, now: float, returned: bool) -> None:
        self._returned_at = now if returned else float("-inf")
        self._limit = MOST_UNSENT
        self._before = 0
        self._grows_since = now

    def is_too_much(self, nbytes: int, now: float) -> bool:
        """To be called with how much it is, before more is sent, and once when it is little again."""
        before, self._before = self._before, nbytes
        if nbytes <= UNSENT_BYTES:
            return False
        if now - self._returned_at < STALL_SECONDS:
            self._limit = max(self._limit, nbytes + MOST_UNSENT)
        if before <= UNSENT_BYTES or nbytes < before:  # it reads, and faster than it is sent to
            self._grows_since = now
        return now - self._grows_since >= STALL_SECONDS or nbytes > self._limit


class Visit:
    """What the shell knows of one client beside the state's record.

    Attributes:
        record: the state's.
        received: messages that have come, over all connections.
        confirmed: of these, how many the client knows of.
        backlog: messages that wait for their turn.
        farewell: the timer after which it is forgotten, while its connection is broken.
        faults: how many of its messages made no sense of late.
    """

    __slots__ = ("backlog", "confirmed", "farewell", "faults", "received", "record")

    def __init__(self, record: ClientState) -> None:
        self.record = record
        self.received = 0
        self.confirmed = 0
        self.backlog: deque[Any] = deque()
        self.farewell: asyncio.TimerHandle | None = None
        self.faults = Faults(time.monotonic())


class ClientConnections(SchedulerBase):
    """Streams to clients."""

    identity: Callable[..., dict[str, Any]]
    unsubscribe_topic: Callable[[str, str], None]

    def prepare_clients(self) -> None:
        """Called once, when the scheduler is made."""
        self._visits: dict[str, Visit] = {}
        self._client_patience = config.parse_seconds(
            config.get("distributed.scheduler.client-reconnect-timeout", "10s")
        )
        self.server.takeovers["register-client"] = self.add_client

    async def add_client(
        self,
        comm: Comm,
        client: str,
        versions: dict[str, Any] | None = None,
        returning: bool = False,
        **_: Any,
    ) -> None:
        """Welcome a client; its comm becomes a stream.

        Args:
            client: its name.
            returning: its connection broke; it is told how many of its messages have come.
        """
        try:
            if not checked_text(client, "a client's name"):
                raise BadRequestError("a client must have a name")
            if versions is not None and not isinstance(versions, dict):
                raise BadRequestError("a client's versions must be a dictionary")
        except BadRequestError as refusal:
            await self.refuse(comm, "client", refusal)
            return
        visit = self._visits.get(client)
        if visit is not None and not returning:
            self.remove_client(client)
            visit = None
        if visit is not None:
            self._end_stream(visit)
        received = visit.received if visit is not None else None
        welcome = {"status": "OK", "id": self.id, "address": self.address, "received": received}
        await comm.write({**welcome, "identity": self.identity(n_workers=0)})
        if visit is None or self._visits.get(client) is not visit:
            visit = self._visits[client] = Visit(self.state.add_client(client, versions, clock.now()))
            visit.received = received or 0  # as it has been told, even if it was forgotten meanwhile
            logger.info("Receive client connection: %s", client)
            self.log_event(["all", client], {"action": "add-client", "client": client})
            self.notify_plugins("add_client", self, client)
        else:
            logger.info("Client %s is back", client)
        self._start_stream(visit, comm, received is not None)
        self.call_extensions("client_connected", client)

    def _start_stream(self, visit: Visit, comm: Comm, returned: bool) -> None:
        client = visit.record.client_key
        if visit.farewell is not None:
            visit.farewell.cancel()
            visit.farewell = None

        def on_batch(messages: list[Any]) -> None:
            self._client_batch(visit, messages)

        def on_close(error: Exception | None) -> None:
            if self.client_comms.get(client) is stream:
                self._client_lost(visit, error)

        unsent = Unsent(time.monotonic(), returned)

        def on_unsent(nbytes: int) -> None:
            self.state.set_slow(visit.record, nbytes > FETCH_BYTES)
            if unsent.is_too_much(nbytes, time.monotonic()):
                self._drop_slow(stream, client, nbytes)

        visit.confirmed = visit.received
        self.state.set_slow(visit.record, False)
        stream = Stream(comm, FromClient, on_batch, on_close, is_event, on_unsent)
        self.client_comms[client] = stream
        for topic in TERMINAL_TOPICS:
            self.event_subscribers.setdefault(topic, set()).add(client)

    def _drop_slow(self, stream: Stream, client: str, nbytes: int) -> None:
        """A client does not read what it is sent, which would be kept for it without end."""
        logger.warning(
            "Client %s is dropped: it does not read what it is sent, and %d MB wait for it; it has %g s to return",
            client,
            nbytes // 1_000_000,
            self._client_patience,
        )
        stream.abort()

    def _end_stream(self, visit: Visit) -> None:
        """An old connection that we have not seen break."""
        stream = self.client_comms.pop(visit.record.client_key, None)
        if stream is not None:
            stream.abort()

    def _client_lost(self, visit: Visit, error: Exception | None) -> None:
        """A client's connection broke: expect it back for a while."""
        client = visit.record.client_key
        self.client_comms.pop(client, None)
        if not self.is_running:
            return
        self.call_extensions("client_lost", client)
        if error is not None and (isinstance(error, MalformedDataError) or not isinstance(error, OSError)):
            self.remove_client(client)  # it would only do the same again
            return
        logger.info(
            "The connection to client %s broke (%s); it has %g s to return",
            client,
            error or "the client's end is closed",
            self._client_patience,
        )
        loop = asyncio.get_running_loop()
        visit.farewell = loop.call_later(self._client_patience, self.remove_client, client)

    def remove_client(self, client: str, stimulus_id: str | None = None) -> None:
        """Forget a client; what only it wanted is released."""
        visit = self._visits.pop(client, None)
        if visit is not None:
            visit.backlog.clear()
            if visit.farewell is not None:
                visit.farewell.cancel()
        if client not in self.clients:
            return
        stream = self.client_comms.pop(client, None)
        for topic in list(self.event_subscribers):
            self.unsubscribe_topic(topic, client)
        self.state.remove_client(client, clock.now())
        self.flush()
        self.call_extensions("client_removed", client)
        if stream is not None and not stream.closed:
            self.run_in_background(stream.close())
        logger.info("Remove client %s", client)
        self.log_event(["all", client], {"action": "remove-client", "client": client})
        self.departed.add(client)
        self.notify_plugins("remove_client", self, client)

    def forget_visits(self) -> None:
        """The scheduler closes: nobody is expected back."""
        for visit in self._visits.values():
            if visit.farewell is not None:
                visit.farewell.cancel()

    def _client_batch(self, visit: Visit, messages: list[Any]) -> None:
        visit.received += len(messages)
        backlog = visit.backlog
        waiting = bool(backlog)
        backlog.extend(messages)
        last = messages[-1]
        if (
            visit.received - visit.confirmed >= UNCONFIRMED
            or type(last) is ClientHeartbeat
            or (type(last) is SubmitGraph and len(last.keys) >= MANY_TASKS)
        ):
            self._confirm(visit)
        if not waiting:
            self._client_slice(visit)

    def _confirm(self, visit: Visit) -> None:
        stream = self.client_comms.get(visit.record.client_key)
        if stream is not None and visit.confirmed != visit.received:
            visit.confirmed = visit.received
            stream.send(MessagesReceived(visit.received))

    def _client_slice(self, visit: Visit) -> None:
        """Take a client's messages for a slice of time; the rest waits until others had their turn."""
        monotonic = time.monotonic
        deadline = monotonic() + SLICE_SECONDS
        client, backlog = visit.record, visit.backlog
        now = clock.now()
        client.last_seen = now + self.state.shift
        while backlog:
            message = backlog[0]
            try:
                self._client_message(client, message, now)
            except BaseException as raised:
                raised = contained(raised)
                self._say_untaken(visit, message, raised)
                if isinstance(message, SubmitGraph):
                    self.state.send(client, GraphRefused(message.keys, f"the scheduler failed on it: {raised!r}"))
            if not backlog:
                break  # the client left with this message
            backlog.popleft()
            if monotonic() > deadline:
                break
        self.flush()
        if backlog:
            asyncio.get_running_loop().call_soon(self._client_slice, visit)

    def _say_untaken(self, visit: Visit, message: Any, error: Exception) -> None:
        """A message made no sense; who goes on with such is disconnected, and has its time to return."""
        name, client = type(message).__name__, visit.record.client_key
        stream = self.client_comms.get(client)
        self.server.complaints.say(
            f"{name}: {type(error).__name__}",
            stream.peer_address if stream is not None else "",
            "Could not take %s of client %s",
            name,
            client,
            level=logging.ERROR,
            error=error,
        )
        if visit.faults.add(time.monotonic()) and stream is not None:
            logger.warning("Client %s is disconnected: it goes on sending what cannot be taken", client)
            visit.backlog.clear()
            stream.abort()

    def _client_message(self, client: ClientState, message: Any, now: float) -> None:
        if isinstance(message, KeysReceived):
            self.call_extensions("keys_received", client.client_key, message.token)
        elif isinstance(message, CloseClient):
            self.flush()
            self.remove_client(client.client_key)
        elif isinstance(message, ClientHeartbeat):
            pass  # any message is a sign of life
        else:
            self.state.handle(client, message, now)


def is_event(message: Any, error: Exception) -> bool:
    """Whether a message that cannot be sent is one that nobody waits for (what users publish may be anything)."""
    return isinstance(message, ClientEvent)
