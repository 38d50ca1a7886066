"""The progress bar's text, and bars that follow the work of a cluster."""

from __future__ import annotations

import asyncio
import doctest
import io
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dask
import pytest

from headrace import Client, LocalCluster, progress, span, wait
from headrace.compat.diagnostics import progress as progress_plugins
from headrace.diagnostics import plugin, progressbar
from headrace.diagnostics.progress import bar_text
from headrace.diagnostics.progress.bar_text import (
    choose_groups,
    format_seconds,
    render_bar,
    render_groups,
    render_line,
)
from headrace.diagnostics.progress.feed import Group, Snapshot
from headrace.diagnostics.progress.watch import grouping
from headrace.diagnostics.progressbar import MultiProgressBar, ProgressBar, TextProgressBar, get_scheduler
from headrace.protocol import loads_exception
from headrace.testing.helpers.polling import poll_for


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as client:
        yield client


class Gate:
    """Functions for tasks that wait until the test lets them go on."""

    def __init__(self) -> None:
        self.started, self.release = threading.Event(), threading.Event()

    def hold(self, *_: Any) -> int:
        self.started.set()
        assert self.release.wait(30)
        return 1

    def __reduce__(self) -> str:
        return "GATE"


GATE = Gate()


@pytest.fixture
def gate() -> Iterator[Gate]:
    GATE.__init__()  # type: ignore[misc]
    yield GATE
    GATE.release.set()


def fail(x: object) -> None:
    raise ValueError(f"no {x}")


# Text


@pytest.mark.parametrize("module", [bar_text, progressbar, plugin, progress_plugins])
def test_examples(module: object) -> None:
    assert not doctest.testmod(module).failed  # type: ignore[arg-type]


def test_bar_fills() -> None:
    assert render_bar(0, 4) == "    "
    assert render_bar(0.5, 4) == "██  "
    assert render_bar(1, 4) == "████"
    assert all(len(render_bar(i / 100, 7)) == 7 for i in range(101))


def test_durations() -> None:
    assert [format_seconds(s) for s in (0, 59.94, 119.7, 3600)] == ["0.0s", "59.9s", "2m 00s", "1h 00m"]


def test_nothing_to_do_is_done() -> None:
    assert "100%" in render_line(Snapshot(finished=True))
    assert Snapshot().remaining is None


def test_a_percentage_is_rounded_down() -> None:
    assert " 99% " in render_line(Snapshot((Group("x", 10_000, 9_999),), 10_000))


def test_the_rate_is_of_what_was_done_since_the_watch_began() -> None:
    snapshot = Snapshot((Group("x", 100, 60, before=50),), 100, elapsed=2.0)
    assert snapshot.rate == 5
    assert snapshot.remaining == 8


@pytest.mark.parametrize("columns", [200, 100, 79, 60, 40, 25, 10, 1])
def test_a_line_fits_into_the_terminal(columns: int) -> None:
    snapshot = Snapshot((Group("x", 10_000, 5_000, 70, 7),), 10_000, 4, elapsed=100.0)
    line = render_line(snapshot, 40, True, "label", columns)
    assert len(line) <= columns
    assert len(render_groups(snapshot.groups, columns)[0]) <= columns
    if columns >= 60:
        assert "70 erred" in line


def test_what_is_not_done_is_shown_rather_than_what_is() -> None:
    groups = tuple([Group(str(number), 2, number % 3) for number in range(9)])
    assert [group.name for group in choose_groups(groups, 4)] == ["0", "1", "3", "4"]
    assert [group.name for group in choose_groups(groups, 7)] == ["0", "1", "2", "3", "4", "6", "7"]
    assert choose_groups(groups, 20) == list(groups)
    assert choose_groups(groups[:1], 20) == []


# Bars


def test_follows_until_all_are_done(client: Client) -> None:
    file = Terminal()
    good = client.map(lambda x: x, range(5), key="good")
    bad = client.map(fail, range(2), key="bad")
    TextProgressBar([good, bad], file=file, group_by="prefix")
    text = file.getvalue()
    assert "7/7, 2 erred" in text
    assert "good" in text
    assert "ValueError('no 0')" in text
    assert text.endswith("\n")


