"""Marks in RPC messages: `Serialize` asks for a value to be pickled, `Serialized` is one that nobody opened yet."""

from __future__ import annotations

from typing import Any

from .frames import Frames
from .pickle import loads


class Serialize:
    """In an RPC message: "pickle this for the peer". Over `inproc` the value itself is handed over."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def load(self) -> Any:
        """The value (as `Serialized.load`)."""
        return self.value

    def __repr__(self) -> str:
        return f"<Serialize: {self.value!r}>"


class Serialized:
    """A pickle inside an RPC message that was read with `deserialize=False`; can be sent on as it is."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes | Frames) -> None:
        self.payload = payload

    def load(self) -> Any:
        """Unpickle the value."""
        return loads(self.payload)

    def __repr__(self) -> str:
        return f"<Serialized: {self.payload!r}>"


def unwrap(value: Any) -> Any:
    """The value inside a `Serialize` or `Serialized`, or the argument itself."""
    return value.load() if isinstance(value, (Serialize, Serialized)) else value
