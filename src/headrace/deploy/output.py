"""The output of a process that a cluster has started: read until the process reports that it is up, and on to its end.

The output has to be read for as long as the process lives: with a full pipe the process would stop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Protocol

from .cluster import logger

#: Lines that are kept.
_KEPT = 1000
#: Lines that an error shows when the process did not start.
_SHOWN = 20


class LineReader(Protocol):
    """The output of a process, such as `asyncio.StreamReader`."""

    async def readline(self) -> str | bytes:
        """The next line with its end; nothing at the end of the output."""


class Output:
    """Reads the output of a process, and keeps its latest lines.

    Args:
        reader: gives the lines.
        name: the process's name, for messages.

    Attributes:
        lines: the latest lines.
    """

    def __init__(self, reader: LineReader, name: str) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT)
        self._reader = reader
        self._name = name
        self._reading: asyncio.Task[None] | None = None

    async def wait_for(self, text: str, timeout: float) -> str:
        """The first line that contains `text`; later lines are read in the background.

        Raises:
            RuntimeError: the process ended, or `timeout` seconds passed, before it printed such a line.
        """
        try:
            async with asyncio.timeout(timeout):
                while (line := await self._read_line()) is not None:
                    if text in line:
                        self._reading = asyncio.ensure_future(self._read_on())
                        return line
        except TimeoutError:
            raise RuntimeError(f"{self._name} did not start within {timeout:g} s{self._ending()}") from None
        raise RuntimeError(f"{self._name} ended as it started{self._ending()}")

    def _ending(self) -> str:
        last = list(self.lines)[-_SHOWN:]
        return "; its last words:\n" + "\n".join(last) if last else ""

    async def _read_line(self) -> str | None:
        line = await self._reader.readline()
        if not line:
            return None
        text = (line.decode(errors="replace") if isinstance(line, bytes) else line).rstrip()
        self.lines.append(text)
        logger.debug("%s: %s", self._name, text)
        return text

    async def _read_on(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a line without end
            while await self._read_line() is not None:
                pass

    async def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.wait([self._reading])
