"""Pieces of files and of memory."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import PickleBuffer
from typing import IO, Any

#: Bytes read at a time in search of a delimiter.
_CHUNK = 64 * 1024


def seek_delimiter(file: IO[bytes], delimiter: bytes, blocksize: int) -> None:
    """Move a file's position behind the next occurrence of a delimiter, or to the end; nothing at the start.

    Args:
        file: opened in binary mode.
        blocksize: bytes to read at a time.
    """
    if file.tell() == 0:
        return
    kept = b""
    while True:
        block = file.read(blocksize)
        if not block:
            return
        whole = kept + block
        found = whole.find(delimiter)
        if found >= 0:
            file.seek(file.tell() - len(whole) + found + len(delimiter))
            return
        # a delimiter may lie across two blocks
        kept = whole[len(whole) - len(delimiter) + 1 :] if len(delimiter) > 1 else b""


def read_block(f: IO[bytes], offset: int, length: int, delimiter: bytes | None = None) -> bytes:
    r"""Bytes of a file.

    Args:
        f: opened in binary mode.
        offset, length: in bytes.
        delimiter: begin and end behind the first delimiter at or after `offset` and `offset + length`, so that
            neighbouring blocks share nothing and leave nothing out.

    >>> from io import BytesIO
    >>> read_block(BytesIO(b"Alice, 100\nBob, 200\nCharlie, 300"), 10, 10, delimiter=b"\n")
    b'Bob, 200\nCharlie, 300'
    """
    f.seek(offset)
    if delimiter:
        seek_delimiter(f, delimiter, _CHUNK)
        start = f.tell()
        f.seek(start + length - (start - offset))
        seek_delimiter(f, delimiter, _CHUNK)
        end = f.tell()
        f.seek(start)
        offset, length = start, end - start
    return f.read(length)


def ensure_memoryview(obj: bytes | bytearray | memoryview | PickleBuffer | Any) -> memoryview:
    """A flat, contiguous view of bytes; of a copy only if the memory is in pieces.

    Raises:
        TypeError: it has no buffer.
    """
    view = memoryview(obj)
    if not view.nbytes:
        return memoryview(bytearray() if not view.readonly else b"")
    if not view.contiguous:
        return memoryview(bytearray(view.tobytes()))
    return view if view.format == "B" and view.ndim == 1 else PickleBuffer(view).raw()


def json_load_robust(
    fn: str | os.PathLike[str], load: Callable[[IO[str]], Any] = json.load, timeout: float | None = None
) -> Any:
    """Load a JSON file once it is there and whole: it may still be written.

    Args:
        fn: path.
        load: called with the open file.
        timeout: seconds to wait; for ever by default.

    Raises:
        TimeoutError: not within `timeout`.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            with open(fn) as file:
                return load(file)
        except (FileNotFoundError, ValueError) as error:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Could not load {os.fspath(fn)} within {timeout} s: {error}") from error
        time.sleep(0.01)


@contextmanager
def tmp_text(filename: str, text: str) -> Iterator[str]:
    """Path of a new file of that name with that text, in a folder of its own; gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, filename)
        path.write_text(text)
        yield str(path)
