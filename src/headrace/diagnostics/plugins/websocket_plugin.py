"""A scheduler plugin for web pages: it sends each event as one JSON message on a websocket."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from headrace.common.keys import key_group, key_prefix, to_wire
from headrace.diagnostics.pages.task_colors import color_of_task
from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin

__all__ = ["WebsocketPlugin"]

#: What pages are not told of a run: bytes that JSON lacks.
UNTOLD = frozenset({"exception", "traceback", "type"})
#: Color of a run that failed.
FAILED = "black"


class WebsocketPlugin(SchedulerPlugin):
    """Sends `{"name": event, …}` for workers, clients, graphs and runs of tasks.

    A run is a `transition`, with the task's key, its `action` ("compute"), `start` and `stop` in seconds since the
    epoch, `worker`, `thread`, `status` ("OK" or "error"), `color`, and, if it has a result, `nbytes` and `typename`.

    Args:
        socket: has a method `send(name, data)`, or `write_message(text)`. Nothing happens if it is closed.
        scheduler: the scheduler of the events.
    """

    name = "websocket"

    def __init__(self, socket: Any, scheduler: object) -> None:
        self.socket = socket
        self.scheduler = scheduler

    def _send(self, name: str, data: dict[str, Any]) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # the page was closed
            if hasattr(self.socket, "send"):
                self.socket.send(name, data)
            else:
                self.socket.write_message(json.dumps({"name": name, **data}, default=str))

    def restart(self, scheduler: object, **kwargs: object) -> None:
        self._send("restart", {})

    def add_worker(self, scheduler: object = None, worker: str | None = None, **kwargs: object) -> None:
        self._send("add_worker", {"worker": worker})

    def remove_worker(self, scheduler: object = None, worker: str | None = None, **kwargs: object) -> None:
        self._send("remove_worker", {"worker": worker})

    def add_client(self, scheduler: object = None, client: str | None = None, **kwargs: object) -> None:
        self._send("add_client", {"client": client})

    def remove_client(self, scheduler: object = None, client: str | None = None, **kwargs: object) -> None:
        self._send("remove_client", {"client": client})

    def update_graph(self, scheduler: object, client: str | None = None, **kwargs: object) -> None:
        self._send("update_graph", {"client": client})

    def transition(self, key: object, start: str, finish: str, *args: object, **kwargs: Any) -> None:
        spans = [dict(span) for span in kwargs.get("startstops") or () if span["action"] == "compute"]
        if not spans:
            return  # only runs are told
        prefix = key_prefix(key_group(to_wire(key)))
        told = {name: value for name, value in kwargs.items() if name not in UNTOLD}
        told |= {"key": str(key), "prefix": prefix, "finish": finish, **spans[-1]}
        told["startstops"] = [dict(span) for span in kwargs["startstops"]]
        told["color"] = color_of_task(prefix) if finish == "memory" else FAILED
        self._send("transition", told)
