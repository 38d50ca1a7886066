"""Bad graphs, keys, values and exceptions: a clear error each, and the same cluster serves others afterwards."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

import dask
import pytest
from dask._task_spec import Task, TaskRef
from dask.delayed import Delayed, delayed

from headrace import Client, Scheduler, Semaphore, Worker, get_worker, wait
from headrace.client import FutureCancelledError, FuturesCancelledError
from headrace.exceptions import (
    BadRequestError,
    DeserializationError,
    MessageTooLargeError,
    RemoteError,
    SerializationError,
)

from .conftest import Served

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")


def inc(x: int) -> int:
    return x + 1


def count(*args: Any) -> int:
    return len(args)


class Locked:
    """Holds what cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Unloadable:
    """Pickles, but cannot be unpickled."""

    def __reduce__(self) -> Any:
        return refuse, ("unloadable",)


class LargeUnloadable(Unloadable):
    """Is too large to ride on the worker's answer."""

    def __init__(self) -> None:
        self.data = bytes(20_000)

    def __sizeof__(self) -> int:
        return 20_000


def refuse(text: str) -> Any:
    raise ValueError(f"refused to load: {text}")


# Graphs and keys


@pytest.mark.parametrize("graph", [{"a": (inc, "b"), "b": (inc, "a")}, {"a": (inc, "a")}])
async def test_cycle(client: Client, graph: Any) -> None:
    for work in (
        lambda: client.get(graph, "a", sync=False),
        lambda: client.compute(Delayed("a", graph)),
        lambda: client.persist(Delayed("a", graph)),
    ):
        with pytest.raises(ValueError, match=r"(?s)Cycle detected.*'a'"):
            work()


async def test_missing_key(client: Client) -> None:
    for work in (
        lambda: client.get({"a": (inc, 1)}, "nowhere", sync=False),
        lambda: client.compute(Delayed("nowhere", {"a": (inc, 1)})),
    ):
        with pytest.raises(FutureCancelledError, match=r"(?s)lost dependencies.*no task for 'nowhere'"):
            await work()
    future = client.get({"a": Task("a", inc, TaskRef("nowhere"))}, "a", sync=False)
    with pytest.raises(FutureCancelledError, match=r"no task for 'nowhere'.*needed by 'a'"):
        await future


async def test_a_graph_on_futures_that_are_gone(client: Client) -> None:
    cancelled, released, pending = (client.submit(inc, i) for i in range(3))
    await wait([cancelled, released])
    await cancelled.cancel()
    released.release()
    collections = [delayed(inc)(future) for future in (cancelled, released, pending)]
    lost, also_lost, fine = client.compute(collections)
    for future in (lost, also_lost, client.get({"y": (inc, cancelled)}, ["y"], sync=False)[0]):
        with pytest.raises(FutureCancelledError, match="lost dependencies"):
            await future
    assert await fine == 4  # what needs nothing of them is computed
    for ask in (client.replicate, client.rebalance, client.who_has):
        with pytest.raises(FuturesCancelledError):
            await ask([cancelled])


BAD_KEYS = [
    ([1], "not list|unhashable type: 'list'"),
    (object(), "not object"),
    (2**70, "64 bits"),
    (-(2**70), "64 bits"),
    (10**5000, "64 bits"),
    ("\ud800", "valid text"),
    (("x", "\udfff"), "valid text"),
    (float("nan"), "nan"),
    ((1, (2, (3, (4, (5, (6, (7, (8,)))))))), "nested more than"),
]


@pytest.mark.parametrize(("key", "text"), BAD_KEYS, ids=[text for _, text in BAD_KEYS])
async def test_key_that_cannot_be_one(client: Client, key: Any, text: str) -> None:
    with pytest.raises((TypeError, ValueError), match=text):
        client.submit(inc, 1, key=key)
    with pytest.raises((TypeError, ValueError), match=text):
        client.map(inc, [1], key=[key])
    with pytest.raises((TypeError, ValueError), match=text):
        client.get({key: (inc, 1)}, key, sync=False)
    with pytest.raises((TypeError, ValueError), match=text):
        await client.scatter({key: 1})


async def test_what_messages_cannot_carry_cancels_what_asked_for_it(client: Client) -> None:
    other = client.submit(inc, 2, pure=False)
    with pytest.raises(FutureCancelledError, match="could not be sent to the scheduler"):
        await client.submit(inc, 1, retries=2**70, pure=False)
    with pytest.raises(FutureCancelledError, match="could not be sent"), dask.annotate(number=2**70):
        await client.gather(client.map(inc, range(2), pure=False))
    assert await other == 3


async def test_option_of_wrong_type(client: Client) -> None:
    for options in ({"resources": {"a": "b"}}, {"retries": "x"}, {"priority": object()}, {"workers": object()}):
        with pytest.raises(TypeError, match="option of a task is not of the right type"):
            client.submit(inc, 1, **options)


