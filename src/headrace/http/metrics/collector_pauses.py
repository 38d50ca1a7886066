"""How long Python's garbage collector has held up this process, from the first question on."""

from __future__ import annotations

import gc
import time


class CollectorPauses:
    """Sums of the collector's runs.

    Attributes:
        seconds: how long they took, all together.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0
        gc.callbacks.append(self._on_run)

    def _on_run(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.seconds += time.perf_counter() - self._began


_of_this_process: CollectorPauses | None = None


def collector_seconds() -> float:
    """Seconds that the collector took in this process since this was first asked."""
    global _of_this_process
    if _of_this_process is None:
        _of_this_process = CollectorPauses()
    return _of_this_process.seconds
