"""Other programs as children of a test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def popen(
    args: list[str],
    capture_output: bool = False,
    terminate_timeout: float = 10,
    kill_timeout: float = 5,
    **kwargs: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is interrupted (SIGINT) when the block ends, and killed if it does not end then.

    Args:
        args: command line; a name without a path is looked for among the scripts of this environment.
        capture_output: its output and errors are readable as `stdout`, and printed at the end.
        terminate_timeout: seconds to wait after SIGINT.
        kill_timeout: seconds to wait after SIGKILL.
        kwargs: as of `subprocess.Popen`.

    Raises:
        FileNotFoundError: there is no such program.
        subprocess.TimeoutExpired: it had to be killed.
    """
    if capture_output:
        kwargs.update(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if sys.platform.startswith("win"):
        kwargs["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
    with subprocess.Popen([_find(args[0]), *args[1:]], **kwargs) as process:
        try:
            yield process
        finally:
            _end(process, args, terminate_timeout, kill_timeout)


def _find(program: str) -> str:
    if os.path.isabs(program):
        return program
    for folder in (sysconfig.get_path("scripts"), os.path.dirname(sys.executable)):
        found = shutil.which(program, path=folder)
        if found:
            return found
    return program


def _end(process: subprocess.Popen[bytes], args: list[str], terminate_timeout: float, kill_timeout: float) -> None:
    """Interrupt a program and read what it says until it has ended: one that cannot write would not end."""
    if process.poll() is None:
        windows = sys.platform.startswith("win")
        process.send_signal(signal.CTRL_BREAK_EVENT if windows else signal.SIGINT)  # type: ignore[attr-defined]
    output: bytes | str | None = None
    try:
        output, _ = process.communicate(timeout=terminate_timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate(timeout=kill_timeout)
        raise
    finally:
        if output:
            text = output if isinstance(output, str) else output.decode(errors="replace")
            print(f"------ output of {args}, exit status {process.returncode}\n{text}------")