def test_what_futures_need_counts_as_well(client: Client) -> None:
    file = io.StringIO()
    parts = [dask.delayed(lambda x: x, name="part")(number) for number in range(6)]
    total = client.compute(dask.delayed(sum)(parts))
    assert progress(total, file=file) is None
    assert "7/7" in file.getvalue()
    assert total.result() == 15


def test_without_a_terminal_it_writes_few_lines(client: Client) -> None:
    file = io.StringIO()
    progress(client.map(lambda x: x, range(1000), pure=False), file=file)
    lines = file.getvalue().splitlines()
    assert len(lines) <= 5
    assert "1,000/1,000" in lines[-1]
    assert "\r" not in file.getvalue()
    assert "\x1b" not in file.getvalue()


def test_one_line_for_all_unless_groups_are_asked_for(client: Client) -> None:
    futures = [client.submit(int, 1, key="one-1"), client.submit(int, 2, key="two-1")]
    one, many = io.StringIO(), io.StringIO()
    progress(futures, multi=False, file=one)
    progress(futures, group_by=lambda key: "last" if key.startswith("two") else "first", file=many)
    assert len(one.getvalue().splitlines()) == 1
    assert "first" in many.getvalue()
    assert "last" in many.getvalue()


def test_done_ones_can_be_left_out(client: Client, gate: Gate) -> None:
    done = client.submit(int, 1, pure=False)
    wait(done)
    held = client.submit(gate.hold, pure=False)
    bar = TextProgressBar([done, held], complete=False, start=False, file=io.StringIO())
    poll_for(lambda: bar.snapshot.total == 1)
    gate.release.set()
    assert bar.run().total == 1


def test_running_tasks_are_told(client: Client, gate: Gate) -> None:
    futures = client.map(gate.hold, range(5), pure=False)
    bar = TextProgressBar(futures, start=False, file=io.StringIO())
    poll_for(lambda: bar.snapshot.running == 2)
    assert bar.snapshot.groups[0].processing >= 2
    gate.release.set()
    assert bar.run().running == 0


class Drawn(ProgressBar):
    """As bars of other packages, which are told numbers."""

    def __init__(self, keys: Any) -> None:
        self.drawn: list[tuple[int, int]] = []
        self.stopped: list[tuple[Any, str, Any]] = []
        super().__init__(keys, interval="20ms")

    def _draw_bar(self, remaining: int, all: int, **kwargs: Any) -> None:
        self.drawn.append((remaining, all))

    def _draw_stop(self, remaining: int, status: str, exception: Any = None, **kwargs: Any) -> None:
        self.stopped.append((remaining, status, exception))


def test_a_bar_of_ones_own_is_told_numbers_and_the_end(client: Client, gate: Gate) -> None:
    bar = Drawn(client.map(gate.hold, range(3), pure=False))
    assert bar.status is None
    poll_for(lambda: bar.snapshot.total == 3)
    gate.release.set()
    bar.run()
    assert bar.drawn[-1] == (0, 3)
    assert all(total == 3 for _, total in bar.drawn)
    assert bar.stopped == [(0, "finished", None)]
    assert bar.status == "finished"
    assert bar._last_response == {"all": 3, "remaining": 0, "status": "finished"}
    assert bar.comm is not None
    poll_for(bar.comm.closed)


def test_a_bar_of_ones_own_is_told_of_a_failure(client: Client) -> None:
    bad = client.submit(lambda: 1 / 0, key="bad-1")
    bar = Drawn(client.submit(abs, bad, key="more-1"))
    bar.run()
    [(remaining, status, exception)] = bar.stopped
    assert (remaining, status, bar.status) == (2, "error", "error")
    with pytest.raises(ZeroDivisionError):
        raise loads_exception(exception, "")
    assert bar._last_response["key"] == "bad-1"


def test_a_bar_of_groups_is_told_numbers_by_group(client: Client) -> None:
    bar = MultiProgressBar([client.submit(abs, client.submit(int, 5, key="one-1"), key="two-1")], complete=True)
    bar.run()
    assert bar._last_response == {"all": {"one": 1, "two": 1}, "remaining": {"one": 0, "two": 0}, "status": "finished"}


