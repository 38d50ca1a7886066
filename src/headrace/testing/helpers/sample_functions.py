"""Small functions that tests submit."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from headrace import Event


def inc(x: Any) -> Any:
    return x + 1


def dec(x: Any) -> Any:
    return x - 1


def mul(x: Any, y: Any) -> Any:
    return x * y


def div(x: Any, y: Any) -> Any:
    return x / y


def double(x: Any) -> Any:
    return x * 2


def throws(x: object) -> NoReturn:
    """Raise a RuntimeError."""
    raise RuntimeError("hello!")


def slowinc(x: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return x + 1


def slowdec(x: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return x - 1


def slowdouble(x: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return 2 * x


def slowadd(x: Any, y: Any, delay: float = 0.02) -> Any:
    time.sleep(delay)
    return x + y


def slowsum(seq: Iterable[Any], delay: float = 0.02) -> Any:
    time.sleep(delay)
    return sum(seq)


def slowidentity(*args: object, **kwargs: float) -> object:
    time.sleep(kwargs.get("delay", 0.02))
    return args[0] if len(args) == 1 else args


def randominc(x: Any, scale: float = 1) -> Any:
    """`x + 1` after up to `scale` seconds."""
    time.sleep(random.random() * scale)
    return x + 1


async def asyncinc(x: Any, delay: float = 0.02) -> Any:
    await asyncio.sleep(delay)
    return x + 1


def lock_inc(x: Any, lock: AbstractContextManager[object]) -> Any:
    with lock:
        return x + 1


def block_on_event(event: Event) -> None:
    event.wait()


class _Varying:
    """Does another thing at each call; pickling it starts anew."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = list(items)
        self.calls = 0

    def __call__(self, *args: object, **kwargs: object) -> Any:
        if self.calls >= len(self.items):
            raise IndexError("called more often than there are items")
        item = self.items[self.calls]
        self.calls += 1
        if isinstance(item, Exception):
            raise item
        return item


#: State of the functions that `varying` made, by their number, in the process that runs them.
_varying: dict[int, _Varying] = {}


def varying(items: Iterable[Any]) -> Callable[..., Any]:
    """A function that returns (or raises, if it is an exception) the next of `items` at each call in one process."""
    from functools import partial

    items = list(items)
    return partial(_call_varying, random.getrandbits(62), items)


def map_varying(itemslists: Iterable[Iterable[Any]]) -> tuple[Callable[..., Any], list[Callable[..., Any]]]:
    """Like `varying` for many: `client.map(*map_varying(lists))` calls each with its own items."""
    return _call, [varying(items) for items in itemslists]


def _call(function: Callable[..., Any], *args: object, **kwargs: object) -> Any:
    return function(*args, **kwargs)


def _call_varying(number: int, items: list[Any], *args: object, **kwargs: object) -> Any:
    return _varying.setdefault(number, _Varying(items))(*args, **kwargs)
