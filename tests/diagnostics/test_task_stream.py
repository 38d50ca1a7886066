"""The stream of finished tasks: asked for, cut out by a context, drawn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from headrace import Client, get_task_metadata, get_task_stream, wait
from headrace.diagnostics.pages.stream_drawings import busy_over_time, stream_data, stream_figure
from headrace.diagnostics.task_stream import Run, TaskStreamPlugin, color_of_message, message_of, rectangles
from headrace.testing.clusters import gen_cluster
from tests.diagnostics.tasks import Page, add, double, fail


def run(key: str = "f-1", worker: str = "tcp://w", start: float = 10.0, stop: float = 11.0, **other: Any) -> Run:
    return Run(key, worker, 7, "OK", 28, "int", (("compute", start, stop),))._replace(**other)


def test_a_context_collects_what_ends_within_it(client: Client) -> None:
    client.submit(double, -1).result()
    with get_task_stream() as stream:
        before = time.time()
        futures = client.map(double, range(6))
        client.gather(futures)
        failed = client.submit(fail, 1)
        wait(failed)
    assert stream.figure is None
    assert len(stream.data) == 7
    *good, bad = stream.data
    assert {each["key"] for each in good} == {future.key for future in futures}
    for each in good:
        assert each["status"] == "OK"
        assert each["worker"] in client.scheduler_info()["workers"]
        assert each["thread"]
        assert (each["typename"], each["nbytes"]) == ("int", 28)
        (compute,) = each["startstops"]
        assert compute["action"] == "compute"
        assert before - 1 < compute["start"] < compute["stop"] < time.time() + 1
    assert (bad["key"], bad["status"]) == (failed.key, "error")
    assert "ValueError" in bad["exception_text"]
    assert bad["thread"]
    assert bad["worker"] in client.scheduler_info()["workers"]


def test_transfers_are_told(client: Client) -> None:
    one, other = sorted(client.scheduler_info()["workers"])
    a, b = client.submit(double, 3, workers=one), client.submit(double, 4, workers=other)
    wait([a, b])
    with get_task_stream() as stream:
        client.submit(add, a, b, workers=one).result()
    (only,) = stream.data
    assert [each["action"] for each in only["startstops"]] == ["transfer", "compute"]


def test_asking_for_a_part(client: Client) -> None:
    client.get_task_stream()
    client.gather(client.map(double, range(100, 110)))
    found = client.get_task_stream()
    assert len(client.get_task_stream(count=3)) == 3
    assert client.get_task_stream(count=3) == found[-3:]
    assert client.get_task_stream(start="1 hour") == found
    assert client.get_task_stream(start=time.time() + 60) == ()
    assert client.get_task_stream(stop=1.0) == ()
    assert client.get_task_stream(count=0) == ()


def test_a_figure_shows_itself_and_is_saved(client: Client, tmp_path: Path) -> None:
    filename = tmp_path / "stream.html"
    with get_task_stream(plot="save", filename=str(filename)) as stream:
        client.gather(client.map(double, range(200, 204)))
        wait(client.submit(fail, 2))
    page = Page(filename.read_text(encoding="utf-8"))
    data = page.blocks["stream-data"]
    assert len(data["runs"]) == 5
    assert set(data["names"]) == {"double", "fail"}
    assert "double" in page.sections["stream"]
    assert stream.figure._repr_html_().startswith("<iframe")
    messages, figure = client.get_task_stream(count=5, plot=True)
    assert len(messages) == 5
    assert "double" in figure.html


async def test_asynchronous_client(servers: Any) -> None:
    async with Client(servers[0]["address"], asynchronous=True) as client:
        async with get_task_stream(client, plot=True) as stream:
            await client.gather(client.map(double, range(300, 303)))
        assert len(stream.data) == 3
        assert stream.figure is not None
        assert len(await client.get_task_stream(count=2)) == 2
        async with get_task_metadata() as tasks:
            future = client.submit(double, 304)
            await future
        assert tasks.state == {future.key: "memory"}


@gen_cluster(client=True)
async def test_nothing_is_recorded_until_somebody_asks(c: Client, s: Any, a: Any, b: Any) -> None:
    await c.submit(double, 1)
    assert not s.state.observers
    assert "task-stream" not in s.plugins
    assert await c.get_task_stream() == ()
    await c.submit(double, 2)
    (only,) = await c.get_task_stream()
    assert only["key"].startswith("double-")
    assert s.get_task_stream() == [only]
    assert s.get_task_stream_index() == 1


@gen_cluster(client=True)
async def test_each_run_of_a_task_that_is_tried_again_counts(c: Client, s: Any, a: Any, b: Any) -> None:
    async with get_task_stream(c) as stream:
        future = c.submit(fail, 3, retries=2)
        await wait(future)
    assert [each["status"] for each in stream.data] == ["error"] * 3


@gen_cluster(client=True)
async def test_metadata_of_workers_is_collected(c: Client, s: Any, a: Any, b: Any) -> None:
    def note() -> int:
        from headrace import get_worker

        worker = get_worker()
        worker.state.tasks[worker.get_current_task()].metadata["seen"] = 1
        return 1

    async with get_task_metadata() as tasks:
        good, bad = c.submit(note, key="noted"), c.submit(fail, 4, key="failed")
        await wait([good, bad])
    assert tasks.metadata == {"noted": {"seen": 1}, "failed": None}
    assert tasks.state == {"noted": "memory", "failed": "erred"}
    assert tasks.name not in s.plugins
    with pytest.raises(ValueError, match="under the name"):
        s.stop_task_metadata("unknown")


class TestThePlugin:
    """The record by itself."""

    def plugin(self, count: int, maxlen: int = 100) -> TaskStreamPlugin:
        plugin = TaskStreamPlugin(None, maxlen=maxlen)
        for number in range(count):
            plugin.buffer.append(run(f"f-{number}", stop=11.0 + number))
            plugin.index += 1
        return plugin

    def keys(self, messages: list[dict[str, Any]]) -> list[str]:
        return [each["key"] for each in messages]

    def test_it_is_bounded_and_numbers_go_on(self) -> None:
        plugin = self.plugin(10, maxlen=4)
        assert self.keys(plugin.collect()) == ["f-6", "f-7", "f-8", "f-9"]
        assert self.keys(plugin.collect(start_index=8)) == ["f-8", "f-9"]
        assert self.keys(plugin.collect(start_index=0)) == ["f-6", "f-7", "f-8", "f-9"]
        assert plugin.collect(start_index=10) == []
        assert plugin.rectangles(7, 9)["key"] == ["f-7", "f-8"]

    def test_spans_of_time(self) -> None:
        plugin = self.plugin(5)
        assert self.keys(plugin.collect(start=13.0)) == ["f-2", "f-3", "f-4"]
        assert self.keys(plugin.collect(stop=12.0)) == ["f-0", "f-1"]
        assert self.keys(plugin.collect(start=12.0, stop=13.0, count=1)) == ["f-2"]

    def test_transitions_are_taken_as_other_schedulers_tell_them(self) -> None:
        plugin = TaskStreamPlugin(None, maxlen=10)
        known = {"startstops": [{"action": "compute", "start": 1.0, "stop": 2.0}], "worker": "tcp://w", "thread": 3}
        plugin.transition("f-1", "processing", "memory", stimulus_id="s", **known)
        plugin.transition("f-1", "memory", "released", stimulus_id="s")
        assert self.keys(plugin.collect()) == ["f-1"]


class TestDrawing:
    """Columns and data of drawings."""

    def test_rectangles(self) -> None:
        both = (("compute", 10.0, 10.5), ("transfer", 9.0, 9.25))
        workers: dict[str, int] = {}
        columns = rectangles([message_of(run(startstops=both)), message_of(run(worker="tcp://v"))], workers)
        assert columns["name"] == ["transfer-f", "f", "f"]
        assert columns["duration"] == [250.0, 500.0, 1000.0]
        assert columns["start"] == [9125.0, 10250.0, 10500.0]
        assert columns["duration_text"] == ["250.00 ms", "500.00 ms", "1.00 s"]
        assert columns["y"] == [0, 0, 1]
        assert workers == {"tcp://w-7": 0, "tcp://v-7": 1}
        assert rectangles([message_of(run())], start_boundary=12.0)["key"] == []

    def test_colors(self) -> None:
        good, other = message_of(run("f-1")), message_of(run("f-2"))
        assert color_of_message(good) == color_of_message(other)
        assert color_of_message(message_of(run(status="error"))) == "black"

    def test_data_for_the_script(self) -> None:
        data = stream_data([run(), run("g-1", "tcp://v", 10.5, 12.0)], {"tcp://w": "one", "tcp://v": 2}, 10.0, 12.0)
        assert data["span"] == 2.0
        assert [row[0] for row in data["rows"]] == ["2", "one"]
        assert data["runs"] == [[1, 0.0, 1.0, 0, 0, 0, 0, 28], [0, 0.5, 1.5, 0, 1, 1, 0, 28]]

    def test_nothing_shown_can_be_markup(self) -> None:
        nasty = "x</script><script>alert(1)</script>&<b>"
        figure = stream_figure([run(f"{nasty}-1", status="error", exception=nasty)], {"tcp://w": nasty})
        page = Page(figure.html)
        assert sum(tag == "script" for tag, _ in page.tags) == 2
        assert page.blocks["stream-data"]["names"] == [nasty]
        assert nasty in page.sections["stream"]

    def test_how_many_run_at_a_time(self) -> None:
        runs = [run(start=0.0, stop=2.0), run(start=1.0, stop=2.0), run(start=1.0, stop=1.5)]
        assert busy_over_time(runs, 0.0, 4.0, 4) == [1.0, 2.5, 0.0, 0.0]
        assert busy_over_time([], 0.0, 0.0, 2) == [0.0, 0.0]
