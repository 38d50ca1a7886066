"""Has a command's process, which is to be a worker itself, start again with the `hash` of texts that all workers have.

An interpreter takes the seed of `hash` from its environment as it starts, and never again.
"""

from __future__ import annotations

import os
import sys

from headrace.nanny.environment import SEED_VARIABLE, hash_seed


def run_with_hash_seed(option: str) -> None:
    """Put the same command in this process's place, with the seed in its environment; returns if it is there already.

    Call it before anything was begun. Whoever calls a command as a function keeps his process: nothing happens then.

    Args:
        option: the beginning of an option which this process's own command line has if this command is what it runs.
    """
    seed = hash_seed(os.environ)
    if os.environ.get(SEED_VARIABLE) == seed or sys.flags.ignore_environment or os.name != "posix":
        return
    if not any(argument.startswith(option) for argument in sys.argv[1:]):
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, SEED_VARIABLE: seed})
