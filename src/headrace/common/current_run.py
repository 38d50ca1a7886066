"""The worker whose task or actor the caller runs in, for code that must not import the worker's package."""

from __future__ import annotations

import sys
from typing import Any


def worker_here() -> Any:
    """The worker whose task or actor runs here, or `None`. Its package is looked up, never imported."""
    context = sys.modules.get("headrace.worker.context")
    if context is None:
        return None
    state = getattr(context.thread_state, "execution_state", None)
    if state:
        return state["worker"]
    running = context.running.get()
    return running[0] if running is not None else None