def test_keys_will_do(client: Client) -> None:
    future = client.submit(int, 5, key="five")
    bar = TextProgressBar("five", start=False, file=io.StringIO())
    assert bar.run().done == 1
    assert TextProgressBar([future, "five"], start=False, file=io.StringIO()).run().done == 1


def test_nothing_is_done_at_once() -> None:
    file = io.StringIO()
    progress([], file=file)
    assert "100%" in file.getvalue()


def test_a_bad_grouping_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="group_by must be"):
        progress(client.submit(int), group_by="nothing")


def test_a_grouping_that_raises_says_so_and_harms_nothing(client: Client) -> None:
    file = io.StringIO()
    futures = client.map(int, range(2), pure=False) + client.map(float, range(2), pure=False)
    progress(futures, group_by=lambda key: key.missing if "int" in key else "fine", file=file)
    assert "AttributeError" in file.getvalue()
    assert "4/4" in file.getvalue()


def test_a_grouping_that_cannot_be_loaded_by_the_scheduler_is_told(client: Client) -> None:
    file = io.StringIO()
    progress(client.submit(int, pure=False), group_by=Unloadable(), file=file)
    assert "stopped: " in file.getvalue()
    assert "not here" in file.getvalue()


class Unloadable:
    def __call__(self, key: object) -> str:
        return "x"

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, ()


def refuse() -> None:
    raise RuntimeError("not here")


def test_cancelled_futures_end_the_bar(client: Client, gate: Gate) -> None:
    futures = client.map(gate.hold, range(3), pure=False)
    bar = TextProgressBar(futures, start=False, file=io.StringIO())
    poll_for(lambda: bar.snapshot.total == 3)
    client.cancel(futures)
    assert bar.run().lost == 3


