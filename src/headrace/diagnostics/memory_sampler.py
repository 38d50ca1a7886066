"""Memory of the whole cluster over time: the scheduler samples it only while a client asks for that."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from time import time
from typing import TYPE_CHECKING, Any

from headrace.config import parse_seconds
from headrace.rpc import PeriodicCallback
from headrace.scheduler.extension_operations import register_operations
from headrace.scheduler.shell import HasShell, Shell, shell_of

if TYPE_CHECKING:
    from headrace.client.client import Client

__all__ = ["MemorySampler", "MemorySamplerExtension"]

#: Measures that can be sampled: readings of `MemoryState`, in bytes.
MEASURES = (
    "process", "managed", "managed_in_memory", "managed_spilled", "managed_total", "spilled", "unmanaged",
    "unmanaged_old", "unmanaged_recent", "optimistic",
)  # fmt: skip


class MemorySampler:
    """Samples the memory of the cluster while code runs, to compare one way to do something with another.

    Attributes:
        samples: {label: ((seconds since the epoch, bytes), …)}.

    Examples:
        >>> sampler = MemorySampler()  # doctest: +SKIP
        >>> with sampler.sample("with rechunk"):  # doctest: +SKIP
        ...     x.rechunk(1000).sum().compute()
        >>> with sampler.sample("without"):  # doctest: +SKIP
        ...     x.sum().compute()
        >>> sampler.plot(align=True)  # doctest: +SKIP
    """

    samples: dict[str, list[tuple[float, int]]]

    def __init__(self) -> None:
        self.samples = {}

    def sample(
        self,
        label: str | None = None,
        client: Client | None = None,
        measure: str = "process",
        interval: float | str = 0.5,
    ) -> Any:
        """A context (`with`, or `async with` for an asynchronous client) in which memory is sampled.

        Args:
            label: name of the samples; random by default. Earlier samples of the same label are replaced.
            client: a client of the cluster; the current one by default.
            measure: "process" (resident memory), "managed", "unmanaged", "unmanaged_old", "unmanaged_recent",
                "optimistic", "managed_total" or "spilled"; all workers together.
            interval: seconds, or text, between two samples.

        Raises:
            ValueError: there is no such measure, or no client; or the interval is not positive.
        """
        if client is None:
            from headrace.client import get_client

            client = get_client()
        _check(measure, interval)
        name = label or str(uuid.uuid4())
        return (self._sample_async if client.asynchronous else self._sample_sync)(name, client, measure, interval)

    @contextmanager
    def _sample_sync(self, label: str, client: Client, measure: str, interval: float | str) -> Iterator[None]:
        key = client.sync(client._call, "memory_sampler_start", client=client.id, measure=measure, interval=interval)
        try:
            yield
        finally:
            self._keep(label, client.sync(client._call, "memory_sampler_stop", key=key))

    @asynccontextmanager
    async def _sample_async(
        self, label: str, client: Client, measure: str, interval: float | str
    ) -> AsyncIterator[None]:
        key = await client._call("memory_sampler_start", client=client.id, measure=measure, interval=interval)
        try:
            yield
        finally:
            self._keep(label, await client._call("memory_sampler_stop", key=key))

    def _keep(self, label: str, samples: Iterable[tuple[float, int]]) -> None:
        self.samples[label] = [(float(when), int(value)) for when, value in samples]

    def to_pandas(self, *, align: bool = False) -> Any:
        """The samples as a DataFrame: a column for each label, times as index.

        Args:
            align: let all begin at time zero; else the index has the time of day (UTC).

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas as pd

        columns = {}
        for label, samples in self.samples.items():
            column = pd.Series([value for _, value in samples], dtype=float)
            column.index = pd.to_datetime([when for when, _ in samples], unit="s")
            if align and len(column):
                column.index = column.index - column.index[0]
            columns[label] = column[~column.index.duplicated(keep="last")]
        frame = pd.DataFrame(columns)
        return frame.interpolate(method="linear", limit_area="inside") if len(columns) > 1 else frame

    def plot(self, *, align: bool = False, **kwargs: Any) -> Any:
        """Draw the samples, in GiB; returns the value of `DataFrame.plot`.

        Args:
            align: let all begin at time zero.
            kwargs: for `DataFrame.plot`.

        Raises:
            ImportError: pandas or matplotlib is not installed.
        """
        frame = self.to_pandas(align=align).resample("1s").mean() / 2**30
        if align:  # matplotlib knows no time deltas
            frame.index = [seconds.total_seconds() for seconds in frame.index]
        options = {"xlabel": "seconds" if align else "time", "ylabel": "Cluster memory (GiB)", **kwargs}
        return frame.plot(**options)


def _check(measure: str, interval: float | str) -> float:
    if measure not in MEASURES:
        raise ValueError(f"there is no measure of memory {measure!r}: it can be one of {', '.join(MEASURES)}")
    seconds = parse_seconds(interval)
    if seconds <= 0:
        raise ValueError(f"the interval between samples must be more than 0 seconds, not {interval!r}")
    return seconds


class _Sampling:
    """A series of samples that is under way."""

    def __init__(self, client: str, callback: PeriodicCallback) -> None:
        self.client = client
        self.callback = callback
        self.samples: list[tuple[float, int]] = []


class MemorySamplerExtension:
    """The scheduler's half: takes the samples. A series ends when its client has gone.

    Args:
        scheduler: the scheduler of the workers.
    """

    def __init__(self, scheduler: HasShell | Shell) -> None:
        self._shell = shell_of(scheduler)
        self.scheduler = self._shell.facade
        self._open: dict[str, _Sampling] = {}
        register_operations(
            scheduler, "memory_sampler", {"memory_sampler_start": self.start, "memory_sampler_stop": self.stop}
        )

    def start(self, client: str, measure: str, interval: float | str) -> str:
        """Begin a series of samples; returns its name.

        Raises:
            ValueError: there is no such measure, or the interval is not positive.
        """
        seconds = _check(measure, interval)
        key = str(uuid.uuid4())

        def sample() -> None:
            if client not in self._shell.core.clients or not self._shell.is_running:
                self.stop(key)
            else:
                sampling.samples.append((time(), getattr(self._shell.memory, measure)))

        sampling = self._open[key] = _Sampling(client, PeriodicCallback(sample, seconds * 1000))
        sample()
        sampling.callback.start()
        return key

    def stop(self, key: str) -> list[tuple[float, int]]:
        """End a series, and return its samples: (seconds since the epoch, bytes)."""
        sampling = self._open.pop(key, None)
        if sampling is None:
            return []
        sampling.callback.stop()
        return sampling.samples
