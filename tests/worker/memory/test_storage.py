"""A value is read back from its file in little more memory than it takes itself."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.protocol import loads
from headrace.protocol.compression import MODULES, Compressor, installed
from headrace.protocol.unpickling import unpickle_pieces
from headrace.worker.memory import storage
from headrace.worker.memory.storage import Storage

np = pytest.importorskip("numpy")
SIZE = 24 << 20
PART = 1 << 20
KINDS: dict[str, Callable[[], Any]] = {
    "an array": lambda: np.arange(SIZE // 8) // 1000,
    "bytes": lambda: b"0123456789" * (SIZE // 10),
    "a bytearray": lambda: bytearray(b"0123456789" * (SIZE // 10)),
    "a list of bytes": lambda: [bytes([n]) * (SIZE // 100) for n in range(100)],
}
COMPRESSIONS = [*[name for name in MODULES if installed(name)], None]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", PART)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_memory_that_it_takes(kind: str, compression: str | None, tmp_path: Path) -> None:
    store = Storage(str(tmp_path), compression, lambda path: None)
    value = KINDS[kind]()
    stored = store.write(store.encode(value))
    assert (stored.encoded.flags is not None) == (compression is not None)
    tracemalloc.start()
    try:
        found = store.read(stored)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert np.array_equal(found, value) if kind == "an array" else found == value
    assert type(found) is type(value)
    copied = kind in ("bytes", "a bytearray")  # a buffer that becomes one of these
    assert peak < (1.25 + copied) * SIZE


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_for_others(kind: str, compression: str | None, tmp_path: Path) -> None:
    store = Storage(str(tmp_path), compression, lambda path: None)
    value = KINDS[kind]()
    stored = store.write(store.encode(value))
    tracemalloc.start()
    try:
        payload = store.read_frames(stored)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    found = loads(payload)
    assert np.array_equal(found, value) if kind == "an array" else found == value
    joined = kind == "a list of bytes"  # its pickle is in pieces, and travels in one
    assert peak < (1.25 + joined) * SIZE


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_large_pickles_of_many_pieces(compression: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "IN_PIECES_BYTES", 0)
    monkeypatch.setattr(storage, "PART_BYTES", 20_000)
    value = {"numbers": list(range(100_000)), "array": np.ones(100_000), "text": "äß" * 100_000, "old": 1.5, 3: [b""]}
    store = Storage(str(tmp_path), compression, lambda path: None)
    found = store.read(store.write(store.encode(value)))
    assert (found.pop("array") == value.pop("array")).all()
    assert found == value


def test_pieces_may_end_anywhere() -> None:
    import pickle

    value = {"x": list(range(1000)), "y": "z" * 1000, "bytes": b"b" * 1000, "n": 10**30}
    for protocol in (0, 2, 5):  # the oldest one has lines
        data = pickle.dumps(value, protocol)
        for size in (1, 7, 1000, len(data)):
            assert unpickle_pieces(data[place : place + size] for place in range(0, len(data), size)) == value


@pytest.mark.parametrize("compression", [name for name in COMPRESSIONS if name])
def test_what_has_another_length_than_it_says(compression: str) -> None:
    compressor = Compressor(compression)
    data = compressor.compress_whole(b"x" * 100_000)
    for size in (99_999, 100_001):
        with pytest.raises(ValueError, match=r"malformed compressed frame|instead of"):
            compressor.decompress(size.to_bytes(8, "little") + data[8:], 1 << 30)
