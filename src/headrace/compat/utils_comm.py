"""`distributed.utils_comm`: data straight to and from workers, and references in collections."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

from dask._task_spec import TaskRef
from dask.utils import stringify

from headrace.common.keys import Key, to_wire
from headrace.rpc import ConnectionPool
from headrace.rpc import rpc as make_rpc
from headrace.rpc.connection_retries import RetryOptions, retry

T = TypeVar("T")

logger = logging.getLogger("distributed.utils_comm")

#: Seconds after which a busy worker is asked again: at first, and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0


class WrappedKey(TaskRef):  # type: ignore[misc]
    """Stands for a task's result inside collections."""


async def gather_from_workers(
    who_has: Mapping[Any, Collection[str]],
    rpc: ConnectionPool,
    *,
    serializers: list[str] | None = None,
    who: str | None = None,
) -> tuple[dict[Any, Any], list[Any], list[Any], list[str]]:
    """Fetch results from the workers that hold them.

    Args:
        who_has: addresses of workers by key.
        rpc: for the connections.
        serializers: names of the families by which they are to be serialized.
        who: address of the caller, if it is a worker.

    Returns:
        The results; the keys that no worker had; those whose results could not be sent or loaded; the workers that
        could not be reached.
    """
    found: dict[Any, Any] = {}
    broken: list[Any] = []
    unreachable: list[str] = []
    left = {key: set(addresses) for key, addresses in who_has.items()}
    while True:
        plan: dict[str, list[Any]] = {}
        for key, addresses in left.items():
            usable = addresses.difference(unreachable)
            if usable and key not in found and key not in broken:
                plan.setdefault(min(usable, key=lambda address: len(plan.get(address, ()))), []).append(key)
        if not plan:
            break
        answers = await asyncio.gather(
            *[_get_data(rpc, address, keys, serializers, who) for address, keys in plan.items()]
        )
        for (address, keys), answer in zip(plan.items(), answers, strict=True):
            if isinstance(answer, OSError):
                logger.info("Could not gather from worker %s: %s", address, answer)
                unreachable.append(address)
            elif isinstance(answer, BaseException):
                logger.error("Could not gather %s from worker %s", keys, address, exc_info=answer)
                broken += keys
            else:
                found.update((key, answer[to_wire(key)]) for key in keys if to_wire(key) in answer)
                for key in keys:
                    left[key].discard(address)
    missing = [key for key in who_has if key not in found and key not in broken]
    return found, missing, broken, unreachable


async def _get_data(
    pool: ConnectionPool, address: str, keys: list[Any], serializers: list[str] | None, who: str | None
) -> dict[Any, Any] | BaseException:
    pause = _FIRST_PAUSE
    try:
        while True:
            reply = await pool.rpc(address).get_data(
                keys=[to_wire(key) for key in keys], serializers=serializers, who=who
            )
            if reply["status"] != "busy":
                return dict(reply["data"])
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    except Exception as error:
        return error


async def retry_operation(
    coro: Callable[..., Coroutine[Any, Any, T]], *args: object, operation: str | None = None, **kwargs: object
) -> T:
    """Call an async function with these arguments, again if it fails, as `distributed.comm.retry` configures it."""
    options = RetryOptions.from_config()
    return await retry(
        partial(coro, *args, **kwargs), options.count, options.delay_min, options.delay_max, operation=operation
    )


async def scatter_to_workers(
    workers: Collection[str] | Mapping[str, int], data: Mapping[Any, Any], rpc: Callable[[str], Any] = make_rpc
) -> tuple[dict[Any, list[str]], dict[Any, int]]:
    """Put values on workers in turn, as often as each has threads if `workers` says how many.

    The scheduler learns nothing of it: see its operation `update_data`.

    Args:
        workers: addresses.
        data: values by key.
        rpc: makes a proxy of a worker out of its address.

    Returns:
        The addresses of the workers that have it, and bytes, by key.

    Raises:
        ValueError: no workers.
    """
    from headrace.protocol import Serialize

    if not workers:
        raise ValueError("there are no workers to scatter data to")
    counts = workers.items() if isinstance(workers, Mapping) else [(address, 1) for address in workers]
    turns = itertools.cycle([address for address, count in counts for _ in range(max(count, 1))])
    plan: dict[str, dict[Key, Any]] = {}
    who_has: dict[Any, list[str]] = {}
    for key, value in data.items():
        address = next(turns)
        plan.setdefault(address, {})[to_wire(key)] = Serialize(value)
        who_has[key] = [address]
    nbytes: dict[Any, int] = {}

    async def send(address: str, part: dict[Key, Any]) -> None:
        proxy = rpc(address)
        try:
            nbytes.update((await proxy.update_data(data=part))["nbytes"])
        finally:
            await proxy.close_rpc()

    await asyncio.gather(*[send(address, part) for address, part in plan.items()])
    return who_has, {key: nbytes[to_wire(key)] for key in data}


def pack_data(o: object, d: Mapping[Any, Any], key_types: type | tuple[type, ...] = object) -> Any:
    """A collection in which keys are replaced by their data.

    Args:
        o: a key, or lists, tuples, sets and dictionaries of keys and other values.
        d: data by key.
        key_types: types that keys can have.

    >>> pack_data({"a": ["x"], "b": "y"}, {"x": 1})
    {'a': [1], 'b': 'y'}
    """
    if isinstance(o, key_types):
        try:
            if o in d:
                return d[o]
        except TypeError:  # not hashable
            pass
    return _rebuild(o, lambda part: pack_data(part, d, key_types))


def subs_multiple(o: Any, d: Mapping[Any, Any]) -> Any:
    """A task or collection in which keys are replaced by values; what a task calls is left alone.

    >>> subs_multiple(["x", {"y": "x"}], {"x": 1})
    [1, {'y': 1}]
    """
    if type(o) is tuple and o and callable(o[0]):
        return (o[0], *[subs_multiple(part, d) for part in o[1:]])
    if type(o) in (list, dict):
        return _rebuild(o, lambda part: subs_multiple(part, d))
    try:
        return d.get(o, o)
    except TypeError:
        return o


def unpack_remotedata(o: object, byte_keys: bool = False) -> tuple[Any, set[Any]]:
    """A collection in which references to tasks are replaced by the keys, and the references.

    Args:
        o: lists, tuples, sets and dictionaries, or a reference.
        byte_keys: make text of keys that are tuples.
    """
    found: set[Any] = set()

    def unpack(part: object) -> object:
        if isinstance(part, TaskRef):
            key = stringify(part.key) if byte_keys else part.key
            found.add(TaskRef(key))
            return key
        return _rebuild(part, unpack)

    return unpack(o), found


def _rebuild(o: Any, change: Callable[[object], object]) -> Any:
    kind = type(o)
    if kind in (list, tuple, set, frozenset):
        return kind([change(part) for part in o])
    if kind is dict:
        return {key: change(part) for key, part in o.items()}
    return o


__all__ = [
    "WrappedKey",
    "gather_from_workers",
    "pack_data",
    "retry",
    "retry_operation",
    "scatter_to_workers",
    "subs_multiple",
    "unpack_remotedata",
]
