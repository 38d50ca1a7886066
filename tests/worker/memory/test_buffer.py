"""A spill buffer keeps the least recently used values on disk, whatever threads do to it meanwhile."""

from __future__ import annotations

import errno
import logging
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from headrace.exceptions import DeserializationError
from headrace.protocol import loads
from headrace.testing.helpers.polling import poll_for
from headrace.worker.memory import SpillBuffer, SpilledValues, UnreadableError
from headrace.worker.memory import buffer as buffer_module
from headrace.worker.memory.admission import Admission
from headrace.worker.memory.relief import Relief

KB = 1000


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[SpillBuffer]:
    made = SpillBuffer(str(tmp_path / "storage"), target=10 * KB)
    yield made
    made.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "Headrace-Spill"]


def files(buffer: SpillBuffer) -> list[str]:
    directory = Path(buffer.storage.directory)
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def check_sums(buffer: SpillBuffer) -> None:
    """What is counted along is what is there; call when nobody else uses the buffer."""
    in_memory = {*buffer._memory, *buffer._pinned}
    assert set(buffer.memory) == in_memory | set(buffer._small)
    assert set(buffer) == set(buffer.memory) | set(buffer.disk)
    assert not buffer._small.keys() & buffer._weights.keys()
    assert buffer.memory_bytes == sum(buffer._weights[key] for key in in_memory)
    assert buffer._evictable_bytes == sum(buffer._weights[key] for key in buffer._memory)
    assert buffer.spilled_total.memory == sum(buffer._weights[key] for key in buffer.disk)
    assert buffer.spilled_total.disk == sum(buffer._files[key].nbytes for key in buffer.disk)
    assert buffer._disk_bytes == sum(stored.nbytes for stored in buffer._files.values())
    assert buffer._clean <= set(buffer._memory)
    assert buffer._reserved == 0


def settle(buffer: SpillBuffer, on_disk: int) -> None:
    poll_for(lambda: len(buffer.disk) == on_disk and len(files(buffer)) == on_disk)
    check_sums(buffer)


