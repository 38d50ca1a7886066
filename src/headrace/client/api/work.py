"""Work to the cluster: `submit`, `map`, `get`, and taking it back or trying it again."""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import dask
from dask._task_spec import DataNode
from dask.utils import format_bytes, parse_bytes

from headrace.common.current_run import key_here
from headrace.common.keys import Key, to_wire
from headrace.common.source_code import SourceCode
from headrace.messages.base import NO_OPTIONS, Payload, TaskOptions
from headrace.messages.client import LOST_DEPENDENCIES, SubmitGraph
from headrace.protocol import Frames, dumps, hand_over

from ..errors import LostFutureError
from ..future import Future, refuse_cancelled
from ..link.held_keys import release_messages
from ..packing.arguments import Walker
from ..packing.calls import (
    CHUNK,
    MapChunk,
    MapPacker,
    pack_submit,
    rows_of,
    submit_message,
    token_of,
    unique_suffix,
)
from ..packing.dask_expressions import materialize
from ..packing.graph import GraphPacker, plan_graph
from ..packing.nested_futures import refuse_iterators
from ..packing.retry_options import Retry, takes_timeout, time_limit
from ..packing.submission_pace import Pace
from ..packing.task_options import (
    OptionTable,
    Workers,
    has_callables,
    make_options,
    resolve_callables,
)
from ..packing.user_frames import calling_code, frames_wanted
from .client_base import ClientBase

#: Beginnings of the names of modules whose lines are no user's.
_OURS = ("headrace.", "distributed.", "dask.")
#: Bytes from which on a function is looked at, with its arguments, for a warning of large graphs.
LARGE_FUNCTION = 100_000


