"""Tasks as they end, for whoever listens over the network: a scheduler's plugin, and its use by way of `feed`."""

from __future__ import annotations

from typing import Any

from headrace.diagnostics.plugins.plugin_base import SchedulerPlugin

__all__ = ["EventStream", "eventstream", "swap_buffer", "teardown"]


class EventStream(SchedulerPlugin):
    """Collects what is known of each task that leaves its worker.

    Args:
        scheduler: it is added there.

    Attributes:
        buffer: since it was last taken (`swap_buffer`).
    """

    name = "event-stream"

    def __init__(self, scheduler: Any = None) -> None:
        self.buffer: list[dict[str, Any]] = []
        if scheduler is not None:
            scheduler.add_plugin(self, name=f"{self.name}-{id(self):x}")

    def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
        """Called by the scheduler."""
        if start == "processing" and finish in ("memory", "erred"):
            kwargs["key"] = key
            self.buffer.append(kwargs)


def swap_buffer(scheduler: Any, es: EventStream) -> list[dict[str, Any]]:
    """What has been collected since the last call."""
    es.buffer, buffer = [], es.buffer
    return buffer


def teardown(scheduler: Any, es: EventStream) -> None:
    """Take the plugin from the scheduler."""
    name = f"{es.name}-{id(es):x}"
    if name in scheduler.plugins:
        scheduler.remove_plugin(name)


async def eventstream(address: str, interval: float | str) -> Any:
    """A comm on which a scheduler sends lists of events until it is closed.

    Args:
        address: of the scheduler.
        interval: seconds, or text, between two lists.

    Raises:
        OSError: it cannot be reached.
    """
    from headrace.comm import connect
    from headrace.protocol import dumps

    comm = await connect(address)
    functions = {"setup": EventStream, "function": swap_buffer, "teardown": teardown}
    await comm.write({"op": "feed", "interval": interval, **{name: dumps(each) for name, each in functions.items()}})
    return comm
