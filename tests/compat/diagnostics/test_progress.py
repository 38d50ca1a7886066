"""The documented plugins that follow keys, on a scheduler with a client."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import dask
import pytest

from distributed.utils import format_dashboard_link
from headrace import Client, Scheduler, Worker, span, wait
from headrace.compat.diagnostics.progress import (
    AllProgress,
    GroupTiming,
    MultiProgress,
    Progress,
    dependent_keys,
    format_time,
)
from headrace.compat.diagnostics.websocket import WebsocketPlugin
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from headrace.testing.helpers.sample_functions import div, inc

RELEASE = threading.Event()


def hold() -> int:
    assert RELEASE.wait(30)
    return 1


@gen_cluster(client=True)
async def test_dependent_keys(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    x = c.submit(inc, 1, key="x-1")
    y = c.submit(inc, x, key="y-1")
    bad = c.submit(div, y, 0, key="bad-1")
    await wait([y, bad])
    assert dependent_keys([s.tasks["y-1"]], complete=True) == ({"x-1", "y-1"}, set())
    assert dependent_keys([s.tasks["y-1"]]) == (set(), set())
    assert dependent_keys([s.tasks["bad-1"]]) == ({"bad-1"}, {"bad-1"})


@gen_cluster(client=True)
async def test_progress_ends_and_leaves(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    RELEASE.clear()
    x = c.submit(inc, 1, key="x-1")
    await x
    held = c.submit(hold, key="held-1")
    y = c.submit(max, x, held, key="y-1")
    await async_poll_for(lambda: "y-1" in s.tasks, 10)
    progress = Progress([y], s, complete=True)
    await progress.setup()
    assert progress.all_keys == {"x-1", "held-1", "y-1"}
    assert progress.keys == {"held-1", "y-1"}
    assert progress.status is None
    assert progress.name in s.plugins
    multi = MultiProgress([y.key], s, complete=True)
    await multi.setup()
    assert multi.all_keys == {"x": {"x-1"}, "held": {"held-1"}, "y": {"y-1"}}
    assert multi.keys == {"x": set(), "held": {"held-1"}, "y": {"y-1"}}
    letters = MultiProgress([y.key], s, group_by=len)
    await letters.setup()
    assert letters.all_keys == {6: {"held-1"}, 3: {"y-1"}}
    RELEASE.set()
    await y
    await async_poll_for(lambda: progress.status == multi.status == letters.status == "finished", 10)
    assert not progress.keys
    assert progress.name not in s.plugins
    assert not s.state.observers
    assert progress.elapsed > 0
    done = Progress([y], s)
    await done.setup()
    assert done.status == "finished"


@pytest.mark.parametrize("kind", [Progress, MultiProgress])
@gen_cluster(client=True)
async def test_keys_that_are_still_on_their_way_are_waited_for(
    c: Client, s: Scheduler, a: Worker, b: Worker, kind: type[Progress]
) -> None:
    progress = kind(["late-1"], s, complete=True)
    setup = asyncio.ensure_future(progress.setup())
    await asyncio.sleep(0)
    assert not setup.done()
    late = c.submit(inc, 1, key="late-1")
    await setup
    await late
    await async_poll_for(lambda: progress.status == "finished", 10)
    assert progress.all_keys == ({"late-1"} if kind is Progress else {"late": {"late-1"}})


@gen_cluster(client=True)
async def test_groups_by_spans_have_the_tags_and_the_id(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    with span("outer") as outer, span("inner") as inner:
        future = c.submit(inc, 1, key="x-1")
    await future
    multi = MultiProgress([future], s, group_by="spans", complete=True)
    await multi.setup()
    assert outer != inner
    assert multi.all_keys == {("outer", "inner", inner): {"x-1"}}


@gen_cluster(client=True)
async def test_an_error_ends_progress(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    bad = c.submit(div, 1, 0, key="bad-1")
    more = c.submit(inc, bad, key="more-1")
    await wait(more)
    progress = Progress([more], s)
    await progress.setup()
    assert progress.status == "error"
    assert progress.extra["key"] in ("bad-1", "more-1")
    assert progress.extra["exception"]
    assert progress.name not in s.plugins
    for key in ("bad-1", "more-1"):  # whichever is found, in the order of a set
        progress.stop("error", key)
        assert progress.extra == {"exception": s.tasks["bad-1"].exception, "key": key}


@gen_cluster(client=True)
async def test_all_progress_keeps_every_key_by_state(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    before = c.submit(inc, 0, key="before-1")
    await before
    plugin = AllProgress(s)
    x = c.submit(inc, 1, key="x-1")
    bad = c.submit(div, 1, 0, key="bad-1")
    await wait([x, bad])
    assert plugin.all == {"before": {"before-1"}, "x": {"x-1"}, "bad": {"bad-1"}}
    assert plugin.state["memory"]["x"] == {"x-1"}
    assert plugin.state["memory"]["before"] == {"before-1"}
    assert plugin.state["erred"]["bad"] == {"bad-1"}
    assert plugin.nbytes["x"] > 0
    del x
    await async_poll_for(lambda: "x" not in plugin.all, 10)
    assert "x" not in plugin.nbytes
    plugin.restart(s)
    assert not plugin.all


@gen_cluster(client=True)
async def test_group_timing_adds_up(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    plugin = GroupTiming(s)
    await c.gather(c.map(inc, range(20), pure=False))
    assert set(plugin.compute) == {"inc"}
    assert 0 <= sum(plugin.compute["inc"]) < 20
    assert len(plugin.time) == len(plugin.nthreads) == len(plugin.compute["inc"])
    start = plugin.time[0]
    plugin.transition(
        "slow-1", "processing", "memory", startstops=[{"action": "compute", "start": start, "stop": start + 5000}]
    )
    assert len(plugin.time) <= plugin.LONGEST
    assert plugin.time[-1] >= start + 5000
    assert sum(plugin.compute["slow"]) == pytest.approx(5000)
    assert {len(seconds) for seconds in plugin.compute.values()} == {len(plugin.time)} == {len(plugin.nthreads)}
    assert max(plugin.compute["slow"]) <= plugin.dt + 1e-6


@gen_cluster(client=True)
async def test_websocket_tells_events(c: Client, s: Scheduler, a: Worker, b: Worker) -> None:
    told: list[tuple[str, dict[str, Any]]] = []

    class Socket:
        def send(self, name: str, data: dict[str, Any]) -> None:
            told.append((name, data))
            if len(told) > 3:
                raise RuntimeError("closed")

    class Page:
        texts: list[str] = []  # noqa: RUF012

        def write_message(self, text: str) -> None:
            self.texts.append(text)

    s.add_plugin(WebsocketPlugin(Socket(), s))
    s.add_plugin(WebsocketPlugin(Page(), s), name="page")
    await c.submit(inc, 1, key="x-1")
    assert told[0][0] == "update_graph"
    assert ("transition", "x-1") in [(name, data.get("key")) for name, data in told]
    assert {json.loads(text)["name"] for text in Page.texts} >= {"update_graph", "transition"}


def test_format_time() -> None:
    assert format_time(10.4) == "10.4s"
    assert format_time(1000.4) == "16min 40.4s"


def test_dashboard_links_follow_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    assert format_dashboard_link("host", 8787) == "http://host:8787/status"
    assert format_dashboard_link("::1", 1) == "http://[::1]:1/status"
    monkeypatch.setenv("ROOM", "a")
    with dask.config.set({"distributed.dashboard.link": "/{ROOM}{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}"}):
        assert format_dashboard_link("host", 1) == "/a/proxy/1"
    with (
        dask.config.set({"distributed.dashboard.link": "{NOWHERE_TO_BE_FOUND}"}),
        pytest.raises(KeyError, match="NOWHERE_TO_BE_FOUND"),
    ):
        format_dashboard_link("host", 1)
