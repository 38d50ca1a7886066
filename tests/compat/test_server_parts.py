"""What libraries build servers of: batches of messages, child processes, directories, errors as messages, executors."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.config
import pytest
from dask._task_spec import TaskRef

from distributed import rejoin, secede
from distributed.batched import BatchedSend
from distributed.core import (
    ErrorMessage,
    OKMessage,
    clean_exception,
    collect_causes,
    error_message,
    pingpong,
    raise_later,
)
from distributed.diskutils import WorkDir, WorkSpace, is_locking_enabled, safe_unlink
from distributed.process import AsyncProcess
from distributed.proctitle import enable_proctitle_on_children, enable_proctitle_on_current, setproctitle
from distributed.threadpoolexecutor import ThreadPoolExecutor
from distributed.utils_comm import (
    WrappedKey,
    gather_from_workers,
    pack_data,
    retry,
    retry_operation,
    scatter_to_workers,
    subs_multiple,
    unpack_remotedata,
)
from headrace import Client, Scheduler, Worker, wait
from headrace.comm import connect, listen
from headrace.compat import proctitle
from headrace.exceptions import CommClosedError
from headrace.protocol import decode, encode
from headrace.rpc import ConnectionPool
from headrace.testing.helpers.log_reading import captured_logger


class TestBatchedSend:
    async def test_messages_come_in_batches(self) -> None:
        got: list[Any] = []
        ended = asyncio.Event()

        async def handle(comm: Any) -> None:
            try:
                while True:
                    got.append(list(await comm.read()))
            except CommClosedError:
                ended.set()

        async with await listen("tcp://127.0.0.1:0", handle) as listener:
            batched = BatchedSend(interval="1ms")
            batched.send("a")
            assert repr(batched) == "<BatchedSend: 1 in buffer>"
            comm = await connect(listener.contact_address)
            batched.start(comm)
            batched.send("b", "c")
            while sum(map(len, got)) < 3:
                await asyncio.sleep(0)
            batched.send({"x": 1})
            await batched.close(timeout="10s")
            await asyncio.wait_for(ended.wait(), 10)
            assert [message for part in got for message in part] == ["a", "b", "c", {"x": 1}]
            assert got[0] == ["a", "b", "c"]
            assert batched.closed()
            await batched.close()
            with pytest.raises(CommClosedError, match="already closed"):
                batched.send(1)

    async def test_abort_and_what_cannot_be_sent(self) -> None:
        async def handle(comm: Any) -> None:
            with pytest.raises(CommClosedError):
                await comm.read()

        async with await listen("tcp://127.0.0.1:0", handle) as listener:
            first, second = BatchedSend(0), BatchedSend(0)
            first.start(await connect(listener.contact_address))
            second.start(await connect(listener.contact_address))
            first.send("never")
            first.abort()
            assert first.closed()
            with captured_logger("distributed.batched") as log:
                second.send(object())
                await second.close()
            assert "cannot be sent" in log.getvalue()


def leave(code: int) -> None:
    sys.exit(code)


def wait_for_ever() -> None:
    threading.Event().wait()


def make_child(path: str) -> None:
    """Starts a child of its own, says its number, and is killed."""

    async def work() -> None:
        child = AsyncProcess(target=wait_for_ever)
        await child.start()
        Path(path).write_text(str(child.pid))
        os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(work())


class TestAsyncProcess:
    async def test_a_life(self) -> None:
        ended: list[Any] = []
        process = AsyncProcess(target=leave, args=(5,), name="a-name")
        assert repr(process) == "<AsyncProcess a-name>"
        process.daemon = True
        process.set_exit_callback(ended.append)
        assert (process.is_alive(), process.pid, process.exitcode, process.daemon) == (False, None, None, True)
        with pytest.raises(AssertionError):
            await process.join()
        await process.start()
        assert process.pid
        await process.join(30)
        assert process.exitcode == 5
        assert not process.is_alive()
        assert ended == [process]
        await process.terminate()
        process.close()
        with pytest.raises(ValueError, match="closed"):
            await process.join()

    async def test_it_is_ended(self) -> None:
        first, second = AsyncProcess(target=wait_for_ever), AsyncProcess(target=wait_for_ever)
        await asyncio.gather(first.start(), second.start())
        await first.join(timeout=0)
        assert first.is_alive()
        await first.terminate()
        await second.kill()
        await asyncio.gather(first.join(), second.join())
        assert (first.exitcode, second.exitcode) == (-signal.SIGTERM, -signal.SIGKILL)

    async def test_it_ends_with_its_parent(self, tmp_path: Path) -> None:
        parent = AsyncProcess(target=make_child, kwargs={"path": str(tmp_path / "pid")})
        await parent.start()
        await parent.join(60)
        pid = int((tmp_path / "pid").read_text())
        for _ in range(3000):
            try:
                os.kill(pid, 0)
                if "Z" in Path(f"/proc/{pid}/stat").read_text().split(") ")[1][:1]:
                    break
            except (ProcessLookupError, FileNotFoundError):
                break
            await asyncio.sleep(0.01)
        else:
            pytest.fail("the child outlives its parent")

    def test_wrong_arguments(self) -> None:
        with pytest.raises(TypeError, match="callable"):
            AsyncProcess(target=3)

        async def callback(_: Any) -> None:
            """Not allowed."""

        process = AsyncProcess(target=leave)
        with pytest.raises(TypeError, match="ordinary function"):
            process.set_exit_callback(callback)  # type: ignore[arg-type]
        process.close()
        assert not multiprocessing.active_children()


class TestDirectories:
    def test_a_directory_goes_with_its_object(self, tmp_path: Path) -> None:
        space = WorkSpace(tmp_path / "base")
        first, second = space.new_work_dir(prefix="some-"), space.new_work_dir(name="named")
        assert Path(second.dir_path) == tmp_path / "base" / "named"
        assert Path(first.dir_path).name.startswith("some-")
        Path(first.dir_path, "file").write_text("x")
        with pytest.raises(FileExistsError):
            space.new_work_dir(name="named")
        for wrong in ({}, {"name": "a", "prefix": "b"}):
            with pytest.raises(ValueError, match="name or a prefix"):
                space.new_work_dir(**wrong)
        first.release()
        first.release()
        assert not os.path.exists(first.dir_path)
        path = second.dir_path
        del second
        assert not os.path.exists(path)
        assert not list((tmp_path / "base").iterdir())

    def test_what_a_crash_leaves_is_removed(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; from distributed.diskutils import WorkSpace; "
            "kept = WorkSpace(sys.argv[1]).new_work_dir(name='left'); os.kill(os.getpid(), 9)"
        )
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=60)
        assert (tmp_path / "left").is_dir()
        mine = WorkDir(WorkSpace(tmp_path), name="mine")
        assert not (tmp_path / "left").exists()
        WorkSpace(tmp_path)
        assert Path(mine.dir_path).is_dir()
        mine.release()

    def test_directories_of_living_processes_stay(self, tmp_path: Path) -> None:
        code = (
            "import sys; from distributed.diskutils import WorkSpace; "
            "kept = WorkSpace(sys.argv[1]).new_work_dir(name='used'); print('made', flush=True); sys.stdin.read()"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "made\n"
            WorkSpace(tmp_path)
            assert (tmp_path / "used").is_dir()
        assert not (tmp_path / "used").exists()

    def test_without_locks_nothing_is_removed_for_others(self, tmp_path: Path) -> None:
        (tmp_path / "left").mkdir()
        (tmp_path / "left.dirlock").touch()
        with dask.config.set({"distributed.worker.use-file-locking": False}):
            assert not is_locking_enabled()
            WorkSpace(tmp_path).new_work_dir(name="mine").release()
        assert (tmp_path / "left").is_dir()

    def test_unlink(self, tmp_path: Path) -> None:
        safe_unlink(str(tmp_path / "missing"))
        with captured_logger("distributed.diskutils") as log:
            safe_unlink(str(tmp_path))
        assert "Failed to remove" in log.getvalue()


class TestErrors:
    def test_a_message_and_back(self) -> None:
        try:
            raise ValueError("why")
        except ValueError as error:
            message = error_message(error)
        assert type(message) is ErrorMessage
        assert message["status"] == "error"
        assert message["exception_text"] == "ValueError('why')"
        arrived = decode(encode(message))
        for one in (message, arrived, decode(encode(message), deserialize=False)):
            kind, error, traceback = clean_exception(**one)
            assert kind is type(error) is ValueError
            assert str(error) == "why"
            assert traceback is not None
        assert error_message(ValueError(), status="missing")["status"] == "missing"
        assert OKMessage(status="OK") == {"status": "OK"}

    def test_other_forms(self) -> None:
        assert clean_exception("text")[:2][1].args == ("text",)
        assert clean_exception(pickle.dumps(KeyError(1)))[0] is KeyError
        with pytest.raises(TypeError, match="no exception"):
            clean_exception(None)

    def test_causes(self) -> None:
        first, second, third = ValueError(1), ValueError(2), ValueError(3)
        third.__cause__, second.__cause__ = second, first
        assert collect_causes(third) == [second, first]
        assert collect_causes(first) == []

    def test_later_and_pong(self) -> None:
        with pytest.raises(KeyError):
            raise_later(KeyError("x"))(1, a=2)
        assert pingpong(None) == b"pong"


class TestExecutor:
    def test_a_function_steps_out_and_back(self) -> None:
        with ThreadPoolExecutor(1) as executor:
            inside, outside = threading.Event(), threading.Event()

            def work() -> int:
                secede()
                inside.set()
                outside.wait(30)
                rejoin()
                return 1

            future = executor.submit(work)
            inside.wait(30)
            assert executor.submit(pow, 2, 3).result(30) == 8  # the only thread's place is free
            outside.set()
            assert future.result(30) == 1
            assert executor.submit(pow, 2, 4).result(30) == 16

    def test_secede_without_a_successor(self) -> None:
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefix")
        assert (
            executor.submit(lambda: (secede(adjust=False), threading.current_thread().name)[1])
            .result(30)
            .startswith("prefix")
        )
        waiting = executor.submit(pow, 2, 3)
        executor.shutdown(wait=False, cancel_futures=True)
        assert waiting.cancelled()
        with pytest.raises(RuntimeError):
            executor.submit(pow, 2, 3)

    def test_not_in_a_pool(self) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - the text is the worker's
            secede()
        with pytest.raises(ValueError, match="max_workers"):
            ThreadPoolExecutor(0)

    def test_initializer(self) -> None:
        seen: list[Any] = []
        with ThreadPoolExecutor(1, initializer=seen.append, initargs=(1,)) as executor:
            executor.submit(pow, 1, 1).result(30)
        assert seen == [1]


class TestTitles:
    @pytest.fixture(autouse=True)
    def restored(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.setattr(proctitle, "_enabled", False)
        monkeypatch.delenv("HEADRACE_SET_TITLE", raising=False)
        yield
        os.environ.pop("HEADRACE_SET_TITLE", None)

    def test_the_title_is_set_where_that_is_enabled(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import types

        package = types.ModuleType("setproctitle")
        set_to: list[str] = []
        package.setproctitle = set_to.append  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "setproctitle", package)
        setproctitle("no")
        enable_proctitle_on_current()
        setproctitle("yes")
        assert set_to == ["yes"]
        monkeypatch.setitem(sys.modules, "setproctitle", None)
        setproctitle("not installed")
        enable_proctitle_on_children()
        assert "HEADRACE_SET_TITLE" in os.environ


class TestTransfers:
    async def test_scatter_and_gather(self) -> None:
        async with (
            Scheduler(dashboard_address=":0", host="127.0.0.1") as scheduler,
            Worker(scheduler.address, host="127.0.0.1") as a,
            Worker(scheduler.address, host="127.0.0.1") as b,
            ConnectionPool() as pool,
        ):
            workers = [a.address, b.address]
            who_has, nbytes = await scatter_to_workers(workers, {"x": 1, ("y", 0): [2], "z": 3})
            assert list(who_has.values()) == [[a.address], [b.address], [a.address]]
            assert set(nbytes) == {"x", ("y", 0), "z"}
            assert a.data["x"] == 1
            nobody = "tcp://127.0.0.1:1"
            asked = {**who_has, "missing": [a.address], "elsewhere": [nobody], "x": [nobody, a.address]}
            with dask.config.set({"distributed.comm.timeouts.connect": "0.2s"}):
                found, missing, broken, unreachable = await gather_from_workers(asked, pool)
            assert found == {"x": 1, ("y", 0): [2], "z": 3}
            assert sorted(missing) == ["elsewhere", "missing"]
            assert broken == []
            assert unreachable == [nobody]
            with pytest.raises(ValueError, match="no workers"):
                await scatter_to_workers([], {"x": 1})

    async def test_results_that_cannot_be_sent(self) -> None:
        async with (
            Scheduler(dashboard_address=":0", host="127.0.0.1") as scheduler,
            Worker(scheduler.address, host="127.0.0.1") as worker,
            Client(scheduler.address, asynchronous=True) as client,
            ConnectionPool() as pool,
        ):
            future = client.submit(threading.Lock, key="lock")
            await wait(future)
            with captured_logger("distributed.utils_comm"), captured_logger("distributed.core"):
                found, _, broken, _ = await gather_from_workers({"lock": [worker.address]}, pool)
            assert not found
            assert broken == ["lock"]

    async def test_retry(self) -> None:
        calls: list[Any] = []

        async def fail(*args: Any, error: Any = OSError) -> int:
            calls.append(args)
            if len(calls) < 3:
                raise error("no")
            return 5

        assert await retry(fail, count=5, delay_min=0, delay_max=0) == 5
        assert len(calls) == 3
        calls.clear()
        with pytest.raises(KeyError):
            await retry(lambda: fail(error=KeyError), 5, 0, 0)
        calls.clear()
        with pytest.raises(OSError, match="no"):
            await retry(fail, 1, 0, 0)
        calls.clear()
        with dask.config.set({"distributed.comm.retry": {"count": 3, "delay": {"min": "1ms", "max": "1ms"}}}):
            assert await retry_operation(fail, 1, 2, operation="failing") == 5
        assert calls[0] == (1, 2)

    def test_collections(self) -> None:
        data = {"x": 1, "y": 2}
        assert pack_data(("x", ["y", {"k": "x"}], {"y"}), data) == (1, [2, {"k": 1}], {2})
        assert pack_data(["x", 1], {"x": 3, 1: 4}, key_types=str) == [3, 1]
        assert subs_multiple((sum, ["x", 2]), data) == (sum, [1, 2])
        assert subs_multiple({"a": "x"}, data) == {"a": 1}
        value, found = unpack_remotedata((1, {"a": [TaskRef("k")], "b": {WrappedKey("q")}}))
        assert value == (1, {"a": ["k"], "b": {"q"}})
        assert found == {TaskRef("k"), TaskRef("q")}
        assert unpack_remotedata(TaskRef(("x", 1)), byte_keys=True)[0] == "('x', 1)"
