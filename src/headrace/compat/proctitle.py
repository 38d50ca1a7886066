"""`distributed.proctitle`: the name under which a process shows in `ps`."""

from __future__ import annotations

import contextlib
import importlib
import os

#: In the environment of processes that may set their title.
_VARIABLE = "HEADRACE_SET_TITLE"
_enabled = _VARIABLE in os.environ


def enable_proctitle_on_current() -> None:
    """Let `setproctitle` work in this process."""
    global _enabled
    _enabled = True


def enable_proctitle_on_children() -> None:
    """Let `setproctitle` work in processes that this one starts, and in theirs."""
    os.environ[_VARIABLE] = "1"


def setproctitle(title: str) -> None:
    """Change this process's title, if that was enabled and the package `setproctitle` is installed."""
    if not _enabled:
        return
    with contextlib.suppress(ImportError):
        importlib.import_module("setproctitle").setproctitle(title)


__all__ = ["enable_proctitle_on_children", "enable_proctitle_on_current", "setproctitle"]
