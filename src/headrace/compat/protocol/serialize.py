"""`distributed.protocol.serialize`: the public names of serialization, and the few that only make sense there.

Nothing here or elsewhere imports this module but users: `headrace.compat.protocol.serialize` is the function.
"""

from __future__ import annotations

import enum
import importlib
from types import ModuleType
from typing import Any

from dask.sizeof import sizeof

from headrace import config
from headrace.protocol.families import (
    check_dask_serializable,
    dask_dumps,
    dask_loads,
    deserialize,
    families,
    msgpack_dumps,
    msgpack_loads,
    pickle_dumps,
    pickle_loads,
    register_serialization_family,
    serialization_error_loads,
    serialize,
)
from headrace.protocol.marks import (
    Pickled,
    Serialize,
    Serialized,
    ToPickle,
)
from headrace.protocol.registered import (
    dask_deserialize,
    dask_serialize,
    register_serialization,
    register_serialization_lazy,
)

from .generic import ObjectDictSerializer, register_generic
from .split import (
    deserialize_bytes,
    merge_and_deserialize,
    serialize_and_split,
    serialize_bytelist,
    serialize_bytes,
)

to_serialize = Serialize

__all__ = [
    "ObjectDictSerializer",
    "Pickled",
    "Serialize",
    "Serialized",
    "ToPickle",
    "check_dask_serializable",
    "dask_deserialize",
    "dask_dumps",
    "dask_loads",
    "dask_serialize",
    "deserialize",
    "deserialize_bytes",
    "families",
    "import_allowed_module",
    "merge_and_deserialize",
    "msgpack_decode_default",
    "msgpack_dumps",
    "msgpack_encode_default",
    "msgpack_loads",
    "normalize_Serialized",
    "pickle_dumps",
    "pickle_loads",
    "register_generic",
    "register_serialization",
    "register_serialization_family",
    "register_serialization_lazy",
    "serialization_error_loads",
    "serialize",
    "serialize_and_split",
    "serialize_bytelist",
    "serialize_bytes",
    "sizeof_serialize",
    "sizeof_serialized",
    "to_serialize",
]


def import_allowed_module(name: str) -> ModuleType:
    """Import a module of this package, or of one that `distributed.scheduler.allowed-imports` lists.

    Raises:
        RuntimeError: it is not listed.
    """
    package = name.partition(".")[0]
    if package != "headrace" and package not in config.texts("distributed.scheduler.allowed-imports"):
        raise RuntimeError(
            f"Importing {name!r} is not allowed; if it may be imported, add its package to the configuration's "
            "distributed.scheduler.allowed-imports"
        )
    return importlib.import_module(name)


def msgpack_encode_default(obj: object) -> object:
    """Return what msgpack can hold in place of an object (its `default` hook); the object itself if nothing can."""
    if isinstance(obj, set):
        return {"__Set__": True, "as-list": list(obj)}
    if isinstance(obj, enum.Enum):
        kind = type(obj)
        return {"__Enum__": True, "name": obj.name, "__module__": kind.__module__, "__name__": kind.__qualname__}
    if isinstance(obj, Serialize):
        return {"__Serialized__": True, "data": serialize(obj.data)}
    return obj


def msgpack_decode_default(obj: Any) -> Any:
    """Return the object for which a dictionary stands in a message of msgpack (its `object_hook`)."""
    if "__Set__" in obj:
        return set(obj["as-list"])
    if "__Enum__" in obj:
        found: Any = import_allowed_module(obj["__module__"])
        for part in obj["__name__"].split("."):
            found = getattr(found, part)
        return found[obj["name"]]
    if "__Serialized__" in obj:
        header, frames = obj["data"]
        return Serialized(header, list(frames))
    return obj


def normalize_Serialized(o: Serialized) -> Any:
    """Return the parts by which `dask.tokenize` knows a serialized value."""
    return [o.header, *o.frames]


def sizeof_serialize(obj: Serialize) -> int:
    """Bytes of memory that a marked value takes."""
    return int(sizeof(obj.data))


def sizeof_serialized(obj: Serialized) -> int:
    """Bytes of memory that a serialized value takes."""
    return int(sizeof(obj.header)) + sum(memoryview(frame).nbytes for frame in obj.frames)


sizeof.register(Serialize, sizeof_serialize)
sizeof.register(Serialized, sizeof_serialized)
