"""Restarts a command's process that is to be a worker itself with the seed of `hash` that all workers have.

An interpreter reads the seed from its environment when it starts, and never again.
"""

from __future__ import annotations

import os
import sys

from headrace.nanny.environment import SEED_VARIABLE, hash_seed


def run_with_hash_seed(option: str) -> None:
    """Replace this process by the same command with the seed in its environment; return if the seed is there already.

    To be called before the process has begun anything. Does nothing if a program calls the command as a function.

    Args:
        option: beginning of an option of the command: if the process's own command line has none such, a program has
            called the command as a function.
    """
    seed = hash_seed(os.environ)
    if os.environ.get(SEED_VARIABLE) == seed or sys.flags.ignore_environment or os.name != "posix":
        return
    if not any(argument.startswith(option) for argument in sys.argv[1:]):
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, SEED_VARIABLE: seed})
