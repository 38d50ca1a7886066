"""The widget of a cluster, without a notebook: ipywidgets then talk to nobody."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("ipywidgets")

from headrace import LocalCluster
from headrace.common.display.notebook import is_kernel
from headrace.deploy.cluster import Cluster
from headrace.testing.helpers.polling import async_poll_for


async def test_an_asynchronous_cluster_is_scaled_by_its_buttons() -> None:
    async with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, asynchronous=True) as cluster:
        box = cluster._widget()
        assert cluster._widget() is box, "one widget for all places where it is shown"
        shown = cluster._shown
        assert shown is not None
        shown.workers.value = 3
        shown.scale.click()
        await asyncio.wait_for(cluster.wait_for_workers(3), 30)
        assert shown.message.value == "asked for 3 workers"
        await async_poll_for(lambda: ">3<" in shown.status.value, 10)
        shown.workers.value = 1
        shown.scale.click()
        await async_poll_for(lambda: len(cluster.scheduler.workers) == 1, 30)
    assert "closed" in shown.status.value
    assert not shown._callback.is_running()
    shown.scale.click()
    assert "RuntimeError: cannot scale: the cluster is closed" in shown.message.value


async def test_what_fails_later_is_shown_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scaled() -> None:
        raise OSError("<no room>")

    async with LocalCluster(n_workers=0, processes=False, asynchronous=True) as cluster:
        cluster._widget()
        shown = cluster._shown
        assert shown is not None
        monkeypatch.setattr(cluster, "scale", lambda n: scaled())
        shown.scale.click()
        await async_poll_for(lambda: "OSError: &lt;no room&gt;" in shown.message.value, 10)


async def test_a_cluster_of_fixed_size_has_no_controls() -> None:
    async with Cluster(asynchronous=True) as cluster:
        assert len(cluster._widget().children) == 1


def test_outside_a_notebook_there_is_text_and_html_only() -> None:
    assert not is_kernel()
    with LocalCluster(n_workers=0, processes=False) as cluster:
        assert set(cluster._repr_mimebundle_()) == {"text/plain", "text/html"}
        assert cluster._shown is None


def test_without_ipywidgets_there_is_no_widget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
    with LocalCluster(n_workers=0, processes=False) as cluster:
        assert cluster._widget() is None
