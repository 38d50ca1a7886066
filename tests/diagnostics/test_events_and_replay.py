"""Events, tasks that are run again here, streams of events, measured hardware, and what a client says of itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from headrace import Client, Reschedule, get_worker, wait
from headrace.compat.diagnostics.eventstream import eventstream
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for, poll_for
from tests.diagnostics.tasks import add, double, fail


@pytest.fixture
def caught(client: Client) -> Iterator[list[Any]]:
    found: list[Any] = []
    client.subscribe_topic("news", found.append)
    yield found
    client.unsubscribe_topic("news")


class TestEvents:
    """`log_event`, `get_events`, `subscribe_topic`."""

    def test_of_a_client(self, client: Client, caught: list[Any]) -> None:
        client.log_event("news", {"a": 1})
        client.log_event(["news", "more"], "text")
        poll_for(lambda: len(caught) == 2)
        assert [event for _, event in caught] == [{"a": 1}, "text"]
        assert all(isinstance(when, float) for when, _ in caught)
        assert [event for _, event in client.get_events("news")][-2:] == [{"a": 1}, "text"]
        assert [event for _, event in client.get_events("more")] == ["text"]
        assert "news" in client.get_events()

    def test_of_a_task(self, client: Client, caught: list[Any]) -> None:
        client.submit(lambda: get_worker().log_event(["news", "mine"], {"b": 2}), pure=False).result()
        poll_for(lambda: len(caught) == 1)
        assert caught[0][1].pop("worker") in client.nthreads()
        assert caught[0][1] == {"b": 2}

    def test_coroutine_functions_are_called(self, client: Client) -> None:
        found = []

        async def handler(event: Any) -> None:
            found.append(event)

        client.subscribe_topic("async", handler)
        client.log_event("async", 1)
        poll_for(lambda: len(found) == 1)
        client.unsubscribe_topic("async")

    def test_nobody_listens(self, client: Client) -> None:
        with pytest.raises(ValueError, match="No event handler known for topic 'xx'"):
            client.unsubscribe_topic("xx")


class TestReplay:
    """`recreate_error_locally`, `recreate_task_locally`."""

    def test_the_failure_happens_here(self, client: Client) -> None:
        inner = client.submit(double, 4)
        failed = client.submit(fail, inner)
        after = client.submit(add, failed, 1)
        for future in (failed, after, [after]):
            with pytest.raises(ValueError, match="no & 8") as raised:
                client.recreate_error_locally(future)
            assert raised.traceback[-1].frame.f_locals["x"] == 8

    def test_nothing_has_failed(self, client: Client) -> None:
        with pytest.raises(ValueError, match="none of these tasks has failed"):
            client.recreate_error_locally(client.submit(double, 1))

    def test_a_result_again(self, client: Client) -> None:
        future = client.submit(add, client.submit(double, 5), y=1)
        assert client.recreate_task_locally(future) == 11
        assert client.recreate_task_locally(future.key) == 11
        with pytest.raises(KeyError, match="never-there"):
            client.recreate_task_locally("never-there")
        (data,) = client.scatter([1])
        with pytest.raises(ValueError, match="scattered"):
            client.recreate_task_locally(data)

    def test_of_a_graph(self, client: Client) -> None:
        dask = pytest.importorskip("dask")
        total = client.compute(dask.delayed(sum)([dask.delayed(double)(number) for number in range(3)]))
        assert client.recreate_task_locally(total) == 6

    @pytest.mark.parametrize("kind", ["task", "error"])
    async def test_asynchronous(self, servers: Any, kind: str) -> None:
        async with Client(servers[0]["address"], asynchronous=True) as client:
            if kind == "task":
                assert await client.recreate_task_locally(client.submit(double, 50)) == 100
            else:
                with pytest.raises(ValueError, match="no & 51"):
                    await client.recreate_error_locally(client.submit(fail, 51))


@gen_cluster(client=True)
async def test_a_stream_of_events(c: Client, s: Any, a: Any, b: Any) -> None:
    comm = await eventstream(s.address, "10ms")
    assert await comm.read() == []
    futures = c.map(double, range(5))
    await wait(futures)
    found: list[Any] = []
    while len(found) < 5:
        found += await comm.read()
    await comm.close()
    await async_poll_for(lambda: not any(name.startswith("event-stream") for name in s.plugins), 10)
    assert {each["key"] for each in found} == {future.key for future in futures}
    assert all(each["startstops"] for each in found)


def test_hardware(client: Client, monkeypatch: Any) -> None:
    def shorten(dask_worker: Any) -> None:
        from headrace.worker import operations

        def short(function: Any) -> Any:
            import functools

            return functools.partial(function, sizes=("1 kiB", "100 kiB"), duration="10 ms")

        for name in ("benchmark_disk", "benchmark_memory", "benchmark_network"):
            setattr(operations, name, short(getattr(operations, name)))

    client.run(shorten)
    found = client.benchmark_hardware()
    assert set(found) == {"disk", "memory", "network"}
    for sizes in found.values():
        assert list(sizes) == ["1 kiB", "100 kiB"]
        assert all(speed > 0 for speed in sizes.values())


class TestForwardedLogging:
    """`Client.forward_logging`."""

    def test_records_come_here(self, client: Client, caplog: Any) -> None:
        client.forward_logging("forwarded", logging.INFO)
        with caplog.at_level(logging.INFO, "forwarded"):
            client.submit(lambda: logging.getLogger("forwarded").info("said on a worker"), pure=False).result()
            poll_for(lambda: "said on a worker" in caplog.text)
        client.unforward_logging("forwarded")


def test_versions_agree(client: Client) -> None:
    found = client.get_versions(check=True)
    assert set(found) == {"scheduler", "workers", "client"}
    assert len(found["workers"]) == 2


def test_current_clients(client: Client, servers: Any) -> None:
    assert Client.current() is client
    with Client(servers[0]["address"], set_as_default=False) as other:
        assert Client.current() is client
        with other.as_current():
            assert Client.current() is other
            assert Client.current(allow_global=False) is other
        assert Client.current() is client
        with pytest.raises(ValueError, match="as_current"):
            Client.current(allow_global=False)


def test_stories_and_the_memory_manager(client: Client) -> None:
    future = client.submit(double, 77)
    future.result()
    story = client.story(future)
    assert {line[0] for line in story} >= {"scheduler"}
    assert client.amm.running() in (True, False)


def test_a_task_that_asks_to_be_placed_anew(client: Client) -> None:
    tried = client.submit(list, pure=False)

    def once(marker: list[int]) -> str:
        worker = get_worker()
        if not getattr(worker, "rescheduled_once", False):
            worker.rescheduled_once = True
            raise Reschedule
        return "done"

    assert client.submit(once, tried, pure=False).result() == "done"


def test_a_profile_as_a_page(client: Client, tmp_path: Any) -> None:
    from tests.diagnostics.tasks import Page

    filename = tmp_path / "profile.html"
    profile = client.profile(filename=str(filename))
    assert profile["identifier"] == "root"
    assert "profile" in Page(filename.read_text(encoding="utf-8")).sections
    _, figure = client.profile(plot=True)
    assert figure._repr_html_().startswith("<iframe")