class WorkMethods(ClientBase):
    """Submitting tasks."""

    def submit(
        self,
        func: Callable[..., Any],
        *args: object,
        key: object = None,
        workers: Workers = None,
        resources: Mapping[str, float] | None = None,
        retries: int | Retry | Mapping[str, Any] | None = None,
        priority: float = 0,
        fifo_timeout: float | str = "100 ms",
        allow_other_workers: bool = False,
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        **kwargs: object,
    ) -> Future[Any]:
        """Run `func(*args, **kwargs)` on the cluster.

        Futures among the arguments, also inside lists, tuples, sets and dictionaries, become their results.

        Args:
            key: the task's key; by default the function's name and a hash of function and arguments.
            workers: addresses, names or hosts that may run it.
            resources: abstract resources that it takes, by name.
            retries: how many times it may fail before it counts as failed; or a `Retry` (or the same as a dictionary),
                which also says after which exceptions it is tried again, and how long it waits before.
            priority: larger runs earlier.
            fifo_timeout: seconds (or text) within which later calls count as of the same time.
            allow_other_workers: whether others may run it when none of `workers` is there.
            actor, actors: keep the result on its worker as an actor.
            pure: equal calls are run once. Say `False` for functions that do not always return the same.
            timeout: seconds, or text such as "30s", that it may run once it has begun. Then it is interrupted
                and has failed with `TaskTimeout`, which retries count as any other failure. If `func` itself takes a
                `timeout` (by name, or any keyword), it gets this one; `dask.annotate(timeout=...)` around the call
                then limits the task.

        Raises:
            TypeError: `func` is not callable; the key is not allowed.
            SerializationError: (a TypeError) the function or an argument cannot be pickled; names it.
            ClosedClientError: the client is closed.
        """
        if not callable(func):
            raise TypeError("First input to submit must be a callable function")
        actor = actor or actors
        limit = _limit_of(func, kwargs) if "timeout" in kwargs else None
        wire, info, packed = pack_submit(func, args, kwargs, key, pure and not actor, self.session.in_process, limit)
        asked = workers or resources or retries or priority or allow_other_workers or actor or limit is not None
        if not asked and fifo_timeout == "100 ms" and not dask.get_annotations():
            options: list[TaskOptions] = []
        else:
            options = self._call_options(
                wire,
                workers=workers,
                resources=resources,
                retries=retries,
                priority=priority,
                fifo_timeout=fifo_timeout,
                allow_other_workers=allow_other_workers,
                actor=actor,
                timeout=limit,
            )
        if packed.dependencies:
            self._check_ours(packed.dependencies)
        message = submit_message(self.held.core.next_graph(), wire, info, packed, options, key_here())
        if type(packed.payload) is Frames or size_of(info.pickled) > LARGE_FUNCTION:
            self._warn_if_large([message])
        if self._source_frames:
            message.code = calling_code(self._source_frames)
        return Future._of(self, self.held.submit(wire, message))  # type: ignore[arg-type]

    def _call_options(self, key: object, **keywords: Any) -> list[TaskOptions]:
        around = dask.get_annotations()
        if around and has_callables(around):
            around = resolve_callables(around, key)
        options = make_options(around, **keywords)
        return [] if options is NO_OPTIONS else [options]

    def _check_ours(self, dependencies: Mapping[Key, Any]) -> None:
        """Futures of other clients of the same scheduler are fine; bind those that have no client yet."""
        for future in dependencies.values():
            if isinstance(future, Future) and future._client is not self:
                if future._state is None:
                    future.bind_client(self)  # type: ignore[arg-type]
                elif future._client is not None and not self.session.same_scheduler(future._client.session):
                    raise ValueError(
                        f"{future!r} is of a client of another scheduler ({future._client.session.address})"
                    )

    def map(
        self,
        func: Callable[..., Any],
        *iterables: Iterable[Any],
        key: str | Sequence[Any] | None = None,
        workers: Workers = None,
        retries: int | Retry | Mapping[str, Any] | None = None,
        resources: Mapping[str, float] | None = None,
        priority: float = 0,
        allow_other_workers: bool = False,
        fifo_timeout: float | str = "100 ms",
        actor: bool = False,
        actors: bool = False,
        pure: bool = True,
        batch_size: int | None = None,
        **kwargs: object,
    ) -> list[Future[Any]]:
        """Run `func` on each of the elements of the iterables, as `submit` for each would; the shortest decides.

        Args:
            key: what the tasks' keys begin with, or a list of all keys.
            batch_size: calls in one message to the scheduler; 256 by default.
            kwargs: the same for all calls. Large ones are sent once.
            workers, retries, resources, priority, allow_other_workers, fifo_timeout, actor, actors, pure, timeout:
                see `submit`; for each of the tasks.

        Returns:
            One future per call, in order.

        Raises:
            TypeError: `func` is not callable; there is no iterable, or all are iterators or queues; a key is of a type
                that is not allowed.
            ValueError: `key` is a list and has fewer entries than there are calls.
            SerializationError: (a TypeError) the function or an argument cannot be pickled; names it.
        """
        if not callable(func):
            raise TypeError("First input to map must be a callable function")
        if not iterables:
            raise TypeError(
                "map needs at least one iterable, whose elements func is called with; use submit for one call"
            )
        refuse_iterators(iterables)
        actor = actor or actors
        around = dask.get_annotations()
        if around and has_callables(around):
            raise TypeError("annotations around map must not be callables: annotate a graph, or call submit")
        limit = _limit_of(func, kwargs) if "timeout" in kwargs else None
        options = make_options(
            around,
            workers=workers,
            resources=resources,
            retries=retries,
            priority=priority,
            fifo_timeout=fifo_timeout,
            allow_other_workers=allow_other_workers,
            actor=actor,
            timeout=limit,
        )
        pure = pure and not actor
        kwargs, held = self._send_large_kwargs(kwargs, pure and (key is None or isinstance(key, str)), key is not None)
        prefix, keys = (key, None) if isinstance(key, str) else (None, key)
        if keys is not None:
            keys, iterables = _keys_for(keys, iterables)
        named = None if keys is None else iter(keys)
        packer = MapPacker(func, kwargs, pure, prefix, named, self.session.in_process, limit)
        futures = self._map_chunks(packer, iterables, [] if options is NO_OPTIONS else [options], batch_size)
        del held  # the tasks hold their large arguments from here on
        return futures

    def _map_chunks(
        self,
        packer: MapPacker,
        iterables: Sequence[Iterable[Any]],
        options: list[TaskOptions],
        batch_size: int | None,
    ) -> list[Future[Any]]:
        session = self.session
        graph, task = self.held.core.next_graph(), key_here()
        make = Future._of
        futures: list[Future[Any]] = []
        rows = rows_of(iterables)
        size = batch_size or CHUNK
        is_open = False
        checked = 0
        code = calling_code(frames_wanted())
        warner = _LargeGraphWarner()
        warner.see([packer.info.pickled])
        pace = Pace(session.loop, session.in_process)
        chunk_rows = list(itertools.islice(rows, size))
        try:
            while chunk_rows:
                following = list(itertools.islice(rows, size))
                chunk = packer.pack(chunk_rows)
                if len(packer.futures) > checked:
                    self._check_ours(packer.futures)
                    checked = len(packer.futures)

                def message_without(
                    known: set[int],
                    chunk: MapChunk = chunk,
                    more: bool = bool(following),
                    code: list[tuple[SourceCode, ...]] = code,
                ) -> SubmitGraph | None:
                    part = chunk.without(known) if known else chunk
                    if not part.keys:
                        return None
                    made = part.message(graph, packer.info, options, task, more)
                    made.code = code
                    return made

                states, known = self.held.want_all(chunk.keys, message_without=message_without)
                if len(known) < len(chunk.keys):
                    is_open, code = bool(following), []
                warner.see(chunk.payloads)
                futures += [make(self, state) for state in states]  # type: ignore[arg-type]
                chunk_rows = following
                if is_open:
                    pace.turn()
        finally:
            if is_open:
                self.outbox.post(SubmitGraph(graph, [], [], []))
        return futures

    def _send_large_kwargs(
        self, kwargs: dict[str, Any], hashed: bool, named: bool
    ) -> tuple[dict[str, Any], list[Future[Any]]]:
        """Large keyword arguments of a map become tasks of their own, with `hashed` one a value; the others stay."""
        held: list[Future[Any]] = []
        result = dict(kwargs)
        for name, value in kwargs.items():
            walker = Walker()
            walker.walk_safely(value)
            if walker.simple or walker.dependencies:
                continue
            try:
                payload = hand_over(value) if self.session.in_process else dumps(value)
            except TypeError:
                continue  # reported with the argument's name when it is packed
            if type(payload) is not bytes:
                key = f"{type(value).__name__}-{token_of(value, named=named) if hashed else unique_suffix()}"
                (future,) = self._submit_graph({key: DataNode(key, value)}, [key], {}, {}).values()
                held.append(future)
                result[name] = future
        return result, held

    def _submit_graph(
        self,
        dsk: Any,
        keys: Sequence[Any],
        common: Mapping[str, Any],
        by_type: Mapping[str, Mapping[Any, Any]],
    ) -> dict[Any, Future[Any]]:
        """Futures for keys of a graph, by the user's key; the graph is sent unless we have them all.

        Args:
            common: options for all tasks, as `make_options` takes them.
            by_type: annotations by layer.
        """
        with self.held.submitting(to_wire(key) for key in keys):
            return self._send_graph(dsk, keys, common, by_type)

    def _send_graph(
        self,
        dsk: Any,
        keys: Sequence[Any],
        common: Mapping[str, Any],
        by_type: Mapping[str, Mapping[Any, Any]],
    ) -> dict[Any, Future[Any]]:
        held, outbox = self.held, self.outbox
        outbox.check_open()
        known = held.core.futures
        plan = plan_graph(dsk, keys, known.__contains__)
        if plan.lost is not None and self._bind_unbound(dsk):
            plan = plan_graph(dsk, keys, known.__contains__)
        wire = {key: to_wire(key) for key in keys}
        table = OptionTable(common, dask.get_annotations(), by_type)
        states, had = held.want_all(wire.values())
        futures = {key: Future._of(self, state) for key, state in zip(wire, states, strict=True)}  # type: ignore[arg-type]
        if plan.lost is not None:
            text, lost = plan.lost
            without = [name for place, (key, name) in enumerate(wire.items()) if key in lost and place not in had]
            held.cancel_unsent(without, LOST_DEPENDENCIES, text)
        if len(had) == len(wire) or not plan.nodes:
            return futures
        warner = _LargeGraphWarner()
        sent: list[Key] = []
        graph = held.core.next_graph()
        code = calling_code(frames_wanted())
        try:
            packer = GraphPacker(graph, plan, set(wire.values()), table, key_here(), self.session.in_process)
            for message in packer.messages():
                message.code, code = code, []
                outbox.post(message)
                sent += [message.keys[i] for i in message.wanted] if message.wanted is not None else message.keys
                warner.see([*message.functions, *message.arguments])
        except BaseException:
            held.forget(states)
            if sent:
                outbox.post(SubmitGraph(graph, [], [], []))
                for release in release_messages(sent):
                    outbox.post(release)
            raise
        return futures

    def _bind_unbound(self, dsk: Any) -> bool:
        """Make futures in a graph ours that were unpickled where no client was, as those in scattered data are."""
        unbound = [future for future in self._whole_client._futures_of_graph(dsk) if future._state is None]
        for future in unbound:
            future.bind_client(self._whole_client)
        return bool(unbound)

    def _warn_if_large(self, messages: Iterable[SubmitGraph]) -> None:
        warner = _LargeGraphWarner()
        for message in messages:
            warner.see([*message.functions, *message.arguments])

    def get(
        self,
        dsk: Any,
        keys: object,
        workers: Workers = None,
        allow_other_workers: bool | None = None,
        resources: Mapping[str, float] | None = None,
        sync: bool = True,
        asynchronous: bool | None = None,
        direct: bool | None = None,
        retries: int | Retry | Mapping[str, Any] | None = None,
        priority: float = 0,
        fifo_timeout: float | str = "60s",
        actors: object = None,
        **kwargs: object,
    ) -> Any:
        """Compute keys of a graph.

        Args:
            dsk: a dask graph or expression.
            keys: one, or nested lists of them; results come back in the same shape.
            sync: return results, else futures.
            workers, allow_other_workers, resources, retries, priority, fifo_timeout: see `submit`; for all tasks.
            actors: which results live on their workers as actors: True for all, or keys.
            direct, asynchronous: see `gather`.

        Raises:
            ValueError: tasks depend on each other in a circle.
            FutureCancelledError: a key is not in the graph, or needs one that is not and of which there is no future.
            BaseException: what a task raised.
        """
        graph, annotations = materialize(dsk)
        flat = list(dict.fromkeys(_flatten(keys)))
        common = common_options(workers, allow_other_workers, resources, retries, priority, fifo_timeout)
        futures = self._submit_graph(graph, flat, common, {**annotations, **actor_annotations(actors, flat)})
        packed = _pack_keys(keys, futures)
        if not sync:
            return packed
        if asynchronous is None:
            asynchronous = self.asynchronous
        if asynchronous:
            return self._get_async(packed, list(futures.values()), direct)
        try:
            return self._whole_client.gather(packed, direct=direct, asynchronous=False)
        finally:
            self._release_now(futures.values())

    async def _get_async(self, packed: object, futures: list[Future[Any]], direct: bool | None) -> Any:
        try:
            return await self._whole_client._gather(packed, direct=direct)
        finally:
            self._release_now(futures)

    def _release_now(self, futures: Iterable[Future[Any]]) -> None:
        for future in futures:
            future.release()

    def cancel(
        self,
        futures: object,
        asynchronous: bool | None = None,
        force: bool = False,
        reason: str | None = None,
        msg: str | None = None,
        running: bool = False,
    ) -> Any:
        """Call off tasks, and what depends on them; their futures are cancelled at once.

        What waits does not run any more. What runs already goes on to its end for nothing, unless `running`.

        Args:
            futures: in nested containers or collections.
            force: also if other clients want the results. With `running`, also restart the worker (if it has a nanny)
                where an interrupted task does not end within `distributed.worker.interrupt-grace`; other tasks on it
                run again elsewhere, and are not suspected of anything.
            reason, msg: shown by those who ask for the results.
            running: interrupt what runs: `TaskCancelled` is raised in the task's thread, between two steps of its
                Python code, and a coroutine is cancelled. A thread that is in C code for longer than
                `distributed.worker.interrupt-grace` is left to itself, and another takes its place.
        """
        return self.sync(self._cancel, futures, force, reason, msg, running, asynchronous=asynchronous)

    async def _cancel(
        self, futures: object, force: bool, reason: str | None, msg: str | None, running: bool = False
    ) -> None:
        keys = {future._bound().key: None for future in self._whole_client._futures_in(futures)}
        self.held.cancel(keys, force, reason, msg, running)

    def retry(self, futures: object, asynchronous: bool | None = None) -> Any:
        """Run failed tasks again, with those they failed because of.

        Args:
            futures: in nested containers or collections.

        Raises:
            LostFutureError: (a KeyError) one of them was cancelled or released, so that its task is not known any more.
        """
        return self.sync(self._retry, futures, asynchronous=asynchronous)

    async def _retry(self, futures: object) -> None:
        keys: dict[Key, None] = {}
        for future in self._whole_client._futures_in(futures):
            state = future._bound()
            if state.status == "cancelled":
                raise LostFutureError(future.key, state.reason)
            keys[state.key] = None
        await self._call("retry", keys=list(keys), client=self.id)
        # That they are pending again comes on the stream, before how they end; this reply may come after both.
        await self.held.barrier()

    def futures_of(self, futures: object) -> list[Future[Any]]:
        """The futures in nested containers and collections; see `headrace.client.futures_of`.

        Raises:
            FuturesCancelledError: some of them were cancelled.
        """
        found = self._whole_client._futures_in(futures)
        refuse_cancelled([future._bound() for future in found])
        return found

    @property
    def futures(self) -> dict[Key, Any]:
        """The records of all keys that this client holds."""
        return self.held.core.futures


