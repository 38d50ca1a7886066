"""`MemorySampler`: samples while code runs, and tables of them."""

from __future__ import annotations

from typing import Any

import pytest

from headrace import Client
from headrace.diagnostics.memory_sampler import MemorySampler
from headrace.testing.clusters import gen_cluster
from headrace.testing.helpers.polling import async_poll_for
from tests.diagnostics.tasks import double


def test_samples(client: Client) -> None:
    sampler = MemorySampler()
    with sampler.sample("one", interval=0.01):
        client.gather(client.map(double, range(20)))
    with sampler.sample(measure="managed", interval="10ms", client=client):
        held = client.submit(bytes, 10_000)
        held.result()
    assert next(iter(sampler.samples)) == "one"
    first, second = sampler.samples.values()
    assert all(value > 1_000_000 for _, value in first)
    assert [when for when, _ in first] == sorted(when for when, _ in first)
    assert second


def test_bad_use(client: Client) -> None:
    with pytest.raises(ValueError, match="no measure of memory 'bad'"):
        MemorySampler().sample(measure="bad")
    with pytest.raises(ValueError, match="more than 0"):
        MemorySampler().sample(interval=0)


@gen_cluster(client=True)
async def test_asynchronous_and_a_client_that_goes(c: Client, s: Any, a: Any, b: Any) -> None:
    extension = s.extensions["memory_sampler"]
    sampler = MemorySampler()
    async with sampler.sample("here", interval=0.01):
        await async_poll_for(lambda: len(next(iter(extension._open.values())).samples) > 2, 10)
    assert len(sampler.samples["here"]) > 2
    async with Client(s.address, asynchronous=True) as other:
        await other._call("memory_sampler_start", client=other.id, measure="process", interval=0.01)
        assert extension._open
    await async_poll_for(lambda: not extension._open, 10)


class TestTables:
    """Samples as tables."""

    @pytest.fixture
    def sampler(self) -> MemorySampler:
        sampler = MemorySampler()
        sampler.samples = {"a": [(100.0, 10), (101.0, 30)], "b": [(200.5, 5), (201.0, 7), (202.5, 9)]}
        return sampler

    def test_by_time(self, sampler: MemorySampler) -> None:
        pd = pytest.importorskip("pandas")
        frame = sampler.to_pandas()
        assert list(frame.columns) == ["a", "b"]
        assert frame.index[0] == pd.Timestamp(100.0, unit="s")
        assert frame["a"].dropna().tolist() == [10.0, 30.0]

    def test_aligned(self, sampler: MemorySampler) -> None:
        pd = pytest.importorskip("pandas")
        frame = sampler.to_pandas(align=True)
        assert frame.index[0] == pd.Timedelta(0)
        assert frame.iloc[0].tolist() == [10.0, 5.0]
        assert frame["b"].iloc[-1] == 9.0
        assert MemorySampler().to_pandas(align=True).empty
