"""`distributed.batched`: messages to a comm in batches, for servers of other libraries.

Streams of this package (`headrace.rpc.stream`) need no timer.
"""

from __future__ import annotations

import asyncio
import logging

from headrace.comm import Comm
from headrace.config import parse_seconds
from headrace.containment import log_raised
from headrace.exceptions import CommClosedError

logger = logging.getLogger("distributed.batched")


class BatchedSend:
    """Collects messages and writes them as one list, at most once an interval. Only for the thread of its loop.

    The other side reads lists of messages. What is sent before `start` waits for it.

    Args:
        interval: seconds between two writes, or text such as "10ms".
        loop, serializers: accepted for compatibility.

    Attributes:
        buffer: what has not been written.
        comm: where it goes.
        message_count, batch_count, byte_count: so far.
    """

    def __init__(self, interval: float | str, loop: object = None, serializers: object = None) -> None:
        self.interval = parse_seconds(interval)
        self.loop = loop
        self.serializers = serializers
        self.buffer: list[object] = []
        self.comm: Comm | None = None
        self.message_count = 0
        self.batch_count = 0
        self._wanted = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self, comm: Comm) -> None:
        """Write to a comm from now on; on the loop."""
        self.comm = comm
        self._task = asyncio.get_running_loop().create_task(self._write())

    def closed(self) -> bool:
        """Whether there is no open comm."""
        return self.comm is None or self.comm.closed()

    def __repr__(self) -> str:
        if self.closed() and self.comm is not None:
            return "<BatchedSend: closed>"
        return f"<BatchedSend: {len(self.buffer)} in buffer>"

    def send(self, *msgs: object) -> None:
        """Have messages sent soon.

        Raises:
            CommClosedError: the comm is closed; nothing was taken.
        """
        if self._stopping or (self.comm is not None and self.comm.closed()):
            raise CommClosedError(f"Comm {self.comm!r} already closed.")
        self.message_count += len(msgs)
        self.buffer += msgs
        if msgs:
            self._wanted.set()

    async def _write(self) -> None:
        assert self.comm is not None
        loop = asyncio.get_running_loop()
        while not (self._stopping and not self.buffer):
            await self._wanted.wait()
            self._wanted.clear()
            if not self.buffer:
                continue
            began = loop.time()
            payload, self.buffer = self.buffer, []
            try:
                await self.comm.write(payload)
            except CommClosedError:
                logger.info("Batched comm closed before %d messages were sent: %r", len(payload), self.comm)
                return
            except BaseException as raised:
                log_raised(
                    logger, raised, "A batch of messages cannot be sent over %r, which is closed therefore", self.comm
                )
                self.comm.abort()
                return
            self.batch_count += 1
            left = self.interval - (loop.time() - began)
            if left > 0 and not self._stopping:
                await asyncio.sleep(left)
            if self.buffer:
                self._wanted.set()

    def close(self, timeout: float | str | None = None) -> asyncio.Future[None]:
        """Send what is waiting, then close the comm.

        Args:
            timeout: seconds (or text) for the sending.

        Returns:
            A future; it raises TimeoutError if that took longer, and the comm is closed all the same.
        """
        return asyncio.ensure_future(self._close(timeout))

    async def _close(self, timeout: float | str | None) -> None:
        if self._stopping or self.comm is None:
            return
        self._stopping = True
        self._wanted.set()
        try:
            if self._task is not None:
                await asyncio.wait_for(self._task, None if timeout is None else parse_seconds(timeout))
        except BaseException:
            self.comm.abort()
            raise
        await self.comm.close()

    def abort(self) -> None:
        """Close at once; what is waiting is dropped."""
        self._stopping = True
        self.buffer = []
        self._wanted.set()
        if self.comm is not None:
            self.comm.abort()


__all__ = ["BatchedSend"]