def test_an_interrupt_leaves_the_terminal_on_a_new_line(
    client: Client, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Terminal()
    bar = TextProgressBar(client.submit(gate.hold, pure=False), start=False, file=file)
    monkeypatch.setattr(bar, "draw", interrupting(bar.draw))
    with pytest.raises(KeyboardInterrupt):
        bar.run()
    assert file.getvalue().endswith("\n")
    assert bar.feed.end.cancelled()


def interrupting(draw: Any) -> Any:
    def drawn(snapshot: Snapshot) -> None:
        draw(snapshot)
        raise KeyboardInterrupt

    return drawn


def test_a_client_that_closes_ends_the_bar(cluster: LocalCluster, gate: Gate) -> None:
    with Client(cluster) as client:
        future = client.submit(gate.hold, pure=False)
        bar = TextProgressBar(future, start=False, file=io.StringIO())
        poll_for(lambda: bar.snapshot.total == 1)
    ended = bar.run()
    assert "closed" in ended.problem or ended.lost == 1
    with pytest.raises(Exception, match="closed"):
        TextProgressBar(future, start=False)


def test_nobody_is_called_when_nobody_watches(cluster: LocalCluster, client: Client, gate: Gate) -> None:
    scheduler = cluster.scheduler
    assert scheduler.state.observers == ()
    bar = TextProgressBar(client.submit(gate.hold, pure=False), start=False, file=io.StringIO())
    poll_for(lambda: len(scheduler.state.observers) == 1)
    bar.feed.stop()
    poll_for(lambda: scheduler.state.observers == ())
    gate.release.set()
    progress(client.submit(int, pure=False), file=io.StringIO())
    poll_for(lambda: scheduler.state.observers == ())
    assert not scheduler.extensions["progress"].comms


def test_a_broken_connection_is_made_anew(cluster: LocalCluster, client: Client, gate: Gate) -> None:
    extension = cluster.scheduler.extensions["progress"]
    bar = TextProgressBar(client.submit(gate.hold, pure=False), start=False, file=io.StringIO())
    poll_for(lambda: bar.snapshot.total == 1)
    before = set(extension.comms)
    cluster.loop.add_callback(extension.scheduler_closing)
    poll_for(lambda: bool(extension.comms) and not before & extension.comms)
    gate.release.set()
    assert bar.run().done == 1


def test_futures_of_several_schedulers_are_refused(client: Client) -> None:
    with (
        Client(n_workers=0, processes=False, set_as_default=False) as other,
        pytest.raises(ValueError, match="make a bar for each"),
    ):
        progress(client.submit(int), other.submit(int))


def test_futures_of_several_clients_of_one_scheduler_will_do(cluster: LocalCluster, client: Client) -> None:
    with Client(cluster, set_as_default=False) as other:
        futures = [client.submit(int, pure=False), other.submit(int, pure=False)]
        assert TextProgressBar(futures, start=False, file=io.StringIO()).run().total == 2


def test_persisted_collections(client: Client) -> None:
    file = io.StringIO()
    persisted = client.persist([dask.delayed(abs)(number, pure=False) for number in range(3)])
    progress(*persisted, file=file)
    assert "3/3" in file.getvalue()


def test_groups_of_real_spans(client: Client) -> None:
    with span("outer"), span("inner"):
        first = client.map(lambda x: x, range(3), key="spanned")
    second = client.submit(int, key="plain")
    file = io.StringIO()
    progress(first, second, group_by="spans", file=file)
    lines = file.getvalue().splitlines()
    assert any("outer › inner" in line and "3/3" in line for line in lines)
    assert any("default" in line and "1/1" in line for line in lines)


def test_groups_of_spans() -> None:
    spans = {"a": SimpleNamespace(name=("outer", "inner"))}
    shell = SimpleNamespace(extensions={"spans": SimpleNamespace(spans=spans)})
    group_of = grouping(SimpleNamespace(shell=shell), "spans")
    tasks = [SimpleNamespace(group=Hashed(each)) for each in ("a", None)]
    assert [group_of(task) for task in tasks] == ["outer › inner", "default"]  # type: ignore[arg-type]
    without = grouping(SimpleNamespace(shell=SimpleNamespace(extensions={})), "spans")
    assert without(tasks[0]) == "default"  # type: ignore[arg-type]


class Hashed:
    def __init__(self, span_id: str | None) -> None:
        self.span_id = span_id


def test_a_dumb_terminal_gets_lines(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    file = Terminal()
    progress(client.submit(int, pure=False), file=file)
    assert "\x1b" not in file.getvalue()


def test_the_address_of_a_scheduler(cluster: LocalCluster, client: Client) -> None:
    with client.as_current():
        assert get_scheduler() == cluster.scheduler_address
    assert get_scheduler("127.0.0.1:8786") == "tcp://127.0.0.1:8786"
    assert get_scheduler(cluster.scheduler) == cluster.scheduler.address


async def test_within_a_loop_it_is_awaited() -> None:
    async with Client(n_workers=1, threads_per_worker=1, processes=False, asynchronous=True) as client:
        bar = progress(client.map(int, range(3)), file=io.StringIO())
        assert bar is not None
        with pytest.raises(RuntimeError, match="await bar"):
            bar.run()
        assert (await asyncio.wait_for(bar.listen(), 30)).done == 3


async def test_a_loop_of_the_users_own_is_not_blocked() -> None:
    cluster = await asyncio.to_thread(LocalCluster, n_workers=1, threads_per_worker=1, processes=False)
    client = await asyncio.to_thread(Client, cluster)
    try:
        bar = progress(client.map(int, range(3)), file=io.StringIO())
        assert bar is not None
        assert (await asyncio.wait_for(bar.listen(), 30)).done == 3
    finally:
        await asyncio.to_thread(client.close)
        await asyncio.to_thread(cluster.close)


def test_a_scheduler_that_closes_ends_what_it_pushes() -> None:
    cluster = LocalCluster(n_workers=1, threads_per_worker=1, processes=False)
    client = Client(cluster)
    GATE.__init__()  # type: ignore[misc]
    bar = TextProgressBar(client.submit(GATE.hold, pure=False), start=False, file=io.StringIO())
    poll_for(lambda: bar.snapshot.total == 1)
    GATE.release.set()
    cluster.close()
    client.close()
    assert bar.run().finished or bar.snapshot.problem


def test_running_count_of_a_cluster(client: Client, gate: Gate) -> None:
    futures = [client.submit(gate.hold, pure=False) for _ in range(3)]
    assert gate.started.wait(30)
    gate.release.set()
    wait(futures)
    assert client.ask_in_background("count_running").result(30) == 0
