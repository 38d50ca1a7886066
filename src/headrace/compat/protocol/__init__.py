"""`distributed.protocol`: `headrace.protocol`, and the names that only users' own serialization needs.

`dumps` and `loads` make and take lists of frames here. Headrace's own functions of these names, which make one payload,
stay in `headrace.protocol`; its modules are the same objects under both paths.
"""

from __future__ import annotations

import sys

from headrace import protocol
from headrace.alias import Facade
from headrace.common.facade import names_before
from headrace.protocol.families import register_serialization_family
from headrace.protocol.registered import (
    cuda_deserialize,
    cuda_serialize,
    dask_deserialize,
    dask_serialize,
    register_serialization,
    register_serialization_lazy,
)

from .compression import decompress, maybe_compress
from .core import dumps, loads
from .generic import register_generic
from .serialize import deserialize, serialize, to_serialize
from .split import deserialize_bytes, serialize_bytelist, serialize_bytes

__all__ = [
    "cuda_deserialize",
    "cuda_serialize",
    "dask_deserialize",
    "dask_serialize",
    "decompress",
    "deserialize",
    "deserialize_bytes",
    "dumps",
    "loads",
    "maybe_compress",
    "register_generic",
    "register_serialization",
    "register_serialization_family",
    "register_serialization_lazy",
    "serialize",
    "serialize_bytelist",
    "serialize_bytes",
    "to_serialize",
]

__all__ += [name for name in protocol.__all__ if name not in __all__]

__getattr__ = names_before(__name__, "headrace.protocol")


def __dir__() -> list[str]:
    return sorted(__all__)


sys.modules[__name__].__class__ = Facade  # `serialize` stays the function when the module of that name is imported
