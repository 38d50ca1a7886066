"""The statistical profile of a worker's tasks: a thread that looks at the threads that run tasks, at intervals.

It costs tasks nothing but one dictionary entry. It turns what it saw into profiles once a cycle, in its own thread, and
sleeps while nothing runs: the next tasks that are handed out wake it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from headrace.common.keys import key_group, key_prefix
from headrace.containment import log_raised
from headrace.profile import StackTree, Watcher, create, current_frames, get_profile, merge

if TYPE_CHECKING:
    from .executor import TaskExecutor

logger = logging.getLogger("distributed.worker")

#: Cycles that are kept.
HISTORY = 3600

Profiles = dict[str, dict[str, Any]]


class Profiler:
    """Profiles by the prefix of the tasks' keys.

    Args:
        executor: whose tasks.
        interval: seconds between two samples.
        cycle: seconds that share an entry of the history.

    Attributes:
        history: (end of the cycle in seconds since the epoch, {prefix: profile}), oldest first.
    """

    def __init__(self, executor: TaskExecutor, interval: float, cycle: float) -> None:
        self.interval = interval
        self.cycle = cycle
        self.history: deque[tuple[float, Profiles]] = deque(maxlen=HISTORY)
        self._executor = executor
        self._below = type(executor)._perform.__code__
        self._recent: dict[str, StackTree] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop_thread = threading.get_ident()
        self._watcher: Watcher | None = None

    def start(self) -> None:
        """Begin to sample. On the event loop."""
        self._thread = threading.Thread(target=self._work, name="headrace-profiler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the threads."""
        self._closed.set()
        self._executor.on_work = None
        self._wake.set()
        for thread in (self._thread, self._watcher):
            if isinstance(thread, Watcher):
                thread.close()
            elif thread is not None:
                thread.join()

    def _work(self) -> None:
        due = time.monotonic() + self.cycle
        while not self._closed.wait(self.interval):
            try:
                self.sample()
                if time.monotonic() >= due:
                    self.end_cycle()
                    self._sleep()
                    due = time.monotonic() + self.cycle
            except BaseException as raised:  # of a frame's, or a module's, that cannot be described: the next one may
                log_raised(logger, raised, "A sample for the profile failed")

    def _sleep(self) -> None:
        """Wait until tasks are handed out, unless there are some that have not ended."""
        if self._executor.has_work():
            return
        self._wake.clear()
        self._executor.on_work = self._wake.set
        if not self._closed.is_set() and not self._executor.has_work():  # none came before we could be called
            self._wake.wait()
        self._executor.on_work = None

    def sample(self) -> None:
        """Look at all threads that run tasks, once."""
        keys = self._executor.keys_by_thread
        if not keys:
            return
        frames = current_frames()
        with self._lock:
            for thread, key in list(keys.items()):
                frame = frames.get(thread)
                if frame is None:  # the thread has ended
                    keys.pop(thread, None)
                    continue
                prefix = key_prefix(key_group(key))
                tree = self._recent.get(prefix) or StackTree()
                if tree.add(frame, self._below):
                    self._recent[prefix] = tree
            frame = None
        frames.clear()  # frames must not outlive this call

    def end_cycle(self) -> None:
        """Move what was collected into the history."""
        with self._lock:
            trees, self._recent = self._recent, {}
        if trees:
            self.history.append((time.time(), {prefix: tree.profile() for prefix, tree in trees.items()}))

    def recent(self) -> Profiles:
        """The profiles since the last cycle ended, by prefix."""
        with self._lock:
            return {prefix: tree.profile() for prefix, tree in self._recent.items()}

    def read(self, start: float | None = None, stop: float | None = None, key: str | None = None) -> dict[str, Any]:
        """The profile of a span of time, of all tasks or of one prefix; see `headrace.profile.get_profile`.

        May take long; not for the event loop.
        """
        history = list(self.history)
        recent: Any = self.recent()
        if key is None:
            history = [(when, merge(create(), *profiles.values())) for when, profiles in history]
            recent = merge(create(), *recent.values())
        return get_profile(history, recent, start, stop, key)

    def metadata(self, start: float | None = None, stop: float | None = None) -> dict[str, Any]:
        """How many samples there are, over time: `{"counts": [(time, n)], "keys": {prefix: [(time, n)]}}`."""
        entries = [*self.history, (time.time(), self.recent())]
        counts: list[tuple[float, int]] = []
        keys: dict[str, list[tuple[float, int]]] = {}
        for when, profiles in entries:
            if (start is None or when >= start) and (stop is None or when <= stop) and profiles:
                counts.append((when, sum(profile["count"] for profile in profiles.values())))
                for prefix, profile in profiles.items():
                    keys.setdefault(prefix, []).append((when, profile["count"]))
        return {"counts": counts, "keys": keys}

    def read_server(self, start: float | None = None, stop: float | None = None) -> dict[str, Any]:
        """The profile of the event loop's thread, which is watched from the first call on."""
        if self._watcher is None:
            self._watcher = Watcher(self._loop_thread, self.interval, self.cycle, HISTORY)
        return get_profile(list(self._watcher.log), None, start, stop)
