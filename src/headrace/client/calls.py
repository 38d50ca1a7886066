"""`submit` and `map` to keys and payloads, as fast as Python allows. No client, no sockets: what comes out is columns.

A function is pickled and hashed once per function object; the key of a pure call is the function's name and a hash of
what was pickled.
"""

from __future__ import annotations

import itertools
import os
import types
import weakref
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from dask.base import tokenize
from dask.utils import funcname

from headrace.common.keys import Key, to_wire
from headrace.exceptions import SerializationError
from headrace.messages.base import Payload, TaskOptions
from headrace.messages.client import SubmitGraph
from headrace.protocol import Held, dumps, dumps_function, hand_over

from .arguments import (
    LONG_TEXT,
    NO_KWARGS,
    SMALL,
    MemolessPickler,
    Packed,
    Walker,
    as_payload,
    body_of,
    dump_arguments,
    function_name,
    pack,
    splice,
    tokenize_arguments,
)

#: Tasks in a message of a long `map`. Between two of them, the scheduler can hear of what workers have done.
CHUNK = 256

_CACHED_KINDS = (types.FunctionType, types.BuiltinFunctionType, type)
_random = os.urandom(6).hex()
_counter = itertools.count()


class FunctionInfo:
    """A callable as it travels.

    Attributes:
        pickled: its payload.
        name: what its tasks' keys begin with.
        seed: a hash of it, to be copied and fed with arguments.
    """

    __slots__ = ("name", "pickled", "reference", "seed")

    def __init__(self, function: Callable[..., Any], in_process: bool = False) -> None:
        self.pickled = hand_over(function) if in_process else pickle_function(function)
        self.name = str(funcname(function))
        if type(self.pickled) is bytes:
            self.seed = blake2b(self.pickled, digest_size=16)
        else:
            self.seed = blake2b(str(tokenize(function)).encode(), digest_size=16)
        self.reference: Any = None


_functions: dict[int, FunctionInfo] = {}
#: the same for clients whose scheduler is in this process: buffers in these payloads are the functions' own
_shared_functions: dict[int, FunctionInfo] = {}


def describe(function: Callable[..., Any], in_process: bool = False) -> FunctionInfo:
    """The function as it travels; kept for as long as a function (not: any callable) lives."""
    number = id(function)
    known = _shared_functions if in_process else _functions
    info = known.get(number)
    if info is not None and info.reference() is function:
        return info
    info = FunctionInfo(function, in_process)
    pickled = info.pickled
    if isinstance(function, _CACHED_KINDS) and type(pickled) is not Held:  # which would keep it alive
        size = len(pickled) if type(pickled) is bytes else pickled.nbytes  # type: ignore[union-attr]
        if size < 1_000_000:
            info.reference = weakref.ref(function, lambda _: known.pop(number, None))
            known[number] = info
    return info


def pickle_function(function: Callable[..., Any]) -> bytes:
    """The function's payload.

    Raises:
        SerializationError: it cannot be pickled; names it.
    """
    try:
        return dumps_function(function)
    except SerializationError as error:
        raise SerializationError(f"the function {function_name(function)} cannot be sent. {error}") from error


def unique_suffix() -> str:
    """Differs from all others ever made, and looks like a token (`key_prefix` leaves it off)."""
    return f"{_random}{next(_counter):020x}"


def _seed_of(info: FunctionInfo, limit: float | None) -> Any:
    """What the hashes of a function's calls begin with; with another limit they are other calls."""
    seed = info.seed.copy()
    if limit is not None:
        seed.update(repr(limit).encode())
    return seed


def call_key(info: FunctionInfo, packed: Packed, pure: bool, limit: float | None = None) -> Key:
    """The key of a call whose user did not name one."""
    if not pure:
        return f"{info.name}-{unique_suffix()}"
    seed = _seed_of(info, limit)
    token = packed.token
    seed.update(token if type(token) is bytes else token.encode())  # type: ignore[union-attr]
    return f"{info.name}-{seed.hexdigest()}"


def pack_submit(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    key: Any,
    pure: bool,
    in_process: bool = False,
    limit: float | None = None,
) -> tuple[Key, FunctionInfo, Packed]:
    """The parts of one call's message.

    Args:
        limit: seconds that it may run.
        in_process: whether the scheduler is in this process, see `headrace.protocol.handover`.

    Raises:
        SerializationError: the function or an argument cannot be pickled.
        TypeError: the key is not allowed.
    """
    info = describe(function, in_process)
    packed = pack(function, args, kwargs, in_process)
    return (call_key(info, packed, pure, limit) if key is None else to_wire(key)), info, packed


def submit_message(
    graph: int, key: Key, info: FunctionInfo, packed: Packed, options: list[TaskOptions], submitting_task: Key | None
) -> SubmitGraph:
    """The message for one call."""
    if packed.dependencies:
        external = list(packed.dependencies)
        dependencies = [list(range(1, len(external) + 1))]
    else:
        external, dependencies = [], []
    return SubmitGraph(
        graph,
        [info.pickled],
        [key],
        [packed.payload],
        dependencies=dependencies,
        external=external,
        options=options,
        submitting_task=submitting_task,
    )


