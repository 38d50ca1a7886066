"""Marks in RPC messages: `Serialize` asks for a value to be pickled, `Serialized` is one that nobody opened yet.

`ToPickle` and `Pickled` are the same for values that every receiver opens, the scheduler too. No pickling here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from headrace.containment import described
from headrace.exceptions import DeserializationError

from .frames import Frame, Frames
from .pickling import dumps, loads
from .serialization_context import current_context

T = TypeVar("T")


class Serialize:
    """In an RPC message: "pickle this for the peer". Over `inproc` the value itself is handed over.

    Args:
        data: any value that can be serialized.
    """

    __slots__ = ("value",)

    def __init__(self, data: Any) -> None:
        self.value = data

    @property
    def data(self) -> Any:
        """The value."""
        return self.value

    def load(self) -> Any:
        """The value (as `Serialized.load`)."""
        return self.value

    def dump(self) -> bytes | Frames:
        """The value as it travels.

        Raises:
            SerializationError: it cannot be serialized.
        """
        return dumps(self.value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.value!r}>"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(self.value)


class SerializeBy(Serialize):
    """Asks for a value to be serialized by the first of these families that can."""

    __slots__ = ("context", "serializers")

    def __init__(self, data: Any, serializers: list[str], context: dict[str, Any] | None = None) -> None:
        super().__init__(data)
        self.serializers = serializers
        self.context = context

    def dump(self) -> bytes | Frames:
        """The value as it travels."""
        from .families import dumps_by_family

        return dumps_by_family(self.value, self.serializers, self.context or current_context())


class ToPickle(Serialize, Generic[T]):
    """Asks for a value to be pickled that every receiver loads, also those that only forward what is serialized."""

    __slots__ = ()

    def __init__(self, data: T) -> None:
        super().__init__(data)


class Serialized:
    """A value inside an RPC message that was read with `deserialize=False`; can be sent on as it is.

    Args:
        header, frames: what `distributed.protocol.serialize` returned.
    """

    __slots__ = ("payload",)

    payload: bytes | Frames

    def __init__(self, header: dict[str, Any], frames: list[Any]) -> None:
        from .families import to_payload

        self.payload = to_payload(header, frames)

    @classmethod
    def of(cls, payload: bytes | Frames) -> Serialized:
        """A value that `dumps` pickled."""
        self = cls.__new__(cls)
        self.payload = payload
        return self

    @property
    def header(self) -> dict[str, Any]:
        """The header that says how to read the frames."""
        return self._parts()[0]

    @property
    def frames(self) -> list[Frame]:
        """The serialized value."""
        return self._parts()[1]

    def _parts(self) -> tuple[dict[str, Any], list[Frame]]:
        from .families import of_payload

        return of_payload(self.payload)

    def load(self) -> Any:
        """The value."""
        return loads(self.payload)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.payload!r}>"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.payload == other.payload

    def __hash__(self) -> int:
        return hash(self.payload if isinstance(self.payload, bytes) else self.payload.nbytes)


class Pickled(Serialized):
    """A pickled value that every receiver loads, also those that only forward what is serialized."""

    __slots__ = ()


def unwrap(value: object) -> Any:
    """The value inside a mark, or the argument itself."""
    return value.load() if isinstance(value, (Serialize, Serialized)) else value


def mark_by_families(message: object, serializers: Iterable[str]) -> Any:
    """A message whose marked values are serialized by the first of these families that can."""
    names = list(serializers)

    def mark(value: object) -> object:
        return SerializeBy(value.value, names) if type(value) is Serialize else value

    return _changed(message, mark)


def open_marked(message: object, deserialize: bool) -> Any:
    """A message that was read with nothing opened, as it would have been read.

    Args:
        deserialize: whether all pickles in it are loaded, or only those that every receiver opens.

    Raises:
        DeserializationError: one cannot be loaded.
    """

    def open_one(value: object) -> object:
        if isinstance(value, (ToPickle, Pickled)) or (deserialize and isinstance(value, (Serialize, Serialized))):
            try:
                return value.load()
            except Exception as error:
                raise DeserializationError(f"Could not load a value from a message: {described(error)}") from error
        return value

    return _changed(message, open_one)


def open_by_families(message: object, deserializers: Iterable[str]) -> Any:
    """A message that was read with `deserialize=False`, with its values, if these families made them.

    Raises:
        TypeError: another family did.
    """
    from .families import loads_by_family

    names = list(deserializers)

    def open_one(value: object) -> object:
        return loads_by_family(value.payload, names) if isinstance(value, Serialized) else value

    return _changed(message, open_one)


def _changed(message: Any, change: Callable[[object], object]) -> Any:
    kind = type(message)
    if kind is dict:
        return {key: _changed(value, change) for key, value in message.items()}
    if kind is list or kind is tuple:
        return kind([_changed(value, change) for value in message])
    return change(message)
