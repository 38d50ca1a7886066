"""Results in memory, the least recently used of them on disk.

Storing, finding and dropping take one lock for a moment and touch no disk, so that the event loop may do them. One
thread (`spiller`) writes and removes files; whoever needs a value that is on disk reads it in a thread of its own.

A value goes memory → (being written: still in memory) → disk → memory and disk (read back; the file is kept, so that
evicting it again costs nothing) → … A key that is dropped while its value is being written is gone at once, and what
was written is removed after.

Why not `zict`: its buffer writes in the thread that stores, and a value costs five times as much.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from headrace.common.keys import Key, from_wire
from headrace.containment import contained, described
from headrace.exceptions import DeserializationError
from headrace.protocol import Frames

from ..execution.result_sizes import nbytes_of
from .spilled_sizes import SpilledSize
from .spiller import Spiller
from .storage import Encoded, Storage, StoredFile

logger = logging.getLogger("distributed.worker")

#: Smaller values are not worth a file, which takes 0.1 ms to write and, with what is kept about it, half a kilobyte.
SMALLEST_SPILLED = 1000
#: Seconds until a disk that was full is tried again.
RETRY_SECONDS = 5.0
#: Seconds until a thread that waits for memory looks again.
ADMIT_SECONDS = 0.02

_ABSENT: Any = type("Absent", (), {"__repr__": lambda self: "<absent>"})()


class SpillBuffer(MutableMapping[Key, Any]):
    """Values by key.

    Args:
        spill_directory: where files go; made when needed.
        target: bytes in memory above which values are spilled.
        max_spill: bytes on disk at most; False for no limit.
        compression: "auto", "lz4", "zstd" or None.
        slack: bytes over the target from which on tasks wait until there is room again.

    Attributes:
        crowded: whether threads that are about to add to memory should call `wait_for_room`.
        tight: whether they have to look at the process's memory as well (`admission`).
    """

    def __init__(
        self,
        spill_directory: str,
        target: float,
        max_spill: float | bool = False,
        compression: str | bool | None = None,
        slack: float = 0.0,
    ) -> None:
        self.target = target
        self.max_spill = float("inf") if max_spill is False else float(max_spill)
        self.crowded = False
        self.tight = False
        self._typical = 0.0
        self._slack = slack
        self._lock = threading.Lock()
        self._room = threading.Condition(self._lock)
        #: values in memory, the least recently used first; those in `_pinned` are in memory as well
        self._memory: OrderedDict[Key, Any] = OrderedDict()
        #: values that cannot be spilled
        self._pinned: dict[Key, Any] = {}
        #: values too small to be worth spilling; not counted along, and used without the lock
        self._small: dict[Key, Any] = {}
        #: bytes of each value that is not among the small ones
        self._weights: dict[Key, int] = {}
        self._files: dict[Key, StoredFile] = {}
        #: keys that are in memory and on disk
        self._clean: set[Key] = set()
        #: values that are on disk only, as long as somebody else has them in memory
        self._alive: weakref.WeakValueDictionary[Key, Any] = weakref.WeakValueDictionary()
        self._memory_bytes = 0
        self._evictable_bytes = 0
        self._disk_bytes = 0
        self._spilled = SpilledSize(0, 0)
        self._reserved = 0
        self._pressed = False
        self._stuck = False
        self._disk_full_logged = False
        self._spiller = Spiller(self)
        self.storage = Storage(spill_directory, compression, self._spiller.remove_later)

    def __repr__(self) -> str:
        disk = f"{len(self.disk)} on disk"
        return f"<SpillBuffer: {len(self)} values, {self._memory_bytes} of {self.target:g} bytes in memory, {disk}>"

    # What the loop does: never any disk

    def store(self, key: Key, value: object, nbytes: int) -> None:
        """Put a value in, whose size is known."""
        if nbytes < SMALLEST_SPILLED:  # no lock: one operation on one dictionary
            if key in self._weights:
                self.drop_all((key,))
            self._small[key] = value
            return
        with self._lock:
            if key in self._weights:
                self._drop(key)
            elif key in self._small:
                del self._small[key]
            self._weights[key] = nbytes
            self._memory[key] = value
            self._memory_bytes += nbytes
            self._evictable_bytes += nbytes
            self._typical = max(nbytes, 0.9 * self._typical)
            if (self._memory_bytes > self.target or self._pressed) and not self._stuck:
                self._update_crowded()
                self._spiller.wake()

    def __setitem__(self, key: Key, value: object) -> None:
        self.store(key, value, nbytes_of(value))

    def __delitem__(self, key: Key) -> None:
        if key not in self:
            raise KeyError(key)
        self.drop_all((key,))

    def pop(self, key: Key, default: Any = None) -> Any:
        """Drop a value and return it; `default` if it is not there."""
        try:
            value = self[key]
        except KeyError:
            return default
        self.drop_all((key,))
        return value

    def drop_all(self, keys: Iterable[Key]) -> None:
        """Drop values; those that are not there are no matter."""
        pop = self._small.pop
        larger = [key for key in keys if pop(key, _ABSENT) is _ABSENT]
        if not larger:
            return
        with self._lock:
            for key in larger:
                if key in self._weights:
                    self._drop(key)

    def has_file(self, key: Key, stored: StoredFile) -> bool:
        """Whether a value is on disk only, in this very file."""
        with self._lock:
            return self._files.get(key) is stored and key not in self._clean

    def clear(self) -> None:
        """Drop everything."""
        self.drop_all(list(self))

    def values_of(self, keys: Iterable[Key]) -> dict[Key, Any]:
        """Take hold of values for a task; what is on disk is read when the result's `load` is called.

        Returns:
            a plain dictionary, or a `SpilledValues` if something is on disk.

        Raises:
            KeyError: one is not here.
        """
        small = self._small.get
        found = {key: small(key, _ABSENT) for key in keys}
        larger = [key for key, value in found.items() if value is _ABSENT]
        if not larger:
            return found
        on_disk: dict[Key, StoredFile] = {}
        with self._lock:
            for key in larger:
                value = self._find(key)
                if value is _ABSENT:
                    on_disk[key] = self._files[key]
                found[key] = value
        return SpilledValues(found, self, on_disk) if on_disk else found

    def __contains__(self, key: object) -> bool:
        return key in self._small or key in self._weights

    def __iter__(self) -> Iterator[Key]:
        return iter([*list(self._small), *list(self._weights)])

    def __len__(self) -> int:
        return len(self._small) + len(self._weights)

    def _find(self, key: Key) -> Any:
        """A value that is in memory, or `_ABSENT`. With the lock."""
        value = self._memory.get(key, _ABSENT)
        if value is not _ABSENT:
            self._memory.move_to_end(key)
            return value
        value = self._pinned.get(key, _ABSENT)
        return value if value is not _ABSENT else self._alive.get(key, _ABSENT)

    def _drop(self, key: Key) -> None:
        """Forget a key. With the lock."""
        weight = self._weights.pop(key)
        if key in self._memory:
            del self._memory[key]
            self._memory_bytes -= weight
            self._evictable_bytes -= weight
        elif key in self._pinned:
            del self._pinned[key]
            self._memory_bytes -= weight
        if key in self._files:
            self._alive.pop(key, None)
            self._drop_file(key, weight)
        self._note_room()

    def _drop_file(self, key: Key, weight: int) -> None:
        """Forget a file, which is removed when nobody reads it any more. With the lock."""
        stored = self._files.pop(key)
        self._disk_bytes -= stored.nbytes
        if key in self._clean:
            self._clean.discard(key)
        else:
            self._spilled -= SpilledSize(weight, stored.nbytes)
        if self._stuck:
            self._stuck = False  # there is room on disk again
            self._spiller.wake()

    def _wants_patience(self) -> bool:
        wanted = self._pressed or self._memory_bytes + self._reserved > self.target + self._slack
        return wanted and not self._stuck and bool(self._memory)

    def _update_crowded(self) -> None:
        self.crowded = self.tight or self._wants_patience()

    def _note_room(self) -> None:
        """Something left memory, or cannot. With the lock."""
        if self.crowded:
            self._update_crowded()
            self._room.notify_all()
        elif self._reserved:
            self._room.notify_all()

    # What threads do: reading

    def __getitem__(self, key: Key) -> Any:
        """A value; read from disk in the calling thread if it is there.

        Raises:
            KeyError: it is not here.
            OSError, DeserializationError: it cannot be read back.
        """
        value = self._small.get(key, _ABSENT)
        if value is not _ABSENT:
            return value
        with self._lock:
            if key not in self._weights:
                raise KeyError(key)
            value = self._find(key)
            if value is not _ABSENT:
                return value
            stored = self._files[key]
        return self.read(key, stored, wait=False)

    def read(self, key: Key, stored: StoredFile, wait: bool = True) -> Any:
        """Read a value back, and keep it in memory if it fits.

        Args:
            stored: its file.
            wait: until other values have made room for it.

        Raises:
            OSError, DeserializationError: it cannot be read; names the key.
        """
        with self._lock:
            weight = self._weights.get(key, 0)
        self.reserve(weight, wait)
        try:
            with stored.reading:  # several threads may want the same value
                with self._lock:
                    value = self._find(key) if self._files.get(key) is stored else _ABSENT
                if value is _ABSENT:
                    value = self._read(key, stored)
                    self._promote(key, stored, value, weight)
        finally:
            self.give_back(weight)
        return value

    def reserve(self, nbytes: int, wait: bool = True) -> None:
        """Count bytes that are about to be read from disk as taken; wait until other values have made room."""
        with self._lock:
            self._reserved += nbytes
            if wait:
                self._wait(lambda: self._memory_bytes + self._reserved <= self.target)

    def give_back(self, nbytes: int) -> None:
        """End a reservation: its bytes are counted elsewhere now, or have been freed."""
        with self._lock:
            self._reserved -= nbytes
            self._room.notify_all()

    def _read(self, key: Key, stored: StoredFile) -> Any:
        try:
            return self.storage.read(stored)
        except OSError as error:
            raise OSError(
                error.errno, f"the value of {from_wire(key)!r} was spilled to {stored.path} and cannot be read: {error}"
            ) from error
        except Exception as error:
            raise DeserializationError(
                f"the value of {from_wire(key)!r} was spilled to disk and cannot be loaded: {described(error)}"
            ) from error

    def _promote(self, key: Key, stored: StoredFile, value: object, weight: int) -> None:
        with self._lock:
            if self._files.get(key) is not stored or key in self._memory:
                return
            if self._pressed or self._memory_bytes + weight > self.target:
                self._remember(key, value)
                return
            self._memory[key] = value
            self._memory_bytes += weight
            self._evictable_bytes += weight
            self._clean.add(key)
            self._spilled -= SpilledSize(weight, stored.nbytes)

    def _remember(self, key: Key, value: object) -> None:
        """A value that is on disk only can be had from memory while others use it. With the lock."""
        with contextlib.suppress(TypeError):  # cannot be referred to weakly
            self._alive[key] = value

    def wait_for_room(self) -> None:
        """Wait, in a thread that is about to add to memory, until the spiller has made room or cannot make any."""
        with self._lock:
            self._wait(lambda: not self._wants_patience())

    def wait_a_moment(self) -> bool:
        """Wait until something may have changed; returns False if the buffer is closed."""
        with self._lock:
            self._room.wait(ADMIT_SECONDS)
        return self._spiller.alive

    def expected_need(self, keys: Iterable[Key]) -> int:
        """Bytes that a task with these dependencies is likely to add: what has to be read, and two copies.

        What tasks without dependencies return is guessed from the largest results of late.
        """
        with self._lock:
            total = on_disk = 0
            for key in keys:
                weight = self._weights.get(key, 0)
                total += weight
                if key in self._files and key not in self._clean:
                    on_disk += weight
            return on_disk + 2 * int(max(total, self._typical))

    def _wait(self, done: Any) -> None:
        """Wait for room. With the lock."""
        while not done() and self._memory and not self._stuck and self._spiller.alive:
            self._spiller.wake()
            self._room.wait(1.0)

    # What the spiller does

    @property
    def wants_room(self) -> bool:
        """Whether there is something to evict and reason to."""
        over = self._pressed or self._memory_bytes + self._reserved > self.target
        return over and not self._stuck and bool(self._memory)

    def evict(self) -> int:
        """Move the least recently used value to disk, in this thread.

        Returns:
            the bytes that left memory; 0 if it did not work this time; -1 if there is nothing left that can be spilled.
        """
        with self._lock:
            if not self._memory:
                self._note_room()
                return -1
            key = next(iter(self._memory))
            value = self._memory[key]
            weight = self._weights[key]
            if key in self._clean:
                self._to_disk(key, value, weight)
                return weight
        stored = self._write(key, value)
        if stored is None:
            return 0
        with self._lock:
            if self._memory.get(key, _ABSENT) is not value or key in self._files:
                return 0  # dropped, or replaced, meanwhile
            self._files[key] = stored
            self._disk_bytes += stored.nbytes
            self._clean.add(key)
            self._to_disk(key, value, weight)
        return weight

    def _to_disk(self, key: Key, value: object, weight: int) -> None:
        """From now on a value is on disk only. With the lock."""
        del self._memory[key]
        self._memory_bytes -= weight
        self._evictable_bytes -= weight
        self._clean.discard(key)
        self._spilled += SpilledSize(weight, self._files[key].nbytes)
        self._remember(key, value)
        self._note_room()

    def _write(self, key: Key, value: object) -> StoredFile | None:
        """Write a value to a new file; None if it has to stay in memory."""
        try:
            encoded = self.storage.encode(value)
        except BaseException as raised:
            reason = described(contained(raised))
            logger.warning("The value of %r cannot be spilled and stays in memory: %s", from_wire(key), reason)
            with self._lock:
                if self._memory.get(key, _ABSENT) is value:
                    self._pinned[key] = self._memory.pop(key)
                    self._evictable_bytes -= self._weights[key]
                    self._note_room()
            return None
        if self._disk_bytes + encoded.nbytes > self.max_spill:
            self._drop_copies()
            if self._disk_bytes + encoded.nbytes > self.max_spill:
                self._give_up(f"{self._disk_bytes} of the {self.max_spill:g} bytes of max-spill are taken")
                return None
        try:
            stored = self._write_file(encoded)
        except OSError as error:
            self._give_up(str(error))
            return None
        self._disk_full_logged = False
        return stored

    def _write_file(self, encoded: Encoded) -> StoredFile:
        try:
            return self.storage.write(encoded)
        except OSError:
            if not self._drop_copies():
                raise
        return self.storage.write(encoded)

    def _drop_copies(self) -> bool:
        """Remove the files of values that are in memory as well; returns whether there were any."""
        with self._lock:
            keys = list(self._clean)
            for key in keys:
                self._drop_file(key, self._weights[key])
        self._spiller.remove_now()
        return bool(keys)

    def _give_up(self, reason: str) -> None:
        if not self._disk_full_logged:
            self._disk_full_logged = True
            logger.error("Spilling to disk failed; values stay in memory: %s", reason)
        with self._lock:
            self._stuck = True
            self._update_crowded()
            self._room.notify_all()
        self._spiller.retry_in(RETRY_SECONDS)

    def try_again(self) -> None:
        """Try evictions again that failed because the disk was full."""
        with self._lock:
            self._stuck = False
            self._update_crowded()

    # What the monitor does

    def tighten(self, tight: bool) -> None:
        """The process nears its limits, or no longer."""
        if tight is not self.tight:
            with self._lock:
                self.tight = tight
                self._update_crowded()
                self._room.notify_all()

    def press(self, pressed: bool) -> None:
        """The process takes too much memory, or no longer: values are evicted even below the target."""
        with self._lock:
            self._pressed = pressed
            self._update_crowded()
            if pressed:
                self._spiller.wake()
            self._room.notify_all()

    def watch_evictions(self, before: Callable[[], None], after: Callable[[int], None]) -> None:
        """Have functions called in the spiller's thread before it begins, and after each eviction with its answer."""
        self._spiller.before_eviction = before
        self._spiller.after_eviction = after

    @property
    def pressed(self) -> bool:
        """Whether values are being evicted because of the process's memory."""
        return self._pressed

    @property
    def evictable_bytes(self) -> int:
        """Bytes in memory that could be spilled."""
        return 0 if self._stuck else self._evictable_bytes

    @property
    def memory_bytes(self) -> int:
        """Bytes of values in memory, without small ones."""
        return self._memory_bytes

    @property
    def spilled_total(self) -> SpilledSize:
        """Bytes of values that are on disk only: in memory they took, and on disk they take, so much."""
        return self._spilled

    @property
    def memory(self) -> Mapping[Key, Any]:
        """The values in memory."""
        return _Part(self, on_disk=False)

    @property
    def disk(self) -> Mapping[Key, Any]:
        """The values that are on disk only."""
        return _Part(self, on_disk=True)

    fast, slow = memory, disk  # the names of the parts by what they are like

    @property
    def disk_count(self) -> int:
        """Number of values that are on disk and not in memory."""
        return len(self._files) - len(self._clean)

    def is_on_disk(self, key: object) -> bool:
        """Whether a value is on disk and not in memory."""
        return key in self._files and key not in self._clean

    def close(self) -> None:
        """Drop everything and end the thread; waits for what it is writing. Files go with their directory."""
        self.clear()
        self._spiller.close()
        with self._lock:
            self._room.notify_all()


