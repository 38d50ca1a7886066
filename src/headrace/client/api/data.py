"""Results to the client and data to the workers: `gather`, `scatter`, and where copies are."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from dask.base import tokenize
from dask.utils import ensure_dict, is_namedtuple_instance

from headrace.common.current_run import worker_here
from headrace.common.keys import Key, from_wire, to_wire
from headrace.config import parse_seconds, seconds_of
from headrace.exceptions import DeserializationError, FrameTooLargeError, MessageTooLargeError, TaskTimeout
from headrace.protocol import Serialize

from ..future import Future, cannot_load, kept, load_error, load_result, refuse_cancelled
from ..packing.calls import unique_suffix
from ..packing.nested_futures import (
    SKIPPED,
    collect_futures,
    refuse_iterators,
    replace_futures,
)
from ..packing.task_options import Workers, chosen_workers, normalize_workers
from ..state import FutureState
from .client_base import ClientBase, no_default

logger = logging.getLogger("distributed.client")

#: Holders of the values that arrived, their sizes, and the first error of the others.
Sent: TypeAlias = tuple[dict[Key, list[str]], dict[Key, int], BaseException | None]

#: How often a result is looked for before the client gives up, and the longest pause between two attempts in seconds.
ATTEMPTS = 12
LONGEST_PAUSE = 1.0


def timed_out(timeout: float | str | None) -> TimeoutError:
    """The error of a wait that took too long."""
    return TimeoutError(
        f"timed out after {timeout} s." if not isinstance(timeout, str) else f"timed out after {timeout}."
    )


class DataMethods(ClientBase):
    """Moving data between the client and the workers."""

    def gather(
        self, futures: object, errors: str = "raise", direct: bool | None = None, asynchronous: bool | None = None
    ) -> Any:
        """Fetch the results of futures in nested lists, tuples, sets and dictionaries, in the same shape.

        Args:
            futures: one, a container of them, or an iterator (then an iterator comes back).
            errors: "raise", or "skip" to leave out those that failed.
            direct: fetch large results from the workers (default), or through the scheduler.
            asynchronous: return an awaitable.

        Raises:
            ValueError: `errors` is neither; a future is another client's.
            BaseException: what a task raised, or `FutureCancelledError`.
        """
        if errors not in ("raise", "skip"):
            raise ValueError(f"errors must be 'raise' or 'skip', not {errors!r}")
        if asynchronous is None:
            asynchronous = self.asynchronous
        if asynchronous:
            return self._gather(futures, errors, direct)
        if isinstance(futures, Iterator):
            return (self.gather(future, errors, direct, False) for future in futures)
        states = self._states_of(collect_futures(futures))
        results: dict[Key, Any] = {}
        while True:
            self.held.wait(states, error_stops=errors == "raise")
            missing = _take_results(self, states, results, errors)
            missing = self._take_from_here(missing, results)
            if not missing:
                return _shape(futures, results)
            results.update(self.sync(self._fetch, missing, direct, asynchronous=False))

    async def _gather(self, futures: object, errors: str = "raise", direct: bool | None = None) -> Any:
        if isinstance(futures, Iterator):
            futures = list(futures)
        states = self._states_of(collect_futures(futures))
        results: dict[Key, Any] = {}
        while True:
            await self.held.wait_async(states, error_stops=errors == "raise")
            missing = _take_results(self, states, results, errors)
            missing = self._take_from_here(missing, results)
            if not missing:
                return _shape(futures, results)
            results.update(await self._fetch(missing, direct))

    def _take_from_here(self, states: list[FutureState], results: dict[Key, Any]) -> list[FutureState]:
        """In a task, take results that its worker has in memory, as they are; returns what is to be fetched."""
        worker = worker_here() if states else None
        if worker is None or self._families is not None or not worker.task_clients.serve(self):
            return states
        found = worker.memory_manager.in_memory([state.key for state in states if state.status == "finished"])
        if "headrace.actor" in sys.modules:
            found = {key: kept(value, self) for key, value in found.items()}
        results.update(found)
        return [state for state in states if state.key not in found]

    def _states_of(self, wanted: list[Future[Any]]) -> list[FutureState]:
        """The records of futures of this client, which may have been released.

        Raises:
            ValueError: one is another client's.
        """
        states = [future._bound() for future in wanted]
        others = [future for future in wanted if future._client is not self and future._client is not None]
        if others and not self.session.in_process:  # where a call can bring the very futures of the client that made it
            raise ValueError(
                f"{len(others)} of {len(wanted)} futures are of another client, which can gather them: {others[:3]}"
            )
        return states

    def _wait_for(self, future: Future[Any], timeout: float | str | None) -> None:
        if not self.held.wait([future._bound()], seconds_of(timeout)):
            raise timed_out(timeout)

    def _result_sync(self, future: Future[Any], timeout: float | str | None) -> Any:
        state = future._bound()
        deadline = None if timeout is None else time.monotonic() + parse_seconds(timeout)
        while True:
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            if not self.held.wait([state], left):
                raise timed_out(timeout)
            if state.status == "finished":
                if state.result is not None:
                    return load_result(state, self)
                left = None if deadline is None else max(deadline - time.monotonic(), 0.001)
                try:
                    found = self.sync(self._fetch, [state], None, callback_timeout=left, asynchronous=False)
                except TaskTimeout:  # of the task that waits here
                    raise
                except TimeoutError:
                    raise timed_out(timeout) from None
                if state.key in found:
                    return found[state.key]
            elif state.done():
                raise load_error(state)

    async def _result_async(self, future: Future[Any], timeout: float | str | None) -> Any:
        state = future._bound()
        try:
            async with asyncio.timeout(seconds_of(timeout)):
                while True:
                    await self.held.wait_async([state])
                    if state.status == "finished":
                        if state.result is not None:
                            return load_result(state, self)
                        found = await self._fetch_here([state])
                        if state.key in found:
                            return found[state.key]
                    elif state.done():
                        break
        except TimeoutError:
            raise timed_out(timeout) from None
        raise load_error(state)

    async def _error_async(
        self, future: Future[Any], timeout: float | str | None, view: Callable[[FutureState], Any]
    ) -> Any:
        if not await self.held.wait_async([future._bound()], seconds_of(timeout)):
            raise timed_out(timeout)
        return view(future._bound())

    async def _fetch_here(self, states: list[FutureState]) -> dict[Key, Any]:
        """`_fetch`, also from another loop than the client's."""
        if asyncio.get_running_loop() is self.session.loop:
            return await self._fetch(states, None)
        work = asyncio.run_coroutine_threadsafe(self._fetch(states, None), self.loop.asyncio_loop)
        return await asyncio.wrap_future(work)

    async def _fetch(self, states: Sequence[FutureState], direct: bool | None) -> dict[Key, Any]:
        """Results that are on workers. Those that are lost meanwhile are left out, once their state says so.

        Raises:
            KeyError: the scheduler says a result is there, but nobody has it, for longer than a recovery takes.
            KilledWorkerServing: the workers that hold a result die of giving it away, one after the other.
        """
        began = time.monotonic()
        if direct is None:
            direct = self.direct_to_workers is not False
        pause = 0.01
        results: dict[Key, Any] = {}
        for _ in range(ATTEMPTS):
            for state in states:
                if state.result is not None and state.key not in results:
                    results[state.key] = load_result(state, self)
            keys = [state.key for state in states if state.status == "finished" and state.key not in results]
            if not keys:
                return results
            found: dict[Key, Any] = {}
            try:
                if direct:
                    found = await self._fetch_from_workers(keys)
                    keys = [key for key in keys if key not in found]
                if keys:
                    found.update(await self._fetch_from_scheduler(keys))
            except OSError:  # the connection to the scheduler broke: it is being made again, or given up
                self.outbox.check_open()
            if "headrace.actor" in sys.modules:
                found = {key: kept(value, self) for key, value in found.items()}
            results.update(found)
            self._losses.fetched(found)
            if all(state.key in results or state.status != "finished" for state in states):
                if lost := [key for key in keys if key not in results]:
                    with contextlib.suppress(OSError):  # as above
                        await self._losses.lost(self._call, lost, began)
                return results
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        lost = [from_wire(state.key) for state in states if state.key not in results and state.status == "finished"]
        raise KeyError(f"no worker has the results of {lost[:5]}, though the scheduler says that they are in memory")

    async def _fetch_from_workers(self, keys: list[Key]) -> dict[Key, Any]:
        who_has = await self._lanes.through("who_has", lambda: self._call("who_has", keys=keys))
        plan: dict[str, list[Key]] = {}
        for key in keys:
            holders = who_has.get(key)
            if holders:
                plan.setdefault(min(holders, key=lambda address: len(plan.get(address, ()))), []).append(key)
        found = await asyncio.gather(*[self._fetch_from(address, chosen) for address, chosen in plan.items()])
        return {key: value for part in found for key, value in part.items()}

    async def _fetch_from_scheduler(self, keys: list[Key]) -> dict[Key, Any]:
        async def ask(keys: list[Key]) -> dict[Key, Any]:
            if self._families is None:
                reply = await self._call("gather", keys=keys)
            else:
                reply = await self._families.ask(
                    self.session.connection_args, self.session.address, "gather", keys=keys
                )
            return dict(reply.get("data") or {})

        return await self._lanes.through("gather", lambda: _naming_key(ask, keys))

    async def _fetch_from(self, address: str, keys: list[Key]) -> dict[Key, Any]:
        async def ask(keys: list[Key]) -> dict[Key, Any]:
            pause = 0.01
            for _ in range(ATTEMPTS):
                if self._families is None:
                    reply = await self.session.calls.call(address, "get_data", keys=keys, who=self.id)
                else:
                    reply = await self._families.ask(self.session.connection_args, address, "get_data", keys=keys)
                if reply.get("status") != "busy":
                    return dict(reply.get("data") or {})
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            return {}

        try:
            return await self._lanes.through(address, lambda: _naming_key(ask, keys))
        except OSError:
            return {}  # the scheduler, which is asked next, may reach it, or learns of the loss

    def scatter(
        self,
        data: object,
        workers: Workers = None,
        broadcast: bool | int = False,
        direct: bool | None = None,
        hash: bool = True,
        timeout: float | str | None = no_default,
        asynchronous: bool | None = None,
    ) -> Any:
        """Send data to the workers.

        Args:
            data: a list, tuple, named tuple, set, frozenset or dictionary of values (futures come back in the same
                shape; a dictionary's keys become the keys of its futures), or one value of any other type.
            workers: addresses, names or hosts to send to; all by default, in turn, as often as each has threads. A task
                that names none keeps the data on its own worker, as the very objects that they are.
            broadcast: put copies on all of them, or on so many.
            direct: send to the workers (default), or through the scheduler.
            hash: derive keys from the values, so that equal values are stored once.
            timeout: seconds (or text) to wait for workers.
            asynchronous: return an awaitable.

        Raises:
            TimeoutError: no worker within `timeout`.
            TypeError: an iterator or a queue.
        """
        refuse_iterators([data])
        if timeout is no_default:
            timeout = self._timeout
        here = worker_here() if workers is None else None
        if here is not None and not (here.task_clients.serve(self) and here.status.name == "running"):
            here = None
        seconds = seconds_of(timeout)
        return self.sync(
            self._scatter, data, workers, broadcast, direct, hash, seconds, here, asynchronous=asynchronous
        )

    async def _scatter(
        self,
        data: Any,
        workers: Workers,
        broadcast: bool | int,
        direct: bool | None,
        hash: bool,
        timeout: float | None,
        here: Any = None,
    ) -> Any:
        kind = type(data)
        if kind is dict:
            items, keys = list(data.values()), [to_wire(key) for key in data]
        else:
            named = isinstance(data, tuple) and is_namedtuple_instance(data)
            items = list(data) if named or kind in _SEVERAL else [data]
            keys = [_data_key(value, hash) for value in items]
        values = dict(zip(keys, items, strict=True))
        chosen = normalize_workers(workers)
        if direct is None:
            direct = self.direct_to_workers is not False
        # interest first: the scheduler must not forget what it is about to be told of
        with self.held.submitting(values):
            states, _ = self.held.want_all(values, drain=False)
            try:
                if here is not None:
                    await self._keep_data(values, here, timeout)
                else:
                    await self._send_data(values, chosen, direct, timeout)
            except BaseException:
                self.held.release_now(self.held.renew(states))
                raise
        states = self.held.renew(states)
        self.held.finish({key: _type_name(value) for key, value in values.items()}, states)
        if broadcast:
            count = None if broadcast is True else int(broadcast)
            await self._copy_results(list(values), n=count, workers=chosen or None)
        futures = dict(zip(values, [Future._of(self, state) for state in states], strict=True))  # type: ignore[arg-type]
        made = [futures[key] for key in keys]
        if kind is dict:
            return dict(zip(data, made, strict=True))
        if named:
            return tuple.__new__(kind, made)  # its own constructor may take something else
        if kind not in _SEVERAL:
            return made[0]
        return made if kind is range else kind(made)

    async def _send_data(
        self, values: Mapping[Key, Any], workers: list[str], direct: bool, timeout: float | None
    ) -> None:
        if direct:
            threads, number = await self._begin_scatter(list(values), workers, timeout)
            await self._announce(values, number, self._send_to_workers(values, threads, number))
            return
        await self.held.barrier()
        await self._call(
            "scatter",
            data={key: self._mark(value) for key, value in values.items()},
            workers=workers or None,
            client=self.id,
            timeout=timeout,
        )

    async def _keep_data(self, values: Mapping[Key, Any], worker: Any, timeout: float | None) -> None:
        """Put a task's values on its worker, as they are."""
        address: str = worker.address
        _, number = await self._begin_scatter(list(values), [address], timeout)

        async def keep() -> Sent:
            reply = await worker.operations.keep_own(dict(values), number)
            return {key: [address] for key in values}, reply["nbytes"], None

        await self._announce(values, number, keep())

    async def _announce(self, values: Mapping[Key, Any], number: int, sending: Coroutine[Any, Any, Sent]) -> None:
        """Await that values are sent, and tell the scheduler of those that arrived."""
        try:
            # a release of the same keys that is still under way must not come after the news that they are there
            (who_has, nbytes, failure), _ = await asyncio.gather(sending, self.held.barrier())
        except BaseException:  # or what is freed from now on would be taken for freed before
            self.ask_in_background("update_data", who_has={}, nbytes={}, client=self.id, scattering=number)
            raise
        await self._call(
            "update_data",
            who_has=who_has,
            nbytes=nbytes,
            client=self.id,
            types={key: _type_name(values[key]) for key in who_has},
            scattering=number,
        )
        if failure is not None:
            raise failure  # the scheduler knows of the others now, so that they go when they are released

    def _mark(self, value: object) -> Serialize:
        return Serialize(value) if self._families is None else self._families.mark(value)

    async def _begin_scatter(
        self, keys: list[Key], workers: list[str], timeout: float | None
    ) -> tuple[dict[str, int], int]:
        """Threads by address of the workers asked for, once there is one, and the scattering's number."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.01
        while True:
            reply = await self._call("begin_scatter", keys=keys, client=self.id, workers=workers or None)
            if reply["threads"]:
                return reply["threads"], reply["scattering"]
            if deadline is not None and time.monotonic() > deadline:
                which = f"of {workers} " if workers else ""
                raise TimeoutError(f"No worker {which}was there to scatter to within {timeout} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _send_to_workers(self, values: Mapping[Key, Any], threads: Mapping[str, int], number: int) -> Sent:
        """Send values to workers: the holders of those that arrived, their sizes, and the first error of the others."""
        turns = itertools.cycle([address for address, count in threads.items() for _ in range(max(count, 1))])
        for _ in range(next(_scatters) % sum(max(count, 1) for count in threads.values())):
            next(turns)
        plan: dict[str, dict[Key, Any]] = {}
        for key, value in values.items():
            plan.setdefault(next(turns), {})[key] = self._mark(value)
        replies = await asyncio.gather(
            *[
                self.session.pool.rpc(address).update_data(data=data, scattering=number)
                for address, data in plan.items()
            ],
            return_exceptions=True,
        )
        who_has: dict[Key, list[str]] = {}
        nbytes: dict[Key, int] = {}
        for (address, data), reply in zip(plan.items(), replies, strict=True):
            if not isinstance(reply, BaseException):
                who_has.update((key, [address]) for key in data)
                nbytes.update(reply["nbytes"])
        return who_has, nbytes, next((reply for reply in replies if isinstance(reply, BaseException)), None)

    def replicate(
        self,
        futures: object,
        n: int | None = None,
        workers: Workers = None,
        branching_factor: int = 2,
        **kwargs: Any,
    ) -> Any:
        """Put copies of results on more workers, and wait until they are there.

        Args:
            futures: whose results, in nested containers.
            n: copies of each; on all workers by default.
            workers: addresses, names or hosts to choose from.
            branching_factor: how many workers copy from one at a time.

        Results that cannot be copied (lost, or of tasks that failed) are named in a warning in the log.
        """
        return self.sync(self._replicate, futures, n, chosen_workers(workers), branching_factor, **kwargs)

    async def _replicate(
        self, futures: object, n: int | None, workers: list[str] | None, branching_factor: int, **kwargs: object
    ) -> None:
        states = [future._bound() for future in self._futures_in(futures)]
        await self.held.wait_async(states, error_stops=True)
        refuse_cancelled(states)
        keys = list({state.key: None for state in states})
        await self._copy_results(keys, n=n, workers=workers, branching_factor=branching_factor, **kwargs)

    async def _copy_results(self, keys: list[Key], **options: object) -> None:
        """Have results copied; what could not be is logged: the results themselves are there all the same."""
        reply = await self._call("replicate", keys=keys, **options)
        if isinstance(reply, dict) and reply.get("status") == "partial-fail":
            names = [from_wire(key) for key in reply["keys"]]
            logger.warning(
                "Could not replicate %d of %d results: %s",
                len(names),
                len(keys),
                ", ".join(map(repr, names[:5])) + (", …" if len(names) > 5 else ""),
            )

    def rebalance(self, futures: object = None, workers: Workers = None, **kwargs: Any) -> Any:
        """Move results between workers so that each has about as much memory in use.

        Args:
            futures: which; all results by default.
            workers: addresses, names or hosts; all by default.
        """
        return self.sync(self._rebalance, futures, chosen_workers(workers), **kwargs)

    async def _rebalance(self, futures: object, workers: list[str] | None, **kwargs: object) -> None:
        keys = None
        if futures is not None:
            states = [future._bound() for future in self._futures_in(futures)]
            await self.held.wait_async(states, error_stops=True)
            refuse_cancelled(states)
            keys = list({state.key: None for state in states})
        reply = await self._call("rebalance", keys=keys, workers=workers, **kwargs)
        if isinstance(reply, dict) and reply.get("status") == "partial-fail":
            raise KeyError(f"Could not rebalance keys: {reply.get('keys')}")

    def _futures_in(self, value: object) -> list[Future[Any]]:
        from ..waiting import find_futures

        return find_futures(value, self._whole_client)

    def _futures_of_graph(self, dsk: Any) -> list[Future[Any]]:
        from ..waiting import futures_of

        return futures_of(list(ensure_dict(dsk).values()))


async def _naming_key(ask: Callable[[list[Key]], Awaitable[dict[Key, Any]]], keys: list[Key]) -> dict[Key, Any]:
    """The answer of `ask`; if a value in it cannot be unpickled, ask for each by itself, and name that one."""
    try:
        return await ask(keys)
    except DeserializationError as error:
        if len(keys) == 1:
            raise cannot_load(keys[0], error.__cause__ or error) from error.__cause__
    except MessageTooLargeError as error:
        if len(keys) == 1:
            if not isinstance(error.__cause__, FrameTooLargeError):
                raise
            raise MessageTooLargeError(f"the result of {from_wire(keys[0])!r} cannot be fetched: {error}") from error
    results: dict[Key, Any] = {}
    for key in keys:
        results.update(await _naming_key(ask, [key]))
    return results


_scatters = itertools.count()
#: What `scatter` takes for several values.
_SEVERAL = (list, tuple, set, frozenset, range)


def _take_results(
    client: ClientBase, states: Sequence[FutureState], results: dict[Key, Any], errors: str
) -> list[FutureState]:
    """Load what is here; returns the states whose results are on workers. Raises what a task raised, unless skipped."""
    missing: dict[Key, FutureState] = {}
    for state in states:
        status = state.status
        if status == "finished":
            if state.key not in results:
                if state.result is not None:
                    results[state.key] = load_result(state, client)
                else:
                    missing[state.key] = state
        elif status == "error" or status == "cancelled":
            if errors == "raise":
                raise load_error(state)
            results[state.key] = SKIPPED
        else:
            missing[state.key] = state
    return list(missing.values())


def _shape(futures: object, results: Mapping[Key, Any]) -> Any:
    """Results in the shape of what was asked for."""
    if type(futures) is list and all(type(item) is Future for item in futures):
        values = [results[future._state.key] for future in futures]
        return [value for value in values if value is not SKIPPED] if SKIPPED in _identities(values) else values
    shaped = replace_futures(futures, lambda future: results[future._bound().key])
    return None if shaped is SKIPPED else shaped


def _identities(values: list[Any]) -> Any:
    """Holds `SKIPPED` if a value is that very object (`in` would ask arrays whether they are equal)."""
    return (SKIPPED,) if any(value is SKIPPED for value in values) else ()


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _data_key(value: object, hash: bool) -> Key:
    token = tokenize(value) if hash else unique_suffix()
    return f"{type(value).__name__}-{token}"
