"""The small helpers of `distributed.utils`, as libraries import them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import json
import logging
import os
import threading
import time
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy
import pytest

from distributed import utils
from distributed.collections import LRU, HeapSet, sum_mappings
from headrace.client import FutureCancelledError
from headrace.testing.helpers.log_reading import captured_logger
from headrace.worker.context import thread_state


class TestAwaitables:
    async def test_all(self) -> None:
        assert await utils.All([asyncio.sleep(0, 1), asyncio.sleep(0, 2)]) == [1, 2]
        assert await utils.All([]) == []

    async def test_all_fails_at_once_and_logs_later_failures(self) -> None:
        go = asyncio.Event()

        async def fail(wait: bool, error: Exception) -> None:
            if wait:
                await go.wait()
            raise error

        with captured_logger("distributed.utils") as log:
            later = asyncio.ensure_future(fail(True, KeyError("loud")))
            quiet = asyncio.ensure_future(fail(True, ValueError("quiet")))
            with pytest.raises(ZeroDivisionError):
                await utils.All([later, fail(False, ZeroDivisionError()), quiet], quiet_exceptions=ValueError)
            go.set()
            await asyncio.wait([later, quiet])
        assert "loud" in log.getvalue()
        assert "quiet" not in log.getvalue()

    async def test_any(self) -> None:
        never = asyncio.get_running_loop().create_future()
        assert await utils.Any([never, asyncio.sleep(0, 2)]) == [None, 2]
        with pytest.raises(ZeroDivisionError):
            await utils.Any([never, _fail()])
        never.cancel()

    async def test_offload_keeps_context_and_thread(self) -> None:
        variable = contextvars.ContextVar("variable", default=0)
        variable.set(3)
        first = await utils.offload(lambda a, b: (a, b, variable.get(), threading.get_ident()), 1, b=2)
        second = await utils.run_in_executor_with_context(None, variable.get)
        assert first[:3] == (1, 2, 3)
        assert first[3] != threading.get_ident()
        assert first[3] == (await utils.offload(threading.get_ident))
        assert second == 3

    async def test_in_async_call(self) -> None:
        loop = asyncio.get_running_loop()
        assert utils.in_async_call(loop)
        other = asyncio.new_event_loop()
        assert not utils.in_async_call(other)
        other.close()
        assert await utils.offload(utils.in_async_call, loop, True) is True

    async def test_nothing(self) -> None:
        assert await utils.NoOpAwaitable() is None
        with utils.EmptyContext() as nothing:
            assert nothing is None
        async with utils.EmptyContext() as nothing:
            assert nothing is None


async def _fail() -> None:
    raise ZeroDivisionError


class TestTime:
    def test_deadline(self) -> None:
        soon, never = utils.Deadline.after(1000), utils.Deadline()
        assert soon.expires
        assert soon.duration == pytest.approx(1000)
        assert 990 < soon.remaining <= 1000
        assert abs(soon.expires_at - time.time() - 1000) < 10
        assert not soon.expired
        assert soon.elapsed >= 0
        assert never.remaining is never.expires_at is never.duration is None
        assert not never.expires
        assert not never.expired
        assert utils.Deadline(time.time() - 1).expired
        assert utils.Deadline(time.time() - 1).remaining == 0

    def test_warn_on_duration(self, recwarn: pytest.WarningsRecorder) -> None:
        with utils.warn_on_duration("1000s", "never"), utils.warn_on_duration(timedelta(seconds=-1), "took {duration}"):
            pass
        (warning,) = recwarn.list
        assert str(warning.message).startswith("took 0:00:0")


class TestLogging:
    def test_rate_limit(self) -> None:
        limiter = utils.RateLimiterFilter("slow .*", rate="1000s")
        logger = logging.getLogger("tests.limited")
        logger.addFilter(limiter)
        with captured_logger(logger) as log:
            for text in ("slow one", "slow two", "other", "other"):
                logger.warning(text)
            utils.RateLimiterFilter.reset_timer("tests.limited")
            logger.warning("slow three")
        logger.removeFilter(limiter)
        assert log.getvalue().splitlines() == ["slow one", "other", "other", "slow three"]

    def test_deque_handler(self) -> None:
        handler = utils.DequeHandler(n=2)
        logger = logging.getLogger("tests.kept")
        logger.addHandler(handler)
        for number in range(3):
            logger.error("%d", number)
        logger.removeHandler(handler)
        assert [record.getMessage() for record in handler.deque] == ["1", "2"]
        utils.DequeHandler.clear_all_instances()
        assert not handler.deque

    async def test_log_errors(self) -> None:
        @utils.log_errors
        def plain() -> None:
            raise ValueError("plain")

        @utils.log_errors()
        async def coroutine() -> None:
            raise ValueError("coroutine")

        with captured_logger(__name__) as log:
            with pytest.raises(ValueError, match="plain"):
                plain()
            with pytest.raises(ValueError, match="coroutine"):
                await coroutine()
            with pytest.raises(ValueError, match="body"), utils.log_errors():
                raise ValueError("body")
        assert all(text in log.getvalue() for text in ("plain", "coroutine", "body", "Traceback"))

    def test_silence(self) -> None:
        handler = logging.StreamHandler()
        logger = logging.getLogger("tests.silenced")
        logger.addHandler(handler)
        with utils.silence_logging_cmgr("ERROR", root="tests.silenced"):
            assert handler.level == logging.ERROR
        assert handler.level == logging.NOTSET
        lock = handler.lock
        utils.reset_logger_locks()
        assert handler.lock is not lock
        logger.removeHandler(handler)


class TestBytes:
    def test_blocks_share_nothing_and_leave_nothing_out(self) -> None:
        data = b"".join(b"line %d||" % number for number in range(100))
        for size in (1, 7, 50, 1000):
            blocks = [utils.read_block(BytesIO(data), start, size, b"||") for start in range(0, len(data), size)]
            assert b"".join(blocks) == data
            assert all(block.endswith(b"||") for block in blocks if block)
        assert utils.read_block(BytesIO(data), 2, 5) == data[2:7]

    def test_delimiters_across_reads_are_found(self) -> None:
        file = BytesIO(b"0123456789<end>rest")
        file.seek(1)
        utils.seek_delimiter(file, b"<end>", 3)
        assert file.read() == b"rest"
        utils.seek_delimiter(file, b"<end>", 3)
        assert file.read() == b""

    def test_views(self) -> None:
        array = numpy.arange(6.0).reshape(2, 3)
        assert utils.ensure_memoryview(array).nbytes == 48
        assert bytes(utils.ensure_memoryview(array[:, ::2])) == array[:, ::2].tobytes()
        assert utils.ensure_memoryview(array.T).format == "B"
        assert utils.ensure_memoryview(b"").nbytes == 0
        with pytest.raises(TypeError):
            utils.ensure_memoryview("text")
        assert utils.nbytes(b"abc") == 3
        assert utils.nbytes(memoryview(array)) == 48

    def test_json_that_is_still_written(self, tmp_path: Path) -> None:
        path = tmp_path / "file.json"
        path.write_text('{"a"')

        def load(file: Any) -> Any:
            text = file.read()
            path.write_text('{"a": 1}')
            return json.loads(text)

        assert utils.json_load_robust(path, load=load) == {"a": 1}
        with pytest.raises(TimeoutError, match="missing"):
            utils.json_load_robust(tmp_path / "missing", timeout=0)

    def test_text_file(self) -> None:
        with utils.tmp_text("name.txt", "hello") as path:
            assert Path(path).name == "name.txt"
            assert Path(path).read_text() == "hello"
        assert not os.path.exists(path)


class Person:
    def __init__(self, name: str) -> None:
        self.name = name
        self.friends: list[Person] = []

    def __repr__(self) -> str:
        return self.name

    def _to_dict_no_nest(self, *, exclude: Any = ()) -> Any:
        return utils.recursive_to_dict(self.__dict__, exclude=exclude)


class TestDescribing:
    def test_people(self) -> None:
        alice, bob = Person("Alice"), Person("Bob")
        alice.friends, bob.friends = [bob], [alice]
        assert utils.recursive_to_dict({"people": [alice, bob], (1, 2): {3}}) == {
            "people": [{"name": "Alice", "friends": ["Bob"]}, {"name": "Bob", "friends": ["Alice"]}],
            "[1, 2]": [3],
        }

    def test_members_methods_and_circles(self) -> None:
        class Thing:
            shared = 1

            def __init__(self) -> None:
                self.own, self._hidden = b"x", 2

            @property
            def computed(self) -> int:
                return 3

            def method(self) -> None:
                """Is left out."""

        assert utils.recursive_to_dict(Thing(), members=True) == {"shared": 1, "own": "b'x'", "computed": 3}
        assert utils.recursive_to_dict(Thing(), members=True, exclude=["own"]) == {"shared": 1, "computed": 3}
        circle: list[Any] = [1]
        circle.append(circle)
        assert utils.recursive_to_dict(circle) == [1, "[1, [...]]"]

    def test_table(self) -> None:
        assert utils.asciitable(["a", "bb"], [(1, 2), ("xxx", None)]).splitlines() == [
            "+-----+------+",
            "| a   | bb   |",
            "+-----+------+",
            "| 1   | 2    |",
            "| xxx | None |",
            "+-----+------+",
        ]

    def test_comparable(self) -> None:
        comparable = utils.TupleComparable
        assert comparable(1) < comparable((1, 2)) < comparable(2)
        assert comparable(None) == comparable(0) != comparable(1)
        with pytest.raises(ValueError, match="got a"):
            comparable("a")

    def test_long_exceptions(self) -> None:
        short, long = ValueError("x"), ValueError("x" * 100)
        assert utils.truncate_exception(short, 10) is short
        cut = utils.truncate_exception(long, 10)
        assert type(cut) is ValueError
        assert cut.args == ("Long error message", "xxxxxxxxxx")

    def test_traceback_begins_with_the_users_code(self) -> None:
        try:
            utils.import_file("/no/such/file.py")
        except Exception:
            traceback = utils.get_traceback()
        assert traceback is not None
        assert traceback.tb_frame.f_globals["__name__"] == __name__
        assert utils.get_traceback() is None

    def test_xml_and_urls(self) -> None:
        assert utils.is_valid_xml("<a></a>")
        with pytest.raises(ParseError):
            utils.is_valid_xml("<a>")
        assert utils.url_escape("a b/c?") == "a+b%2Fc%3F"


class TestCommands:
    def test_keywords(self) -> None:
        assert utils.cli_keywords({"x": 123, "save_file": "a b"}) == ["--x", "123", "--save-file", '"a b"']
        assert utils.cli_keywords({"expires_at": 1}, cls=utils.Deadline) == ["--expires-at", "1"]
        worker = "distributed.cli.dask_worker"
        assert utils.command_has_keyword(worker, "nworkers")
        assert utils.cli_keywords({"nworkers": 2}, cls=utils.Deadline, cmd=worker) == ["--nworkers", "2"]
        with pytest.raises(ValueError, match="Deadline does not support keyword x"):
            utils.cli_keywords({"x": 1}, cls=utils.Deadline)
        with pytest.raises(ValueError, match="Neither class"):
            utils.cli_keywords({"nonsense": 2}, cls=utils.Deadline, cmd=worker)
        with pytest.raises(ImportError, match="no_such_module"):
            utils.command_has_keyword("no_such_module", "x")

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (8787, [("host", 8787)]),
            ("8787", [("host", 8787)]),
            (":8787", [("", 8787)]),
            ("foo:8787", [("foo", 8787)]),
            ([8787, ":8887"], [("host", 8787), ("", 8887)]),
            (":1,foo:2", [("", 1), ("foo", 2)]),
            (("foo", 3), [("foo", 3)]),
            ("", [("", 0)]),
        ],
    )
    def test_dashboard_addresses(self, given: Any, expected: list[tuple[str, int]]) -> None:
        assert utils.clean_dashboard_address(given, "host") == [
            {"address": address, "port": port} for address, port in expected
        ]

    @pytest.mark.parametrize("given", ["tcp://foo:1", "foo", None, "foo:bar"])
    def test_wrong_dashboard_addresses(self, given: Any) -> None:
        with pytest.raises(ValueError, match="dashboard"):
            utils.clean_dashboard_address(given)

    def test_system(self) -> None:
        assert 0 < utils.open_port("127.0.0.1") < 65536
        assert utils.get_fileno_limit() > 0
        assert utils.get_mp_context().get_start_method() == "spawn"


def test_thread_state_is_put_back() -> None:
    with utils.set_thread_state(tests_name=1):
        with utils.set_thread_state(tests_name=2):
            assert thread_state.tests_name == 2
        assert utils.thread_state.tests_name == 1
    assert not hasattr(thread_state, "tests_name")


class TestContainers:
    def test_heap_set(self) -> None:
        import pickle

        heap: HeapSet[Any] = HeapSet(key=abs)
        for number in (3, -1, 2, -3, 1):
            heap.add(number)
        heap.add(3)
        assert len(heap) == 5
        assert heap.peek() == -1
        assert list(heap.sorted()) == [-1, 1, 2, 3, -3]
        assert list(heap.peekn(1)) == [-1]
        assert list(heap.peekn(3)) == [-1, 1, 2]
        assert list(pickle.loads(pickle.dumps(heap)).sorted()) == [-1, 1, 2, 3, -3]
        heap.discard(-1)
        heap.discard(-1)
        assert -1 not in heap
        assert heap.pop() == 1
        right = heap.popright()
        assert abs(right) >= abs(heap.peek())
        assert abs(heap.peekright()) >= abs(heap.peek())
        assert repr(heap) == "<HeapSet: 2 items>"
        heap.clear()
        for method in (heap.peek, heap.pop, heap.peekright, heap.popright):
            with pytest.raises(KeyError):
                method()
        assert list(heap.peekn(1)) == []

    def test_heap_set_forgets_what_was_discarded(self) -> None:
        heap: HeapSet[int] = HeapSet(key=int)
        for number in range(1000):
            heap.add(number)
        for number in range(999):
            heap.discard(number)
        assert heap.peek() == heap.peekright() == 999
        assert len(heap._heap) < 100

    def test_lru(self) -> None:
        cache: LRU[str, int] = LRU(maxsize=2)
        cache["a"], cache["b"] = 1, 2
        assert cache["a"] == 1
        cache["c"] = 3
        assert list(cache) == ["a", "c"]
        cache["a"] = 4
        assert dict(cache) == {"c": 3, "a": 4}

    def test_sums(self) -> None:
        assert sum_mappings([{"a": 1}, [("a", 2), ("b", 3)], {}]) == {"a": 3, "b": 3}


def test_its_cancelled_error_is_that_of_futures() -> None:
    assert issubclass(FutureCancelledError, utils.CancelledError)
    assert utils.CancelledError is concurrent.futures.CancelledError