class MapChunk:
    """Columns of some of a `map`'s tasks.

    Attributes:
        keys: the tasks' keys.
        payloads: their arguments.
        dependencies: per task, the keys that its arguments refer to; `None` when no task has any.
    """

    __slots__ = ("dependencies", "keys", "payloads")

    def __init__(self, keys: list[Key], payloads: list[Payload], dependencies: list[list[Key]] | None) -> None:
        self.keys = keys
        self.payloads = payloads
        self.dependencies = dependencies

    def without(self, positions: set[int]) -> MapChunk:
        """The same without the tasks at these positions."""
        kept = [position for position in range(len(self.keys)) if position not in positions]
        return MapChunk(
            [self.keys[i] for i in kept],
            [self.payloads[i] for i in kept],
            None if self.dependencies is None else [self.dependencies[i] for i in kept],
        )

    def message(
        self, graph: int, info: FunctionInfo, options: list[TaskOptions], task: Key | None, more: bool
    ) -> SubmitGraph:
        """The message for these tasks."""
        external: list[Key] = []
        positions: list[list[int]] = []
        if self.dependencies is not None:
            count = len(self.keys)
            known: dict[Key, int] = {}
            for keys in self.dependencies:
                positions.append([known.setdefault(key, count + len(known)) for key in keys])
            external = list(known)
        return SubmitGraph(
            graph,
            [info.pickled],
            self.keys,
            self.payloads,
            dependencies=positions,
            external=external,
            options=options,
            more=more,
            submitting_task=task,
        )


class MapPacker:
    """Packs a `map`'s calls, chunk by chunk.

    Args:
        function: what is mapped.
        kwargs: the same for all calls, and small: they are pickled once and copied into each payload.
        prefix: what the keys begin with; the function's name by default.
        keys: the keys themselves instead.
        in_process: whether the scheduler is in this process, see `headrace.protocol.handover`.
        limit: seconds that each may run.

    Attributes:
        futures: the futures that any argument referred to, by key.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        kwargs: dict[str, Any],
        pure: bool,
        prefix: str | None = None,
        keys: Iterator[Any] | None = None,
        in_process: bool = False,
        limit: float | None = None,
    ) -> None:
        self.info = describe(function, in_process)
        self._function, self._pure, self._keys, self._in_process = function, pure, keys, in_process
        self._prefix = (self.info.name if prefix is None else prefix) + "-"
        self._pickle = MemolessPickler()
        self._seed = _seed_of(self.info, limit)
        walker = Walker()
        self._kwargs = {name: walker.walk_safely(value) for name, value in kwargs.items()} if kwargs else NO_KWARGS
        self.futures: dict[Key, Any] = dict(walker.dependencies)
        self._shared = list(self.futures)
        self._kwargs_body = b""
        if kwargs:
            self._seed.update(tokenize_arguments((), self._kwargs).encode())
            pickled = hand_over(self._kwargs) if in_process else _dump_kwargs(function, self._kwargs)
            self._kwargs_body = body_of(pickled) if type(pickled) is bytes else b""

    def pack(self, rows: Sequence[tuple[Any, ...]]) -> MapChunk:
        """The columns of these calls, given by their positional arguments.

        Raises:
            SerializationError: an argument cannot be pickled.
            TypeError: a key is not allowed.
        """
        keys: list[Key] = []
        payloads: list[Payload] = []
        shared = self._shared
        dependencies: list[list[Key]] | None = [] if shared else None
        pickle, kwargs, body, seed, prefix = self._pickle, self._kwargs, self._kwargs_body, self._seed, self._prefix
        hashed = self._pure and self._keys is None
        for args in rows:
            token: bytes | str
            for value in args:
                kind = type(value)
                if kind not in SMALL and not ((kind is str or kind is bytes) and len(value) < LONG_TEXT):
                    packed = self._pack_general(args)
                    payload, token = packed.payload, packed.token
                    if packed.dependencies:
                        if dependencies is None:
                            dependencies = [[] for _ in payloads]
                        dependencies.append(list(dict.fromkeys((*shared, *packed.dependencies))))
                    elif dependencies is not None:
                        dependencies.append(shared)
                    break
            else:
                if not kwargs:
                    payload = token = pickle((args, kwargs))
                else:
                    token = pickle(args)
                    payload = splice(token, body) if body else self._dump(args)
                if dependencies is not None:
                    dependencies.append(shared)
            payloads.append(payload)
            if hashed:
                digest = seed.copy()
                digest.update(token if type(token) is bytes else token.encode())  # type: ignore[union-attr]
                keys.append(prefix + digest.hexdigest())
        if not hashed:
            keys = self._name(len(payloads))
        return MapChunk(keys, payloads, dependencies)

    def _name(self, count: int) -> list[Key]:
        if self._keys is None:
            return [self._prefix + unique_suffix() for _ in range(count)]
        return [to_wire(key) for key in itertools.islice(self._keys, count)]

    def _pack_general(self, args: tuple[Any, ...]) -> Packed:
        walker = Walker()
        new = walker.walk_safely(args)
        if walker.dependencies:
            self.futures.update(walker.dependencies)
        if walker.simple and not self._kwargs:
            token = self._pickle((new, NO_KWARGS))
            return Packed(as_payload(token), walker.dependencies, token)
        if walker.simple and self._kwargs_body:
            token = self._pickle(new)
            if len(token) < 60_000:  # one frame: it can be spliced
                return Packed(as_payload(splice(token, self._kwargs_body)), walker.dependencies, token)
        return Packed(self._dump(new), walker.dependencies, tokenize_arguments(new, NO_KWARGS))

    def _dump(self, args: tuple[Any, ...]) -> Payload:
        return dump_arguments(self._function, args, self._kwargs, self._in_process)


def _dump_kwargs(function: Callable[..., Any], kwargs: dict[str, Any]) -> Payload:
    try:
        return dumps(kwargs)
    except SerializationError:
        dump_arguments(function, (), kwargs)  # raises with the name of the argument
        raise


def rows_of(iterables: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The positional arguments of each call of a `map`."""
    return zip(*iterables)  # noqa: B905 - as documented, the shortest decides
