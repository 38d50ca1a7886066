"""One-way messages in batches: the messages sent during a turn of the loop leave as one packet at its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from headrace.comm import Comm
from headrace.comm.connections import OnBatch, OnClose
from headrace.messages.base import as_message

logger = logging.getLogger("distributed.core")

OnUnsendable: TypeAlias = Callable[[Any, Exception], bool]


class Stream:
    """Both directions of a comm that has become a stream. Only for the thread of its loop.

    There is no back-pressure: the transport keeps the bytes that cannot leave. A sender to a peer that may not read
    looks at their number (`on_unsent`), and sends less, or gives up.

    Args:
        comm, incoming, on_batch, on_close: see `Comm.start_stream`.
        on_unsendable: called with a message that cannot be encoded, and the error; returns whether the peer can do
            without the message. If not (or without this function) the stream closes, since the peer would wait for it.
        on_unsent: called before a packet is written, with the number of bytes that have not left, if there are many;
            and once with 0 when there are few again.
    """

    __slots__ = (
        "_call_soon",
        "_on_unsendable",
        "_on_unsent",
        "_outbox",
        "_scheduled",
        "_was_unsent",
        "comm",
        "peer_address",
    )

    def __init__(
        self,
        comm: Comm,
        incoming: object,
        on_batch: OnBatch,
        on_close: OnClose,
        on_unsendable: OnUnsendable | None = None,
        on_unsent: Callable[[int], None] | None = None,
    ) -> None:
        self.comm = comm
        self._on_unsent = on_unsent
        self._was_unsent = False
        self._on_unsendable = on_unsendable
        self.peer_address = comm.peer_address
        self._call_soon = asyncio.get_running_loop().call_soon
        self._outbox: list[Any] = []
        self._scheduled = False
        self._start(incoming, on_batch, on_close)

    def _start(self, incoming: object, on_batch: OnBatch, on_close: OnClose) -> None:
        self.comm.start_stream(incoming, on_batch, on_close)

    @property
    def closed(self) -> bool:
        """Whether either side has closed the stream."""
        return self.comm.closed()

    def send(self, message: object) -> None:
        """Send a message with the batch of this turn of the loop; a closed stream drops it (see `on_close`).

        Args:
            message: one of the stream's classes, or `{"op": …}` with keywords for a handler of the receiver's.

        Raises:
            ValueError: it is a dictionary without "op".
        """
        self._outbox.append(as_message(message) if type(message) is dict else message)
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._flush)

    def send_all(self, messages: Iterable[Any]) -> None:
        """Send several messages, as `send` does with one."""
        self._outbox += messages
        if not self._scheduled and self._outbox:
            self._scheduled = True
            self._call_soon(self._flush)

    def send_now(self, messages: list[Any]) -> None:
        """Write these now, after what is waiting; for whoever has a queue of its own. The list becomes the stream's."""
        if self._outbox:
            self._outbox += messages
            self._flush()
        else:
            self._write(messages)

    def flush(self) -> None:
        """Write the messages that wait, now."""
        self._flush()

    def _flush(self) -> None:
        self._scheduled = False
        messages = self._outbox
        if messages:
            self._outbox = []
            self._write(messages)

    def _write(self, messages: list[Any]) -> None:
        comm = self.comm
        if comm.closed():
            return
        if self._on_unsent is not None and ((unsent := comm.unsent) or self._was_unsent):
            self._was_unsent = unsent > 0
            self._on_unsent(unsent)
        try:
            comm.send(messages)
        except OSError:
            return
        except Exception:
            self._send_separately(messages)

    def _send_separately(self, messages: list[Any]) -> None:
        """Send the messages of a batch one by one: one of them cannot be encoded, and the others are to arrive."""
        for message in messages:
            try:
                self.comm.send([message])
            except OSError:
                return
            except Exception as error:
                if self._on_unsendable is not None and self._on_unsendable(message, error):
                    logger.error("Dropped a %s that cannot be sent: %s", type(message).__name__, error)
                    continue
                logger.exception("Closing %r: a %s cannot be sent", self.comm, type(message).__name__)
                self.comm.abort()
                return

    def abort(self) -> None:
        """Close at once."""
        self._outbox = []
        self.comm.abort()

    async def close(self) -> None:
        """Close once all that was sent has left."""
        self._flush()
        await self.comm.wait_until_written()
        await self.comm.close()

    def __repr__(self) -> str:
        return f"<Stream over {self.comm!r}>"


class DelayedStream(Stream):
    """A stream that keeps what is sent until `begin`, while the comm still waits for the answer to a request."""

    __slots__ = ("_waiting",)

    def _start(self, *arguments: Any) -> None:
        self._waiting: tuple[Any, ...] | None = arguments

    def begin(self) -> None:
        """Be a stream from now on, and send what has been kept."""
        if self._waiting is not None:
            arguments, self._waiting = self._waiting, None
            super()._start(*arguments)
            self._flush()

    def _write(self, messages: list[Any]) -> None:
        if self._waiting is None:
            super()._write(messages)
        else:
            self._outbox = messages + self._outbox
