"""`submit` and `map` to keys and payloads, as fast as Python allows. No client, no sockets: what comes out is columns.

A function is pickled and hashed once, as long as nothing changes that its pickle froze; the key of a pure call is the
function's name and a hash of what was pickled.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import Any

from dask.base import tokenize
from dask.utils import funcname

from headrace.common.keys import Key, to_wire
from headrace.containment import let_pass
from headrace.exceptions import SerializationError
from headrace.messages.base import Payload, TaskOptions
from headrace.messages.client import SubmitGraph
from headrace.protocol import Held, dumps, dumps_function, hand_over, hand_over_function

from .arguments import (
    LONG_TEXT,
    NO_KWARGS,
    SMALL,
    MemolessPickler,
    PackedCall,
    Walker,
    as_payload,
    body_of,
    dump_arguments,
    function_name,
    pack,
    splice,
)

#: Tasks in a message of a long `map`. Between two of them, the scheduler can hear of what workers have done.
CHUNK = 256

_random = os.urandom(6).hex()
_counter = itertools.count()
#: hashes of the files that this process has uploaded, by name
_uploads: dict[str, str] = {}


class FunctionInfo:
    """A callable as it travels.

    Attributes:
        pickled: its payload.
        name: what its tasks' keys begin with.
    """

    __slots__ = ("_seed", "name", "pickled")

    def __init__(self, function: Callable[..., Any], pickled: Payload) -> None:
        self.pickled = pickled
        self.name = str(funcname(function))
        self._seed: blake2b | None = None

    @property
    def seed(self) -> blake2b:
        """A hash of it, to be copied and fed with arguments."""
        if self._seed is None:
            self._seed = self._hash()
        return self._seed

    def _hash(self) -> blake2b:
        seed = blake2b(digest_size=16)
        if type(self.pickled) is bytes:
            seed.update(self.pickled)
        elif type(self.pickled) is Held:  # as it is: nothing tells whether a later call of it is the same
            seed.update(os.urandom(16))
        else:
            for frame in self.pickled.frames:
                seed.update(frame)
        return seed


def describe(function: Callable[..., Any], in_process: bool = False) -> FunctionInfo:
    """The function as it travels; kept for as long as its pickle is."""
    pickled = pickle_function(function, in_process)
    kept = (hand_over_function if in_process else dumps_function).kept(function, pickled)
    if kept is None:
        return FunctionInfo(function, pickled)
    if kept.note is None:
        kept.note = FunctionInfo(function, pickled)
    assert isinstance(kept.note, FunctionInfo)
    return kept.note


def pickle_function(function: Callable[..., Any], in_process: bool = False) -> Payload:
    """The function's payload.

    Raises:
        SerializationError: it cannot be pickled; names it.
    """
    try:
        return hand_over_function(function) if in_process else dumps_function(function)
    except SerializationError as error:
        raise SerializationError(f"the function {function_name(function)} cannot be sent. {error}") from error


def unique_suffix() -> str:
    """Differs from all others ever made, and looks like a token (`key_prefix` leaves it off)."""
    return f"{_random}{next(_counter):020x}"


def _seed_of(info: FunctionInfo, limit: float | None) -> blake2b:
    """The hash that those of a function's calls begin with; with another limit they are other calls.

    After a file was uploaded they are other calls as well: modules that functions name may be others now.
    """
    seed = info.seed.copy()
    if _uploads:
        seed.update(repr(sorted(_uploads.items())).encode())
    if limit is not None:
        seed.update(repr(limit).encode())
    return seed


def token_of(*values: object, named: bool) -> str:
    """A text that identifies values.

    Args:
        named: whether the user named the task that they are for: a value without a token is then like no other.

    Raises:
        Exception: whatever dask raises of a value that has none.
    """
    try:
        return str(tokenize(*values))
    except BaseException as raised:
        let_pass(raised)
        if not named:
            raise
        return unique_suffix()


def note_upload(filename: str, content: bytes) -> None:
    """From now on, workers import a module from this file."""
    _uploads[filename] = blake2b(content, digest_size=16).hexdigest()


def call_key(info: FunctionInfo, packed: PackedCall, pure: bool, limit: float | None = None) -> Key:
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
    key: object,
    pure: bool,
    in_process: bool = False,
    limit: float | None = None,
) -> tuple[Key, FunctionInfo, PackedCall]:
    """The parts of one call's message.

    Args:
        limit: seconds that it may run.
        in_process: whether the scheduler is in this process, see `headrace.protocol.handover`.

    Raises:
        SerializationError: the function or an argument cannot be pickled.
        TypeError: the key is not allowed.
    """
    info = describe(function, in_process)
    packed = pack(function, args, kwargs, in_process, hashed=pure and key is None)
    return (call_key(info, packed, pure, limit) if key is None else to_wire(key)), info, packed


def submit_message(
    graph: int,
    key: Key,
    info: FunctionInfo,
    packed: PackedCall,
    options: list[TaskOptions],
    submitting_task: Key | None,
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
        self._function, self._keys, self._in_process = function, keys, in_process
        self._named = prefix is not None
        self._prefix = (self.info.name if prefix is None else prefix) + "-"
        self._pickle = MemolessPickler()
        #: what the keys' hashes begin with; None where keys are no hashes
        self._seed = _seed_of(self.info, limit) if pure and keys is None else None
        walker = Walker()
        self._kwargs = {name: walker.walk_safely(value) for name, value in kwargs.items()} if kwargs else NO_KWARGS
        self.futures: dict[Key, Any] = dict(walker.dependencies)
        self._shared = list(self.futures)
        self._kwargs_body = b""
        if kwargs:
            if self._seed is not None:
                self._seed.update(token_of((), self._kwargs, named=self._named).encode())
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
            if seed is not None:
                digest = seed.copy()
                digest.update(token if type(token) is bytes else token.encode())  # type: ignore[union-attr]
                keys.append(prefix + digest.hexdigest())
        if seed is None:
            keys = self._name(len(payloads))
        return MapChunk(keys, payloads, dependencies)

    def _name(self, count: int) -> list[Key]:
        if self._keys is None:
            return [self._prefix + unique_suffix() for _ in range(count)]
        return [to_wire(key) for key in itertools.islice(self._keys, count)]

    def _pack_general(self, args: tuple[Any, ...]) -> PackedCall:
        walker = Walker()
        new = walker.walk_safely(args)
        if walker.dependencies:
            self.futures.update(walker.dependencies)
        if walker.simple and not self._kwargs:
            token = self._pickle((new, NO_KWARGS))
            return PackedCall(as_payload(token), walker.dependencies, token)
        if walker.simple and self._kwargs_body:
            token = self._pickle(new)
            if len(token) < 60_000:  # one frame: it can be spliced
                return PackedCall(as_payload(splice(token, self._kwargs_body)), walker.dependencies, token)
        payload = self._dump(new)  # first: its error names the argument
        identity = token_of(new, NO_KWARGS, named=self._named) if self._seed is not None else ""
        return PackedCall(payload, walker.dependencies, identity)

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
