"""Questions about the cluster: who has what, how many threads there are, what is being done."""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from headrace.cluster_dump import path_of, write_state
from headrace.common.keys import Key, from_wire, key_group, key_prefix, to_wire
from headrace.config import get as config_get
from headrace.config import parse_seconds
from headrace.exceptions import WorkerStartTimeoutError

from ..future import refuse_cancelled
from ..packing.task_options import Workers, chosen_workers
from ..presentation.answer_tables import HasWhat, WhoHas
from ..presentation.client_card import ask_scheduler_info
from .client_base import ClientBase


class InfoMethods(ClientBase):
    """Looking at the cluster."""

    def who_has(self, futures: object = None, **kwargs: object) -> Any:
        """Addresses that hold each result: `{key: (address, …)}`.

        Args:
            futures: in nested containers or collections; all results by default.
        """
        return self.sync(self._who_has, futures)

    async def _who_has(self, futures: object) -> dict[Any, tuple[str, ...]]:
        keys = None
        if futures is not None:
            states = [future._bound() for future in self._whole_client._futures_in(futures)]
            await self.held.wait_async(states)
            refuse_cancelled(states)
            keys = list({state.key: None for state in states})
        reply = await self._call("who_has", keys=keys)
        return WhoHas({from_wire(key): tuple(addresses) for key, addresses in reply.items()})

    def has_what(self, workers: Workers = None, **kwargs: object) -> Any:
        """Keys that each worker holds: `{address: (key, …)}`.

        Args:
            workers: addresses, names or hosts; all by default.
        """
        return self.sync(self._has_what, workers)

    async def _has_what(self, workers: Workers) -> HasWhat:
        return HasWhat(await self._keys_by_worker("has_what", workers))

    def processing(self, workers: Workers = None) -> Any:
        """Keys that each worker has been given to run: `{address: (key, …)}`.

        Args:
            workers: addresses, names or hosts; all by default.
        """
        return self.sync(self._keys_by_worker, "processing", workers)

    async def _keys_by_worker(self, op: str, workers: Workers) -> dict[str, tuple[Any, ...]]:
        reply = await self._call(op, workers=chosen_workers(workers))
        return {address: tuple(map(from_wire, keys)) for address, keys in reply.items()}

    def nthreads(self, workers: Workers = None, **kwargs: object) -> Any:
        """Threads of each worker: `{address: count}`.

        Args:
            workers: addresses, names or hosts; all by default.
        """
        return self._ask("ncores", workers=chosen_workers(workers))

    ncores = nthreads

    def nbytes(self, keys: Iterable[object] | None = None, summary: bool = True, **kwargs: object) -> Any:
        """Bytes of each result, or of all results whose keys begin alike.

        Args:
            keys: which; all by default.
            summary: add up by the keys' prefixes.
        """
        return self.sync(self._nbytes, keys, summary)

    async def _nbytes(self, keys: Iterable[object] | None, summary: bool) -> dict[Any, int]:
        wire = None if keys is None else [to_wire(getattr(key, "key", key)) for key in keys]
        reply = await self._call("nbytes", keys=wire, summary=False)
        if not summary:
            return {from_wire(key): size for key, size in reply.items()}
        totals: dict[Any, int] = {}
        for key, size in reply.items():
            prefix = key_prefix(key_group(key))
            totals[prefix] = totals.get(prefix, 0) + size
        return totals

    def scheduler_info(self, n_workers: int = -1, **kwargs: object) -> Any:
        """The scheduler's description of itself and its workers.

        On an asynchronous client: what it said last, at once; this call also asks it again, for the next one. To wait
        for the answer, `await` what is returned.

        Args:
            n_workers: how many workers to tell about; -1 for all.
        """
        if self.asynchronous and self.session.scheduler is not None:
            return self._latest_info.look(n_workers)
        return self.sync(ask_scheduler_info, self, n_workers)

    def wait_for_workers(self, n_workers: int, timeout: float | str | None = None) -> Any:
        """Wait until so many workers are there.

        Args:
            n_workers: at least 1.
            timeout: seconds, or text.

        Raises:
            WorkerStartTimeoutError: they were not there in time; a TimeoutError.
            ValueError: not a positive number.
        """
        if not isinstance(n_workers, int) or isinstance(n_workers, bool) or n_workers < 1:
            raise ValueError(f"`n_workers` must be a positive integer. Instead got {n_workers}.")
        return self.sync(self._wait_for_workers, n_workers, None if timeout is None else parse_seconds(timeout))

    async def _wait_for_workers(self, n_workers: int, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.01
        while True:
            running = await self._call("ncores_running", workers=None)
            if len(running) >= n_workers:
                await self._latest_info.refresh()  # who waited for workers expects to see them
                return
            if deadline is not None and time.monotonic() > deadline:
                assert timeout is not None
                raise WorkerStartTimeoutError(len(running), n_workers, timeout)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.2)

    def get_versions(self, check: bool = False, packages: Iterable[str] | None = None) -> Any:
        """Versions of Python and packages at the scheduler, the workers and here.

        Args:
            check: warn, with a table, if they differ where they should not.
            packages: names of further packages to ask about.
        """
        return self.sync(self._get_versions, check, list(packages or ()))

    async def _get_versions(self, check: bool, packages: list[Any]) -> dict[str, Any]:
        from headrace.common.package_versions import error_message, get_versions

        scheduler = await self._call("versions", packages=packages)
        workers = await self._call("broadcast", msg={"op": "versions", "packages": packages}, on_error="ignore")
        here = get_versions(packages)
        if check and (text := error_message(scheduler, workers, here)["warning"]):
            warnings.warn(text, stacklevel=2)
        return {"scheduler": scheduler, "workers": workers, "client": here}

    def call_stack(self, futures: object = None, keys: Iterable[object] | None = None) -> Any:
        """The frames of what runs now, outermost first: `{address: {key: [text, …]}}`; idle workers are left out.

        Args:
            futures, keys: which tasks; all by default.

        Raises:
            FuturesCancelledError: some of the futures were cancelled.
        """
        wire = [to_wire(key) for key in keys or ()]
        if futures is not None:
            wire += [future._bound().key for future in self._whole_client.futures_of(futures)]
        return self.sync(self._call_stack, wire if wire or futures is not None or keys is not None else None)

    async def _call_stack(self, keys: list[Key] | None) -> dict[str, dict[Any, list[str]]]:
        found = await self._call("call_stack", keys=keys)
        return {
            address: {from_wire(key): list(stack) for key, stack in each.items()} for address, each in found.items()
        }

    def profile(
        self,
        key: str | None = None,
        start: float | str | None = None,
        stop: float | str | None = None,
        workers: Workers = None,
        merge_workers: bool = True,
        plot: bool | str = False,
        filename: str | None = None,
        server: bool = False,
        scheduler: bool = False,
    ) -> Any:
        """The statistical profile of what ran: how often each call stack was seen, as a tree.

        Args:
            key: only tasks whose keys have this prefix.
            start, stop: the span of time, in seconds since the epoch, or text such as "5 minutes" before now.
            workers: addresses, names or hosts; all by default.
            merge_workers: one profile for all; else they come by address.
            plot: return a figure as well, which shows itself in a notebook: `(profile, figure)`; "save" writes it to
                "dask-profile.html".
            filename: write a page of HTML that shows it, and needs nothing else.
            server, scheduler: of the workers', or the scheduler's, event loops instead, from the first call on.

        Raises:
            ValueError: `plot` or `filename` for profiles that are not merged.
        """
        if (plot or filename) and not merge_workers:
            raise ValueError("a page shows one profile: give merge_workers=True with plot and filename")
        return self.sync(
            self._profile,
            {
                "key": key,
                "start": _moment(start),
                "stop": _moment(stop),
                "workers": chosen_workers(workers),
                "merge_workers": merge_workers,
                "server": server,
                "scheduler": scheduler,
            },
            plot,
            filename or ("dask-profile.html" if plot == "save" else None),
        )

    async def _profile(self, question: dict[str, Any], plot: bool | str, filename: str | None) -> Any:
        profile = await self._call("profile", **question)
        if not plot and not filename:
            return profile
        from headrace.diagnostics.pages.flame import profile_figure

        interval = parse_seconds(config_get("distributed.worker.profile.interval"))
        figure = await asyncio.to_thread(profile_figure, profile, interval)
        if filename:
            figure.save(filename)
        return (profile, figure) if plot else profile

    def story(self, *keys_or_stimuli: object, on_error: str = "raise") -> Any:
        """The history of these keys, at the scheduler and on the workers.

        Args:
            keys_or_stimuli: keys, futures, or what brought transitions about.
            on_error: what to do about workers that cannot be asked: "raise", or "ignore".

        Returns:
            Lines of the scheduler, `("scheduler", key, start, finish, {}, stimulus, time)`, then those of each worker,
            `(address, key, start, asked, reached, {}, stimulus, time)`; each oldest first, times in seconds since the
            epoch by their own clocks.

        Raises:
            ValueError: `on_error` is neither.
            OSError: a worker cannot be reached.
        """
        if on_error not in ("raise", "ignore"):
            raise ValueError(f"on_error must be 'raise' or 'ignore'; got {on_error!r}")
        return self.sync(self._story, [to_wire(getattr(key, "key", key)) for key in keys_or_stimuli], on_error)

    async def _story(self, keys: list[Key], on_error: str) -> list[tuple[Any, ...]]:
        await self.held.barrier()
        lines = [
            ("scheduler", from_wire(key), *rest) for key, *rest in await self._call("get_story", keys_or_stimuli=keys)
        ]
        message = {"op": "get_story", "keys_or_stimuli": keys}
        by_worker = await self._call("broadcast", msg=message, on_error=on_error)
        return lines + [(address, *line) for address, story in by_worker.items() for line in story]

    def dump_cluster_state(
        self,
        filename: str | os.PathLike[str] = "dask-cluster-dump",
        write_from_scheduler: bool | None = None,
        exclude: Collection[str] = (),
        format: str = "msgpack",
        **storage_options: object,
    ) -> Any:
        """Write all that scheduler and workers know to a file, for finding bugs; the scheduler is busy meanwhile.

        Read it back with `headrace.cluster_dump.load_cluster_dump`: a dictionary with the keys "scheduler", "workers"
        (by address) and "versions"; or with `distributed.cluster_dump.DumpArtefact`, which answers questions about it.

        Args:
            filename: path or URL as for `fsspec.open`; the suffix ".msgpack.gz" or ".yaml" is appended. A file of this
                machine is for this user alone (mode 0600).
            write_from_scheduler: write where the scheduler is, without sending it here; by default for URLs.
            exclude: names that are left out, of parts or of the records' attributes.
            format: "msgpack" (gzipped) or "yaml".
            storage_options: for `fsspec.open`.

        Raises:
            ValueError: there is no such format.
            OSError: it cannot be written.
        """
        path = path_of(filename, format)
        at_scheduler = "://" in path if write_from_scheduler is None else write_from_scheduler
        return self.sync(self._dump_cluster_state, path, at_scheduler, list(exclude), format, storage_options)

    async def _dump_cluster_state(
        self, filename: str, at_scheduler: bool, exclude: list[str], format: str, options: dict[str, Any]
    ) -> None:
        if at_scheduler:
            await self._call("dump_cluster_state_to_url", url=filename, exclude=exclude, format=format, **options)
            return
        state = await self._call("get_cluster_state", exclude=exclude)
        await asyncio.to_thread(write_state, state, filename, format, **options)

    def get_scheduler_logs(self, n: int | None = None) -> Any:
        """The last `n` (all that are kept) log lines of the scheduler, newest first: `((level, text), …)`."""
        return self.sync(self._logs, "logs", n=n)

    async def _logs(self, op: str, **question: object) -> Any:
        found = await self._call(op, **question)
        if isinstance(found, dict):
            return {address: tuple(map(tuple, lines)) for address, lines in found.items()}
        return tuple(map(tuple, found))

    def get_worker_logs(self, n: int | None = None, workers: Workers = None, nanny: bool = False) -> Any:
        """The last `n` (all that are kept) log lines of workers, newest first: `{address: ((level, text), …)}`.

        Args:
            workers: addresses, names or hosts; all by default.
            nanny: of their nannies instead; still by the workers' addresses.
        """
        return self.sync(self._logs, "worker_logs", n=n, workers=chosen_workers(workers), nanny=nanny)

    def set_metadata(self, key: object, value: object) -> Any:
        """Store a small value at the scheduler.

        Args:
            key: a key, or a list of them to index nested dictionaries with.
            value: numbers, texts, and lists and dictionaries of these.
        """
        return self._ask("set_metadata", keys=key if isinstance(key, list) else [key], value=value)

    def get_metadata(self, keys: object, default: object = ...) -> Any:
        """A value stored at the scheduler.

        Args:
            keys: a key, or a list of them to index nested dictionaries with.
            default: what to return when there is none.

        Raises:
            KeyError: there is none, and no `default`.
        """
        return self.sync(self._get_metadata, keys if isinstance(keys, (list, tuple)) else [keys], default)

    async def _get_metadata(self, keys: Sequence[object], default: object) -> Any:
        missing = "\x00missing"
        value = await self._call("get_metadata", keys=list(keys), default=missing)
        if value != missing:
            return value
        if default is ...:
            raise KeyError(keys[0] if len(keys) == 1 else keys)
        return default

    def log_event(self, topic: object, msg: object) -> Any:
        """Publish an event at the scheduler, under a topic or several."""
        return self._ask("log_event", topic=topic, msg=msg)

    def get_events(self, topic: str | None = None) -> Any:
        """Events published under a topic, or under all: tuples of the time in seconds and the event."""
        return self.sync(self._get_events, topic)

    async def _get_events(self, topic: str | None) -> Any:
        found = await self._call("events", topic=topic)
        if topic is not None:
            return tuple(map(tuple, found))
        return {name: tuple(map(tuple, log)) for name, log in found.items()}


def _moment(value: float | str | None) -> float | None:
    """Seconds since the epoch; a text is a time before now."""
    return time.time() - parse_seconds(value) if isinstance(value, str) else value
