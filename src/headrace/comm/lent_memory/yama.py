"""Permission for processes to read each other's memory, where Linux gives it to ancestors only (Yama, as on Ubuntu).

Only processes that one process has started to work together get it.
"""

from __future__ import annotations

import os

#: Environment variable of a started process: the process which, with its descendants, may read its memory.
READER = "HEADRACE_MEMORY_READER"
#: Of `prctl`.
_PR_SET_PTRACER = 0x59616D61


def restricts_siblings(path: str = "/proc/sys/kernel/yama/ptrace_scope") -> bool:
    """Whether a process can be read by one that is not its ancestor only if it allows that."""
    try:
        with open(path) as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def allow_reading(pid: int) -> bool:
    """Let a process and its descendants read this one; returns whether the system knows such a permission."""
    import ctypes

    zero = ctypes.c_ulong(0)
    prctl = ctypes.CDLL(None).prctl
    return bool(prctl(_PR_SET_PTRACER, ctypes.c_ulong(pid), zero, zero, zero) == 0)


def allow_as_told() -> None:
    """Give the permission that `READER` in the environment names, if it is set; processes started from here lack it."""
    pid = os.environ.pop(READER, "")
    if pid.isdecimal():
        allow_reading(int(pid))
