"""Permission to read each other's memory, where Linux gives it to ancestors only (Yama, as Ubuntu sets it).

Only for processes that one process has started to work together: nobody else gets anything.
"""

from __future__ import annotations

import os

#: In the environment of a process that is started: by whom, and by whose other descendants, it lets itself be read.
READER = "HEADRACE_MEMORY_READER"
#: Of `prctl`.
_PR_SET_PTRACER = 0x59616D61


def restricts_siblings(path: str = "/proc/sys/kernel/yama/ptrace_scope") -> bool:
    """Whether processes have to allow others that are not their ancestors to read them, and can."""
    try:
        with open(path) as file:
            return file.read().strip() == "1"
    except OSError:
        return False


def allow_reading(pid: int) -> bool:
    """Let a process and its descendants read this one; whether the system knows of such a thing."""
    import ctypes

    zero = ctypes.c_ulong(0)
    prctl = ctypes.CDLL(None).prctl
    return bool(prctl(_PR_SET_PTRACER, ctypes.c_ulong(pid), zero, zero, zero) == 0)


def allow_as_told() -> None:
    """Do what `READER` in the environment says, if it is there; processes that this one starts are not told."""
    pid = os.environ.pop(READER, "")
    if pid.isdecimal():
        allow_reading(int(pid))