async def test_event_that_cannot_be_sent_is_dropped(client: Client) -> None:
    def publish() -> int:
        get_worker().log_event("topic", object())
        return 1

    assert await client.submit(publish) == 1


# Values that cannot be pickled, or unpickled


async def test_function_that_cannot_be_pickled(client: Client) -> None:
    lock = threading.Lock()

    def locked(x: Any) -> Any:
        return lock

    for work in (
        lambda: client.submit(locked, 1),
        lambda: client.map(locked, [1]),
        lambda: client.get({"a": (locked, 1)}, "a", sync=False),
        lambda: client.compute(dask.delayed(locked)(1)),
        lambda: client.run(locked),
    ):
        with pytest.raises(SerializationError, match=r"type function.*locked: variable 'lock' is a _thread.lock"):
            await work()


async def test_argument_that_cannot_be_pickled(client: Client) -> None:
    named = "Locked.*lock is a _thread.lock"
    works: list[tuple[str, Callable[[], Any]]] = [
        (f"argument 0 of the task .*inc.*{named}", lambda: client.submit(inc, Locked())),
        (f"argument 'x' of the task .*inc.*{named}", lambda: client.submit(inc, x=Locked())),
        (r"argument 0 .*\[1\]\['a'\] is a .*Locked", lambda: client.submit(inc, [1, {"a": Locked()}])),
        (f"argument 0 of the task .*inc.*{named}", lambda: client.map(inc, [1, Locked()])),
        (f"argument 'y' of the task .*inc.*{named}", lambda: client.map(inc, [1], y=Locked())),
        (f"argument 0 of the task .*inc.*{named}", lambda: client.get({"a": (inc, Locked())}, "a", sync=False)),
        (f"argument 0 of the task .*inc.*{named}", lambda: client.compute(dask.delayed(inc)(Locked()))),
        (named, lambda: client.scatter(Locked())),
        (named, lambda: client.scatter({"x": Locked()})),
    ]
    for text, work in works:
        with pytest.raises(TypeError, match=text):
            await work()


