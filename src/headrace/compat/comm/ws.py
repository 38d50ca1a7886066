"""`distributed.comm.ws`: the transports over WebSockets, which are aiohttp's here."""

from __future__ import annotations

from headrace.comm.tcp import TCPBackend as BaseTCPBackend
from headrace.comm.websockets.websocket_transport import MAX_MESSAGE_BYTES, SENT_BYTES, WebSocketComm
from headrace.comm.websockets.ws import WSBackend, WSConnector, WSListener
from headrace.comm.websockets.wss import WSSBackend, WSSConnector, WSSListener
from headrace.common.facade import names_before
from headrace.config import CommOptions

__getattr__ = names_before(__name__, "headrace.comm.websockets.ws")

#: Comms of either end, with TLS and without it.
WS = WSS = WSHandlerComm = WebSocketComm
#: Longest message that is accepted, in bytes.
MAX_MESSAGE_SIZE = MAX_MESSAGE_BYTES
#: Longest message that is sent, in bytes.
BIG_BYTES_SHARD_SIZE = min(CommOptions.from_config().websocket_message_bytes, SENT_BYTES)

__all__ = [
    "BIG_BYTES_SHARD_SIZE",
    "MAX_MESSAGE_SIZE",
    "WS",
    "WSS",
    "BaseTCPBackend",
    "WSBackend",
    "WSConnector",
    "WSHandlerComm",
    "WSListener",
    "WSSBackend",
    "WSSConnector",
    "WSSListener",
]
