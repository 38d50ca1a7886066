"""Values in files, low-level profiles, loggers and loops as configured, and comms that take families."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import pickle
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from distributed import profile
from distributed.comm import connect, listen
from distributed.comm.core import BaseListener, Comm, Connector
from distributed.comm.registry import get_backend
from distributed.comm.tcp import SocketListener
from distributed.core import ConnectionPool, send_recv
from distributed.node import ServerNode
from distributed.protocol import Serialize, register_serialization_family
from distributed.protocol.families import families
from distributed.protocol.pickle import dumps, loads
from distributed.spill import AnyKeyFile, HandledError, MaxSpillExceeded, PickleError, Slow, SpillBuffer

config = importlib.import_module("distributed.config")


class TestFiles:
    @pytest.mark.parametrize("memmap", [False, True])
    def test_any_key(self, tmp_path: Path, memmap: bool) -> None:
        files = AnyKeyFile(tmp_path / "new", memmap=memmap)
        files[("x", 1)] = b"123"
        files["a/b" * 100] = [b"1", memoryview(b"23")]
        kept = files[("x", 1)]
        files[("x", 1)] = b""
        assert bytes(kept) == b"123"
        assert bytes(files[("x", 1)]) == b""
        assert bytes(files["a/b" * 100]) == b"123"
        assert len(files) == 2
        assert ("x", 1) in files
        del files[("x", 1)]
        assert len(list((tmp_path / "new").iterdir())) == 1
        with pytest.raises(KeyError):
            del files[("x", 1)]
        del kept

    def test_values(self, tmp_path: Path) -> None:
        slow = Slow(tmp_path, max_weight=10_000)
        slow["a"] = numpy.arange(1000)
        slow[("b", 1)] = {"text": [1]}
        assert slow["a"].tolist() == list(range(1000))
        assert slow.weight_by_key["a"].memory == 8000
        assert slow.total_weight.disk > 8000
        with pytest.raises(MaxSpillExceeded) as exceeded:
            slow["c"] = bytes(5000)
        assert exceeded.value.key == "c"
        with pytest.raises(PickleError) as unpicklable:
            slow["d"] = threading.Lock()
        assert unpicklable.value.key == "d"
        assert "Failed to pickle 'd'" in str(unpicklable.value)
        assert isinstance(unpicklable.value, TypeError)
        assert sorted(map(str, slow)) == ["('b', 1)", "a"]
        slow.clear()
        assert slow.total_weight == (0, 0)
        assert not list(tmp_path.iterdir())
        assert issubclass(HandledError, Exception)

    def test_a_workers_buffer_pops(self, tmp_path: Path) -> None:
        with contextlib.closing(SpillBuffer(str(tmp_path), target=1000)) as buffer:
            buffer["a"], buffer["b"] = bytes(5000), 1
            assert buffer.pop("a") == bytes(5000)
            assert buffer.pop("b") == 1
            assert buffer.pop("a") is None
            assert buffer.pop("a", 3) == 3
            assert not buffer


class TestPickle:
    def test_buffers_go_where_the_caller_wants(self) -> None:
        array = numpy.arange(10)
        buffers: list[pickle.PickleBuffer] = []
        data = dumps([array, lambda: 1], buffer_callback=buffers.append)
        assert len(buffers) == 1
        again, function = loads(data, buffers=buffers)
        assert again.tolist() == array.tolist()
        assert function() == 1
        assert loads(dumps({"a": 1})) == {"a": 1}
        assert loads(dumps(array, buffer_callback=lambda buffer: True)).tolist() == array.tolist()


class Frame:
    def __init__(self, name: str, addr: int, info: str = "") -> None:
        self.name, self.addr, self.info = name, addr, info


class TestLowLevelProfile:
    def test_stacks_are_counted(self) -> None:
        state = profile.create()
        for inner in ("memcpy", "memcpy", "malloc"):
            assert profile.llprocess([Frame("main", 1), Frame(inner, 2, "libc")], None, state) is state
        (main,) = state["children"].values()
        assert (state["count"], main["count"], main["description"]["name"]) == (3, 3, "main")
        assert {child["description"]["name"]: child["count"] for child in main["children"].values()} == {
            "memcpy": 2,
            "malloc": 1,
        }
        assert profile.llprocess(None, None, state)["count"] == 3
        assert profile.merge(state, state)["count"] == 6

    def test_the_package_is_asked_if_it_is_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "stacktrace", None)
        assert profile.ll_get_stack(threading.get_ident()) is None
        package = types.ModuleType("stacktrace")
        package.get_thread_stack = lambda tid, show_python: [tid, show_python]  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "stacktrace", package)
        assert profile.ll_get_stack(7) == [7, False]


class TestConfig:
    @pytest.fixture(autouse=True)
    def loggers(self) -> Iterator[None]:
        names = ("distributed", "headrace", "distributed.client", "bokeh", "tests.configured", "x", "root")
        loggers = [logging.getLogger(None if name == "root" else name) for name in names]
        before = [(one, one.level, list(one.handlers), one.propagate) for one in loggers]
        yield
        for one, level, handlers, propagate in before:
            one.setLevel(level)
            one.handlers[:] = handlers
            one.propagate = propagate

    def test_loops(self) -> None:
        loop = config.get_loop_factory()()
        assert isinstance(loop, asyncio.AbstractEventLoop)
        loop.close()

    def test_levels(self) -> None:
        for _ in range(2):
            config.initialize_logging({"logging": {"tests.configured": "debug", "distributed": "error"}})
        logger = logging.getLogger("tests.configured")
        assert logger.level == logging.DEBUG
        assert len(logger.handlers) == 1
        assert logging.getLogger("distributed").level == logging.ERROR
        assert logging.getLogger("distributed.client").level == logging.WARNING

    def test_documented_forms(self, tmp_path: Path) -> None:
        config.initialize_logging({"logging": {"version": 1, "loggers": {"tests.configured": {"level": "ERROR"}}}})
        assert logging.getLogger("tests.configured").level == logging.ERROR
        path = tmp_path / "logging.ini"
        path.write_text(
            "[loggers]\nkeys=root,x\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nhandlers=\n"
            "[logger_x]\nqualname=tests.configured\nlevel=INFO\nhandlers=\n"
        )
        config.initialize_logging({"logging-file-config": str(path)})
        assert logging.getLogger("tests.configured").level == logging.INFO

    def test_the_section_for_distributed_counts(self) -> None:
        config.initialize_logging({"logging": {"tests.configured": "error"}, "distributed": {"logging": {"x": 10}}})
        assert logging.getLogger("tests.configured").level == logging.NOTSET
        config.initialize_logging({"logging": {"tests.configured": "error"}, "distributed": {"admin": {}}})
        assert logging.getLogger("tests.configured").level == logging.ERROR

    def test_bad_configurations_are_named_and_change_nothing(self) -> None:
        both = {"logging-file-config": "log.ini", "logging": {"tests.configured": "info"}}
        with pytest.raises(RuntimeError, match="remove one of the two"):
            config.initialize_logging({"distributed": both})
        with pytest.raises(ValueError, match=r"logger 'tests\.configured': unknown level 'loud'"):
            config.initialize_logging({"logging": {"x": "info", "tests.configured": "loud"}})
        assert not logging.getLogger("x").handlers

    def test_the_name_in_the_facade_is_the_configuration_of_dask(self) -> None:
        import dask

        import distributed

        assert distributed.config is dask.config.config


class Part:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise TypeError("parts are not pickled")


@pytest.fixture
def parts() -> Iterator[None]:
    def dump(value: Any) -> Any:
        if type(value) is not Part:
            raise NotImplementedError
        return {}, []

    register_serialization_family("parts", dump, lambda header, frames: Part())
    yield
    del families["parts"]


class TestComms:
    @pytest.mark.usefixtures("parts")
    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:0", "inproc://"])
    async def test_families_of_one_message(self, address: str) -> None:
        async def echo(comm: Comm) -> None:
            await comm.write({"value": Serialize(await comm.read())}, serializers=["parts", "pickle"])

        async with listen(address, echo) as listener:
            comm = await connect(listener.contact_address)
            await comm.write([Serialize(Part())], serializers=["parts"])
            reply = await comm.read(deserializers=["parts", "pickle"])
            assert type(reply["value"][0]) is Part
            await comm.close()

    async def test_what_is_not_accepted_raises(self) -> None:
        async def answer(comm: Comm) -> None:
            await comm.write({"value": Serialize(object())})
            await comm.write("next")

        async with listen("tcp://127.0.0.1:0", answer) as listener:
            comm = await connect(listener.contact_address)
            with pytest.raises(TypeError, match="serialized with pickle but only able"):
                await comm.read(deserializers=["msgpack"])
            assert await comm.read(deserializers=["msgpack"]) == "next"
            await comm.close()

    async def test_a_request_tells_its_serializers(self) -> None:
        def ask(serializers: Any = None) -> Any:
            return serializers

        async with ServerNode({"ask": ask}) as server, ConnectionPool() as pool:
            await server.listen("tcp://127.0.0.1:0")
            comm = await pool.connect(server.address)
            assert await send_recv(comm, op="ask", serializers=("dask", "pickle")) == ["dask", "pickle"]
            assert await send_recv(comm, op="ask") is None
            assert "host" in await send_recv(comm, op="versions")

    async def test_a_listener_is_awaited_and_has_a_hook(self) -> None:
        seen: list[Any] = []

        class Hooked(SocketListener):
            async def on_connection(self, comm: Comm, handshake_overrides: Any = None) -> None:
                seen.append(comm.peer_address)

        async def handle(comm: Comm) -> None:
            await comm.write("hello")

        listener = await Hooked("127.0.0.1:0", handle)
        assert isinstance(listener, BaseListener)
        comm = await connect(listener.contact_address, handshake_overrides={})
        assert await comm.read() == "hello"
        assert seen == [comm.local_address]
        listener.abort_handshaking_comms()
        assert not comm.closed()
        await comm.close()
        listener.stop()
        assert isinstance(get_backend("tcp").get_connector(), Connector)

    def test_what_two_ends_agree_on(self) -> None:
        own = Comm.handshake_info()
        agreed = Comm.handshake_configuration(own, {**own, "pickle-protocol": 4, "compression": "lz4"})
        assert agreed == {"pickle-protocol": 4, "compression": None}
        with pytest.raises(ValueError, match="pickle-protocol"):
            Comm.handshake_configuration(own, {})