def size_of(payload: Payload) -> int:
    """Bytes of a payload; none of one that is handed over."""
    return len(payload) if type(payload) is bytes else payload.nbytes


class _LargeGraphWarner:
    """Warns once when a submission carries more data than it should."""

    def __init__(self) -> None:
        self._limit = parse_bytes(dask.config.get("distributed.admin.large-graph-warning-threshold", "10MB"))
        self._total = 0

    def see(self, payloads: Iterable[Any]) -> None:
        """Count what is sent."""
        before = self._total
        for payload in payloads:
            self._total += size_of(payload)
        if before <= self._limit < self._total:
            warnings.warn(
                f"Sending large graph of size {format_bytes(self._total)} or more.\n"
                "This may cause some slowdown.\n"
                "Consider loading the data with Dask directly\n or using futures or delayed objects to embed the "
                "data into the graph without repetition.",
                stacklevel=_frames_to_user(),
            )


def _limit_of(function: Callable[..., Any], keywords: dict[str, Any]) -> float | None:
    """Take `timeout`, the limit of a call in seconds, out of its keywords, unless the function takes it itself."""
    if takes_timeout(function):
        return None
    limit = keywords.pop("timeout")
    return None if limit is None else time_limit(limit)


def _frames_to_user() -> int:
    """The `stacklevel` with which the caller's warning names the line of the user that led to it, not one of ours."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(_OURS):
        frame, level = frame.f_back, level + 1
    return level


def _keys_for(keys: Iterable[Any], iterables: Sequence[Iterable[Any]]) -> tuple[list[Any], tuple[Any, ...]]:
    """The keys that a map was given, once it is sure that they are enough, and its iterables, which may be used up."""
    rows, keys = list(rows_of(iterables)), list(keys)
    if len(keys) < len(rows):
        raise ValueError(f"map was given {len(keys)} keys for {len(rows)} calls")
    return keys, tuple(zip(*rows, strict=True))


def common_options(
    workers: Workers,
    allow_other_workers: bool | None,
    resources: Mapping[str, float] | None,
    retries: int | Retry | Mapping[str, Any] | None,
    priority: float,
    fifo_timeout: float | str,
) -> dict[str, Any]:
    """The keywords of `get`, `compute` and `persist` as `make_options` takes them."""
    return {
        "workers": workers,
        "allow_other_workers": allow_other_workers,
        "resources": resources,
        "retries": retries,
        "priority": priority,
        "fifo_timeout": fifo_timeout,
    }


def actor_annotations(actors: Any, wanted: Iterable[Any]) -> dict[str, dict[Any, bool]]:
    """Annotations by key for the results that are to live as actors; never for what they are only computed from.

    Args:
        actors: True for all that are wanted; or keys or collections, one or several, or a dictionary of these with True
            or False.
        wanted: keys of the results.
    """
    if actors is None or actors is False:
        return {}
    if actors is True:
        return {"actor": dict.fromkeys(wanted, True)}
    if isinstance(actors, str) or hasattr(actors, "__dask_keys__"):
        actors = [actors]
    given = actors.items() if isinstance(actors, Mapping) else [(item, True) for item in actors]
    chosen: dict[Any, bool] = {}
    for item, value in given:
        keys = item.__dask_keys__() if hasattr(item, "__dask_keys__") else [item]
        chosen.update(dict.fromkeys(_flatten(keys), bool(value)))
    return {"actor": chosen}


def _flatten(keys: object) -> Iterable[Any]:
    if isinstance(keys, (list, set, frozenset)):
        for key in keys:
            yield from _flatten(key)
    else:
        yield keys


def _pack_keys(keys: object, futures: Mapping[Any, Future[Any]]) -> Any:
    if isinstance(keys, list):
        return [_pack_keys(key, futures) for key in keys]
    if isinstance(keys, (set, frozenset)):
        return [_pack_keys(key, futures) for key in keys]
    return futures[keys]