class Gate:
    """Lets a thread that writes wait until the test has done something."""

    def __init__(self, buffer: SpillBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        self.thread = 0
        original = buffer.storage.write

        def write(encoded: Any, spent: Any) -> Any:
            self.thread = threading.get_ident()
            self.reached.set()
            assert self.opened.wait(10)
            return original(encoded, spent)

        monkeypatch.setattr(buffer.storage, "write", write)


def test_a_small_amount_stays_in_memory(buffer: SpillBuffer) -> None:
    value = object()
    buffer.store("x", value, 9 * KB)
    assert buffer["x"] is value
    assert buffer.values_of(["x"]) == {"x": value}
    assert type(buffer.values_of(["x"])) is dict
    assert (list(buffer), len(buffer), "x" in buffer, "y" in buffer) == (["x"], 1, True, False)
    assert buffer == {"x": value}
    del buffer["x"]
    assert not buffer
    assert buffer.get("x", 3) == 3
    assert (buffer.pop("x"), buffer.pop("x", 3)) == (None, 3)
    for missing in (buffer.__getitem__, buffer.__delitem__, lambda key: buffer.values_of([key])):
        with pytest.raises(KeyError):
            missing("x")
    assert buffer.storage.directory
    assert not os.path.exists(buffer.storage.directory)
    check_sums(buffer)


def test_the_least_recently_used_go_to_disk(buffer: SpillBuffer) -> None:
    for name in "abc":
        buffer[name] = name.encode() * 3 * KB
    assert buffer["a"] == b"a" * 3 * KB  # and now "b" is the oldest
    buffer["d"] = b"d" * 3 * KB
    settle(buffer, 1)
    assert set(buffer.disk) == {"b"}
    assert set(buffer.memory) == {"a", "c", "d"}
    assert buffer.spilled_total.memory == 3 * KB
    assert buffer.memory["a"] == b"a" * 3 * KB
    with pytest.raises(KeyError):
        buffer.disk["a"]
    assert "1 on disk" in repr(buffer)


def test_writing_happens_in_a_thread_of_its_own(buffer: SpillBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    pickled_in: list[int] = []

    class Value:
        def __reduce__(self) -> Any:
            pickled_in.append(threading.get_ident())
            return bytes, (KB,)

    gate = Gate(buffer, monkeypatch)
    gate.opened.set()
    buffer.store("x", Value(), 20 * KB)
    settle(buffer, 1)
    assert gate.thread != threading.get_ident()
    assert set(pickled_in) == {gate.thread}


@pytest.mark.parametrize("compression", ["auto", "lz4", "zstd", None, False])
def test_values_come_back_equal(tmp_path: Path, compression: Any) -> None:
    class Local:
        def __eq__(self, other: object) -> bool:
            return type(other).__name__ == "Local"

    generator = np.random.default_rng(0)
    values: dict[Any, Any] = {
        "array": generator.random(100_000),
        "zeros": np.zeros(200_000),
        ("tuple", 1): generator.random((300, 300)).T[::2],
        "frame": pd.DataFrame({"x": range(10_000), "y": ["text", None] * 5_000}),
        "list": list(range(300_000)),
        "texts": [str(number) for number in range(100_000)],
        "bytes": generator.bytes(300_000),
        "bytearray": bytearray(generator.bytes(100_000)),
        "local": [Local()] * 100,
        "slash/../#": [1] * 100,
    }
    buffer = SpillBuffer(str(tmp_path / "storage"), target=0, compression=compression)
    for key, value in values.items():
        buffer.store(key, value, KB)
    poll_for(lambda: len(buffer.disk) == len(values))
    payloads = buffer.values_of(list(values))
    assert isinstance(payloads, SpilledValues)
    assert "array" in payloads.on_disk or "array" in buffer._alive
    for key, payload in payloads.read_payloads()[0].items():
        assert_equal(loads(payload), values[key])
    buffer._alive.clear()
    for key, value in values.items():
        read = buffer[key]
        assert read is not value
        assert_equal(read, value)
    read = buffer["array"]
    read[0] = 1  # writable as it was
    buffer.close()


def test_what_is_read_to_be_sent_takes_the_place_of_others(tmp_path: Path) -> None:
    buffer = SpillBuffer(str(tmp_path / "storage"), target=100 * KB)
    buffer.store("first", np.zeros(80 * KB, np.uint8), 80 * KB)
    buffer.store("second", np.ones(80 * KB, np.uint8), 80 * KB)
    poll_for(lambda: list(buffer.disk) == ["first"])
    buffer._alive.clear()
    values = buffer.values_of(["first"])
    assert isinstance(values, SpilledValues)
    payloads, _ = values.read_payloads()
    assert sorted(buffer.disk) == ["first", "second"]
    assert payloads["first"].nbytes >= 80 * KB
    values.sent()
    assert buffer.wants_room is False
    buffer.store("third", np.ones(80 * KB, np.uint8), 80 * KB)
    buffer.wait_for_room()
    assert "third" in buffer.memory
    buffer.close()


def assert_equal(first: Any, second: Any) -> None:
    if isinstance(first, pd.DataFrame):
        pd.testing.assert_frame_equal(first, second)
    elif isinstance(first, np.ndarray):
        np.testing.assert_array_equal(first, second)
    else:
        assert first == second
    assert type(first).__name__ == type(second).__name__


def test_a_value_that_is_being_written_can_be_read_and_dropped(
    buffer: SpillBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate(buffer, monkeypatch)
    value = b"x" * 20 * KB
    buffer["x"] = value
    assert gate.reached.wait(10)
    assert buffer["x"] is value
    assert set(buffer.memory) == {"x"}
    del buffer["x"]
    assert "x" not in buffer
    gate.opened.set()
    poll_for(lambda: Path(buffer.storage.directory).exists())
    settle(buffer, 0)
    assert buffer.spilled_total == (0, 0)


def test_a_value_that_is_replaced_while_it_is_written(buffer: SpillBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(buffer, monkeypatch)
    buffer["x"] = b"x" * 20 * KB
    assert gate.reached.wait(10)
    buffer["x"] = b"y" * KB
    gate.opened.set()
    poll_for(lambda: Path(buffer.storage.directory).exists())
    settle(buffer, 0)
    assert buffer["x"] == b"y" * KB


def test_replacing_and_dropping_what_is_on_disk(buffer: SpillBuffer) -> None:
    for name in "abcd":
        buffer[name] = b"x" * 20 * KB
    settle(buffer, 4)
    buffer["a"] = b"new" * 1000
    buffer.drop_all(["b", "unknown"])
    settle(buffer, 2)
    assert buffer["a"] == b"new" * 1000
    buffer.clear()
    settle(buffer, 0)


def test_a_file_lives_until_its_reader_is_done(buffer: SpillBuffer) -> None:
    buffer["x"] = b"x" * 20 * KB
    settle(buffer, 1)
    buffer._alive.clear()
    values = buffer.values_of(["x"])
    assert isinstance(values, SpilledValues)
    del buffer["x"]
    assert len(files(buffer)) == 1
    assert values.load() == {"x": b"x" * 20 * KB}
    del values
    settle(buffer, 0)


def test_what_was_read_back_is_evicted_again_without_writing(
    buffer: SpillBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer["a"], buffer["b"] = b"a" * 6 * KB, b"b" * 6 * KB
    settle(buffer, 1)
    gate = Gate(buffer, monkeypatch)
    gate.opened.set()

    def use_both() -> None:
        for name in "ab":  # one of the two has to leave each time
            values = buffer.values_of([name])
            value = values.load()[name] if isinstance(values, SpilledValues) else values[name]
            assert value == name.encode() * 6 * KB
            poll_for(lambda: buffer.memory_bytes <= buffer.target)
            check_sums(buffer)

    use_both()
    assert len(files(buffer)) == 2
    gate.reached.clear()
    use_both()
    assert not gate.reached.is_set()


def test_a_value_that_others_still_hold_is_not_read_again(buffer: SpillBuffer) -> None:
    value = np.ones(10 * KB)
    buffer["x"] = value
    settle(buffer, 1)
    assert buffer["x"] is value
    del value
    assert_equal(buffer["x"], np.ones(10 * KB))


def test_a_full_disk_is_no_crash(
    buffer: SpillBuffer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(buffer_module, "RETRY_SECONDS", 0.01)
    attempts = []
    full = True
    original = buffer.storage.write

    def write(encoded: Any, spent: Any) -> Any:
        attempts.append(encoded.nbytes)
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(encoded, spent)

    monkeypatch.setattr(buffer.storage, "write", write)
    with caplog.at_level(logging.WARNING, "distributed.worker"):
        for name in "abc":
            buffer[name] = b"x" * 20 * KB
        poll_for(lambda: len(attempts) > 3)
        assert [buffer[name] for name in "abc"] == [b"x" * 20 * KB] * 3
        assert len(buffer.memory) == 3
        buffer.wait_for_room()  # does not wait for what cannot come
    assert [record.message for record in caplog.records] == [
        "Spilling to disk failed; values stay in memory: [Errno 28] No space left on device"
    ]
    full = False
    settle(buffer, 3)


def test_nothing_is_left_of_a_write_that_failed(buffer: SpillBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.worker.memory import storage

    failed = threading.Event()

    def write_all(file: Any, frame: Any) -> None:
        file.write(b"half")
        failed.set()
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(storage, "write_all", write_all)
    buffer["x"] = b"x" * 20 * KB
    assert failed.wait(10)
    poll_for(lambda: buffer._stuck)
    assert files(buffer) == []
    assert buffer["x"] == b"x" * 20 * KB


def test_a_disk_that_is_full_of_copies_is_made_free(buffer: SpillBuffer, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer["a"] = b"a" * 20 * KB
    settle(buffer, 1)
    buffer.target = 30 * KB
    assert buffer["a"] == b"a" * 20 * KB
    assert set(buffer.memory) == {"a"}
    assert len(files(buffer)) == 1
    original = buffer.storage.write

    def write(encoded: Any, spent: Any) -> Any:
        if files(buffer):
            raise OSError(errno.ENOSPC, "full")
        return original(encoded, spent)

    monkeypatch.setattr(buffer.storage, "write", write)
    buffer["b"] = b"b" * 5 * KB
    assert buffer["a"] == b"a" * 20 * KB
    buffer["c"] = b"c" * 8 * KB
    settle(buffer, 1)
    assert set(buffer.disk) == {"b"}


def test_what_cannot_be_pickled_stays_and_is_logged_once(buffer: SpillBuffer, caplog: pytest.LogCaptureFixture) -> None:
    lock = [threading.Lock()]
    with caplog.at_level(logging.WARNING, "distributed.worker"):
        buffer.store(("lock", 1), lock, 20 * KB)
        for name in "ab":
            buffer[name] = b"x" * 20 * KB
        settle(buffer, 2)
    (record,) = caplog.records
    assert "('lock', 1) cannot be spilled and stays in memory" in record.message
    assert buffer["lock", 1] is lock
    assert set(buffer.memory) == {("lock", 1)}
    buffer.drop_all([("lock", 1)])
    assert buffer.memory_bytes == 0


def test_small_values_are_not_worth_a_file(tmp_path: Path) -> None:
    buffer = SpillBuffer(str(tmp_path / "storage"), target=0)
    buffer["small"], buffer["large"] = 1, b"x" * KB
    settle(buffer, 1)
    assert set(buffer.memory) == {"small"}
    assert (buffer["small"], "small" in buffer, len(buffer)) == (1, True, 2)
    buffer["small"], buffer["large"] = buffer["large"], buffer["small"]
    settle(buffer, 1)
    assert (buffer["small"], buffer["large"]) == (b"x" * KB, 1)
    buffer.clear()
    assert not buffer
    buffer.close()


def test_max_spill(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    buffer = SpillBuffer(str(tmp_path / "storage"), target=0, max_spill=25 * KB, compression=None)
    with caplog.at_level(logging.ERROR, "distributed.worker"):
        for name in "abcd":
            buffer[name] = name.encode() * 10 * KB
        settle(buffer, 2)
        poll_for(lambda: buffer._stuck)
        assert buffer.wants_room is False
        buffer.wait_for_room()
    (record,) = caplog.records
    assert "max-spill" in record.message
    assert set(buffer.disk) == {"a", "b"}
    del buffer["a"]
    poll_for(lambda: set(buffer.disk) == {"b", "c"})
    assert sum(path.stat().st_size for path in Path(buffer.storage.directory).iterdir()) <= 25 * KB
    assert [buffer[name] for name in "bcd"] == [name.encode() * 10 * KB for name in "bcd"]
    buffer.close()


def test_values_that_cannot_be_read_back_say_so(buffer: SpillBuffer) -> None:
    for name in ("gone", "short", "garbage"):
        buffer[name] = name.encode() * 20 * KB
    settle(buffer, 3)
    stored = buffer._files
    os.unlink(stored["gone"].path)
    os.truncate(stored["short"].path, 10)
    Path(stored["garbage"].path).write_bytes(b"\x80\x05" + b"?" * stored["garbage"].nbytes)
    with pytest.raises(OSError, match=r"'gone' was spilled to .*No such file"):
        buffer["gone"]
    with pytest.raises(OSError, match=r"'short' was spilled .*shorter"):
        buffer["short"]
    with pytest.raises(DeserializationError, match="'garbage' was spilled"):
        buffer["garbage"]
    values = buffer.values_of(["gone"])
    assert isinstance(values, SpilledValues)
    payloads, unreadable = values.read_payloads()
    assert not payloads
    assert [(error.key, "'gone' was spilled" in str(error)) for error in unreadable] == [("gone", True)]
    with pytest.raises(UnreadableError, match="gone"):
        values.load()
    assert buffer._reserved == 0


def test_threads_wait_for_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = SpillBuffer(str(tmp_path / "storage"), target=10 * KB, slack=5 * KB)
    gate = Gate(buffer, monkeypatch)
    buffer["a"] = b"a" * 12 * KB
    assert not buffer.crowded
    buffer["b"] = b"b" * 12 * KB
    assert buffer.crowded
    passed = threading.Event()
    thread = threading.Thread(target=lambda: (buffer.wait_for_room(), passed.set()))
    thread.start()
    assert gate.reached.wait(10)
    assert not passed.is_set()
    gate.opened.set()
    assert passed.wait(10)
    thread.join()
    assert not buffer.crowded
    buffer.close()


def test_pressure_evicts_below_the_target(buffer: SpillBuffer) -> None:
    buffer["a"], buffer["b"] = b"a" * KB, b"b" * KB
    answers: list[int] = []

    def after(freed: int) -> None:
        answers.append(freed)
        if len(answers) == 2:
            buffer.press(False)

    buffer.watch_evictions(lambda: None, after)
    buffer.press(True)
    settle(buffer, 2)
    assert answers == [KB, KB]
    assert not buffer.pressed


def test_closing_ends_a_waiting_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = SpillBuffer(str(tmp_path / "storage"), target=10 * KB)
    admission = Admission(0, buffer, Relief(100 * KB, 0, buffer))
    buffer.tighten(True)
    assert buffer.crowded
    thread = threading.Thread(target=admission.wait, args=(None,))
    thread.start()
    buffer.close()
    thread.join(10)
    assert not thread.is_alive()


def test_tasks_are_let_in_by_what_they_are_likely_to_add(tmp_path: Path) -> None:
    process = 100 * KB
    buffer = SpillBuffer(str(tmp_path / "storage"), target=100 * KB)
    relief = Relief(200 * KB, 140 * KB, buffer, lambda: process)
    buffer.watch_evictions(relief.before_eviction, relief.after_eviction)
    admission = Admission(160 * KB, buffer, relief, lambda: process)
    assert admission.wait(["unknown"]) == 0
    buffer["a"] = b"a" * 20 * KB
    buffer.tighten(True)
    assert buffer.expected_need(["a"]) == 40 * KB
    first = admission.wait(["a"])
    assert first
    passed = threading.Event()
    thread = threading.Thread(target=lambda: (admission.wait(["a"]), passed.set()))
    thread.start()
    poll_for(lambda: set(buffer.disk) == {"a"})  # room is made for the second: what the first will add is not there
    assert not passed.is_set()
    admission.release(first)
    assert passed.wait(10)
    thread.join()
    assert buffer.expected_need(["a"]) == 60 * KB
    buffer.close()


@pytest.mark.parametrize("seed", range(4))
def test_many_threads(tmp_path: Path, seed: int) -> None:
    buffer = SpillBuffer(str(tmp_path / "storage"), target=20 * KB, max_spill=False if seed % 2 else 100 * KB)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        mine: dict[Any, bytes] = {}
        try:
            for step in range(300):
                key = (number, chance.randrange(20))
                action = chance.random()
                if action < 0.4:
                    mine[key] = f"{number} {step}".encode() * chance.choice((1, chance.randrange(500)))
                    buffer[key] = mine[key]
                elif action < 0.6:
                    buffer.drop_all([key])
                    mine.pop(key, None)
                elif key in mine:
                    values = buffer.values_of([key])
                    if isinstance(values, SpilledValues):
                        values = values.load()
                    assert values[key] == mine[key]
                if buffer.crowded:
                    buffer.wait_for_room()
            for key, value in mine.items():
                assert buffer[key] == value
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    poll_for(lambda: not buffer.wants_room)
    poll_for(lambda: len(files(buffer)) == len(buffer._files))
    check_sums(buffer)
    buffer.close()
    poll_for(lambda: not buffer._files)
