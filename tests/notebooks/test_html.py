"""What notebooks show of things: well formed, escaped, self-contained, and bounded whatever the size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest

from headrace import Client, LocalCluster, Nanny, Scheduler, Security, Worker, wait
from headrace.client.presentation.answer_tables import HasWhat, SchedulerInfo, WhoHas
from headrace.common.display import cluster_html, html, units
from headrace.diagnostics.progress.bar_html import render_progress
from headrace.diagnostics.progress.feed import Group, Snapshot
from headrace.diagnostics.progress.notebook_bar import MultiProgressWidget

NASTY = "<script>alert('\"&')</script>"
VOID = {"br", "img", "hr", "input"}


class Checker(HTMLParser):
    """Follows the tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "style", "link", "img", "iframe"), tag
        for name, value in attributes:
            assert not name.startswith("on"), name
            assert value is None or "url(" not in value
            assert name != "href" or str(value).startswith(("http", "/"))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def text_of(markup: str) -> str:
    """The text that is shown; fails on markup that is not well formed or not self-contained."""
    checker = Checker()
    checker.feed(markup)
    checker.close()
    assert not checker.open
    return " ".join(checker.text)


def test_pieces_escape_what_is_no_markup() -> None:
    pieces = [
        html.card(NASTY, NASTY, subtitle=NASTY, status=NASTY),
        html.table([NASTY], [[NASTY]], more=3),
        html.facts({NASTY: NASTY, "left out": None}),
        html.fold(NASTY, NASTY, opened=True),
        html.line(NASTY, {NASTY: NASTY}, NASTY),
        html.meter(1, 2, NASTY),
        html.code(NASTY),
        html.badge(NASTY),
        html.link(NASTY),
        html.link("https://host/" + NASTY),
        html.link("javascript:alert(1)"),
    ]
    for piece in pieces:
        text_of(piece)
    for piece in pieces[:9]:
        assert NASTY in text_of(piece)


def test_markup_is_not_escaped_twice() -> None:
    assert html.join([html.code("<"), "<"], "&") == html.code("<") + "&" + "&lt;"


def test_the_examples_of_the_pieces() -> None:
    import doctest

    for module in (html, cluster_html, units):
        assert not doctest.testmod(module).failed


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, name=NASTY) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster, name=NASTY) as client:
        yield client


def fail() -> None:
    raise ValueError(NASTY)


def test_a_client_and_its_cluster(client: Client, cluster: LocalCluster) -> None:
    assert "threads=2" in repr(client)
    assert "memory=" in repr(client)
    for shown in (client, cluster):
        text = text_of(shown._repr_html_())
        assert NASTY in text
        assert "running" in text
        assert cluster.scheduler_address in text


def test_a_client_of_an_address_asks_its_scheduler(cluster: LocalCluster) -> None:
    with Client(cluster.scheduler_address) as client:
        assert "processes=1 threads=2" in repr(client)
        text = text_of(client._repr_html_())
        assert cluster.scheduler.workers[next(iter(cluster.scheduler.workers))].address in text
    assert repr(client) == "<Client: No scheduler connected>"
    assert "closed" in text_of(client._repr_html_())


async def test_on_its_own_loop_a_client_tells_what_it_knows() -> None:
    async with (
        Scheduler(port=0, host="127.0.0.1") as scheduler,
        Worker(scheduler.address, nthreads=3),
        Client(scheduler.address, asynchronous=True) as client,
    ):
        assert "processes=1 threads=3" in repr(client)
        assert text_of(client._repr_html_())


def test_futures(client: Client) -> None:
    good, bad = client.submit(int, 1, key=NASTY), client.submit(fail, pure=False)
    wait([good, bad])
    text = text_of(good._repr_html_())
    assert "finished" in text
    assert "int" in text
    assert NASTY in text
    text = text_of(bad._repr_html_())
    assert "error" in text
    assert "ValueError" in text
    good.release()
    assert text_of(good._repr_html_())


def test_who_has_what(client: Client) -> None:
    future = client.submit(int, 2, key=NASTY + "2")
    wait(future)
    found, held, info = client.who_has(), client.has_what(), client.scheduler_info()
    assert (type(found), type(held), type(info)) == (WhoHas, HasWhat, SchedulerInfo)
    assert isinstance(found, dict)
    for shown in (found, held):
        assert NASTY + "2" in text_of(shown._repr_html_())
    assert info["address"] in text_of(info._repr_html_())


