"""The distinct pickled callables that known tasks run, so that each travels to a worker once.

Callables are never opened here. One that no task uses any more is kept for a while: the next `submit` of the same
function, as in a loop, then finds it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from headrace.messages.base import Payload

if TYPE_CHECKING:
    from .workers import WorkerState

#: How many unused callables to keep, and the size in bytes from which none is kept.
KEPT_UNUSED = 256
KEPT_SIZE = 65_536


class Function:
    """A pickled callable, its number on the wire, how many tasks use it, and the workers that were sent it."""

    __slots__ = ("known_by", "number", "pickled", "users")

    def __init__(self, number: int, pickled: Payload) -> None:
        self.number = number
        self.pickled = pickled
        self.users = 0
        self.known_by: set[WorkerState] = set()

    @property
    def nbytes(self) -> int:
        return len(self.pickled) if isinstance(self.pickled, bytes) else self.pickled.nbytes


class FunctionTable:
    """Callables by content."""

    def __init__(self) -> None:
        self._all: dict[Function, None] = {}
        self._by_content: dict[bytes, Function] = {}
        self._unused: OrderedDict[Function, None] = OrderedDict()
        self._numbers = 0

    def __len__(self) -> int:
        return len(self._all)

    def intern(self, pickled: Payload) -> Function:
        """The record of a callable; large ones (not `bytes`) are not compared."""
        function = self._by_content.get(pickled) if type(pickled) is bytes else None
        if function is None:
            function = self._new(pickled)
            if type(pickled) is bytes:
                self._by_content[pickled] = function
        return function

    def _new(self, pickled: Payload) -> Function:
        self._numbers += 1
        function = Function(self._numbers, pickled)
        self._all[function] = None
        return function

    def use(self, function: Function) -> None:
        """One more task runs it."""
        if not function.users:
            self._unused.pop(function, None)
        function.users += 1

    def release(self, function: Function) -> list[Function]:
        """One task less runs it; returns the callables that workers should forget now."""
        function.users -= 1
        if function.users:
            return []
        if function.nbytes >= KEPT_SIZE or type(function.pickled) is not bytes:  # nobody would find the latter
            return [self._drop(function)]
        self._unused[function] = None
        if len(self._unused) > KEPT_UNUSED:
            oldest, _ = self._unused.popitem(last=False)
            return [self._drop(oldest)]
        return []

    def forget_worker(self, worker: WorkerState) -> None:
        """A worker has gone."""
        for function in self._all:
            function.known_by.discard(worker)

    def _drop(self, function: Function) -> Function:
        del self._all[function]
        if type(function.pickled) is bytes:
            del self._by_content[function.pickled]
        return function
