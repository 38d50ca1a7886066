"""`distributed.diagnostics.websocket`."""

from headrace.diagnostics.plugins.websocket_plugin import WebsocketPlugin

__all__ = ["WebsocketPlugin"]
