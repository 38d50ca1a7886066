"""Objects to frames and back. No sockets here, and nothing that only one of client, scheduler and worker needs."""

from __future__ import annotations

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
    "truncate",
    "unwrap",
]
