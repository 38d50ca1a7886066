"""The coming and going of clients, their messages, and what happens when a connection to one breaks.

A client whose connection breaks is expected back for a while: it keeps its keys until then. Its messages count, so that
both sides agree on which have come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from headrace import config
from headrace.comm import Comm
from headrace.containment import contained
from headrace.exceptions import BadRequestError, MalformedDataError, UnknownMessage
from headrace.messages import FromClient
from headrace.messages.base import HandlerMessage
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
from headrace.rpc.server import Operation
from headrace.scheduler.shell import Shell, logger
from headrace.scheduler.topics.cluster_requests import ClusterRequests
from headrace.scheduler.topics.event_requests import EventRequests

from .registration import checked_text
from .unsent import Unsent
from .version_warnings import mismatch
from .visit import Visit

#: Seconds that a client's messages may take before others get their turn: short, since what others ask for, `/health`
#: among it, takes some turns of the loop. (Measured: slices of ten times the length cost the same.)
SLICE_SECONDS = 0.002
#: What tasks print and warn of appears in the terminals of all clients.
TERMINAL_TOPICS = ("print", "warn")
#: Messages of a client after which it is told how many have come; it keeps those that it has not been told of.
UNCONFIRMED = 16
#: Tasks in one message from which on it is confirmed at once: it is not small.
MANY_TASKS = 100


#: Bytes that wait to be read by a client from which on it gets no results unasked.
FETCH_BYTES = 8 << 20


class ClientConnections:
    """Streams to clients.

    Args:
        cluster: identifies the cluster to clients that come.
        events: has the clients' subscriptions.
    """

    def __init__(self, shell: Shell, cluster: ClusterRequests, events: EventRequests) -> None:
        self.shell = shell
        self.core = shell.core
        self.cluster = cluster
        self.events = events
        self._visits: dict[str, Visit] = {}
        #: seconds in which a client whose connection broke may return
        self._patience = config.parse_seconds(config.get("distributed.scheduler.client-reconnect-timeout", "10s"))

    def operations(self) -> dict[str, Operation]:
        """The requests that this topic answers."""
        return {"register-client": Operation(self.add_client, takes_over=True)}

    async def add_client(
        self,
        /,
        comm: Comm,
        client: str,
        versions: dict[str, Any] | None = None,
        returning: bool = False,
        **_: object,
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
            await self.shell.refuse(comm, "client", refusal)
            return
        visit = self._visits.get(client)
        if visit is not None and not returning:
            self.remove_client(client)
            visit = None
        if visit is not None:
            self._end_stream(visit)
        received = visit.received if visit is not None else None
        await comm.write(
            {
                "status": "OK",
                "id": self.shell.id,
                "address": self.shell.address,
                "received": received,
                "repeatable": self.shell.server.repeatable,
                "identity": self.cluster.identity(n_workers=0),
                "warning": "" if returning else mismatch(versions, [w.versions for w in self.core.workers.values()]),
            }
        )
        if visit is None or self._visits.get(client) is not visit:
            visit = self._visits[client] = Visit(self.core.add_client(client, versions, self.shell.now()))
            visit.received = received or 0  # as it has been told, even if it was forgotten meanwhile
            logger.info("Receive client connection: %s", client)
            self.shell.log_event(["all", client], {"action": "add-client", "client": client})
            self.shell.notify_plugins("add_client", scheduler=self.shell.facade, client=client)
        else:
            logger.info("Client %s is back", client)
        self._start_stream(visit, comm, received is not None)
        self.shell.call_extensions("client_connected", client)

    def _start_stream(self, visit: Visit, comm: Comm, returned: bool) -> None:
        client = visit.record.client_key
        if visit.farewell is not None:
            visit.farewell.cancel()
            visit.farewell = None

        def on_batch(messages: list[Any]) -> None:
            self._take_batch(visit, messages)

        def on_close(error: Exception | None) -> None:
            if self.shell.client_streams.get(client) is stream:
                self._lose(visit, error)

        unsent = Unsent(time.monotonic(), returned)

        def on_unsent(nbytes: int) -> None:
            self.core.set_slow(visit.record, nbytes > FETCH_BYTES)
            if unsent.is_too_much(nbytes, time.monotonic()):
                self._drop_slow(stream, client, nbytes)

        visit.confirmed = visit.received
        self.core.set_slow(visit.record, False)
        stream = Stream(comm, FromClient, on_batch, on_close, is_event, on_unsent)
        self.shell.client_streams[client] = stream
        for topic in TERMINAL_TOPICS:
            self.shell.event_subscribers.setdefault(topic, set()).add(client)

    def _drop_slow(self, stream: Stream, client: str, nbytes: int) -> None:
        """A client does not read what it is sent, which would be kept for it without end."""
        logger.warning(
            "Client %s is dropped: it does not read what it is sent, and %d MB wait for it; it has %g s to return",
            client,
            nbytes // 1_000_000,
            self._patience,
        )
        stream.abort()

    def _end_stream(self, visit: Visit) -> None:
        """An old connection that we have not seen break."""
        stream = self.shell.client_streams.pop(visit.record.client_key, None)
        if stream is not None:
            stream.abort()

    def _lose(self, visit: Visit, error: Exception | None) -> None:
        """A client's connection broke: expect it back for a while."""
        client = visit.record.client_key
        self.shell.client_streams.pop(client, None)
        if not self.shell.is_running:
            return
        self.shell.call_extensions("client_lost", client)
        if error is not None and (isinstance(error, MalformedDataError) or not isinstance(error, OSError)):
            self.remove_client(client)  # it would only do the same again
            return
        logger.info(
            "The connection to client %s broke (%s); it has %g s to return",
            client,
            error or "the client's end is closed",
            self._patience,
        )
        loop = asyncio.get_running_loop()
        visit.farewell = loop.call_later(self._patience, self.remove_client, client)

    def remove_client(self, client: str, stimulus_id: str | None = None) -> None:
        """Forget a client; what only it wanted is released."""
        visit = self._visits.pop(client, None)
        if visit is not None:
            visit.backlog.clear()
            if visit.farewell is not None:
                visit.farewell.cancel()
        if client not in self.core.clients:
            return
        stream = self.shell.client_streams.pop(client, None)
        for topic in list(self.shell.event_subscribers):
            self.events.unsubscribe_topic(topic, client)
        self.core.remove_client(client, self.shell.now())
        self.shell.flush()
        self.shell.call_extensions("client_removed", client)
        if stream is not None and not stream.closed:
            self.shell.run_in_background(stream.close())
        logger.info("Remove client %s", client)
        self.shell.log_event(["all", client], {"action": "remove-client", "client": client})
        self.shell.departed.add(client)
        self.shell.notify_plugins("remove_client", scheduler=self.shell.facade, client=client)

    def forget_visits(self) -> None:
        """The scheduler closes: nobody is expected back."""
        for visit in self._visits.values():
            if visit.farewell is not None:
                visit.farewell.cancel()

    def _take_batch(self, visit: Visit, messages: list[Any]) -> None:
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
            self._take_slice(visit)

    def _confirm(self, visit: Visit) -> None:
        stream = self.shell.client_streams.get(visit.record.client_key)
        if stream is not None and visit.confirmed != visit.received:
            visit.confirmed = visit.received
            stream.send(MessagesReceived(visit.received))

    def _take_slice(self, visit: Visit) -> None:
        """Take a client's messages for a slice of time; the rest waits until others had their turn."""
        monotonic = time.monotonic
        deadline = monotonic() + SLICE_SECONDS
        client, backlog = visit.record, visit.backlog
        now = self.shell.now()
        client.last_seen = now + self.core.shift
        before, began = len(backlog), monotonic()
        while backlog:
            message = backlog[0]
            try:
                take = FROM_CLIENT.get(type(message))
                if take is not None:
                    take(self, visit, message)
                else:
                    self.core.handle(client, message, now)
            except UnknownMessage as error:
                self._refuse_stream(visit, error)
            except BaseException as raised:
                raised = contained(raised)
                self._say_untaken(visit, message, raised)
                if isinstance(message, SubmitGraph):
                    self.core.send(client, GraphRefused(message.keys, f"the scheduler failed on it: {raised!r}"))
            if not backlog:
                break  # the client left with this message
            backlog.popleft()
            if monotonic() > deadline:
                break
        self.shell.flush()
        self.shell.stream_times.note("client", monotonic() - began, before - len(backlog))
        if backlog:
            asyncio.get_running_loop().call_soon(self._take_slice, visit)

    def _say_untaken(self, visit: Visit, message: object, error: Exception) -> None:
        """A message made no sense; who goes on with such is disconnected, and has its time to return."""
        name, client = type(message).__name__, visit.record.client_key
        stream = self.shell.client_streams.get(client)
        self.shell.server.complaints.say(
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

    def _refuse_stream(self, visit: Visit, error: UnknownMessage) -> None:
        """A message came that nobody here takes: the two sides do not understand each other."""
        client = visit.record.client_key
        stream = self.shell.client_streams.get(client)
        address = stream.peer_address if stream is not None else ""
        text = "Closing the connection to client %s: %s"
        self.shell.server.complaints.say("an unknown message", address, text, client, error, level=logging.ERROR)
        # Not expected back: what waits behind that message is lost, and it would only send the same again.
        self.remove_client(client)

    def _take_keys_received(self, visit: Visit, message: KeysReceived) -> None:
        self.shell.call_extensions("keys_received", visit.record.client_key, message.token)

    def _take_farewell(self, visit: Visit, message: CloseClient) -> None:
        self.shell.flush()  # what the client was to be told before it is forgotten
        self.remove_client(visit.record.client_key)

    def _take_handler_message(self, visit: Visit, message: HandlerMessage) -> None:
        client = visit.record.client_key
        stream = self.shell.client_streams.get(client)
        source = stream.peer_address if stream is not None else ""
        self.shell.facade.take_handler_message(message, source, client=client)

    def _take_heartbeat(self, visit: Visit, message: ClientHeartbeat) -> None:
        """Any message is a sign of life, and this one says nothing else."""


#: The messages of clients that the shell takes; the others are the core's.
FROM_CLIENT: dict[type, Callable[[ClientConnections, Visit, Any], None]] = {
    KeysReceived: ClientConnections._take_keys_received,
    CloseClient: ClientConnections._take_farewell,
    ClientHeartbeat: ClientConnections._take_heartbeat,
    HandlerMessage: ClientConnections._take_handler_message,
}


def is_event(message: object, error: Exception) -> bool:
    """Whether a message that cannot be sent is one that nobody waits for (what users publish may be anything)."""
    return isinstance(message, (ClientEvent, HandlerMessage))
