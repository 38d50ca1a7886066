"""Payloads within a process: what they hold is shared with the receiver, and what cannot be pickled goes as it is.

A transport that never encodes (`inproc`) carries such payloads unopened. Whoever has to encode one for another process
pickles it then; if that fails, the payload that arrives there raises when it is opened. No sockets here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.exceptions import SerializationError

from .frames import Frames, SharedFrames
from .functions.shareable import PickledFunctions
from .pickling import Held, dumps

_CONTAINERS = frozenset({list, tuple, set, frozenset})


def hand_over(value: object) -> bytes | Frames:
    """A payload for a receiver in this process; never raises for the value's own faults.

    Values are copied, by way of a pickle, but their buffers (of contiguous arrays, say) are not: the receiver's array
    has the same memory. What cannot be pickled is not copied at all, except for the containers that it is in.
    """
    try:
        return dumps(value, smallest=1, explain=False)
    except SerializationError:
        return Held(_with_own_containers(value))


def _hand_over_function(function: Callable[..., Any]) -> bytes | Frames:
    payload = hand_over(function)
    return SharedFrames(payload.frames) if type(payload) is Frames else payload


#: Makes the payload of a callable for a receiver in this process; the payload is kept as that of `dumps_function` is.
hand_over_function = PickledFunctions(_hand_over_function)


def _with_own_containers(value: Any) -> Any:
    """A copy of plain containers around the same values, such as pickling would have made."""
    try:
        return _copied(value)
    except RecursionError:  # it holds itself
        return value


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind in _CONTAINERS:
        return kind([_copied(part) for part in value])
    if kind is dict:
        return {key: _copied(part) for key, part in value.items()}
    return value
