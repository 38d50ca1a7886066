"""Python programs as another user of this machine, for tests that run as root.

The other user may read all files, since the interpreter may lie in root's home, but write none of root's; sockets are
its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

#: A user that no machine has.
OTHER_UID = 23456
_missing = (
    "needs root, to become another user"
    if os.name != "posix" or os.getuid() != 0
    else ""
    if shutil.which("setpriv")
    else "needs setpriv (Debian: util-linux)"
)
needs_other_user = pytest.mark.skipif(bool(_missing), reason=_missing or "there is one")


def as_other_user(*arguments: str) -> list[str]:
    """The command line that runs this interpreter with such arguments as another user."""
    ids = [f"--reuid={OTHER_UID}", f"--regid={OTHER_UID}", "--clear-groups"]
    return [
        "setpriv",
        *ids,
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
        sys.executable,
        *arguments,
    ]


def start_as_other_user(source: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start a program of Python with pipes for what it reads and writes."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(as_other_user("-c", source, *arguments), **{**pipes, **options})


def run_as_other_user(source: str, *arguments: str, timeout: float = 60, **options: Any) -> str:
    """What a program of Python prints that ends well."""
    done = subprocess.run(
        as_other_user("-c", source, *arguments), capture_output=True, text=True, timeout=timeout, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