async def test_result_that_cannot_be_pickled(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    client = served.client
    future = client.submit(Locked, key="locked-1")
    text = "the result of the task 'locked-1' cannot be sent.*Locked.*_thread.lock"
    with pytest.raises(TypeError, match=text):
        await future
    for direct in (True, False):
        with pytest.raises(TypeError, match=text):
            await client.gather([client.submit(inc, 1), future], direct=direct)
    assert await client.submit(type, future) is Locked
    async with Worker(served.scheduler.address, nthreads=1) as other:
        with pytest.raises(TypeError, match=text):
            await client.submit(type, future, workers=[other.address])
    # a line in the log of the worker that was asked, and no traceback: the user has the error
    failures = [record for record in caplog.records if "while handling op get_data" in record.getMessage()]
    assert failures
    assert all("Locked" in record.getMessage() and not record.exc_info for record in failures)


async def test_value_that_cannot_be_unpickled(served: Served) -> None:
    client = served.client
    for kind in (Unloadable, LargeUnloadable):
        future = client.submit(kind, key="strange")
        with pytest.raises(DeserializationError, match=r"result of the task 'strange' cannot be loaded here.*refused"):
            await future
        with pytest.raises(DeserializationError, match=r"result of the task 'strange' cannot be loaded here.*refused"):
            await client.gather([client.submit(bytes, 20_000), future])
        async with Worker(served.scheduler.address, nthreads=1) as other:
            with pytest.raises(DeserializationError, match=r"value of 'strange', which came from .* cannot be loaded"):
                await client.submit(type, future, workers=[other.address])
            with pytest.raises(ValueError, match="refused"):  # what unpickling raises
                await client.submit(type, future, workers=[other.address], pure=False)
        with pytest.raises(ValueError, match="refused"):
            await future
    with pytest.raises(
        DeserializationError, match=r"arguments of the task 'inc-.*cannot be loaded on the worker at tcp:"
    ):
        await client.submit(inc, Unloadable())
    with pytest.raises(DeserializationError, match=r"the worker at tcp:.* cannot read a request.*refused"):
        await client.scatter([Unloadable()])
    with pytest.raises(ValueError, match="refused"):
        await client.run(inc, Unloadable())


@pytest.mark.parametrize("depth", [100_000, 300, 0])
async def test_deep_arguments(client: Client, depth: int) -> None:
    deep: list[Any] = []
    if not depth:
        deep.append(deep)  # holds itself
    for _ in range(depth):
        deep = [deep]
    if depth > 1000:
        with pytest.raises(SerializationError, match=r"argument 0 of the task .*count.*recursion"):
            client.submit(count, deep)
        with pytest.raises(SerializationError, match=r"argument 0 of the task .*count.*recursion"):
            client.map(count, [deep])
    else:
        assert await client.submit(count, deep) == 1
        assert await client.gather(client.map(count, [deep, deep], pure=False)) == [1, 1]


async def test_many_arguments(client: Client) -> None:
    assert await client.submit(count, *range(50_000)) == 50_000
    futures = client.map(inc, range(200))
    assert await client.submit(count, *futures) == 200


# Exceptions


class Demanding(Exception):
    """Unpickling calls the class with the message only."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"error {code} at {where}")


class Holding(Exception):
    """Holds what cannot be pickled."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.socket = socket.socket()
        self.socket.close()


class Unshowable(Exception):
    """Has no working text."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


def throw(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Demanding(5, "home"), "^error 5 at home$"),  # its class is kept
        (lambda: Holding("with a lock"), "Holding.*with a lock"),
        (lambda: ExceptionGroup("several", [ValueError(1), Holding("inside")]), "several.*ValueError.*inside"),
        (lambda: ValueError("y" * 1_000_000), "yyy.*characters left out"),
    ],
    ids=["demanding", "holding", "group", "long"],
)
async def test_exception_that_cannot_travel_names_itself(client: Client, make: Any, text: str) -> None:
    def fail() -> None:
        raise make()

    future = client.submit(fail)
    with pytest.raises(Exception, match=text):
        await future
    assert "fail" in str(await future.traceback() and (await future.traceback()).tb_frame.f_code.co_name)


async def test_exception_without_text(client: Client) -> None:
    with pytest.raises(Unshowable):
        await client.submit(throw, Unshowable("x"))


async def test_exception_whose_class_is_only_on_the_worker(client: Client) -> None:
    def fail() -> None:
        module = types.ModuleType("only_on_the_worker")
        exec("class Odd(Exception):\n  def __reduce__(self): return (Odd, ('odd text',))", module.__dict__)
        sys.modules["only_on_the_worker"] = module
        raise module.Odd("odd text")

    future = client.submit(fail)
    with pytest.raises(Exception, match="odd text"):
        await future
    sys.modules.pop("only_on_the_worker", None)
    with pytest.raises(RemoteError, match=r"Odd\('odd text'\).*only_on_the_worker"):
        await future


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
async def test_exceptions_that_end_programs_end_nothing(served: Served, error: BaseException) -> None:
    async def throw_later() -> None:
        raise error

    client = served.client
    text = type(error).__name__
    for future in (client.submit(throw, error), client.submit(throw_later)):
        with pytest.raises(RemoteError, match=text):
            await future
    if not isinstance(error, KeyboardInterrupt):  # that one ends the loop of a main thread, as it should
        with pytest.raises(RemoteError, match=text):
            await client.run(throw_later)
        with pytest.raises(RemoteError, match=text):
            await client.run_on_scheduler(throw_later)


def test_nothing_ends_the_background_loop() -> None:
    with Client(processes=False, n_workers=1, dashboard_address=None) as client:
        for call in (client.run, client.run_on_scheduler):
            with pytest.raises(RemoteError, match="SystemExit"):
                call(sys.exit, 3)
        client.loop.asyncio_loop.call_soon_threadsafe(sys.exit, 3)
        assert client.submit(inc, 1).result(timeout=10) == 2


async def test_deep_recursion(client: Client) -> None:
    def deep(depth: int) -> int:
        return deep(depth + 1)

    with pytest.raises(RecursionError):
        await client.submit(deep, 0)

    def nest() -> list[Any]:
        result: list[Any] = []
        for _ in range(100_000):
            result = [result]
        return result

    future = client.submit(nest, key="nested")
    assert await client.submit(count, future) == 1  # it can be used where it is
    with pytest.raises(SerializationError, match=r"result of the task 'nested' cannot be sent.*recursion"):
        await future


async def test_memory_that_is_not_there(client: Client) -> None:
    with pytest.raises(MemoryError):
        await client.submit(bytearray, 1 << 50)


# Sharing and cancelling


async def test_unknown_host_to_scatter_to(client: Client) -> None:
    with pytest.raises(ValueError, match=r"'nobody\.invalid'; there are tcp://"):
        await client.scatter(1, workers=["nobody.invalid"])


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda c: c.scatter(1, workers=["nope"]), "'nope'"),
        (lambda c: c.restart_workers(["nope"]), "'nope'"),
        (lambda c: c.rebalance(workers=["nope"]), "'nope'"),
        (lambda c: c.unregister_worker_plugin("nope"), "'nope'"),
        (lambda c: c.unregister_worker_plugin("nope", nanny=True), "'nope'"),
        (lambda c: c.unregister_scheduler_plugin("nope"), "'nope'"),
        (lambda c: c.get_task_stream(start="nope"), "'nope'"),
        (lambda c: Semaphore(3, name="two", client=c).acquire(), "Inconsistent max leases: 3"),
    ],
)
async def test_what_is_refused_is_a_line_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture, ask: Callable[[Client], Any], text: str
) -> None:
    assert await Semaphore(2, name="two", client=served.client).acquire()
    with pytest.raises(BadRequestError, match=text):
        await ask(served.client)
    (record,) = [record for record in caplog.records if "while handling op" in record.getMessage()]
    assert text in record.getMessage()
    assert not record.exc_info


async def test_futures_of_a_closed_client(served: Served) -> None:
    async with Client(served.scheduler.address, asynchronous=True, set_as_default=False) as other:
        done, pending = other.submit(inc, 1, key="done"), other.submit(asyncio.sleep, 60)
        assert await done == 2
    with pytest.raises(FutureCancelledError, match="client-closed"):
        await pending
    with pytest.raises(FutureCancelledError, match=r"(?s)lost dependencies.*depend on 'done'"):
        await served.client.submit(inc, done)
    with pytest.raises(Exception, match="Client is closed"):
        other.submit(inc, 1)


async def test_two_clients_share_keys(served: Served) -> None:
    def slow(x: int) -> int:
        import time

        time.sleep(0.01)
        return x

    async with Client(served.scheduler.address, asynchronous=True, set_as_default=False) as other:
        ours, theirs = served.client.map(slow, range(20)), other.map(slow, range(20))
        assert [future.key for future in ours] == [future.key for future in theirs]
        await served.client.cancel(ours)
        assert await other.gather(theirs) == list(range(20))
        with pytest.raises(FutureCancelledError):
            await ours[-1]
        assert await served.client.submit(inc, theirs[3]) == 4


async def test_cancel_what_runs(served: Served) -> None:
    started, go_on = threading.Event(), threading.Event()
    served.worker.events = started, go_on

    def held() -> int:
        started, go_on = get_worker().events
        started.set()
        go_on.wait(10)
        return 1

    future = served.client.submit(held)
    dependent = served.client.submit(inc, future)
    await asyncio.to_thread(started.wait, 10)
    await future.cancel()
    for cancelled in (future, dependent):
        with pytest.raises(FutureCancelledError):
            await cancelled
    assert await served.client.submit(inc, 1) == 2  # beside the one that still runs
    go_on.set()


# Sizes


async def test_a_value_larger_than_what_one_side_accepts() -> None:
    async with (
        Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
        Worker(scheduler.address, nthreads=1) as one,
    ):
        with dask.config.set({"distributed.comm.max-frame-bytes": 1_000_000}):
            async with (
                Worker(scheduler.address, nthreads=1) as other,
                Client(scheduler.address, asynchronous=True) as client,
            ):
                future = client.submit(bytes, 2_000_000, workers=[one.address], key="large")
                for failing in (
                    future,
                    client.gather([future], direct=False),
                    client.submit(len, future, workers=[other.address]),
                ):
                    with pytest.raises(MessageTooLargeError, match=r"2000000.*max-frame-bytes to the same on both"):
                        await asyncio.wait_for(failing, 20)
                with pytest.raises(MessageTooLargeError, match="'large'"):
                    await future
                assert await client.submit(len, future, workers=[one.address], pure=False) == 2_000_000


async def test_value_larger_than_the_limit() -> None:
    text = "2000000 bytes in one piece are more than the limit of 1000000 .*max-frame-bytes"
    with dask.config.set({"distributed.comm.max-frame-bytes": 1_000_000}):
        async with (
            Scheduler(host="127.0.0.1", port=0, validate=True) as scheduler,
            Worker(scheduler.address, nthreads=1) as one,
            Worker(scheduler.address, nthreads=1) as other,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            future = client.submit(bytes, 2_000_000, workers=[one.address], key="large")
            for failing in (
                future,
                client.gather([future], direct=False),
                client.submit(len, future, workers=[other.address]),
            ):
                with pytest.raises(MessageTooLargeError, match=f"result of the task 'large' cannot be sent: {text}"):
                    await failing
            with pytest.raises(MessageTooLargeError, match=text):
                await client.scatter(bytes(2_000_000))
            with pytest.raises(FutureCancelledError, match=r"could not be sent to the scheduler: 20000.. bytes"):
                await client.submit(len, bytes(2_000_000))
            assert await client.submit(len, future, workers=[one.address], pure=False) == 2_000_000


async def test_task_that_prints_much(client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    def chatter() -> None:
        for _ in range(100):
            print("x" * 50_000)

    await client.submit(chatter)
    assert len(capfd.readouterr().out) == 100 * 50_001
