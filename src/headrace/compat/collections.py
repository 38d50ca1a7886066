"""`distributed.collections`: a set that knows its smallest element, a dictionary of the latest used, sums by key."""

from __future__ import annotations

import heapq
import itertools
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSet
from typing import Any, TypeVar

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class HeapSet(MutableSet[T]):
    """A set whose `pop` gives the smallest element; of equal ones, that which was added first.

    Args:
        key: gives what elements are compared by. It must not change while an element is in the set.
    """

    __slots__ = ("_entries", "_heap", "_numbers", "key")

    def __init__(self, *, key: Callable[[T], Any]) -> None:
        self.key = key
        #: the entry that counts for each element; others in the heap are of elements that have left
        self._entries: dict[T, _Entry] = {}
        self._heap: list[_Entry] = []
        self._numbers = itertools.count()

    def __contains__(self, value: object) -> bool:
        return value in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        """In no particular order."""
        return iter(self._entries)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} items>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _heap_set, (self.key, list(self.sorted()))

    def add(self, value: T) -> None:
        """Add an element; nothing if it is there."""
        if value not in self._entries:
            entry = self._entries[value] = _Entry(self.key(value), next(self._numbers), value)
            heapq.heappush(self._heap, entry)

    def discard(self, value: T) -> None:
        """Remove an element, if it is there."""
        entry = self._entries.pop(value, None)
        if entry is not None:
            entry.left = True
            if len(self._heap) > 2 * len(self._entries) + 16:
                self._heap = [entry for entry in self._heap if not entry.left]
                heapq.heapify(self._heap)

    def peek(self) -> T:
        """The smallest element.

        Raises:
            KeyError: the set is empty.
        """
        if not self._entries:
            raise KeyError("peek into empty set")
        while self._heap[0].left:
            heapq.heappop(self._heap)
        value: T = self._heap[0].value
        return value

    def peekn(self, n: int) -> Iterator[T]:
        """The `n` smallest elements, smallest first."""
        if n == 1 and self._entries:
            return iter((self.peek(),))
        return (entry.value for entry in heapq.nsmallest(n, self._entries.values()))

    def pop(self) -> T:
        """Remove the smallest element and return it.

        Raises:
            KeyError: the set is empty.
        """
        if not self._entries:
            raise KeyError("pop from an empty set")
        value = self.peek()
        heapq.heappop(self._heap)
        del self._entries[value]
        return value

    def peekright(self) -> T:
        """One of the larger elements: at the end of the heap, not necessarily the largest.

        Raises:
            KeyError: the set is empty.
        """
        if not self._entries:
            raise KeyError("peek into empty set")
        while self._heap[-1].left:
            self._heap.pop()
        value: T = self._heap[-1].value
        return value

    def popright(self) -> T:
        """Remove what `peekright` gives and return it.

        Raises:
            KeyError: the set is empty.
        """
        if not self._entries:
            raise KeyError("pop from an empty set")
        value = self.peekright()
        self._heap.pop()
        del self._entries[value]
        return value

    def sorted(self) -> Iterator[T]:
        """All elements, smallest first."""
        return (entry.value for entry in sorted(self._entries.values()))

    def clear(self) -> None:
        """Remove all elements."""
        self._entries.clear()
        self._heap.clear()


class _Entry:
    """An element in a heap."""

    __slots__ = ("key", "left", "number", "value")

    def __init__(self, key: Any, number: int, value: Any) -> None:
        self.key, self.number, self.value = key, number, value
        self.left = False

    def __lt__(self, other: _Entry) -> bool:
        if self.key == other.key:
            return self.number < other.number
        return bool(self.key < other.key)


def _heap_set(key: Callable[[Any], Any], values: list[Any]) -> HeapSet[Any]:
    made: HeapSet[Any] = HeapSet(key=key)
    for value in values:
        made.add(value)
    return made


class LRU(UserDict[K, V]):
    """A dictionary of at most `maxsize` entries: a new one takes the place of that which was not used for longest."""

    def __init__(self, maxsize: float) -> None:
        super().__init__()
        self.maxsize = maxsize

    def __getitem__(self, key: K) -> V:
        value = super().__getitem__(key)
        self.data[key] = self.data.pop(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        self.data.pop(key, None)
        if len(self.data) >= self.maxsize:
            del self.data[next(iter(self.data))]
        super().__setitem__(key, value)


def sum_mappings(ds: Iterable[Mapping[K, V] | Iterable[tuple[K, V]]], /) -> dict[K, V]:
    """The sums of the values of several dictionaries, key by key."""
    result: dict[K, Any] = {}
    for one in ds:
        for key, value in one.items() if isinstance(one, Mapping) else one:
            result[key] = result[key] + value if key in result else value
    return result


__all__ = ["LRU", "HeapSet", "sum_mappings"]
