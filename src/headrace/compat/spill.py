"""`distributed.spill`: where a worker keeps results that may go to disk, and storage that other libraries build on.

Workers use `headrace.worker.memory` alone.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from headrace.common.keys import Key
from headrace.private_directories import chosen_directory, private_opener
from headrace.protocol.frames import Frame
from headrace.worker.execution.result_sizes import nbytes_of
from headrace.worker.memory import ManualEvictProto, SpillBuffer, SpilledSize

from .protocol.split import deserialize_bytes, serialize_bytelist


class MaxSpillExceeded(Exception):
    """A value does not fit on disk any more; its argument is the key."""

    @property
    def key(self) -> Any:
        """The key of the value."""
        return self.args[0]


class PickleError(TypeError):
    """A value cannot be pickled; its arguments are the key and the cause."""

    def __str__(self) -> str:
        return f"Failed to pickle {self.key!r}"

    @property
    def key(self) -> Any:
        """The key of the value."""
        return self.args[0]


class HandledError(Exception):
    """An error that was told of already."""


class AnyKeyFile(MutableMapping[Any, Any]):
    """Bytes in files of a directory, by keys of any hashable type. What the directory has already is not looked at.

    Args:
        directory: made for this user alone if it is not there; another one if it is another user's, in a shared place.
        memmap: give memory maps of the files, and not what they hold.
    """

    def __init__(self, directory: str | os.PathLike[str], memmap: bool = False) -> None:
        self.directory = chosen_directory(os.fspath(directory))
        self.memmap = memmap
        self._paths: dict[Any, str] = {}
        self._written = 0

    def __getitem__(self, key: object) -> Any:
        with open(self._paths[key], "rb") as file:
            if self.memmap and os.fstat(file.fileno()).st_size:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            return bytearray(file.read())

    def __setitem__(self, key: object, value: Frame | list[Frame] | tuple[Frame, ...]) -> None:
        """Write bytes, or a list of bytes one after the other."""
        self._written += 1
        # a file of its own each time: somebody may still have a map of the one before
        path = os.path.join(self.directory, f"{quote(str(key), safe='')[:100]}#{self._written}")
        with open(path, "wb", opener=private_opener) as file:
            file.writelines([value] if isinstance(value, (bytes, bytearray, memoryview)) else value)
        self._unlink(self._paths.get(key))
        self._paths[key] = path

    def __delitem__(self, key: object) -> None:
        self._unlink(self._paths.pop(key))

    @staticmethod
    def _unlink(path: str | None) -> None:
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, key: object) -> bool:
        return key in self._paths

    def size_of(self, key: object) -> int:
        """Bytes of a file."""
        return Path(self._paths[key]).stat().st_size


class Slow(MutableMapping[Key, Any]):
    """Values on disk, pickled.

    Args:
        spill_directory: made if it is not there.
        max_weight: bytes on disk at most; False for no limit.

    Attributes:
        weight_by_key: bytes in memory and on disk, by key.
        total_weight: of all.
    """

    def __init__(self, spill_directory: str | os.PathLike[str], max_weight: int | bool = False) -> None:
        self.d = AnyKeyFile(spill_directory)
        self.max_weight = max_weight
        self.weight_by_key: dict[Key, SpilledSize] = {}
        self.total_weight = SpilledSize(0, 0)

    def __getitem__(self, key: Key) -> Any:
        return deserialize_bytes(self.d[key])

    def __setitem__(self, key: Key, value: object) -> None:
        """Write a value.

        Raises:
            PickleError: it cannot be pickled.
            MaxSpillExceeded: it would be too much on disk.
        """
        try:
            frames = serialize_bytelist(value, on_error="raise", compression=None)
        except Exception as error:
            raise PickleError(key, error) from error
        self.pop(key, None)
        nbytes = sum(memoryview(frame).nbytes for frame in frames)
        if self.max_weight is not False and self.total_weight.disk + nbytes > self.max_weight:
            raise MaxSpillExceeded(key)
        self.d[key] = frames
        weight = self.weight_by_key[key] = SpilledSize(nbytes_of(value), nbytes)
        self.total_weight = SpilledSize(self.total_weight.memory + weight.memory, self.total_weight.disk + weight.disk)

    def __delitem__(self, key: Key) -> None:
        del self.d[key]
        weight = self.weight_by_key.pop(key)
        self.total_weight = SpilledSize(self.total_weight.memory - weight.memory, self.total_weight.disk - weight.disk)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.d)

    def __len__(self) -> int:
        return len(self.d)

    def __contains__(self, key: object) -> bool:
        return key in self.d


__all__ = [
    "AnyKeyFile",
    "HandledError",
    "ManualEvictProto",
    "MaxSpillExceeded",
    "PickleError",
    "Slow",
    "SpillBuffer",
    "SpilledSize",
]
