"""One queue: its items, and the requests that wait to get and to put. First come, first served. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from headrace.common.keys import Key
from headrace.messages.base import Payload

if TYPE_CHECKING:
    from headrace.scheduler.state.records.clients import ClientState


class Item(NamedTuple):
    """A value in a queue.

    Attributes:
        payload: the pickled value.
        keys: of the futures in it.
        keeper: stands for the item where their tasks are kept; None if there are none.
    """

    payload: Payload
    keys: tuple[Key, ...] = ()
    keeper: ClientState | None = None


class Getter:
    """A request for so many items that waits, and those that it has already."""

    __slots__ = ("items", "needed")

    def __init__(self, needed: int) -> None:
        self.needed = needed
        self.items: list[Item] = []


class QueueState:
    """A queue.

    Args:
        maxsize: how many items it holds; 0 for any number.

    Attributes:
        handles: number of users' objects that are open.
        served: outcomes of requests that waited, to be taken by the caller: (request, items) of getters, (request,
            None) of putters.
    """

    def __init__(self, maxsize: int = 0) -> None:
        self.maxsize = maxsize
        self.handles = 0
        self.items: deque[Item] = deque()
        self.getters: dict[Hashable, Getter] = {}
        self.putters: dict[Hashable, Item] = {}
        self.served: deque[tuple[Hashable, list[Item] | None]] = deque()

    def put(self, request: Hashable, item: Item) -> bool:
        """Put an item: whether there was room. Else the request waits until it is served or withdrawn."""
        if self.putters or not self._has_room():
            self.putters[request] = item
            return False
        self.items.append(item)
        self._serve()
        return True

    def get(self, request: Hashable, needed: int = 1) -> list[Item] | None:
        """Get so many items, or None: then the request waits until it is served or withdrawn."""
        if self.getters or len(self.items) < needed:
            self.getters[request] = Getter(needed)
            self._serve()
            return self._served_at_once(request)
        taken = [self.items.popleft() for _ in range(needed)]
        self._serve()
        return taken

    def _served_at_once(self, request: Hashable) -> list[Item] | None:
        """The items of a getter that has been served already, by requests that waited to put; None if it waits."""
        if request in self.getters:
            return None
        entry = next(entry for entry in self.served if entry[0] == request)
        self.served.remove(entry)
        return entry[1]

    def get_all(self) -> list[Item]:
        """Take all that is in the queue now."""
        taken = list(self.items)
        self.items.clear()
        self._serve()
        return taken

    def give_back(self, items: Iterable[Item]) -> None:
        """Put items that were taken, but not received, back to the front."""
        self.items.extendleft(reversed(list(items)))
        self._serve()

    def withdraw(self, request: Hashable) -> Item | None:
        """Give a request up: items of a getter go back to the front, the item of a putter is returned."""
        getter = self.getters.pop(request, None)
        if getter is not None:
            self.give_back(getter.items)
        item = self.putters.pop(request, None)
        if item is not None:
            self._serve()
        return item

    def remove_kept(self) -> list[Item]:
        """Take out the items with futures in them, since their tasks are forgotten."""
        gone = [item for item in self.items if item.keeper is not None]
        self.items = deque(item for item in self.items if item.keeper is None)
        for getter in self.getters.values():
            gone += [item for item in getter.items if item.keeper is not None]
            getter.items = [item for item in getter.items if item.keeper is None]
        self._serve()
        return gone

    def _has_room(self) -> bool:
        return not self.maxsize or len(self.items) < self.maxsize

    def _serve(self) -> None:
        while True:
            if self.getters and self.items:
                request, getter = next(iter(self.getters.items()))
                getter.items.append(self.items.popleft())
                if len(getter.items) >= getter.needed:
                    del self.getters[request]
                    self.served.append((request, getter.items))
            elif self.putters and self._has_room():
                request = next(iter(self.putters))
                self.items.append(self.putters.pop(request))
                self.served.append((request, None))
            else:
                return
