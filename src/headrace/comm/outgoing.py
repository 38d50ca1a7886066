"""Packets before a socket's comm writes them: refused if the other side would not take them, compressed, handed over.

Knows no connection: frames in, buffers out.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

from headrace.exceptions import MessageTooLargeError
from headrace.protocol.compression import Compressor
from headrace.protocol.frames import Frame

from .packets import too_many


def check_count(frames: list[Frame]) -> None:
    """Refuse a message of more frames than the other side accepts.

    Raises:
        MessageTooLargeError: there are too many for their bytes.
    """
    if too_many(len(frames), sum(map(len, frames))):
        raise MessageTooLargeError(
            f"{len(frames)} short pieces in one message are more than the other side accepts: "
            "split the value into several"
        )


def check_lengths(frames: list[Frame], limit: int) -> None:
    """Refuse a message with a frame that is longer than this side accepts.

    The other side most likely has the same settings, and would close the connection.

    Raises:
        MessageTooLargeError: a frame is longer; names the limit and the setting.
    """
    for frame in frames:
        if len(frame) > limit:
            raise MessageTooLargeError(
                f"{len(frame)} bytes in one piece are more than the limit of {limit} (setting "
                "distributed.comm.max-frame-bytes, on both sides): split the value into several"
            )


def compressed(compressor: Compressor, frames: list[Frame]) -> tuple[list[Frame], list[int] | None]:
    """Frames as they should travel, and, if any of them is compressed, the lengths of all with flags."""
    shorter, flags = compressor.compress_frames(frames)
    # The other side counts bytes as they come: of very many frames, too few may be left for it to take them.
    if flags is None or too_many(len(shorter), sum(map(len, shorter))):
        return frames, None
    return shorter, [len(frame) | flag for frame, flag in zip(shorter, flags, strict=True)]


def writer_of(transport: asyncio.Transport) -> Callable[[list[Frame]], None]:
    """The function that hands buffers over to a transport without joining them."""
    if type(transport).__module__.startswith("uvloop"):
        return transport.writelines

    if sys.version_info >= (3, 12):

        def write_all_but_one(buffers: list[Frame]) -> None:
            # `writelines` of early 3.12 and 3.13 never calls `pause_writing`; `write` does, for all that is unsent
            *before, last = buffers
            if before:
                transport.writelines(before)
            transport.write(last)

        return write_all_but_one

    def write_each(buffers: list[Frame]) -> None:  # asyncio's own writelines joins the buffers before Python 3.12
        for buffer in buffers:
            transport.write(buffer)

    return write_each


def write_nowhere(buffers: list[Frame]) -> None:
    """Drop buffers: the connection has ended."""
