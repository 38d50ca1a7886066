"""Values that clients have put on a worker of late, and may not have told the scheduler of yet.

A client sends values to workers first and tells the scheduler after. A worker that registers in between says which of
its keys may be such ones, so that the scheduler does not take them for left over and have them freed. Later the worker
asks after them (`AddKeys`): by then the scheduler knows them, or has those freed whose client never came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from headrace.common.keys import Key
from headrace.messages.worker import AddKeys

if TYPE_CHECKING:
    from .server import WorkerServer

#: Seconds that a client has to tell the scheduler what it has put here.
ANNOUNCE_SECONDS = 300.0
#: Seconds between two looks at what is due, or gone.
LOOK_SECONDS = 60.0


class Scattered:
    """The keys of one worker's recent scattered data; on the loop.

    Args:
        worker: whose.
    """

    def __init__(self, worker: WorkerServer) -> None:
        self._worker = worker
        self._since: dict[Key, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def note(self, keys: Iterable[Key]) -> None:
        """Note that a client has put values here."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for key in keys:
            self._since.pop(key, None)  # to the end: the oldest come first
            self._since[key] = now
        if self._timer is None and self._since:
            self._timer = loop.call_later(LOOK_SECONDS, self._look)

    def unsettled(self, held: Iterable[Key]) -> list[Key]:
        """Keys, of those given, that the scheduler may not have been told of."""
        return [key for key in held if key in self._since] if self._since else []

    def _look(self) -> None:
        """Ask after what is due, and forget what is gone."""
        self._timer = None
        due = asyncio.get_running_loop().time() - ANNOUNCE_SECONDS
        tasks, since = self._worker.core.tasks, self._since
        held = {key: when for key, when in since.items() if key in tasks and tasks[key].state == "memory"}
        self._since = {key: when for key, when in held.items() if when > due}
        settled = [key for key in held if key not in self._since]
        if settled and self._worker.batched_stream is not None:
            self._worker.batched_stream.send(AddKeys(settled))
        self.note(())

    def close(self) -> None:
        """Ask no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._since.clear()
