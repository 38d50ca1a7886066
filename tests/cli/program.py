"""headrace's commands as programs of a test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import headrace
from headrace.testing.helpers.log_reading import wait_for_log_line

SOURCE = Path(headrace.__file__).parents[1]
HEADRACE = [sys.executable, "-m", "headrace.cli"]


class Program:
    """A program that is killed if the test forgets it."""

    def __init__(self, *arguments: str, modules: Path | None = None, env: dict[str, str] | None = None) -> None:
        folders = [str(folder) for folder in (SOURCE, modules) if folder is not None]
        self.process = subprocess.Popen(
            [*HEADRACE, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders), **(env or {})},
        )

    def __enter__(self) -> Program:
        return self

    def line(self, text: str) -> str:
        return wait_for_log_line(text.encode(), self.process.stdout, 50).decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        output, _errors = self.process.communicate()
        print(output.decode())
