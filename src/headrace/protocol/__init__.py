"""Objects to frames and back. No sockets here, and nothing that only one of client, scheduler and worker needs."""

from __future__ import annotations

from headrace.exceptions import DeserializationError, SerializationError

from .codec import StreamCodec, decode, encode
from .errors import DumpedException, dumps_exception, loads_exception, loads_traceback, truncate
from .frames import Frame, Frames
from .pickle import OUT_OF_BAND_BYTES, dumps, dumps_function, loads, loads_function
from .serialize import Serialize, Serialized, unwrap

__all__ = [
    "OUT_OF_BAND_BYTES",
    "DeserializationError",
    "DumpedException",
    "Frame",
    "Frames",
    "SerializationError",
    "Serialize",
    "Serialized",
    "StreamCodec",
    "decode",
    "dumps",
    "dumps_exception",
    "dumps_function",
    "encode",
    "loads",
    "loads_exception",
    "loads_function",
    "loads_traceback",
    "truncate",
    "unwrap",
]
