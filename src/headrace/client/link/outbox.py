"""The client's messages that wait to be sent. Any thread posts them; the session takes them, on the client's loop.

This is the first of two queues. `Delivery`, which belongs to the loop alone, keeps what was sent until the scheduler
confirms it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from headrace.client.errors import ClosedClientError
from headrace.messages import FromClient

#: What a closed client answers where nothing better is known.
CLOSED = "Client is closed: it cannot send anything to the scheduler any more."


class ClientOutbox:
    """Takes messages from any thread, without a lock, and wakes the loop once for many.

    Attributes:
        loop: the client's; None until `attach`.
        closed_text: why nothing can be sent any more; None while it can.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.closed_text: str | None = None
        self._flush: Callable[[], None] | None = None
        self._waiting: deque[FromClient] = deque()
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._waiting)

    def attach(self, loop: asyncio.AbstractEventLoop, flush: Callable[[], None]) -> None:
        """From now on messages may be posted; `flush` is called on the loop when some wait."""
        self.loop, self._flush = loop, flush

    @property
    def is_open(self) -> bool:
        """Whether messages are still accepted."""
        return self.closed_text is None

    def close(self, text: str = CLOSED) -> None:
        """Accept nothing more; the first reason given stands."""
        if self.closed_text is None:
            self.closed_text = text

    def check_open(self) -> None:
        """Raise `ClosedClientError` when nothing can be sent any more."""
        if self.closed_text is not None:
            raise ClosedClientError(self.closed_text)

    def post(self, message: FromClient) -> None:
        """Send a message soon; messages leave in the order in which they are posted.

        Raises:
            ClosedClientError: the client is closed.
        """
        if self.closed_text is not None:
            raise ClosedClientError(self.closed_text)
        self._waiting.append(message)
        if not self._scheduled:
            self.wake()

    def put(self, messages: Iterable[FromClient]) -> None:
        """Send these with the next message that is posted, or the next flush: nobody is woken for them."""
        self._waiting.extend(messages)

    def wake(self) -> None:
        """Have the loop send what waits, unless it is about to.

        Raises:
            ClosedClientError: the loop is closed.
        """
        loop, flush = self.loop, self._flush
        if self._scheduled or not self._waiting:
            return
        assert loop is not None
        assert flush is not None
        self._scheduled = True
        if asyncio._get_running_loop() is loop:
            loop.call_soon(flush)
            return
        try:
            loop.call_soon_threadsafe(flush)
        except RuntimeError as error:
            raise ClosedClientError("Client is closed: its event loop is.") from error

    def take(self) -> list[FromClient]:
        """Everything that waits, in order, which is then the caller's to send. On the loop's thread."""
        # First, so that whoever posts from here on wakes the loop again: at worst for nothing.
        self._scheduled = False
        waiting = self._waiting
        messages = []
        while waiting:
            messages.append(waiting.popleft())
        return messages

    def waiting(self) -> list[FromClient]:
        """The messages that wait, which go on waiting. On the loop's thread."""
        return list(self._waiting)
