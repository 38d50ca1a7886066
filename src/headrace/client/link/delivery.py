"""Messages of a client that the scheduler has not confirmed: they are kept, to be sent again.

No sockets, no locks; only for the loop's thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from headrace.messages import FromClient


class Delivery:
    """Messages that were sent and are not known to have come, oldest first.

    Attributes:
        confirmed: how many have come, over all connections.
    """

    __slots__ = ("_kept", "confirmed")

    def __init__(self) -> None:
        self.confirmed = 0
        self._kept: deque[FromClient] = deque()

    def __len__(self) -> int:
        return len(self._kept)

    def sent(self, messages: Iterable[FromClient]) -> None:
        """Keep messages that have been sent, in this order."""
        self._kept.extend(messages)

    def not_sent(self, message: FromClient) -> None:
        """Forget a message that could not be encoded: it never left, and does not count."""
        for position, kept in enumerate(self._kept):
            if kept is message:
                del self._kept[position]
                return

    def confirm(self, count: int) -> None:
        """The scheduler says that so many have come."""
        while self.confirmed < count and self._kept:
            self._kept.popleft()
            self.confirmed += 1

    def resume(self, received: int | None) -> list[FromClient]:
        """The messages to send again over a new connection, in order.

        Args:
            received: how many have come; None when the scheduler does not know this client (any more).
        """
        if received is None:
            self.confirmed = 0
        else:
            self.confirm(received)
        return list(self._kept)