class UnreadableError(OSError):
    """A value that was spilled cannot be read back; its cause says why.

    Attributes:
        key: whose value.
        stored: its file.
    """

    def __init__(self, message: str, key: Key, stored: StoredFile) -> None:
        super().__init__(message)
        self.key = key
        self.stored = stored


class SpilledValues(dict[Key, Any]):
    """Values for a task, some of which are still to be read from disk."""

    def __init__(self, values: dict[Key, Any], buffer: SpillBuffer, on_disk: dict[Key, StoredFile]) -> None:
        super().__init__(values)
        self._buffer = buffer
        self.on_disk = on_disk
        self._reserved = 0

    def load(self) -> dict[Key, Any]:
        """Read what is missing, in this thread; returns all values.

        Raises:
            UnreadableError: a value cannot be read back.
        """
        values = dict(self)
        self.clear()
        for key, stored in self.on_disk.items():
            try:
                values[key] = self._buffer.read(key, stored)
            except (OSError, DeserializationError) as error:
                raise UnreadableError(str(error), key, stored) from error
        self.on_disk = {}
        return values

    def read_payloads(self) -> tuple[dict[Key, Frames], list[UnreadableError]]:
        """Read the values on disk in this thread: the pickles by key, and an error for each file that cannot be read.

        Other values make room for it, as long as it is on its way: call `sent` when it is not any more.
        """
        found: dict[Key, Frames] = {}
        unreadable = []
        for key, stored in self.on_disk.items():
            self._buffer.reserve(stored.nbytes)
            try:
                found[key] = self._buffer.storage.read_frames(stored)
            except Exception as cause:
                what = f"the value of {from_wire(key)!r} was spilled to {stored.path} and cannot be read: {cause}"
                error = UnreadableError(what, key, stored)
                error.__cause__ = cause
                unreadable.append(error)
                self._buffer.give_back(stored.nbytes)
            else:
                self._reserved += stored.nbytes
        return found, unreadable

    def sent(self) -> None:
        """Note that the pickles from `read_payloads` are not held any more."""
        self._buffer.give_back(self._reserved)
        self._reserved = 0


class _Part(Mapping[Key, Any]):
    """The keys of a buffer that are in memory, or those that are not; as they are when looked at."""

    def __init__(self, buffer: SpillBuffer, on_disk: bool) -> None:
        self._buffer = buffer
        self._on_disk = on_disk

    def __contains__(self, key: object) -> bool:
        return key in self._buffer and self._buffer.is_on_disk(key) is self._on_disk

    def __iter__(self) -> Iterator[Key]:
        return iter([key for key in self._buffer if self._buffer.is_on_disk(key) is self._on_disk])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, key: Key) -> Any:
        if key not in self:
            raise KeyError(key)
        return self._buffer[key]

    def __repr__(self) -> str:
        return f"<{len(self)} values {'on disk' if self._on_disk else 'in memory'}>"
