"""Classes whose attributes are serialized one by one, each by the best way there is for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headrace.protocol.families import Header, deserialize, serialize
from headrace.protocol.pickling import dumps
from headrace.protocol.registered import dask_deserialize, dask_serialize
from headrace.protocol.unpickling import unpickle

_SIMPLE = (bool, int, float, str, type(None))


class ObjectDictSerializer:
    """Serializes an object by its `__dict__`.

    Args:
        serializer: name of the family that it is registered for; goes into the header.
    """

    def __init__(self, serializer: str) -> None:
        self.serializer = serializer
        self.__name__ = "ObjectDictSerializer"

    def serialize(self, est: object) -> tuple[Header, list[Any]]:
        """Header and frames of an object.

        Raises:
            TypeError: it has no `__dict__`, or an attribute cannot be serialized.
        """
        if not hasattr(est, "__dict__"):
            raise TypeError(f"a {type(est).__name__} has no __dict__, by which register_generic serializes")
        kind = dumps(type(est))
        header: Header = {
            "serializer": self.serializer,
            "type-serialized": kind if isinstance(kind, bytes) else b"".join(kind.frames),
            "simple": {},
            "complex": {},
        }
        frames: list[Any] = []
        for name, value in est.__dict__.items():
            if isinstance(value, _SIMPLE):
                header["simple"][name] = value
                continue
            inner, parts = serialize(value, serializers=(self.serializer, "pickle"), on_error="raise")
            header["complex"][name] = {"header": inner, "start": len(frames), "stop": len(frames) + len(parts)}
            frames += parts
        return header, frames

    def deserialize(self, header: Header, frames: list[Any]) -> Any:
        """The object in what `serialize` returned."""
        kind = unpickle(header["type-serialized"])
        made = object.__new__(kind)
        made.__dict__.update(header["simple"])
        for name, part in header["complex"].items():
            made.__dict__[name] = deserialize(part["header"], frames[part["start"] : part["stop"]])
        return made

    __call__ = serialize


def register_generic(
    cls: type,
    serializer_name: str = "dask",
    serialize_func: Callable[..., Any] = dask_serialize,
    deserialize_func: Callable[..., Any] = dask_deserialize,
) -> None:
    """Serialize instances of a class, and of its subclasses, attribute by attribute.

    Worth it where attributes are of registered classes; large arrays travel uncopied anyway.

    Args:
        cls: the class.
        serializer_name: the family whose registered classes its attributes may be of, "dask" or "cuda".
        serialize_func, deserialize_func: where to register.
    """
    serializer = ObjectDictSerializer(serializer_name)
    serialize_func.register(cls, serializer.serialize)  # type: ignore[attr-defined]
    deserialize_func.register(cls, serializer.deserialize)  # type: ignore[attr-defined]