def test_records_of_the_scheduler(client: Client, cluster: LocalCluster) -> None:
    future = client.submit(int, 3, key=NASTY + "3")
    wait(future)
    scheduler = cluster.scheduler
    task = scheduler.tasks[future.key]
    assert NASTY + "3" in text_of(task._repr_html_())
    assert "memory" in text_of(task._repr_html_())
    assert "running" in text_of(next(iter(scheduler.workers.values()))._repr_html_())
    computation = scheduler.computations[-1]
    assert "memory" in text_of(computation._repr_html_())
    assert "memory: " in repr(computation)
    assert "Tasks" in text_of(scheduler._repr_html_())
    assert scheduler.address in text_of(scheduler._repr_html_())


def test_workers_and_nannies(cluster: LocalCluster) -> None:
    worker = cluster.workers[0]
    text = text_of(worker._repr_html_())
    assert worker.address in text
    assert "Directory" in text
    nanny = Nanny("tcp://127.0.0.1:1", nthreads=1)
    assert "Nanny" in text_of(nanny._repr_html_())


async def test_what_has_not_started_is_shown_as_well() -> None:
    assert "No workers yet" in text_of(Scheduler(port=0)._repr_html_())
    client = Client("tcp://127.0.0.1:1", asynchronous=True, timeout=0.1)
    assert "connecting" in text_of(client._repr_html_())
    with pytest.raises(OSError, match="127"):
        await client
    cluster = LocalCluster(n_workers=0, asynchronous=True)
    assert "none" in text_of(cluster._repr_html_())
    async with cluster:
        pass


def test_security_tells_no_secrets() -> None:
    pytest.importorskip("cryptography")
    shown = Security.temporary()._repr_html_()
    assert "PRIVATE" not in shown
    assert "Temporary (In-memory)" in text_of(shown)


def test_large_clusters_are_bounded() -> None:
    one: dict[str, Any] = {"nthreads": 2, "memory_limit": 2**30, "name": NASTY, "last_seen": 5.0, "metrics": {}}
    workers = {f"tcp://w{number}:1": one for number in range(5000)}
    info = {"address": "tcp://s:1", "workers": workers, "id": "s", "started": 1.0}
    markup = cluster_html.render_scheduler(info, 10.0)
    assert len(markup) < 100_000
    text = text_of(markup)
    assert "5,000" in text
    assert "and 4,980 more" in text
    assert len(WhoHas({f"k{number}": ["a"] for number in range(100_000)})._repr_html_()) < 100_000
    assert (
        len(HasWhat({f"w{number}": [f"k{each}" for each in range(500)] for number in range(500)})._repr_html_()) < 10**6
    )


@pytest.mark.parametrize("status", ["paused", "closing", "running"])
def test_a_worker_that_does_not_run_says_so(status: str) -> None:
    metrics = {"memory": 95, "cpu": 250.0, "executing": 2, "ready": 1, "in_memory": 5}
    worker = {"status": status, "name": "w", "memory_limit": 100, "metrics": metrics, "nthreads": 1}
    text = text_of(cluster_html.render_workers({"workers": {"tcp://w:1": worker}}, time.time()))
    assert "2 running, 1 ready, 5 in memory" in text
    assert (status in text.replace("2 running", "")) == (status != "running")


def test_progress_is_escaped_and_bounded() -> None:
    groups = tuple([Group(f"{NASTY}{number}", 10, 5, 1, 1, 2) for number in range(200)])
    errors = {NASTY: [(NASTY, NASTY)]}
    snapshot = Snapshot(groups, 2000, 5, errors, False, 5.0, NASTY)
    text = text_of(render_progress(snapshot, note=NASTY))
    assert "1,400 / 2,000 tasks" in " ".join(text.split())
    assert "200 erred" in text
    assert NASTY in text
    assert "188 more groups" in text
    assert len(render_progress(snapshot)) < 300_000
    for finished in (Snapshot(finished=True), Snapshot(groups[:1], 10, 0, {}, True, 1.0), Snapshot()):
        assert text_of(render_progress(finished, multi=False))


def test_a_widget_of_given_sizes() -> None:
    pytest.importorskip("ipywidgets")
    bar = MultiProgressWidget([])
    assert "0 / 7 tasks" in " ".join(text_of(bar.make_widget({"a": 3, "b": 4}).value).split())
