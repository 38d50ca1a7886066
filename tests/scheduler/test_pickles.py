"""What a scheduler, or a server with blocked operations, does not unpickle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dask
import pytest

from headrace import Client, Scheduler, SchedulerPlugin, Worker, WorkerPlugin
from headrace.comm import connect
from headrace.exceptions import BadRequestError
from headrace.protocol import Serialize, dumps
from headrace.protocol.marks import ToPickle
from headrace.rpc.requests import send_recv

pytestmark = pytest.mark.filterwarnings("ignore:the package 'distributed'")

loaded: list[str] = []


def note(name: str) -> str:
    loaded.append(name)
    return name


class Notes:
    """Leaves a note where it is unpickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return note, (self.name,)


@pytest.fixture(autouse=True)
def nothing_loaded() -> Iterator[None]:
    loaded.clear()
    yield
    loaded.clear()


MARKS = {
    "serialized": Serialize,
    "for every receiver": ToPickle,
    "in a list": lambda value: [ToPickle(value)],
    "bytes": dumps,
}


async def ask(address: str, **request: Any) -> Any:
    comm = await connect(address)
    try:
        return await send_recv(comm, **request)
    finally:
        await comm.close()


@pytest.mark.parametrize("protocol", ["tcp", "inproc"])
@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
async def test_what_comes_for_a_blocked_operation(protocol: str, mark: Any) -> None:
    where = {"protocol": protocol} if protocol == "inproc" else {"host": "127.0.0.1", "port": 0}
    with dask.config.set({"distributed.worker.blocked-handlers": ["run"]}):
        async with (
            asyncio.timeout(20),
            Scheduler(**where, blocked_handlers=["run_function"], validate=True) as scheduler,
            Worker(scheduler.address, nthreads=1, validate=True) as worker,
            Client(scheduler.address, asynchronous=True) as client,
        ):
            for address, operation in ((scheduler.address, "run_function"), (worker.address, "run")):
                with pytest.raises(BadRequestError, match=rf"{operation}.*disallowed"):
                    await ask(address, op=operation, function=mark(Notes("blocked")))
            assert loaded == []
            await ask(
                worker.address, op="update_data", data={"x": Serialize(Notes("wanted"))}
            )  # what is allowed, is loaded
            assert "wanted" in loaded or worker.data["x"].name == "wanted"
            assert await client.submit(sum, [1, 2]) == 3


@pytest.fixture
async def closed() -> AsyncIterator[tuple[Scheduler, Client]]:
    with dask.config.set({"distributed.scheduler.pickle": False}):
        scheduler = Scheduler(host="127.0.0.1", port=0, validate=True)
    async with (
        asyncio.timeout(20),
        scheduler,
        Worker(scheduler.address, nthreads=1, validate=True),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        yield scheduler, client


class OfScheduler(SchedulerPlugin):
    pass


class OfWorker(WorkerPlugin):
    name = "of-worker"


SETTING = r"distributed\.scheduler\.pickle: false forbids"


async def test_a_scheduler_that_opens_no_pickles_says_so(closed: tuple[Scheduler, Client], tmp_path: Any) -> None:
    scheduler, client = closed
    with pytest.raises(BadRequestError, match=SETTING):
        await client.run_on_scheduler(note, "run")
    with pytest.raises(BadRequestError, match=SETTING):
        await client.register_plugin(OfScheduler())
    (tmp_path / "uploaded_without_pickles.py").write_text("value = 7\n")
    with pytest.raises(BadRequestError, match=SETTING):
        await client.upload_file(str(tmp_path / "uploaded_without_pickles.py"))
    for request in (
        {"op": "workers_to_close", "key": dumps(note)},
        {"op": "register_worker_plugin", "plugin": dumps(Notes("plugin"))},
        {"op": "feed", "function": dumps(Notes("feed"))},
        {"op": "run_function", "function": ToPickle(Notes("function"))},
    ):
        with pytest.raises(BadRequestError, match=SETTING):
            await ask(scheduler.address, **request)
    await ask(scheduler.address, op="identity", **{"n_workers": 0})
    with pytest.raises(KeyError):  # the operation is given what came, unopened
        await ask(scheduler.address, op="get_metadata", keys=ToPickle(Notes("unasked")))
    assert loaded == []


async def test_work_goes_on_as_ever_without_pickles(closed: tuple[Scheduler, Client]) -> None:
    _, client = closed
    assert await client.submit(sum, [1, 2]) == 3
    [data] = await client.scatter([[1, 2]])
    assert await client.submit(sum, data) == 3
    assert list((await client.run(len, [1])).values()) == [1]
    await client.register_plugin(OfWorker())
    await client.publish_dataset(data, name="data")
    assert await (await client.get_dataset("data")) == [1, 2]
    await client.log_event("topic", {"a": 1})
    assert [event for _, event in await client.get_events("topic")] == [{"a": 1}]
