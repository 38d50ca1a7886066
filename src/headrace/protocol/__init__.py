"""Objects to frames and back. No sockets here, and nothing that only one of client, scheduler and worker needs."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from headrace.common.facade import PackageModule, lazy_names
from headrace.exceptions import DeserializationError, SerializationError

from .codec import StreamCodec, decode, encode
from .exception_payloads import (
    DumpedException,
    dumps_exception,
    loads_exception,
    loads_traceback,
    truncate,
)
from .frames import Frame, Frames
from .functions.shareable import dumps_function, forget_loaded_functions, loads_function
from .handover import hand_over, hand_over_function
from .marks import Pickled, Serialize, Serialized, ToPickle, unwrap
from .pickling import OUT_OF_BAND_BYTES, Held, dumps, loads

__all__ = [
    "OUT_OF_BAND_BYTES",
    "DeserializationError",
    "DumpedException",
    "Frame",
    "Frames",
    "Held",
    "Pickled",
    "SerializationError",
    "Serialize",
    "Serialized",
    "StreamCodec",
    "ToPickle",
    "decode",
    "dumps",
    "dumps_exception",
    "dumps_function",
    "encode",
    "forget_loaded_functions",
    "hand_over",
    "hand_over_function",
    "loads",
    "loads_exception",
    "loads_function",
    "loads_traceback",
    "to_serialize",
    "truncate",
    "unwrap",
]

#: For users' own serialization; loaded when used, since nothing here needs it.
_LAZY = {
    "cuda_deserialize": ".registered",
    "cuda_serialize": ".registered",
    "dask_deserialize": ".registered",
    "dask_serialize": ".registered",
    "decompress": "headrace.compat.protocol.compression",
    "deserialize": ".families",
    "deserialize_bytes": "headrace.compat.protocol.split",
    "maybe_compress": "headrace.compat.protocol.compression",
    "register_generic": "headrace.compat.protocol.generic",
    "register_serialization": ".registered",
    "register_serialization_family": ".families",
    "register_serialization_lazy": ".registered",
    "serialize": ".families",
    "serialize_bytelist": "headrace.compat.protocol.split",
    "serialize_bytes": "headrace.compat.protocol.split",
}

__all__ += list(_LAZY)

__getattr__ = lazy_names(__name__, _LAZY)


#: As the documented name of the mark.
to_serialize = Serialize


class _Package(PackageModule):
    """Keeps `serialize` the function when the module of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name == "serialize" and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:  # a function that is sent by value may use it
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
